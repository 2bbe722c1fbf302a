"""Where models are made smaller: their data and float originals at hand, builds sent to an engine and fetched from it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from agent.schema import Artifact, Fault, FaultError, load
from compress import cache, making, onnx_model, onnx_to_tflite, original, training
from compress.build import Context, Source, Variant, build
from compress.recipes import Recipe
from compress.records import Data, Runtime, TorchSource
from compress.tasks import CODE
from controller import dataset
from controller.dataset import Dataset
from controller.engine import Engine, Local
from controller.inventory import Device
from controller.laptop import cache_folder
from controller.outputs import References
from controller.reference import run_model
from controller.suite import Model

KEY = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A variant to build, with the data to verify it with."""

    model: str
    recipe: Recipe
    format: str
    data: Data


@dataclass(frozen=True, slots=True)
class Bench:
    """Models with all that builds of them need; `faults` tells why a model cannot be had in a kind (onnx or tflite).

    `devices`, by name, are those that latency targets may be measured on.
    """

    datasets: Mapping[str, Dataset]
    sources: Mapping[str, Source]
    references: References
    faults: Mapping[tuple[str, str], Fault]
    context: Context
    devices: Mapping[str, Device] = field(default_factory=dict[str, Device])

    def order(self, model: str, recipe: Recipe, format: str) -> Order:  # noqa: A002  (the domain's word)
        """A build that is verified with the evaluation samples."""
        return Order(model, recipe, format, self.datasets[model].data)

    def build(self, orders: Sequence[Order], engine: Engine) -> Iterator[tuple[Order, Variant | Fault]]:
        """Yield each order with its variant, or why there is none, as they come."""
        here = [_Job(one, self.sources[one.model], self._context(one)) for one in orders if engine.is_here or _needs_this_machine(one)]
        for job, outcome in (engine if engine.is_here else Local()).run(_build, here) if here else ():
            yield job.order, outcome
        there = (
            []
            if engine.is_here
            else [_parcel(one, self.sources[one.model], self.context.further) for one in orders if not _needs_this_machine(one)]
        )
        for parcel, sent in engine.run(_build_elsewhere, there) if there else ():
            yield parcel.order, sent if isinstance(sent, Fault) else _received(sent, self.context.cache)

    def _context(self, order: Order) -> Context:
        if not any(step.target and step.target.device for step in order.recipe.steps):
            return self.context
        from controller import measure  # which opens SSH connections: what only builds needs none

        model = measure.Model(order.model, measure.light(self.datasets[order.model]))
        return replace(self.context, latency_ms=measure.Gauge(self.devices, model))


def lay_out(
    models: Mapping[str, Model],
    kinds: Iterable[tuple[str, str]],
    context: Context,
    data: Path,
    say: Callable[[str], None],
    devices: Iterable[Device] = (),
) -> Bench:
    """The bench for these models in these kinds: (name, onnx or tflite). Their data goes to the folder `data`."""
    datasets: dict[str, Dataset] = {}
    sources: dict[str, Source] = {}
    references: dict[tuple[str, str], NDArray[np.float32]] = {}
    faults: dict[tuple[str, str], Fault] = {}
    for name, kind in sorted(set(kinds)):
        try:
            if name not in datasets:
                datasets[name] = dataset.prepare(name, models[name], data, say)
            if name not in sources:
                sources[name] = _source(name, models[name], datasets[name], context, say)
            if kind == "tflite" and sources[name].tflite is None and sources[name].onnx is not None:
                sources[name], datasets[name] = _converted(sources[name], datasets[name], context, say)
            references[name, kind] = _reference(sources[name], kind, datasets[name], context)
        except (FaultError, MemoryError) as error:
            faults[name, kind] = fault = _fault(error, models[name], kind)
            say(f"{name} {kind}: {told(fault)}")
    return Bench(datasets, sources, references, faults, context, {device.name: device for device in devices})


def told(fault: Fault) -> str:
    """A fault in a line."""
    return f"{fault.code}: {fault.message}" + (f"; {fault.next}" if fault.next else "")


