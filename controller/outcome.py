"""What a launch amounts to once it has told everything: its status, what to know about its numbers, its record for the store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.description import Probe
from agent.schema import dump
from controller import metering
from controller.collect import Collected, Samples
from controller.inventory import Device
from controller.session import Job
from controller.stored import status_of
from reports import steadiness
from reports.records import DeviceRecord, LaunchRecord, Price


@dataclass(frozen=True, slots=True)
class Outcome:
    """A launch's status, notes for its reader, and how much slower its second half was as raw value, where that is known."""

    status: str
    notes: tuple[str, ...]
    samples: tuple[Samples, ...] = ()


def outcome(collected: Collected, job: Job, device: Device) -> Outcome:
    """Judge a launch: by its fault, else by its latencies and the device's conditions; there is nothing to judge in times of operations."""
    notes = tuple(_notes(collected, device))
    if collected.fault is not None:
        return Outcome(status_of(collected.fault), notes)
    if collected.operations is not None:
        return Outcome("valid", notes)
    clock_hz = device.expect.clock_mhz and device.expect.clock_mhz * 1e6
    found = steadiness.judge(
        _values(collected.samples),
        collected.before,
        collected.after,
        backend=job.cell.backend,
        workload=job.cell.workload.name,
        clock_hz=clock_hz,
    )
    drift = (Samples("latency_drift", "1", np.array([found.drift])),) if found.drift is not None else ()
    return Outcome(found.status, (*found.reasons, *notes, *found.unknown), drift)


def record(launch: str, round_: int, collected: Collected, found: Outcome) -> LaunchRecord:
    """Give the launch as the store takes it, which knows itself when it began; its raw values go there by themselves."""
    return LaunchRecord(
        id=launch,
        round=round_,
        status=found.status,
        started_at="",
        values={},
        before=collected.before,
        after=collected.after,
        fault=collected.fault,
        log_tail=collected.log,
        details=collected.details if collected.operations is None else {"operations": dump(collected.operations)},
        notes=found.notes,
    )


def _values(samples: Mapping[str, Samples]) -> dict[str, NDArray[np.float64]]:
    """Raw values as the store gives them back: 1-D, times in seconds."""
    found = {name: one.array.astype(np.float64) for name, one in samples.items() if one.array.ndim == 1 and not name.startswith("output_")}
    if "latency_ns" in found:
        found["latency_s"] = found["latency_ns"] / 1e9
    return found


def _notes(collected: Collected, device: Device) -> Iterator[str]:
    """What a reader of the launch's numbers has to know."""
    stride = collected.samples["latency_ns"].stride if "latency_ns" in collected.samples else 1
    if stride > 1:
        yield f"samples thinned: every {stride}th kept"
    if "window_cut_short" in collected.samples:
        yield "the window ended at its deadline, before its minimum of time and queries"
    if "evaluation_cut_short" in collected.samples:
        yield "the evaluation ended early: not every sample was run"
    if why := metering.lost(collected):
        yield f"meter_lost: {device.meter}: {why}"
    yield from _gate(collected, device)


def _gate(collected: Collected, device: Device) -> Iterator[str]:
    """How the wait at the start gate ended, where it was given up or could not be made."""
    limit, before, settled = device.settle.max_temp_c, collected.before, collected.samples.get("settled")
    if limit is None or before is None or settled is None:
        return
    if not before.temps_c:
        yield "no temperature can be observed: the start gate watched the load alone"
    if not settled.array.any():
        hottest = f"{max(before.temps_c.values()):.1f} °C, " if before.temps_c else ""
        busy = f"{100 * before.cpu_busy_share:.0f} % busy" if before.cpu_busy_share is not None else "load unknown"
        yield f"the start gate was given up after {device.settle.timeout_s:g} s (at most {limit:g} °C): {hottest}{busy}"


def device_record(device: Device, probe: Probe | None) -> DeviceRecord:
    """What a run keeps of a device: what the inventory says, and what it said of itself if it was reached."""
    price = Price(device.price.amount, device.price.currency) if device.price else None
    return DeviceRecord(device.name, device.kind, device.tags, probe, tuple(device.groups), price)
