"""Brings a file of another program into the store: a launch of a cell that says which program measured it."""

import platform
from dataclasses import dataclass
from pathlib import Path

from agent import VERSION
from agent.schema import Cell, cell_id
from backends import NAMES
from controller import foreign
from controller.collect import Samples
from controller.durations import now
from controller.errors import FleetmarkError
from controller.foreign import Reading, Source
from controller.run import new_id
from controller.store import Store
from reports.foreign import ABOUT, TOOL
from reports.metrics import METRICS
from reports.records import DeviceRecord, LaunchRecord, RunRecord

KIND = "not in the inventory"
PROFILE = "imported"

_FORMATS = {"onnxruntime": "onnx", "tflite": "tflite", "openvino": "openvino", "edgetpu": "edgetpu", "tensorrt": "tensorrt"}
_MAX_NAME = 80
_RAW_UNITS = {"latency_s": "s", "runtime_s": "s", "window_s": "s", "queries": "1"}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the person says of a file: which program wrote it, and what was measured; `backend` is the program's own if it is empty."""

    tool: str
    device: str
    model: str
    variant: str
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A file that was read, and the cell that it tells of."""

    source: Source
    reading: Reading
    cell: Cell


def read(path: Path, measured: Measured) -> Told:
    """Give what a file tells; raises FleetmarkError for one that cannot be used, and for a name that is none."""
    _check(measured)
    source, reading = foreign.read(path, measured.tool)
    return Told(source, reading, _cell(measured, reading))


def bring_in(store: Store, told: Told, run: str | None) -> str:
    """Add what a file tells to a run, or to a new one if `run` is None; give the run's id.

    Raises FleetmarkError for a file that is there already, and a run that is not finished.
    """
    source, reading, cell = told.source, told.reading, told.cell
    record = _run_of(store, run, cell, source)
    run_id = record.id if record else _new_run(store, source.path)
    if record is None or cell.device not in record.devices:
        store.set_device(run_id, DeviceRecord(cell.device, KIND, {}, None))
    store.add_cells(run_id, [(cell_id(cell), cell, None)], [], first=len(record.cells) if record else 0)
    known = [one for one in record.cells if one.cell == cell] if record else []
    _add_launch(store, run_id, cell, len(known[0].launches) if known else 0, source, reading)
    if record is None:
        store.finish_run(run_id, now())
    return run_id


def _check(measured: Measured) -> None:
    for what in ("device", "model", "variant"):
        name = getattr(measured, what)
        if not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
            raise FleetmarkError(f"--{what} {name[:_MAX_NAME]!r} is no name", next=f"give 1 to {_MAX_NAME} printable characters")
    if measured.backend and measured.backend not in NAMES:
        raise FleetmarkError(f"there is no backend {measured.backend!r}", next=f"choose one of {', '.join(NAMES)}")


def _cell(measured: Measured, reading: Reading) -> Cell:
    backend = measured.backend or foreign.TOOLS[measured.tool]
    options = {TOOL: measured.tool}
    return Cell(measured.device, measured.model, measured.variant, _FORMATS[backend], "", backend, options, reading.workload)


def _run_of(store: Store, run: str | None, cell: Cell, source: Source) -> RunRecord | None:
    """The run to add to, once it is sure that it can be."""
    if run is None:
        return None
    record = store.load_run(store.find_run(run).id)
    if record.finished_at is None:
        raise FleetmarkError(f"run {record.id} is not finished", next=f"fleetmark run --resume {record.id} first, or import without --run")
    launch = _launch_id(record.id, cell, source)
    if any(one.id == launch for known in record.cells for one in known.launches):
        raise FleetmarkError(f"{source.path} is in run {record.id} already", next="nothing: its rows are there; fleetmark runs show")
    return record


def _launch_id(run_id: str, cell: Cell, source: Source) -> str:
    return f"{run_id}-{cell_id(cell)}-{source.sha256[:8]}"


def _new_run(store: Store, path: Path) -> str:
    run_id = new_id()
    provenance = {"controller": platform.node(), "system": platform.platform(), "python": platform.python_version()}
    document = {"fleetmark": VERSION, "profile": PROFILE, "suite": str(path), "launches": 1, "request": {}, "provenance": provenance}
    store.create_run(run_id, now(), document)
    return run_id


def _add_launch(store: Store, run_id: str, cell: Cell, round_: int, source: Source, reading: Reading) -> None:
    launch, started_at = _launch_id(run_id, cell, source), now()
    told = {"foreign": cell.options[TOOL], "file": source.path.name, "file_sha256": source.sha256, "imported_at": started_at}
    details = {**told, **reading.details, ABOUT: dict(reading.about)}
    raw = [
        Samples(name, METRICS[name].unit if name in METRICS else _RAW_UNITS[name], values, reading.stride if len(values) > 1 else 1)
        for name, values in reading.values.items()
    ]
    store.begin_launch(run_id, cell_id(cell), round_, launch, started_at)
    store.finish_launch(LaunchRecord(launch, round_, "valid", started_at, {}, details=details, notes=reading.notes), raw)
