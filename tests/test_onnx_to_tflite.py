"""Models that come without a .tflite: the real onnx2tf in its own environment, and a fake one for what it may do wrong."""
# numpy arrays and onnx messages are typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uv
from agents import until
from onnx import TensorProto, helper
from tiny_models import FASHION, onnx_model, save_onnx, tflite_model

from agent.schema import FaultError, Workload
from compress import onnx_to_tflite, recipes
from compress.onnx_to_tflite import convert, interpreter
from compress.records import Context, Data
from controller import variants
from controller.plan import PlannedCell
from controller.reference import run_model
from controller.suite import Model

NEEDS_PYTHON = "no Python 3.12 or 3.13 on this machine"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A cache that the real conversions share; skips where there is no interpreter for the tool, but not in CI."""
    try:
        interpreter()
    except FaultError:
        if not os.environ.get("CI"):
            pytest.skip(NEEDS_PYTHON)
    return Context(tmp_path_factory.mktemp("cache"), run_model)


def samples(**shapes: tuple[int, ...]) -> Data:
    """Four random samples for each input; a rank-4 one is turned to channels last, as a suite without a layout has it."""
    generator = np.random.default_rng(3)
    feeds = {name: generator.standard_normal((4, *shape)).astype(np.float32) for name, shape in shapes.items()}
    return Data(feeds, {}, None, {name: (0, 2, 3, 1) if len(shape) == 3 else () for name, shape in shapes.items()})


def test_layouts_are_told_from_the_converted_shapes(context: Context, tmp_path: Path) -> None:
    """Needs the package index. Inputs of rank 3 and 4 become channels last, rank 2 stays; open batch and old operator set are no harm."""
    value, floats = helper.make_tensor_value_info, TensorProto.FLOAT
    weights = np.random.default_rng(1).standard_normal(4 * 3 * 9).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=helper.make_tensor("w", floats, [4, 3, 3, 3], weights)),
        helper.make_node("Conv", ["image", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Softmax", ["signal"], ["shares"], axis=1),  # over both axes, before operator set 13
        helper.make_node("Relu", ["vector"], ["positive"]),
    ]
    inputs = [value("image", floats, ["n", 3, 8, 6]), value("signal", floats, [1, 5, 7]), value("vector", floats, [1, 4])]
    outputs = [value("features", floats, ["n", 4, 8, 6]), value("shares", floats, [1, 5, 7]), value("positive", floats, [1, 4])]
    path = save_onnx(tmp_path / "three.onnx", nodes, inputs, outputs, opset=9)
    made = convert("three", path, samples(image=(3, 8, 6), signal=(5, 7), vector=(4,)), context)
    assert made.transpose == {"image": (0, 2, 3, 1), "signal": (0, 2, 1), "vector": ()}
    assert made.sqnr_db > 100
    assert made.seconds > 0


def test_a_suite_without_a_tflite_gets_tflite_artifacts(context: Context) -> None:
    """Needs the package index. The example without its .tflite gives a TFLite artifact with the published accuracy, converted once."""
    spec = {"image": {"mean": 0.2860, "std": 0.3530}}
    model = Model.model_validate({"source": str(FASHION / "model.onnx"), "data": str(FASHION / "data.npz"), "inputs": spec})
    cell = PlannedCell("laptop", "lenet", "fp32", "tflite", "tflite", {}, Workload("single_stream", {}), None)
    said: list[str] = []
    prepared = variants.prepare(
        {"lenet": model}, {cell.recipe: recipes.get(cell.recipe)}, [(cell.model, cell.recipe, cell.format)], context.cache, said.append
    )
    (made,) = prepared.variants.values()
    assert made.artifact.format == "tflite"
    assert made.manifest["accuracy"] == pytest.approx(0.925, abs=0.005)
    data = prepared.datasets["lenet"]
    assert [feed.transpose for feed in data.feeds["tflite"]] == [[0, 2, 3, 1]]
    (told,) = (line for line in said if "converted to TFLite in " in line)
    assert " s, SQNR 1" in told
    again = convert("lenet", model.source, data.data, Context(context.cache / "artifacts", run_model))
    assert (again.seconds, again.sqnr_db > 100) == (0.0, True)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a fake in uv's place: a script that knows its arguments as `uv` and where to write as `made`."""

    def fake(script: str) -> Context:
        path = tmp_path / "fake uv"
        path.write_text(f"#!{sys.executable}\nimport os, subprocess, sys\nfrom pathlib import Path\n{SCRIPT}{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(uv, "find_uv_bin", lambda: str(path))
        monkeypatch.setattr(onnx_to_tflite, "interpreter", lambda: Path(sys.executable))
        return Context(tmp_path / "cache", run_model)

    return fake


SCRIPT = "made = Path(sys.argv[sys.argv.index('-o') + 1])\nmade.mkdir()\n"


def refusal(context: Context, onnx: Path) -> Any:
    """The fault of a conversion that leaves nothing behind."""
    with pytest.raises(FaultError) as caught:
        convert("tiny", onnx, samples(image=(4,)), context)
    return caught.value.fault


def test_a_failing_tool_is_told_in_one_clean_line(tool: Any, tmp_path: Path) -> None:
    """Colours, progress bars and megabytes of output: the line with the error is left, and nothing in the cache."""
    script = "print('x' * 9_000_000)\nprint('\\x1b[31mERROR: no such op\\x1b[0m\\r50%')\nprint('bye')\nsys.exit(3)"
    found = refusal(tool(script), onnx_model(tmp_path / "m.onnx"))
    assert (found.code, found.phase) == ("convert_fail", "compress")
    assert found.message == "m.onnx: onnx2tf==2.6.9 cannot convert it to TFLite: status 3: ERROR: no such op"
    assert "`tflite:`" in found.next
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_dir() and path.parent.name == "converted"]


