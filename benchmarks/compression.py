"""Accuracy against size on Fashion-MNIST, by the product's own recipes: `python -m benchmarks.compression [CASE ...]`.

The test images are looked at by finished variants only: recipes were chosen by `--held-out`. Every result is kept by what it depends on,
so that an interrupted run goes on where it was. Needs the Debian package dataset-fashion-mnist and the extras train and tflite.
"""

# torch and onnx are typed in part.
# pyright: reportUnknownMemberType=false

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from benchmarks import networks, results
from compress import onnx_to_tflite, provenance, training
from compress.build import Context, Data, Source, Variant, build
from compress.recipes import Recipe, Step
from compress.records import Samples, TorchSource
from controller import laptop, recipe_file
from controller.reference import run_model
from examples.fashion import train as fashion

DATASET = Path("/usr/share/datasets/fashion-mnist")
RECIPES = Path(__file__).with_name("recipes")
EXAMPLE = Path(fashion.__file__).parent
EXAMPLE_TFLITE = EXAMPLE / "model.tflite"
PACKAGES = ("numpy", "onnx", "onnxruntime", "torch", "ai-edge-litert")
CALIBRATION = 200
CLOSE = 0.003
"""A floor holds where the mean over the seeds is at most so much below it."""
FLOAT_EPOCHS = 8
SEEDS = 3

ABOUT = """\
Fashion-MNIST, 10,000 test images; 5,000 of the training images were held out, and every choice looked at them only. LeNet5 is the example's
(61,706 parameters), LeNet300 is LeNet-300-100 (266,610), LeNet5Caffe is LeNet-5 with 20-50-500 channels (431,080), each trained here from
three starts. A seed orders the training images, and with them the batches and the calibration samples. `bytes` is the largest file of the
seeds, `smaller` the float file against it: LeNet5's .tflite of 250,212 bytes, the .onnx of the others. `coded` is the whole model.fmdc,
graph included, and its accuracy that of the .onnx which is read back from it. A floor is met within 0.3 point, what may be lost of the
float model exactly."""


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table: a recipe for a network, and what it should reach: how many times smaller, and what accuracy.

    `floor` is an accuracy, or where `relative` the most that may be lost of the float model's. The size is the coded file's where the
    recipe writes one, else the artifact's.
    """

    name: str
    network: str
    recipe: str
    format: str
    ratio: float
    floor: float
    relative: bool = False


CASES = (
    Case("int8", "LeNet5", "int8", "tflite", 3.7, 0.001, relative=True),
    Case("7x", "LeNet5", "prune-7x-int8", "tflite", 7.0, 0.9050),
    Case("7x-coded", "LeNet5", "deep-compression-8x", "onnx", 7.0, 0.9050),
    Case("10.9x", "LeNet5", "prune-11x-int8", "tflite", 10.9, 0.9022),
    Case("10.9x-coded", "LeNet5", "deep-compression-13x", "onnx", 10.9, 0.9022),
    Case("20x-coded", "LeNet5", "deep-compression-20x", "onnx", 20.0, 0.8946),
    Case("31x-coded", "LeNet5", "deep-compression-31x", "onnx", 31.0, 0.8945),
    Case("lenet-300-100", "LeNet300", "deep-compression-lenet-300-100", "onnx", 35.0, 0.005, relative=True),
    Case("lenet-5-caffe", "LeNet5Caffe", "deep-compression-lenet-5-caffe", "onnx", 35.0, 0.005, relative=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One seed's variant: bytes of the file and of the float one, accuracy of both, and what the recipe's steps told."""

    size_bytes: int
    float_bytes: int
    accuracy: float
    float_accuracy: float
    seconds: float
    steps: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where results are kept, and how much is done: `smoke` trains one epoch on few images, `held_out` keeps off the test images."""

    folder: Path
    dataset: Path = DATASET
    smoke: bool = False
    held_out: bool = False

    def run(self, case: Case, seed: int) -> Outcome:
        """The outcome for a seed, from an earlier run where nothing that it depends on has changed but code."""
        kept = self.file(case, seed)
        if not kept.is_file():
            outcome = _outcome(self._built(case, self._recipe(case), seed))
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps({**asdict(outcome), "code": provenance.code_digest()}, indent=1))
        told = json.loads(kept.read_text())
        return Outcome(**{field: told[field] for field in Outcome.__slots__})

    def file(self, case: Case, seed: int) -> Path:
        """Where the outcome for a seed is kept."""
        record = [asdict(case), asdict(self._recipe(case)), seed, self.smoke, self.held_out]
        name = hashlib.sha256(json.dumps(record, sort_keys=True, default=dict).encode()).hexdigest()[:16]
        return self.folder / "outcomes" / f"{case.name}-{seed}-{name}.json"

    def _built(self, case: Case, recipe: Recipe, seed: int) -> Variant:
        context, data = Context(self.folder, run_model), self._data(seed)
        source = self._source(case, data, seed, context)
        if case.format == "tflite" and source.tflite is None and source.onnx is not None:
            source = replace(source, tflite=onnx_to_tflite.convert(case.network, source.onnx, data, context).path)
        return build(source, recipe, case.format, data, context)

    def _data(self, seed: int) -> Data:
        """Fashion-MNIST as examples/fashion/train.py splits it; the seed orders the training images, and so the batches."""
        split = fashion.read_split(self.dataset, np.random.default_rng(0))
        counts = (2_000, 500, 500) if self.smoke else (55_000, 5_000, 10_000)
        order = np.random.default_rng(seed).permutation(counts[0])
        train, held_out, test = (
            _samples(part, count) for part, count in zip((split.train, split.held_out, split.test), counts, strict=True)
        )
        train = Samples({"image": train.feeds["image"][order]}, None if train.labels is None else train.labels[order])
        shown = held_out if self.held_out else test
        calibration = {"image": train.feeds["image"][:CALIBRATION]}
        return Data(shown.feeds, calibration, shown.labels, {"image": (0, 2, 3, 1)}, train, held_out, "classification")

    def _source(self, case: Case, data: Data, seed: int, context: Context) -> Source:
        """The trained network: LeNet5 is the example's, the others are trained here from a seeded start."""
        weights = self.folder / "float" / f"{case.network}-{seed}-{self.smoke}.pt"
        module = TorchSource(Path(networks.__file__), case.network, weights)
        if not weights.is_file():
            weights.parent.mkdir(parents=True, exist_ok=True)
            model = EXAMPLE / "model.onnx" if case.network == "LeNet5" else self._trained(case.network, data, seed, context)
            torch.save(state(model), weights)
        tflite = EXAMPLE_TFLITE if case.network == "LeNet5" and case.format == "tflite" else None
        return Source(case.network, training.exported(module, data, context.cache), tflite, module)

    def _trained(self, network: str, data: Data, seed: int, context: Context) -> Path:
        start = self.folder / "float" / f"{network}-{seed}-start.pt"
        torch.manual_seed(seed)
        torch.save(getattr(networks, network)().state_dict(), start)
        steps = [Step("fine-tune", {"epochs": 1 if self.smoke else FLOAT_EPOCHS, "learning_rate": 2e-3})]
        return training.trained(TorchSource(Path(networks.__file__), network, start), steps, data, context.cache).path

    def _recipe(self, case: Case) -> Recipe:
        file = RECIPES / f"{case.recipe}.yaml"
        recipe = recipe_file.find(str(file) if file.is_file() else case.recipe)
        if not self.smoke:
            return recipe
        short = ("epochs", "iterations")
        steps = [Step(step.technique, {key: 1 if key in short else value for key, value in step.params.items()}) for step in recipe.steps]
        return replace(recipe, steps=tuple(steps))


