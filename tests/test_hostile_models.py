"""Broken and hostile model files are refused by the command line: by name, without a traceback, without a file beside the output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile_models
import numpy as np
import onnx
import pytest
from hostile_models import CASES, RUN

from compress import onnx_model

REFUSED = (2, 3)
ALL_CASES_S = 900


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the commands said of each model, none of them with more than 4 GiB of address space."""
    folder = tmp_path_factory.mktemp("hostile")
    root = Path(hostile_models.__file__).parents[1]
    command = [sys.executable, hostile_models.__file__, str(folder)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=True, timeout=ALL_CASES_S)
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize("name", [*CASES, *(f"run {name}" for name in RUN)])
def test_it_is_refused_by_name_and_leaves_nothing(told, name):
    """Exit status 2 or 3, the file's name in what is said, no traceback, and no file changed but those of the command's own folders."""
    found = told[name]
    assert found["status"] in REFUSED, found["said"]
    assert found["file"] in found["said"]
    assert "Traceback" not in found["said"]
    assert found["changed"] == []


def test_weights_of_a_larger_file_are_read_as_far_as_they_go(tmp_path):
    """Ten gigabytes beside a model that wants 64 bytes of them cost nothing, and the model holds those 64."""
    (tmp_path / "w.bin").write_bytes(np.arange(16, dtype=np.float32).tobytes())
    os.truncate(tmp_path / "w.bin", 10 << 30)
    path = hostile_models.written(tmp_path, hostile_models.dense(hostile_models.outside("w.bin")))
    (weights,) = onnx.load_model_from_string(onnx_model.self_contained(path)).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights), np.arange(16, dtype=np.float32).reshape(4, 4))
