"""One run from its request to its report: plan, make the artifacts, measure, store, render."""

import os
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from agent import VERSION
from agent.schema import Cell, Fault, cell_id
from controller import context, profiles, runtimes, variants
from controller import plan as planning
from controller.durations import now
from controller.errors import FleetmarkError
from controller.estimate import Estimate
from controller.fleet import Fleet
from controller.inventory import Device, Meter
from controller.laptop import cache_folder
from controller.listener import Listener
from controller.outcome import device_record
from controller.plan import PlannedCell
from controller.queueing import Patience
from controller.session import Job, Session
from controller.store import Store
from controller.stored import MEASURED
from controller.suite import Suite
from controller.variants import Prepared
from reports.foreign import protocol_of
from reports.records import CellRecord, RunRecord, VariantRecord

PASSING = frozenset({"link_lost", "rebooted", "protocol", "cancelled", "busy", "unreachable", "timeout", "disk_full"})
PACKAGES = ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "litert-quantizer", "openvino", "nncf", "paramiko", "altair")


@dataclass(frozen=True, slots=True)
class Request:
    """What a run was asked for; `document` is how `--resume` asks for the same again."""

    suite: Suite
    name: str  # the suite's path, or the model's
    devices: Sequence[Device]
    planned: Sequence[PlannedCell]
    launches: int
    document: Mapping[str, Any]
    wheelhouse: Path | None = None
    compile_hosts: Sequence[Device] = ()
    meters: Mapping[str, Meter] = field(default_factory=dict[str, Meter])


@dataclass(frozen=True, slots=True)
class Matrix:
    """The cells of a run, in order: those with a job can be measured, the others have their fault."""

    cells: Sequence[tuple[str, Cell, Fault | None]]
    jobs: Sequence[Job]
    variants: Sequence[VariantRecord]


