"""What a cell was measured in: its device, runtime, settings and artifact; and what of that differs between two runs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.description import Accelerator, Probe
from agent.schema import Conditions
from reports import text
from reports.figures import counted, usb_mbps
from reports.records import CellRecord, RunRecord
from reports.table import Row

_LIMIT = 60  # characters of one fact
_OF_THE_DEVICE = {
    "board": "board",
    "soc": "SoC",
    "machine": "architecture",
    "cpu_model": "processor",
    "cpu_count": "processor cores",
    "kernel": "kernel",
    "os": "OS",
    "glibc": "glibc",
    "python": "device's Python",
    "container": "container",
    "emulated": "emulated by",
    "agent": "agent",
}
_OF_AN_ACCELERATOR = ("driver", "jetpack")
_OF_THE_RUN = {"suite": "suite", "profile": "profile", "launches_planned": "launches a cell", "fleetmark": "fleetmark"}

Facts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One fact that is another in the new run; empty where it was not told. Both values are one line each, safe to show."""

    what: str
    base: str
    new: str

    def __str__(self) -> str:
        return f"{self.what} {self.base or 'none'} → {self.new or 'none'}"


def of_run(run: RunRecord) -> Facts:
    """How the run measured, the same for all of its cells."""
    return _facts((shown, getattr(run, name)) for name, shown in _OF_THE_RUN.items())


def of_cell(run: RunRecord, record: CellRecord, rows: Mapping[str, Row]) -> Facts:
    """Facts by name about the cell: of its device as probed, of its launches, its artifact, and its power boundary; `rows` are its rows."""
    device = run.devices.get(record.cell.device)
    probed = _probed(device.probe) if device and device.probe else ()
    artifact = [("artifact", record.cell.artifact[:12]), ("format", record.cell.format)]
    boundary = [("power boundary", row.boundary) for row in rows.values() if row.boundary]
    return _facts([*probed, *_launched(record), *artifact, *boundary])


def differences(base: Facts, new: Facts) -> tuple[Difference, ...]:
    """What differs, in the new facts' order; only names that both have, since a device that did not answer tells nothing."""
    return tuple(Difference(name, base[name], value) for name, value in new.items() if name in base and base[name] != value)


def _probed(probe: Probe) -> Iterator[tuple[str, object]]:
    for name, shown in _OF_THE_DEVICE.items():
        yield shown, getattr(probe, name)
    yield "governor", ", ".join(probe.governors)
    yield "power mode", probe.power_mode
    for name, version in sorted(probe.versions.items()):
        yield name, version
    for accelerator in probe.accelerators:
        yield from _plugged(accelerator)


def _plugged(accelerator: Accelerator) -> Iterator[tuple[str, object]]:
    """By its kind: a stick that moved to another port is the same stick."""
    yield f"{accelerator.kind} at", accelerator.path
    yield f"{accelerator.kind} link", f"{accelerator.speed_mbps:g} Mbit/s" if accelerator.speed_mbps else ""
    for name in _OF_AN_ACCELERATOR:
        yield f"{accelerator.kind} {name}", accelerator.details.get(name, "")


def _launched(record: CellRecord) -> Iterator[tuple[str, object]]:
    """What the launches told, which is later and closer than the probe: of the first that counts, and of the conditions of all."""
    launches = counted(record)
    if not launches:
        return
    details = launches[0].details
    yield "runtime", f"{details.get('runtime', record.cell.backend)} {details.get('version', '')}".strip()
    for name, value in details.items():
        if _is_setting(name, value):
            yield f"setting {name}", value if isinstance(value, str) else _plain(value)
    states = [state for launch in launches for state in (launch.before, launch.after) if state]
    yield from _conditions(states)
    speed = usb_mbps(record)
    yield "USB link", f"{speed:g} Mbit/s" if speed else ""


def _is_setting(name: str, value: object) -> bool:
    """Plain words and counts: sizes in bytes and measured decimals differ from launch to launch."""
    known = name in ("runtime", "version") or name.endswith("_bytes")
    return not known and (isinstance(value, str | int) or name == "providers")


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _conditions(states: Iterable[Conditions]) -> Iterator[tuple[str, object]]:
    kept = list(states)
    governors = sorted({governor for state in kept for governor in state.governors})
    modes = sorted({state.power_mode for state in kept if state.power_mode})
    if governors:
        yield "governor", ", ".join(governors)
    if modes:
        yield "power mode", ", ".join(modes)


def _facts(pairs: Iterable[tuple[str, object]]) -> dict[str, str]:
    """By name, the last where one is told twice."""
    return {text.line(name, _LIMIT): text.line(value, _LIMIT) for name, value in pairs}
