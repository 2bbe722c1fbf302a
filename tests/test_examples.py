"""The case studies under examples/, as they are committed."""

import re
from pathlib import Path

import pytest
from compress_models import context

from compress import recipes, tasks
from compress.build import Source, build
from compress.records import Data
from controller import dataset, recipe_file, suite

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("faces", "gestures", "images", "keywords", "machines", "objects", "speech", "text")
QUICK = {"text": "int8-dynamic", "speech": "int8-weights"}
"""What is built here in the place of int8: what the suite's recipes end with."""


def prepared(name: str, folder: Path) -> Data:
    ((model, told),) = suite.load(EXAMPLES / name / "suite.yaml").models.items()
    return dataset.prepare(model, told, folder, str).data


@pytest.mark.parametrize("name", NAMES)
def test_the_suite_is_whole(name: str, tmp_path: Path) -> None:
    """It begins with the float model, its data are those of its task, with samples to learn from and others to choose by."""
    read = suite.load(EXAMPLES / name / "suite.yaml")
    assert [recipe_file.find(one) for one in read.recipes][0] == recipes.get("fp32")  # noqa: RUF015 - all have to be found
    data = prepared(name, tmp_path)
    assert data.train is not None
    assert data.held_out is not None
    tasks.check(data.task, data.held_out.labels, len(next(iter(data.held_out.feeds.values()))))


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_as_good_as_its_readme_says_and_stays_so(name: str, tmp_path: Path) -> None:
    """The float score is the README's, and quantised without training it loses at most two points at less than its size."""
    made = build(
        Source(name, EXAMPLES / name / "model.onnx", None),
        recipes.get(QUICK.get(name, "int8")),
        "onnx",
        prepared(name, tmp_path),
        context(tmp_path),
    )
    found = re.search(r"\| fp32 \| [\d,]+ \| ([\d.]+) ", (EXAMPLES / name / "README.md").read_text())
    assert found
    assert made.manifest["reference_accuracy"] == pytest.approx(float(found[1]), abs=0.005)
    assert made.manifest["accuracy"] > made.manifest["reference_accuracy"] - 0.02
    assert made.manifest["shrank"]


@pytest.mark.parametrize("name", NAMES)
def test_a_case_study_is_small(name: str) -> None:
    """What is committed of it takes less than 2 MB."""
    files = ("data.npz", "weights.pt", "model.onnx")
    assert sum((EXAMPLES / name / file).stat().st_size for file in files if (EXAMPLES / name / file).exists()) < 2_000_000