def new_id() -> str:
    """Give a run id that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def request(
    suite: Suite,
    name: str,
    devices: Sequence[Device],
    launches: int | None,
    document: Mapping[str, Any],
    wheelhouse: Path | None,
    compile_hosts: Sequence[Device] = (),
    *,
    meters: Mapping[str, Meter] | None = None,
    twice: bool = False,
) -> Request:
    """Give the request for a suite on these devices, each cell under two labels if `twice`.

    Raises FleetmarkError for an unknown profile or recipe, or if there is no cell.
    """
    count = launches or suite.launches or profiles.get(suite.profile).launches
    planned = planning.plan(suite, devices)
    if not planned:
        raise FleetmarkError("the suite gives no cells on these devices", next="name backends that the devices have and the models fit")
    planned = planning.doubled(planned, {device.name for device in devices if device.power}) if twice else planned
    return Request(suite, name, devices, planned, count, document, wheelhouse, compile_hosts, meters or {})


def execute(
    request: Request,
    store: Store,
    listener: Listener,
    run_id: str,
    resume: bool,
    on_plan: Callable[[int, Callable[[], float]], None],
    patience: Patience | None = None,
) -> None:
    """Run the request as a new run, or what is left of the one to resume. `on_plan` hears how many launches there are to do, and who
    tells about how many seconds are left.

    `patience` is how long devices are waited for, and until when launches may run; by default as long as it takes.

    KeyboardInterrupt passes through with all that is done in the store. Raises FleetmarkError if somebody else is at the same run.
    """
    with store.exclusive(run_id), context.at(run=run_id):
        _execute(request, store, listener, run_id, resume, on_plan, patience or Patience())


def _execute(
    request: Request,
    store: Store,
    listener: Listener,
    run_id: str,
    resume: bool,
    on_plan: Callable[[int, Callable[[], float]], None],
    patience: Patience,
) -> None:
    recipes = planning.recipes_of(request.suite)
    asked = [(cell.model, cell.recipe, cell.format) for cell in request.planned if cell.fault is None]
    keep_all, models, hosts, devices = bool(request.document.get("keep_all")), request.suite.models, request.compile_hosts, request.devices
    prepared = variants.prepare(models, recipes, asked, cache_folder(), listener.say, hosts, keep_all=keep_all, devices=devices)
    matrix = _matrix(request.planned, prepared, keep_all)
    if resume:
        _check_same(store.load_run(run_id), request, matrix)
    else:
        store.create_run(run_id, now(), _document(request))
    store.add_cells(run_id, matrix.cells, matrix.variants)
    record = store.load_run(run_id)
    for device in request.devices:
        if device.name not in record.devices:
            store.set_device(run_id, device_record(device, None))
    by_id = {cell.id: cell for cell in record.cells}
    jobs = [job for job in matrix.jobs if not _is_final(by_id[job.id])]
    store.cell_faults(run_id, {job.id: None for job in jobs})
    done = {cell.id: {launch.round: launch.id for launch in cell.launches if launch.status in MEASURED} for cell in record.cells}
    fleet = _fleet(request, store, listener, run_id, prepared, done)
    for cell in record.cells:
        fleet.stored.setdefault(cell.cell.device, []).extend(launch.id for launch in (*cell.launches, cell.profiled) if launch)
    fleet.patience, fleet.estimate = patience, _estimate(request, jobs)
    if profiles.of_suite(request.suite).profiled_inferences:
        fleet.unprofiled = {job.id for job in jobs if not _is_profiled(by_id[job.id])}
    for lane in fleet.lanes(request.devices, jobs):
        lane.tell_left()
    on_plan(sum(request.launches - len(done.get(job.id, {})) for job in jobs), fleet.estimate.left_s)
    fleet.run(request.devices, jobs)
    store.finish_run(run_id, now())


def _fleet(request: Request, store: Store, listener: Listener, run_id: str, prepared: Prepared, done: dict[str, dict[int, str]]) -> Fleet:
    owner = f"{os.environ.get('USER') or os.getuid()}@{platform.node()} run {run_id}"
    profile = profiles.of_suite(request.suite)

    def open_session(device: Device) -> Session:
        meter = request.meters.get(device.meter or "")
        return Session(device, owner, profile, cache_folder(), wheelhouse=request.wheelhouse, meter=meter, say=listener.say)

    pending = store.open_launches(run_id)
    return Fleet(run_id, store, request.launches, listener, open_session, prepared.references, done, pending, owner=owner)


def _estimate(request: Request, jobs: Sequence[Job]) -> Estimate:
    profile, devices = profiles.of_suite(request.suite), {device.name: device for device in request.devices}

    def launch_s(job: Job) -> float:
        device = devices[job.cell.device]
        return planning.launch_s(job.cell.workload, profile, device, request.meters.get(device.meter or ""))

    return Estimate({job.id: launch_s(job) for job in jobs})


def _matrix(planned: Sequence[PlannedCell], prepared: Prepared, keep_all: bool) -> Matrix:
    cells: list[tuple[str, Cell, Fault | None]] = []
    jobs: list[Job] = []
    for item in planned:
        key = (item.model, item.recipe, item.format)
        variant = prepared.variants.get(key)
        sha256 = variant.artifact.sha256 if variant else ""
        cell = Cell(item.device, item.model, item.recipe + item.label, item.format, sha256, item.backend, dict(item.options), item.workload)
        fault = item.fault or prepared.faults.get(key)
        cells.append((cell_id(cell), cell, fault))
        if variant and fault is None:
            told = runtimes.binding(variant.manifest["runtimes"], keep_all)
            jobs.append(Job(cell_id(cell), cell, variant.artifact, variant.folder, prepared.datasets[item.model], told))
    made = [
        VariantRecord(model, recipe, format_, made.artifact.sha256, sum(file.size_bytes for file in made.artifact.files), made.manifest)
        for (model, recipe, format_), made in prepared.variants.items()
    ]
    return Matrix(cells, jobs, made)


def _is_final(cell: CellRecord) -> bool:
    """A cell whose last launch of some round failed for a reason that another try will not mend."""
    last = {launch.round: launch for launch in cell.launches}
    return any(launch.fault is not None and launch.fault.code not in PASSING for launch in last.values())


def _is_profiled(cell: CellRecord) -> bool:
    """A cell whose operations have been timed, or could not be for a reason that another try will not mend."""
    return cell.profiled is not None and (cell.profiled.fault is None or cell.profiled.fault.code not in PASSING)


def _check_same(record: RunRecord, request: Request, matrix: Matrix) -> None:
    then, now_ = (record.profile, record.launches_planned), (request.suite.profile, request.launches)
    if then != now_:
        raise FleetmarkError(
            f"run {record.id} is of {then[1]} {then[0]} launches a cell, its suite asks for {now_[1]} {now_[0]} ones now",
            next="change the suite back, or start a new run",
        )
    stored = {cell.id for cell in record.cells if not protocol_of(cell.cell)}
    if stored and stored != {identity for identity, _, _ in matrix.cells}:
        raise FleetmarkError(
            f"run {record.id} had other cells than its suite gives now",
            why="the suite, a model, its data or a tool's version has changed since",
            next="start a new run",
        )


def _document(request: Request) -> dict[str, Any]:
    return {
        "fleetmark": VERSION,
        "profile": request.suite.profile,
        "suite": request.name,
        "launches": request.launches,
        "rate_per_s": request.suite.rate_per_s,
        "gates": [asdict(gate) for gate in request.suite.gates],
        "request": dict(request.document),
        "provenance": {
            "controller": platform.node(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