def test_an_operator_that_tflite_lacks_is_convert_fail(tool: Any, tmp_path: Path) -> None:
    """The tool writes it as a custom operator, which no runtime has: refused by name."""
    made = tflite_model(tmp_path / "custom.tflite", custom="ONNX_FROBNICATE")
    context = tool(f"(made / 'model_float32.tflite').write_bytes(Path({str(made)!r}).read_bytes())")
    found = refusal(context, onnx_model(tmp_path / "m.onnx"))
    assert (found.code, "no operator for FROBNICATE" in found.message) == ("convert_fail", True)


def test_a_converted_model_that_gives_something_else_is_refused(tool: Any, tmp_path: Path) -> None:
    """x + x in the place of relu(x): `verification`, with the SQNR."""
    made = tflite_model(tmp_path / "other.tflite")
    context = tool(f"(made / 'model_float32.tflite').write_bytes(Path({str(made)!r}).read_bytes())")
    found = refusal(context, onnx_model(tmp_path / "m.onnx"))
    assert found.code == "verification"
    assert "SQNR" in found.message


def test_a_tool_that_hangs_is_ended_with_its_children(tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit all of its processes are killed and the fault says so."""
    monkeypatch.setattr(onnx_to_tflite, "TIMEOUT_S", 1.0)
    pids = tmp_path / "pid"
    script = f"child = subprocess.Popen(['sleep', '600'])\nPath({str(pids)!r}).write_text(str(child.pid))\nchild.wait()"
    begin = time.monotonic()
    found = refusal(tool(script), onnx_model(tmp_path / "m.onnx"))
    assert (found.code, "killed, as it is after 1 s" in found.message) == ("convert_fail", True)
    assert time.monotonic() - begin < 60
    until(lambda: not _runs(int(pids.read_text())), "the child ends")


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_interpreter_is_convert_fail_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Python that the tool runs under, and with a shim that only says so, the fault tells how to get one."""
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    for name, value in (("PATH", str(tmp_path)), ("PYENV_ROOT", str(tmp_path)), ("UV_PYTHON_INSTALL_DIR", str(tmp_path))):
        monkeypatch.setenv(name, value)
    with pytest.raises(FaultError) as caught:
        interpreter()
    assert caught.value.fault.code == "convert_fail"
    assert "Python 3.12 or 3.13" in caught.value.fault.message
    assert "uv python install 3.12" in caught.value.fault.next
