"""fleetmark compress."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_json, stdout_table

if TYPE_CHECKING:
    from compress.records import Variant
    from controller.engine import Engine
    from controller.inventory import Device
    from controller.suite import Suite
    from controller.variants import Prepared

Target = Annotated[str, typer.Argument(metavar="MODEL|SUITE", help="An .onnx, a .tflite, python:package.module:factory, or a suite.yaml.")]
Recipes = Annotated[
    list[str] | None, typer.Option("--recipe", "-r", help="What to make: recipe names or files (default fp32, or the suite's).")
]
Formats = Annotated[
    list[str] | None, typer.Option("--format", "-f", help="onnx, tflite, openvino, tensorrt or edgetpu (default: the model's own).")
]
Data = Annotated[Path | None, typer.Option("--data", help="The model's data.npz: eval_, calib_ and train_ arrays; else random inputs.")]
Tflite = Annotated[Path | None, typer.Option("--tflite", help="The same model as .tflite: spares the conversion.")]
Weights = Annotated[Path | None, typer.Option("--weights", help="Of a python: MODEL: its state_dict, a .pt file.")]
Task = Annotated[str | None, typer.Option("--task", help="What the outputs mean (default classification where there are labels).")]
Out = Annotated[Path, typer.Option("--output", "-o", help="The folder that gets MODEL/RECIPE/FORMAT with the files and manifest.json.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=256, help="How many processes work at once.")]
Where = Annotated[str, typer.Option("--engine", help="local, or dask://host:port: the workers of a Dask cluster.")]
KeepAll = Annotated[bool, typer.Option("--keep-all", help="Write artifacts too that did not shrink or lost more than their recipe allows.")]
Searching = Annotated[bool, typer.Option("--search", help="Search recipes and strengths (of --recipe, default all that ship).")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="With --search: how many recipes to try in all (default 30).")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0, help="With --search: begin nothing new after so many seconds.")]
MaxSize = Annotated[int | None, typer.Option("--max-size", min=1, help="With --search: bytes that a variant may have.")]
MaxDrop = Annotated[float | None, typer.Option("--max-drop-pp", min=0, help="With --search: percentage points that it may lose.")]
MaxLatency = Annotated[float | None, typer.Option("--max-latency-ms", min=0, help="With --search: what it may take on every device.")]
TRIALS = 30
SHOWN = 3
COLUMNS = ("model", "recipe", "format", "bytes", "", "weights", "zeros", "MACs")
UNITS = (("G", 1e9), ("M", 1e6), ("k", 1e3))
FIGURES = (
    "size_bytes",
    "float_size_bytes",
    "parameters",
    "macs",
    "sparsity",
    "accuracy",
    "reference_accuracy",
    "drift",
    "runtimes",
    "notes",
    "seconds",
)


def compress(
    target: Target,
    recipe: Recipes = None,
    format_: Formats = None,
    data: Data = None,
    tflite: Tflite = None,
    weights: Weights = None,
    task: Task = None,
    output: Out = Path("artifacts"),
    jobs: Jobs = 2,
    where: Where = "local",
    keep_all: KeepAll = False,
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    searching: Searching = False,
    trials: Trials = None,
    timeout: Timeout = None,
    max_size: MaxSize = None,
    max_drop_pp: MaxDrop = None,
    max_latency_ms: MaxLatency = None,
    json: options.Json = False,
) -> int:
    """Make a model smaller or faster, and check that it still works.

    Each artifact is run on the model's data and compared with the float model before it is written. Latency targets of recipes are
    measured on the devices of --select.

    With --search: the Pareto set of each device, and best.yaml, the recipe that costs all of them the least. The same command goes on
    where an interrupted one was.
    """
    from controller import engine

    _check_output(output)
    suite = _suite(target, recipe, {"data": data, "tflite": tflite, "weights": weights, "task": task})
    formats = {name: _formats(suite, name, format_) for name in suite.models}
    shop = Workshop(*_devices(inventory, select), engine.choose(where, jobs), keep_all)
    if searching:
        from controller.cli import search
        from controller.search import Limits

        wanted = search.Wanted(
            recipe is not None, format_ or [], trials or TRIALS, timeout, Limits(max_size, max_drop_pp, max_latency_ms), jobs
        )
        return search.search(suite, wanted, shop, output, json)
    _check_no_search(trials=trials, timeout=timeout, max_size=max_size, max_drop_pp=max_drop_pp, max_latency_ms=max_latency_ms)
    return _make(suite, formats, shop, output, json)


def _check_output(output: Path) -> None:
    """Raise FleetmarkError before any work where nothing can be put in that folder."""
    from controller.errors import FleetmarkError

    nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise FleetmarkError(f"{output} cannot be a folder: {nearest} is a file", next="choose another --output")


def _check_no_search(**given: object) -> None:
    """Raise FleetmarkError for an option that means something with --search only."""
    from controller.errors import FleetmarkError

    for name, value in given.items():
        if value is not None:
            raise FleetmarkError(f"--{name.replace('_', '-')} is for a search", next="add --search")


@dataclass(frozen=True, slots=True)
class Workshop:
    """What makes artifacts: devices to measure latency targets on, hosts with edgetpu_compiler, an engine; and what it is to let pass."""

    devices: "Sequence[Device]"
    compile_hosts: "Sequence[Device]"
    engine: "Engine"
    keep_all: bool


def _make(suite: "Suite", formats: Mapping[str, Sequence[str]], shop: Workshop, output: Path, json: bool) -> int:
    from controller import plan, variants
    from controller.errors import ExitCode
    from controller.laptop import cache_folder

    recipes = plan.recipes_of(suite)
    asked = [(name, one, kind) for name in suite.models for one in recipes for kind in formats[name]]
    made = variants.prepare(
        suite.models,
        recipes,
        asked,
        cache_folder(),
        stderr_text,
        shop.compile_hosts,
        engine=shop.engine,
        keep_all=shop.keep_all,
        devices=shop.devices,
    )
    found = {key: made.variants[key] for key in asked if key in made.variants}
    for (name, one, kind), variant in found.items():
        write_variant(variant, output / name / one / kind)
    if json:
        stdout_json("variants", [_document(key, made, output) for key in asked])
    elif found:
        several = len(suite.models) > 1
        columns = (*COLUMNS, f"{_metric(found.values())} (pp)", "SQNR")
        rows = [[name if several else "", *_row(variant, one, kind)] for (name, one, kind), variant in found.items()]
        stdout_table(columns, rows, right=columns[3:])
    if found:
        stderr_text(f"in {output}")
    return ExitCode.INCOMPLETE if made.faults else ExitCode.OK


def _devices(inventory: Path, select: list[str] | None) -> "tuple[list[Device], list[Device]]":
    """Those chosen, and those that have edgetpu_compiler; none of either where none is chosen, and the inventory is not read."""
    if not select:
        return [], []
    from controller import inventory as inventories

    return options.devices(inventory, select), [one for one in inventories.load(inventory).devices.values() if one.compile_host]


def _suite(target: str, recipe: list[str] | None, given: dict[str, Any]) -> "Suite":
    import dataclasses

    from controller import single
    from controller import suite as suites
    from controller.errors import FleetmarkError

    if single.is_model(target):
        return single.suite(target, given, recipe or ["fp32"])
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise FleetmarkError(f"--{wrong[0]} is for a MODEL, {target} is a suite", next="write it into the suite")
    suite = suites.load(Path(target))
    return dataclasses.replace(suite, recipes=tuple(recipe)) if recipe else suite


def _formats(suite: "Suite", name: str, asked: list[str] | None) -> list[str]:
    from compress.techniques import FILES
    from controller.errors import FleetmarkError
    from controller.strict import nearest

    for one in asked or []:
        if one not in FILES:
            raise FleetmarkError(f"no format is called {one!r}", next=nearest(one, FILES))
    return asked or ["tflite" if suite.models[name].source.suffix == ".tflite" else "onnx"]


def write_variant(variant: "Variant", folder: Path) -> None:
    """Put the files and manifest.json there, whole or not at all; raises FleetmarkError for a folder with anything else in it."""
    from controller.errors import FleetmarkError

    others = sorted({path.name for path in folder.iterdir()} - _ours(folder)) if folder.is_dir() else [folder.name]
    if folder.exists() and others:
        message = f"{folder} holds {', '.join(others[:SHOWN])}, which would be lost"
        raise FleetmarkError(message, next="move it away, or choose another --output")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        fresh = Path(shutil.copytree(variant.folder, Path(temporary, "new")))
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        fresh.rename(folder)


def _ours(folder: Path) -> set[str]:
    """The names of the files that an earlier variant put there."""
    from agent.schema import SchemaError
    from compress import making

    try:
        told = making.manifest(folder)
        return {"manifest.json", *(file["name"] for file in told["artifact"]["files"]), *told["extras"]}
    except (OSError, SchemaError, KeyError, TypeError):
        return set()


def _document(key: tuple[str, str, str], made: "Prepared", output: Path) -> dict[str, Any]:
    names = dict(zip(("model", "recipe", "format"), key, strict=True))
    if key not in made.variants:
        return {**names, "fault": made.faults[key]._asdict()}
    variant = made.variants[key]
    return {**names, "path": str(output.joinpath(*key)), **{figure: variant.manifest[figure] for figure in FIGURES}}


def _row(variant: "Variant", recipe: str, format_: str) -> list[str]:
    told = variant.manifest
    accuracy, reference = told["accuracy"], told["reference_accuracy"]
    return [
        recipe,
        format_,
        f"{told['size_bytes']:,}",
        f"{told['float_size_bytes'] / told['size_bytes']:.1f}x",
        _short(told["parameters"]),
        f"{told['sparsity']:.0%}" if told["sparsity"] else "",
        "" if told["macs"] is None else _short(told["macs"]),
        "" if accuracy is None else f"{accuracy:.4f} ({100 * (accuracy - reference):+.2f})",
        f"{told['drift']['sqnr_db']:.0f} dB" if accuracy is None else "",
    ]


def _metric(variants: "Iterable[Variant]") -> str:
    """What the models' tasks are scored by, in words; where that is not the same for all, a score."""
    from reports.metrics import METRICS

    names = {variant.manifest["metric"] for variant in variants} - {None}
    return METRICS[names.pop()].label if len(names) == 1 else "score"


def _short(count: int) -> str:
    """A count in three or four digits: 416.5 k."""
    return next((f"{count / size:.1f} {unit}" for unit, size in UNITS if count >= size), str(count))
