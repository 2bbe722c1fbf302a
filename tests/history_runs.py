"""A history of synthetic runs of one suite in a real store: a run a day, in some of which a cell is slower."""

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import stored_runs
from factory_runs import cell, run_of

from controller.store import Store
from reports.records import CellRecord, LaunchRecord

VARIANTS = ("fp32", "fp16", "int8")


def cells(seed: int, slower: Mapping[str, float] | None = None) -> tuple[CellRecord, ...]:
    """A cell for each of VARIANTS on the laptop, some of them so many times as slow."""
    found = [cell("laptop", variant, "tflite", seed + at) for at, variant in enumerate(VARIANTS)]
    return tuple(slowed(one, (slower or {}).get(one.cell.variant, 1.0)) for one in found)


def slowed(record: CellRecord, factor: float) -> CellRecord:
    launches = [dataclasses.replace(one, values={**one.values, "latency_s": factor * one.values["latency_s"]}) for one in record.launches]
    return dataclasses.replace(record, launches=tuple(launches))


def keep(
    folder: Path, day: int, found: tuple[CellRecord, ...], *, suite: str = "suite.yaml", tag: str | None = None, **probe: object
) -> str:
    """Store a finished run of that day of January 2026, on devices whose probes differ so; give its id."""
    name, at = f"202601{day:02}-120000-{day:04x}", f"2026-01-{day:02}T12:00:00.000+00:00"
    own = tuple(dataclasses.replace(one, launches=tuple(_renamed(launch, name) for launch in one.launches)) for one in found)
    run = dataclasses.replace(run_of(own), id=name, started_at=at, finished_at=at, suite=suite)
    devices = {
        each: dataclasses.replace(device, probe=device.probe and device.probe._replace(**probe)) for each, device in run.devices.items()
    }
    stored_runs.keep(dataclasses.replace(run, devices=devices), folder)
    with closing(Store(folder)) as store:
        store.tag_run(name, tag)
    return name


def _renamed(launch: LaunchRecord, run: str) -> LaunchRecord:
    return dataclasses.replace(launch, id=f"{run}-{launch.id}")
