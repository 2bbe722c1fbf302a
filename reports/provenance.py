"""Where a run's numbers come from: the devices as they introduced themselves, the artifacts, the settings in effect."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.description import Probe
from reports import format as fmt
from reports import text
from reports.figures import counted
from reports.records import DeviceRecord, RunRecord, VariantRecord

_JSON_LIMIT = 6000


@dataclass(frozen=True, slots=True)
class DeviceSheet:
    """A device: `facts` are (name, value) pairs, `runtimes` those it offers or why it does not."""

    name: str
    kind: str
    emulated: str
    facts: tuple[tuple[str, str], ...]
    runtimes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArtifactSheet:
    """An artifact with its manifest as indented JSON."""

    variant: VariantRecord
    size: str
    manifest: str


def device_sheets(run: RunRecord) -> list[DeviceSheet]:
    """All devices of the run, also those that never answered."""
    return [_device(record) for record in run.devices.values()]


def artifact_sheets(run: RunRecord) -> list[ArtifactSheet]:
    """All artifacts of the run."""
    return [ArtifactSheet(one, fmt.value("size_bytes", float(one.size_bytes)), document(one.manifest)) for one in run.variants]


def conditions(run: RunRecord) -> list[tuple[str, str]]:
    """What the controller recorded of itself: plain values first, as one line each, then the nested ones as JSON."""
    plain = [(text.line(key), text.line(value)) for key, value in run.conditions.items() if isinstance(value, (str, int, float))]
    nested = [(text.line(key), document(value)) for key, value in run.conditions.items() if not isinstance(value, (str, int, float))]
    return plain + nested


def settings(run: RunRecord) -> dict[str, list[str]]:
    """The effective settings that backends told, as JSON, with the ids of the cells that share them."""
    found: dict[str, list[str]] = {}
    for record in run.cells:
        details = next((launch.details for launch in counted(record) if launch.details), None)
        if details is not None:
            found.setdefault(document(details), []).append(record.id)
    return found


def document(value: object) -> str:
    """Anything as indented JSON, safe to show and cut to a length that a page bears."""
    shown = json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False)
    return text.visible(shown if len(shown) <= _JSON_LIMIT else shown[:_JSON_LIMIT] + "\n…")


def _device(record: DeviceRecord) -> DeviceSheet:
    tags = _facts([("tags", ", ".join(f"{key}={value}" for key, value in record.tags.items()))])
    if record.probe is None:
        return DeviceSheet(text.line(record.name), text.line(record.kind), "", (("answer", "none: it was never reached"), *tags), ())
    probe = record.probe
    runtimes = tuple(_runtime(one.backend, one.ok, one.runtime, one.version, one.reason) for one in probe.backends)
    return DeviceSheet(text.line(record.name), text.line(record.kind), text.line(probe.emulated), (*_facts(_probe(probe)), *tags), runtimes)


def _probe(probe: Probe) -> Sequence[tuple[str, str]]:
    return (
        ("board", f"{probe.board} ({probe.soc})" if probe.soc else probe.board),
        ("accelerators", "; ".join(f"{one.name} at {one.path}" if one.path else one.name for one in probe.accelerators)),
        ("power mode", probe.power_mode),
        ("JetPack", next((one.details["jetpack"] for one in probe.accelerators if "jetpack" in one.details), "")),
        ("frequency governor", ", ".join(probe.governors)),
        ("container", probe.container),
        ("processor", f"{probe.cpu_model}, {probe.cpu_count} cores, {probe.machine} ({probe.bits} bit)"),
        ("memory", fmt.value("size_bytes", float(probe.memory_bytes))),
        ("system", f"{probe.os}, kernel {probe.kernel}, glibc {probe.glibc}"),
        ("Python", f"{probe.python} ({probe.python_path})"),
        ("agent", probe.agent),
        ("host name", probe.hostname),
        ("emulated by", probe.emulated),
    )


def _facts(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text.line(value)) for name, value in pairs if value.strip())


def _runtime(backend: str, ok: bool, runtime: str, version: str, reason: str) -> str:
    return text.line(f"{backend}: {runtime} {version}" if ok else f"{backend}: not available, {reason}")
