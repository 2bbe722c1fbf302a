"""A model is run on the controller in a process of its own, which is killed when it takes too long."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hostile_models import model, written
from onnx import TensorProto, helper, numpy_helper

from agent import memory
from agent.schema import FaultError
from controller.reference import LEAST_S, MOST_S, Place, limit_s, run_in

ONNX = Place("onnxruntime", timeout_s=1.5)
FEW = {"x": np.zeros((2, 4), np.float32)}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def relu(folder: Path) -> Path:
    return written(folder, model([helper.make_node("Relu", ["x"], ["y"])], [1, 4]))


def loop(folder: Path, turns: int) -> Path:
    """A Loop of so many turns."""
    ends = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))]
    states = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("a", "b")]
    turn = [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["a"], ["b"])]
    goes_on = helper.make_tensor_value_info("d", TensorProto.BOOL, [])
    body = helper.make_graph(turn, "body", [*ends, states[0]], [goes_on, states[1]])
    constants = (numpy_helper.from_array(np.array(turns), "n"), numpy_helper.from_array(np.array(True), "t"))
    return written(folder, model([helper.make_node("Loop", ["n", "t", "x"], ["y"], body=body)], [1, 4], constants))


def test_the_limit_grows_with_the_samples() -> None:
    """Two minutes for the 32 random samples of a model without data, ten at most."""
    assert [limit_s(samples) for samples in (32, 240, 600, 10**5)] == [LEAST_S, LEAST_S, 300.0, MOST_S]


def test_a_loop_without_end_is_ended(tmp_path: Path, temporary: Path) -> None:
    """It is told as a timeout, and leaves no files."""
    with pytest.raises(FaultError, match=r"did not end within 1\.5 s") as caught:
        run_in(ONNX, loop(tmp_path, 2**62), "onnx", FEW)
    assert caught.value.fault.code == "timeout"
    assert list(temporary.iterdir()) == []


def test_samples_that_take_too_long_are_no_shorter_output(tmp_path: Path) -> None:
    """At the limit nobody gets the outputs of the samples that were done, as if there were no more."""
    with pytest.raises(FaultError, match="did not end within") as caught:
        run_in(ONNX, loop(tmp_path, 300), "onnx", {"x": np.zeros((50_000, 4), np.float32)})
    assert caught.value.fault.code == "timeout"


def test_what_the_kernel_kills_ran_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL before the limit says nothing of the model where the kernel counts one more kill, else somebody did it."""
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    for counts, code in (((1, 2), "oom"), ((1, 1), "crash")):
        monkeypatch.setattr(memory, "oom_kills", iter(counts).__next__)
        with pytest.raises(FaultError, match="ended by SIGKILL") as caught:
            run_in(Place("onnxruntime"), relu(tmp_path), "onnx", FEW)
        assert caught.value.fault.code == code
