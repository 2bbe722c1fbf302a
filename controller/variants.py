"""Makes what a run needs of its models: each one's data once, and each recipe in each format once, from the cache where it is there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.schema import Fault
from compress.build import Context, Variant
from compress.original import kind_of
from compress.recipes import Recipe
from compress.records import NO_COMPILER
from controller import bench, compile_host, runtimes
from controller.bench import told
from controller.dataset import Dataset
from controller.engine import Engine, Local
from controller.inventory import Device
from controller.outputs import References
from controller.reference import run_model
from controller.suite import Model

Key = tuple[str, str, str]  # model, recipe, format


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made: data by model, the float models' outputs, artifacts by (model, recipe, format), and why some could not be."""

    datasets: Mapping[str, Dataset]
    references: References
    variants: Mapping[Key, Variant]
    faults: Mapping[Key, Fault]


def prepare(
    models: Mapping[str, Model],
    recipes: Mapping[str, Recipe],
    asked: Iterable[Key],
    cache: Path,
    say: Callable[[str], None],
    compile_hosts: Sequence[Device] = (),
    *,
    engine: Engine | None = None,
    keep_all: bool = False,
    devices: Sequence[Device] = (),
) -> Prepared:
    """Make what is asked for; `say` hears of each artifact as it is ready. `compile_hosts` may have edgetpu_compiler.

    `devices` are those that latency targets may be measured on. An artifact that did not shrink, or that lost more than its recipe
    allows, is a fault unless `keep_all`.
    """
    wanted = sorted(set(asked))
    compiler = compile_host.find(compile_hosts) if any(key[2] == "edgetpu" for key in wanted) else NO_COMPILER
    context = Context(cache / "artifacts", run_model, compiler, further=runtimes.further)
    here = bench.lay_out(models, {(key[0], kind_of(key[2])) for key in wanted}, context, cache / "data", say, devices)
    faults = {key: here.faults[key[0], kind_of(key[2])] for key in wanted if (key[0], kind_of(key[2])) in here.faults}
    variants: dict[Key, Variant] = {}
    orders = [here.order(model, recipes[recipe], format_) for model, recipe, format_ in wanted if (model, recipe, format_) not in faults]
    for order, outcome in here.build(orders, engine or Local()):
        key = order.model, order.recipe.name, order.format
        refused = outcome if isinstance(outcome, Fault) else None if keep_all else outcome.refusal
        if refused is not None:
            faults[key] = refused
            say(f"{' '.join(key)}: {told(refused)}")
        elif isinstance(outcome, Variant):
            variants[key] = outcome
            say(f"{' '.join(key)}: {sum(file.size_bytes for file in outcome.artifact.files):,} bytes")
            for runtime, fault in runtimes.refusals(runtimes.binding(outcome.manifest["runtimes"], keep_all)).items():
                say(f"{' '.join(key)}: not for {runtime} or older ({fault.code}, manifest.json says why)")
    return Prepared(here.datasets, here.references, variants, faults)