def _fault(error: FaultError | MemoryError, model: Model, kind: str) -> Fault:
    """Why a model cannot be had, with the name of its file."""
    path = model.tflite if kind == "tflite" and model.tflite else model.source
    if isinstance(error, MemoryError):
        return Fault("oom", "load", f"{path.name}: there was not enough memory to read it", "use a smaller model, or a machine with more")
    message = error.fault.message
    return error.fault if path.name in message else error.fault._replace(message=f"{path.name}: {message}")


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


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    order: Order
    source: Source
    context: Context


def _build(job: _Job) -> Variant:
    order = job.order
    return build(job.source, order.recipe, order.format, order.data, job.context)


def _needs_this_machine(order: Order) -> bool:
    """Whether it takes edgetpu_compiler, a device or its owner's metric, which other machines may not reach."""
    return (
        order.format == "edgetpu"
        or order.data.task.startswith(CODE)
        or any(step.target and step.target.device for step in order.recipe.steps)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Parcel:
    """An order for another machine: the files that its source names, by their place in it.

    `factory` is a torch module's, `beside` the modules of its folder that it imports, by their paths there. `further` are the runtimes of
    the other machine to verify in.
    """

    order: Order
    files: Mapping[str, tuple[str, bytes]]
    factory: str
    beside: Mapping[str, bytes]
    further: Callable[[str], Sequence[Runtime]]


def _parcel(order: Order, source: Source, further: Callable[[str], Sequence[Runtime]]) -> _Parcel:
    torch = source.torch
    paths = {"onnx": source.onnx, "tflite": source.tflite, "file": torch and torch.file, "weights": torch and torch.weights}
    files = {place: (path.name, _content(place, path)) for place, path in paths.items() if path is not None}
    beside = {str(path.relative_to(torch.file.parent)): path.read_bytes() for path in training.beside(torch.file)} if torch else {}
    return _Parcel(order, files, torch.factory if torch else "", beside, further)


def _content(place: str, path: Path) -> bytes:
    return onnx_model.self_contained(path) if place == "onnx" else path.read_bytes()


@dataclass(frozen=True, slots=True)
class _Built:
    """A variant on its way back: its folder's name, and what is in it."""

    key: str
    files: Mapping[str, bytes]


def _build_elsewhere(parcel: _Parcel) -> _Built:
    """On the other machine: build from the parcel's files, in the cache that is there."""
    with TemporaryDirectory(prefix="fleetmark-") as folder:
        paths: dict[str, Path] = {}
        for place, (name, content) in parcel.files.items():
            paths[place] = Path(folder, place, Path(name).name)
            paths[place].parent.mkdir()
            paths[place].write_bytes(content)
        for name, content in parcel.beside.items():
            module = paths["file"].parent / name
            module.parent.mkdir(parents=True, exist_ok=True)
            module.write_bytes(content)
        torch = TorchSource(paths["file"], parcel.factory, paths.get("weights")) if parcel.factory else None
        source = Source(parcel.order.model, paths.get("onnx"), paths.get("tflite"), torch)
        made = _build(_Job(parcel.order, source, Context(cache_folder() / "artifacts", run_model, further=parcel.further)))
        return _Built(made.folder.name, {path.name: path.read_bytes() for path in made.folder.iterdir()})


def _received(built: _Built, kept: Path) -> Variant:
    """The variant, laid into the cache here; raises FaultError `protocol` for one that is not whole."""
    folder = kept / "variants" / built.key

    def write(partial: Path) -> None:
        for name, content in built.files.items():
            (partial / Path(name).name).write_bytes(content)
        if not making.is_whole(partial):
            raise FaultError("protocol", "a worker sent an artifact that is not whole", "run again", "compress")

    if not KEY.match(built.key):
        raise FaultError("protocol", "a worker sent an artifact without a name", "run again", "compress")
    cache.once(folder, making.is_whole, write)
    artifact: Artifact = load(Artifact, making.manifest(folder)["artifact"])
    return Variant(artifact, folder, making.manifest(folder))
