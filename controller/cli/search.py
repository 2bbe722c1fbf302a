"""fleetmark compress --search."""

import fcntl
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.schema import Fault
from controller.cli.compress import Workshop, write_variant
from controller.cli.output import stderr_text, stdout_json, stdout_lines, stdout_table, write

if TYPE_CHECKING:
    from compress.recipes import Recipe
    from compress.records import Source, Variant
    from controller.bench import Bench
    from controller.search import Limits
    from controller.search_result import Entry, Result
    from controller.suite import Suite
    from controller.trials import Trial

COLUMNS = ("", "device", "recipe", "format", "backend", "bytes", "held-out (pp)", "test (pp)", "latency")
FOREVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to search: whether the suite's recipes alone or all that ship, in which formats (none: the devices', or the model's own).

    `jobs` recipes are tried at once; after `timeout_s` no further ones are begun.
    """

    own_recipes: bool
    formats: Sequence[str]
    trials: int
    timeout_s: float | None
    limits: "Limits"
    jobs: int


def search(suite: "Suite", wanted: Wanted, shop: Workshop, output: Path, json: bool) -> int:
    """Search, build and write what was found, and show it; gives the exit code. Raises FleetmarkError, FaultError."""
    from controller import recipe_file, search_result
    from controller.errors import ExitCode, FleetmarkError

    if len(suite.models) != 1:
        raise FleetmarkError("a search is over one model", next="name the model, or a suite that has one")
    output.mkdir(parents=True, exist_ok=True)
    with _alone(output):
        bench, formats = _bench(suite, wanted, shop)
        try:
            trials = _searched(suite, wanted, shop, bench, formats, output / "search.db")
        except KeyboardInterrupt:
            stderr_text(f"what is done is kept in {output / 'search.db'}; the same command goes on")
            raise
        found = search_result.result(trials, [one.name for one in shop.devices], wanted.limits.drop_pp)
        written = _ship(suite, shop, bench, found, output)
    if found.best is not None:
        write(recipe_file.text(found.best.recipe), output / "best.yaml")
    _show(found, written, output, json)
    return ExitCode.OK if found.best is not None else ExitCode.INCOMPLETE


def _bench(suite: "Suite", wanted: Wanted, shop: Workshop) -> "tuple[Bench, list[str]]":
    """The model with its data, and the formats that it can be had in."""
    from agent.schema import FaultError
    from compress.original import kind_of
    from compress.records import NO_COMPILER, Context
    from controller import bench, compile_host, measure
    from controller.laptop import cache_folder
    from controller.reference import run_model

    ((name, model),) = suite.models.items()
    own = ["tflite" if model.source.suffix == ".tflite" else "onnx"]
    formats = list(wanted.formats) or list(dict.fromkeys(one for device in shop.devices for one in measure.formats(device))) or own
    compiler = compile_host.find(shop.compile_hosts) if "edgetpu" in formats else NO_COMPILER
    context = Context(cache_folder() / "artifacts", run_model, compiler)
    kinds = {(name, kind_of(one)) for one in formats}
    laid = bench.lay_out(suite.models, kinds, context, cache_folder() / "data", stderr_text, shop.devices)
    if len(laid.faults) == len(kinds):
        fault = next(iter(laid.faults.values()))
        raise FaultError(fault.code, fault.message, fault.next, fault.phase)
    return laid, [one for one in formats if (name, kind_of(one)) not in laid.faults]


def _searched(suite: "Suite", wanted: Wanted, shop: Workshop, bench: "Bench", formats: Sequence[str], path: Path) -> "Sequence[Trial]":
    from compress import recipes
    from controller import plan, search, search_space
    from controller.errors import FleetmarkError
    from controller.trials import Trials

    (name,) = suite.models
    source, data = bench.sources[name], search.held_out(bench.datasets[name].data)
    tried = plan.recipes_of(suite).values() if wanted.own_recipes else [recipes.get(one) for one in recipes.names()]
    families = search_space.families(tried, formats, source, data, bench.context)
    if not families:
        raise FleetmarkError(
            f"no recipe can be made of {name} in {', '.join(formats)}", next="give other recipes with -r, or formats with -f"
        )
    question = search.question(source, data, families, shop.devices, wanted.limits)
    trials = Trials(path, families, question, 3 if shop.devices else 2)
    try:
        if trials.is_new:
            trials.suggest([recipes.get("fp32"), *_advised(shop, source)])
        running = search.Search(bench, name, shop.devices, wanted.limits, trials, shop.engine, stderr_text, shop.keep_all)
        running.run(wanted.trials, FOREVER_S if wanted.timeout_s is None else wanted.timeout_s, wanted.jobs)
        return trials.told
    finally:
        trials.close()


def _advised(shop: Workshop, source: "Source") -> "list[Recipe]":
    """What the devices' probes speak for, told with its reasons; a device that does not answer speaks for nothing."""
    from agent.schema import FaultError
    from compress import advice
    from controller import targets
    from controller.bench import told
    from controller.visit import visiting

    files = [path for path in (source.onnx, source.tflite) if path is not None]
    found: list[Recipe] = []
    for device in shop.devices:
        try:
            with visiting(device) as remote:
                probe = remote.probe()
        except FaultError as error:
            stderr_text(f"{device.name}: {told(error.fault)}")
            continue
        for one in advice.advise(probe, targets.offered(device), max(path.stat().st_size for path in files)):
            stderr_text(f"{device.name}: {one.recipe.name} early: {one.reason}")
            found.append(one.recipe)
    return found


