"""fleetmark plan and fleetmark run."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options
from controller.cli.output import pairs, stderr_text, stdout_json, stdout_table, write

if TYPE_CHECKING:
    from controller.plan import PlannedCell
    from controller.queueing import Patience
    from controller.run import Request
    from controller.store import RunRow, Store
    from controller.suite import Suite
    from reports.baseline import Baseline
    from reports.records import RunRecord

Target = Annotated[Path | None, typer.Argument(metavar="SUITE|MODEL", help="A suite.yaml, or an .onnx or .tflite model.")]
Recipe = Annotated[list[str] | None, typer.Option("--recipe", "-r", help="For a MODEL: variants to make of it (default fp32).")]
Backend = Annotated[list[str] | None, typer.Option("--backend", "-b", help="For a MODEL: runtimes (default: all that fit).")]
Data = Annotated[Path | None, typer.Option("--data", help="For a MODEL: its data.npz; without it, random inputs and no accuracy.")]
Tflite = Annotated[Path | None, typer.Option("--tflite", help="For an .onnx MODEL: the same model as .tflite.")]
Task = Annotated[str | None, typer.Option("--task", help="For a MODEL: what its outputs mean (default classification with --data).")]
Profile = Annotated[str | None, typer.Option("--profile", help="quick (3 launches of 0.5 s), standard (5 of 3 s) or strict (5 of 10 min).")]
Launches = Annotated[int | None, typer.Option("--launches", min=1, max=1000, help="How many launches each cell gets.")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with an interrupted run: its id, a prefix, or latest.")]
Twice = Annotated[
    bool,
    typer.Option(
        "--aa", help="Measure each cell under two labels: the report then has each device's noise floor, and what its power sensor costs."
    ),
]
KeepAll = Annotated[
    bool, typer.Option("--keep-all", help="Measure variants too that did not shrink or lost more than their recipe allows.")
]
NoWait = Annotated[
    bool,
    typer.Option("--no-wait", help="Leave out devices that somebody else has, or that are out of reach, in place of waiting for them."),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="TIME",
        parser=options.duration,
        help="Begin no launch that would not end by then: 90s, 15m, 2h or 1h30m from now. --resume goes on with what is left.",
    ),
]
Time = Annotated[
    float | None,
    typer.Option(
        "--time",
        metavar="TIME",
        parser=options.duration,
        help="Measure what fits into 90s, 15m, 2h or 1h30m: three launches a cell at least, then without the cells that take longest; "
        "each device keeps fp32 and one candidate. Compression and shipping come on top.",
    ),
]
OF_A_MODEL = {"recipes": "--recipe", "backends": "--backend", "data": "--data", "tflite": "--tflite", "task": "--task"}
Wheelhouse = Annotated[Path | None, typer.Option("--wheelhouse", help="A folder of wheels, for a laptop that is offline.", exists=True)]

Trace = Annotated[Path | None, typer.Option("--trace", metavar="PATH", help="Write a timeline of every device, to open in Perfetto.")]


def plan(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite.yaml.")],
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    profile: Profile = None,
    launches: Launches = None,
    time: Time = None,
    json: options.Json = False,
) -> None:
    """Show what a suite would run.

    The matrix, about how long it takes, and each cell that is left out with its reason.
    """
    from controller import durations, profiles
    from controller import plan as planning

    whole = _request(_ask(suite, select, inventory, profile, launches), None)
    request, dropped = _fitted(whole, time)
    slow = {id(cell): f"time: about {durations.shown(seconds)}" for cell, seconds in dropped}
    cells = request.planned
    seconds = planning.estimated_s(cells, profiles.of_suite(request.suite), request.launches, request.devices, request.meters)
    rows = [
        {
            "device": cell.device,
            "model": cell.model,
            "variant": cell.recipe,
            "backend": f"{cell.backend} {pairs(cell.options)}".strip(),
            "workload": cell.workload.name,
            "left out": f"{cell.fault.code}: {cell.fault.message}" if cell.fault else slow.get(id(cell), ""),
        }
        for cell in whole.planned
    ]
    if json:
        stdout_json("plan", {"cells": rows, "launches": request.launches, "estimated_s": round(seconds, 1)})
        return
    stdout_table(list(rows[0]) if rows else ["device"], [list(row.values()) for row in rows])
    left_out, minutes = sum(1 for cell in cells if cell.fault) + len(dropped), max(1, round(seconds / 60))
    stderr_text(f"{len(rows)} cells, {left_out} of them left out; {request.launches} launches each, about {minutes} min of measuring")
    if time is not None:
        given = [("--select", one) for one in select or ()] + [("--profile", profile), ("--launches", launches)]
        given += [("--inventory", inventory)] if inventory != options.INVENTORY else []
        more = [str(word) for option, value in given if value is not None for word in (option, value)]
        stderr_text(f"to measure this: {shlex.join(['fleetmark', 'run', str(suite), *more, '--time', f'{time:.0f}s'])}")


def run(
    target: Target = None,
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    recipe: Recipe = None,
    backend: Backend = None,
    data: Data = None,
    tflite: Tflite = None,
    task: Task = None,
    profile: Profile = None,
    launches: Launches = None,
    time: Time = None,
    twice: Twice = False,
    keep_all: KeepAll = False,
    resume: Resume = None,
    wheelhouse: Wheelhouse = None,
    no_wait: NoWait = False,
    deadline: Deadline = None,
    trace: Trace = None,
) -> int:
    """Measure a suite or one model; write the report.

    On the selected devices, which get what they lack. Ctrl-C keeps what is done; --resume goes on from there.
    """
    from controller.errors import FleetmarkError
    from controller.queueing import Patience, in_seconds

    patience = Patience(not no_wait, in_seconds(deadline))
    if target is None and resume is None:
        raise FleetmarkError("give a SUITE or MODEL to run, or --resume RUN", next="fleetmark run --help")
    if resume is not None:
        store = options.open_store(results, url)
        row = store.find_run(resume)
        asks = {"--select": select, "--recipe": recipe, "--backend": backend, "--data": data, "--tflite": tflite, "--task": task}
        asks |= {"--profile": profile, "--launches": launches, "--time": time, "--aa": twice, "--keep-all": keep_all}
        _check_resumed(row, target, [option for option, value in asks.items() if value])
        return _run(_request(row.document["request"], wheelhouse), store, results, row.id, patience, trace)
    assert target is not None  # noqa: S101 - for the type checker
    asked = _ask(target, select, inventory, profile, launches)
    asked["keep_all"] = keep_all
    asked |= {"recipes": recipe, "backends": backend, "data": _absolute(data), "tflite": _absolute(tflite), "task": task, "aa": twice}
    asked["time_s"] = time
    request = _request(asked, wheelhouse)
    return _run(request, options.open_store(results, url, create=True), results, None, patience, trace)


def _check_resumed(row: "RunRow", target: Path | None, asks: list[str]) -> None:
    """A run is resumed as it was asked for; naming its suite beside it is fine, another one is a mistake."""
    from controller.errors import FleetmarkError

    asked = row.document["request"]
    if not asked:
        raise FleetmarkError(f"run {row.id} was imported: nothing of it is left to do", next="fleetmark run SUITE measures")
    if asks:
        raise FleetmarkError(f"{asks[0]} has no say in a run that is resumed", next="leave it out, or start a new run")
    if target is not None and _absolute(target) != asked["target"]:
        raise FleetmarkError(f"run {row.id} is of {asked['name']}, not of {target}", next=f"fleetmark run --resume {row.id}")


def _ask(target: Path, select: list[str] | None, inventory: Path, profile: str | None, launches: int | None) -> dict[str, Any]:
    return {
        "target": _absolute(target),
        "name": str(target),
        "select": select,
        "inventory": _absolute(inventory),
        "profile": profile,
        "launches": launches,
    }


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path else None


def _request(asked: dict[str, Any], wheelhouse: Path | None) -> "Request":
    from controller import inventory as inventories
    from controller import run as running
    from controller import selectors
    from controller import suite as suites
    from controller.errors import FleetmarkError
    from controller.single import SUFFIXES

    target = Path(asked["target"])
    if not target.exists():
        raise FleetmarkError(f"there is no {asked['name']}", next="give the path of a suite.yaml, an .onnx or a .tflite")
    single = target.suffix in SUFFIXES
    given = [option for key, option in OF_A_MODEL.items() if asked.get(key)]
    if given and not single:
        raise FleetmarkError(f"{given[0]} is for a MODEL, {asked['name']} is a suite", next="write it into the suite")
    suite = _single(target, asked) if single else suites.load(target)
    if asked.get("task"):
        asked = {**asked, "task": next(iter(suite.models.values())).task}  # its file as an absolute path, to resume from another folder
    if asked["profile"]:
        suite = dataclasses.replace(suite, profile=asked["profile"])
    known = inventories.load(Path(asked["inventory"]))
    devices = selectors.select(known, asked["select"] or list(suite.devices))
    hosts = [device for device in known.devices.values() if device.compile_host]
    count, twice = asked["launches"], bool(asked.get("aa"))
    found = running.request(suite, asked["name"], devices, count, asked, wheelhouse, hosts, meters=known.meters, twice=twice)
    return _fitted(found, asked.get("time_s"))[0]


def _fitted(request: "Request", time_s: float | None) -> "tuple[Request, Sequence[tuple[PlannedCell, float]]]":
    """What of a request fits into a time, and what was dropped for it."""
    from controller import fitting, profiles
    from controller.errors import FleetmarkError

    if time_s is None:
        return request, ()
    if request.document.get("aa"):
        raise FleetmarkError("--time and --aa do not go together: a cell would lose its second label", next="use --launches with --aa")
    profile = profiles.of_suite(request.suite)
    found = fitting.fit(request.planned, profile, request.launches, request.devices, request.meters, time_s)
    return dataclasses.replace(request, planned=found.cells, launches=found.launches), found.dropped


def _single(target: Path, asked: dict[str, Any]) -> "Suite":
    """The suite of one model that was named on the command line."""
    from controller import single
    from controller.errors import FleetmarkError
    from controller.inventory import known_backends

    chosen = tuple(asked.get("backends") or ["auto"])
    unknown = set(chosen) - {"auto", *known_backends()}
    if unknown:
        raise FleetmarkError(f"no backend is called {min(unknown)!r}", next=f"use {', '.join(known_backends())} or auto")
    given = {key: asked.get(key) for key in ("data", "tflite", "task")}
    return single.suite(str(target), given, asked.get("recipes") or ["fp32"], chosen)


def _run(request: "Request", store: "Store", results: Path, resume: str | None, patience: "Patience", trace: Path | None) -> int:
    from controller import history
    from controller import run as running
    from controller.cli.listeners import listening

    run_id = resume or running.new_id()
    try:
        with listening(run_id, trace) as listeners:
            running.execute(request, store, listeners, run_id, resume is not None, listeners.planned, patience)
    except KeyboardInterrupt:
        if any(row.id == run_id for row in store.list_runs()):
            where = f" --results {shlex.quote(str(results))}" if results != options.RESULTS else ""
            stderr_text(f"what is done is kept in {store.name}; to go on: fleetmark run --resume {run_id}{where}")
        raise
    record = history.load(store, run_id)
    baseline = history.baseline(store, record)
    store.close()
    return _show(record, results, baseline)


def _show(record: "RunRecord", results: Path, baseline: "Baseline | None") -> int:
    """Write the report; print the summary, then the report's path; give the exit code."""
    from rich.console import Console

    from controller.cli.output import even_if_unread, stdout_path
    from controller.gates import exit_code
    from controller.laptop import cache_folder
    from reports import page, summary, table
    from reports.cheapest import gated

    rows = table.rows(record)
    written = write(page.render(record, baseline, cache_folder()), results / record.id / "report.html")
    with even_if_unread():
        Console().print(summary.summary(record, rows))
        if written:
            stdout_path("report", written)
    return exit_code(record, len(gated(record, rows).failures))
