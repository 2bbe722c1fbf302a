"""Makes what a run needs of its models: each one's data once, and each recipe in each format once, from the cache where it is there."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.schema import Fault, FaultError
from compress import onnx_to_tflite, original, training
from compress.build import Context, Source, Variant, build
from compress.original import kind_of
from compress.recipes import Recipe
from compress.records import NO_COMPILER
from controller import compile_host, dataset, engine
from controller.dataset import Dataset
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
    jobs: int = engine.WORKERS,
    keep_all: bool = False,
) -> Prepared:
    """Make what is asked for; `say` hears of each artifact as it is ready. `compile_hosts` may have edgetpu_compiler.

    An artifact that did not shrink, or that lost more than its recipe allows, is a fault unless `keep_all`.
    """
    wanted = sorted(set(asked))
    compiler = compile_host.find(compile_hosts) if any(key[2] == "edgetpu" for key in wanted) else NO_COMPILER
    context = Context(cache / "artifacts", run_model, compiler)
    datasets: dict[str, Dataset] = {}
    sources: dict[str, Source] = {}
    references: dict[tuple[str, str], NDArray[np.float32]] = {}
    faults: dict[Key, Fault] = {}
    variants: dict[Key, Variant] = {}
    for name, kind in sorted({(key[0], kind_of(key[2])) for key in wanted}):
        try:
            if name not in datasets:
                datasets[name] = dataset.prepare(name, models[name], cache / "data", say)
                sources[name] = _source(name, models[name], datasets[name], context, say)
            if kind == "tflite" and sources[name].tflite is None and sources[name].onnx is not None:
                sources[name], datasets[name] = _converted(sources[name], datasets[name], context, say)
            references[name, kind] = _reference(sources[name], kind, datasets[name], context)
        except FaultError as error:
            faults |= {key: error.fault for key in wanted if (key[0], kind_of(key[2])) == (name, kind)}
            say(f"{name} {kind}: {_told(error.fault)}")
    possible = [key for key in wanted if key not in faults]
    for key, outcome in engine.run(functools.partial(_build, sources, recipes, datasets, context), possible, jobs):
        if isinstance(outcome, Variant) and not keep_all:
            outcome = outcome.refusal or outcome
        if isinstance(outcome, Fault):
            faults[key] = outcome
            say(f"{' '.join(key)}: {_told(outcome)}")
        else:
            variants[key] = outcome
            say(f"{' '.join(key)}: {sum(file.size_bytes for file in outcome.artifact.files):,} bytes")
    return Prepared(datasets, references, variants, faults)


def _told(fault: Fault) -> str:
    return f"{fault.code}: {fault.message}" + (f"; {fault.next}" if fault.next else "")


def _converted(source: Source, data: Dataset, context: Context, say: Callable[[str], None]) -> tuple[Source, Dataset]:
    """The source with a .tflite made from its .onnx, and its data in that one's layout."""
    assert source.onnx is not None  # noqa: S101 - for the type checker
    name = source.model
    say(f"{name}: there is no .tflite, converting the .onnx")
    made = onnx_to_tflite.convert(name, source.onnx, data.data, context)
    when = f"in {made.seconds:.1f} s" if made.seconds else "in an earlier run"
    say(f"{name}: converted to TFLite {when}, SQNR {made.sqnr_db:.0f} dB against the .onnx")
    return replace(source, tflite=made.path), dataset.transposed(data, made.transpose)


def _source(name: str, model: Model, data: Dataset, context: Context, say: Callable[[str], None]) -> Source:
    if model.torch is not None:
        say(f"{name}: exporting the torch module to ONNX")
        return Source(name, training.exported(model.torch, data.data, context.cache), model.tflite, model.torch)
    onnx = model.source if model.source.suffix == ".onnx" else None
    return Source(name, onnx, model.tflite or (None if onnx else model.source))


def _reference(source: Source, kind: str, data: Dataset, context: Context) -> NDArray[np.float32]:
    outputs = original.reference(original.original(source, kind, data.data), context)
    return np.asarray(next(iter(outputs.values())), dtype=np.float32)


def _build(
    sources: Mapping[str, Source], recipes: Mapping[str, Recipe], datasets: Mapping[str, Dataset], context: Context, key: Key
) -> Variant:
    name, recipe, format_ = key
    return build(sources[name], recipes[recipe], format_, datasets[name].data, context)