def _ship(suite: "Suite", shop: Workshop, bench: "Bench", found: "Result", output: Path) -> "Mapping[tuple[str, str], Variant]":
    """Build what is to be shipped with the evaluation samples, looked at here for the first time, and write it."""
    from controller.bench import told
    from controller.runtimes import further

    (name,) = suite.models
    bench = replace(bench, context=replace(bench.context, further=further))
    orders = [bench.order(name, trial.recipe, format_) for trial, format_ in found.shipped]
    written: dict[tuple[str, str], Variant] = {}
    for order, outcome in bench.build(orders, shop.engine) if orders else ():
        refused = outcome if isinstance(outcome, Fault) else None if shop.keep_all else outcome.refusal
        if refused is not None:
            stderr_text(f"{order.recipe.name} {order.format}: {told(refused)}")
        elif not isinstance(outcome, Fault):
            written[order.recipe.name, order.format] = outcome
            write_variant(outcome, output / name / order.recipe.name / order.format)
    return written


def _show(found: "Result", written: "Mapping[tuple[str, str], Variant]", output: Path, json: bool) -> None:
    best = found.best.recipe.name if found.best else None
    if json:
        fronts = {place: [_document(one, written) for one in front] for place, front in found.fronts.items()}
        regret = {"recipe": best, "regret": found.regret, "floor_pp": found.floor_pp}
        stdout_json("search", {"fronts": fronts, "best": regret, "trials": found.counts, "path": str(output)})
        return
    rows = [_row(one, written, best) for front in found.fronts.values() for one in front]
    stdout_table(COLUMNS, rows, right=COLUMNS[5:])
    measured = any(one.latency for front in found.fronts.values() for one in front)
    told = ", ".join(f"{count} {what}" for what, count in sorted(found.counts.items()))
    lines = [f"trials: {told}"]
    if found.best is None:
        lines.append(f"no variant loses at most {found.floor_pp:g} pp everywhere")
    else:
        lines += [f"* {best}: least regret, {found.regret:.3f}, of those that lose at most {found.floor_pp:g} pp; {output / 'best.yaml'}"]
        lines.append(
            f"regret: the largest ratio, over the {'devices' if measured else 'formats'}, of its {'latency' if measured else 'size'}"
        )
        lines.append("to the least one there of a variant that loses no more than that")
    stdout_lines([(line, "") for line in lines])


def _row(entry: "Entry", written: "Mapping[tuple[str, str], Variant]", best: str | None) -> list[str]:
    trial, format_, latency = entry.trial, entry.format, entry.latency
    variant = written.get((trial.recipe.name, format_))
    manifest: Mapping[str, Any] = variant.manifest if variant else {}
    tested = f"{manifest['accuracy']:.4f} ({_lost(manifest):+.2f})" if manifest.get("accuracy") is not None else ""
    return [
        "*" if trial.recipe.name == best else "",
        entry.place if latency else "",
        trial.recipe.name,
        format_,
        latency.backend if latency else "",
        f"{trial.sizes_bytes[format_]:,}",
        f"{trial.accuracies[format_]:.4f} ({0 - trial.losses_pp[format_]:+.2f})",
        tested,
        _milliseconds(latency),
    ]


def _lost(manifest: Mapping[str, Any]) -> float:
    return 100 * (manifest["accuracy"] - manifest["reference_accuracy"])


def _milliseconds(latency: Any) -> str:
    if latency is None:
        return ""
    interval = latency.interval
    around = f" [{1000 * interval.low:.3g}, {1000 * interval.high:.3g}]" if interval else ""
    return f"{1000 * latency.median_s:.3g}{around} ms"


def _document(entry: "Entry", written: "Mapping[tuple[str, str], Variant]") -> dict[str, Any]:
    trial, format_, latency = entry.trial, entry.format, entry.latency
    variant = written.get((trial.recipe.name, format_))
    return {
        "recipe": trial.recipe.name,
        "steps": [{step.technique: dict(step.params)} for step in trial.recipe.steps],
        "format": format_,
        "size_bytes": trial.sizes_bytes[format_],
        "held_out_accuracy": trial.accuracies[format_],
        "held_out_loss_pp": trial.losses_pp[format_],
        "accuracy": variant.manifest["accuracy"] if variant else None,
        "reference_accuracy": variant.manifest["reference_accuracy"] if variant else None,
        "backend": latency.backend if latency else None,
        "latency_s": list(latency.launches_s) if latency else None,
    }


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    from controller.errors import FleetmarkError

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FleetmarkError(f"another search writes to {folder}", next="wait until it ends, or choose another --output") from error
        yield
    finally:
        os.close(descriptor)