def _samples(part: fashion.Samples, count: int) -> Samples:
    return Samples({"image": fashion.normalised(part.images[:count]).numpy()}, part.labels[:count].astype(np.int64))


def state(model: Path) -> dict[str, torch.Tensor]:
    """The weights of an exported module."""
    return {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in onnx.load(model).graph.initializer}


def _outcome(variant: Variant) -> Outcome:
    told: Any = variant.manifest
    coded = told["steps"].get("deep-coding", {})
    size_bytes = coded.get("file_bytes", told["size_bytes"])
    figures = (told["float_size_bytes"], told["accuracy"], told["reference_accuracy"], told["seconds"])
    return Outcome(size_bytes, *figures, told["steps"])


def table(found: Sequence[tuple[Case, Sequence[Outcome]]]) -> str:
    """The outcomes of each case's seeds beside its floor, as a Markdown table."""
    columns = ("case", "network", "file", "bytes", "smaller", "accuracy of the float model", "accuracy", "of each seed", "floor")
    return "\n".join((f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(_row(case, outcomes) for case, outcomes in found)))


def _row(case: Case, outcomes: Sequence[Outcome]) -> str:
    accuracy, before = mean(one.accuracy for one in outcomes), mean(one.float_accuracy for one in outcomes)
    sizes = max(one.size_bytes for one in outcomes)
    ratio = (EXAMPLE_TFLITE.stat().st_size if case.network == "LeNet5" else outcomes[0].float_bytes) / sizes
    floor = before - case.floor if case.relative else case.floor
    close = 0.0 if case.relative else CLOSE
    met = accuracy >= floor - close and ratio >= case.ratio
    verdict = f"{case.ratio:g}x at {floor:.4f}: {'met' if met else '**missed**'}"
    verdict += "" if len(outcomes) >= SEEDS else f" by {len(outcomes)} of {SEEDS} seeds"
    kind = "coded" if "deep-coding" in outcomes[0].steps else case.format
    each = " ".join(f"{one.accuracy:.4f}" for one in outcomes)
    return f"| {case.name} | {case.network} | {kind} | {sizes:,} | {ratio:.1f}x | {before:.4f} | {accuracy:.4f} | {each} | {verdict} |"


def main() -> None:
    """Run the cases, print the table and write it to RESULTS.md unless it is of few images or held-out ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"all of {', '.join(case.name for case in CASES)} unless named")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--dataset", type=Path, default=DATASET)
    parser.add_argument("--folder", type=Path, default=laptop.cache_folder() / "benchmark-compression", help="keeps models and outcomes")
    parser.add_argument("--smoke", action="store_true", help="one epoch on few images: shows that it runs, no result")
    parser.add_argument("--held-out", action="store_true", help="score on the held-out images, to choose recipes by")
    parser.add_argument("--kept", action="store_true", help="only what earlier runs found")
    args = parser.parse_args()
    machine = results.describe(PACKAGES)
    bench = Bench(args.folder, args.dataset, args.smoke, args.held_out)
    found: list[tuple[Case, list[Outcome]]] = []
    for case in CASES:
        seeds = [seed for seed in range(args.seeds) if not args.kept or bench.file(case, seed).is_file()]
        if seeds and (not args.cases or case.name in args.cases):
            found.append((case, [bench.run(case, seed) for seed in seeds]))
            print(table(found[-1:]).splitlines()[-1], flush=True)
    if not (args.smoke or args.held_out or args.cases):
        results.write("compression", machine, f"{table(found)}\n\n{ABOUT}")


if __name__ == "__main__":
    main()
