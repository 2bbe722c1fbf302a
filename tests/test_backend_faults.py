"""What the three backends refuse, with their real runtimes, and in what words."""
# The runtimes are typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import FASHION, KINDS, ROOT, load, onnx_model, openvino_model, tflite_model, tiny

import backends
from agent.schema import FaultError

EVERY = pytest.mark.parametrize("kind", KINDS)


def fault(path: Path, backend: str | None = None, **options: Any) -> Any:
    with pytest.raises(FaultError) as caught:
        load(path, backend, **options)
    return caught.value.fault


@EVERY
@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "the model's inputs are ['image'], not []"),
        ({"image": np.zeros((1, 4), np.float32), "mask": np.zeros(1)}, "not ['image', 'mask']"),
        ({"image": np.zeros((2, 4), np.float32)}, "input image takes float32 [1, 4], not float32 [2, 4]"),
        ({"image": np.zeros(4, np.float32)}, "not float32 [4]"),
        ({"image": np.zeros((1, 4))}, "not float64 [1, 4]"),
    ],
)
def test_a_feed_that_does_not_fit_is_bad_data(kind: str, feeds: dict[str, Any], words: str, tmp_path: Path) -> None:
    """A missing, unknown, misshapen or mistyped array is refused before the runtime sees it."""
    with pytest.raises(FaultError) as caught:
        tiny(kind, tmp_path).bind(feeds)
    assert caught.value.fault.code == "bad_data"
    assert words in caught.value.fault.message


@pytest.mark.parametrize(
    ("backend", "options", "code", "words"),
    [
        ("onnxruntime", {"thread": 1}, "bad_data", "no option 'thread'"),
        ("onnxruntime", {"threads": 0}, "bad_data", "threads cannot be 0"),
        ("openvino", {"threads": "2"}, "bad_data", "threads cannot be '2'"),
        ("tflite", {"threads": True}, "bad_data", "threads cannot be True"),
        ("onnxruntime", {"graph_optimization": "most"}, "bad_data", "graph_optimization 'most'"),
        ("openvino", {"hint": "FAST"}, "bad_data", "hint 'FAST'"),
        ("onnxruntime", {"providers": ["NoSuchProvider"]}, "no_device", "NoSuchProvider"),
        ("openvino", {"device": "NPU"}, "no_device", "NPU"),
        ("tflite", {"runtime": "tflite-runtime"}, "env_missing", "tflite_runtime"),
        ("tflite", {"runtime": "ai-edge-litert==0.1"}, "env_missing", "ai-edge-litert==0.1 is wanted"),
        ("onnxruntime", {"runtime": "onnxruntime-gpu"}, "env_missing", "onnxruntime-gpu is wanted"),
    ],
)
def test_an_option_that_cannot_be_met_is_a_fault(backend: str, options: dict[str, Any], code: str, words: str, tmp_path: Path) -> None:
    """Unknown and impossible options, absent devices and other runtimes are refused with the reason and what to do."""
    path = tflite_model(tmp_path / "m.tflite") if backend == "tflite" else onnx_model(tmp_path / "m.onnx")
    found = fault(path, backend, **options)
    assert found.code == code
    assert words in found.message
    assert {"bad_data": "use one of", "no_device": "CPU", "env_missing": "device setup"}[code] in found.next


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@EVERY
def test_a_truncated_file_is_a_bad_model(kind: str, share: float, tmp_path: Path) -> None:
    """A model file cut anywhere is one line that names it."""
    path = FASHION / ("model.tflite" if kind == "tflite" else "model.onnx")
    if kind == "openvino":
        path = openvino_model(tmp_path / "model.xml", path)
    content = path.read_bytes()
    cut = tmp_path / f"cut{path.suffix}"
    cut.write_bytes(content[: int(len(content) * share)])
    found = fault(cut, kind.partition("-")[0])
    assert (found.code, found.phase) == ("bad_model", "load")
    assert found.message.startswith(cut.name)
    assert "\n" not in found.message


def test_weights_that_are_missing_or_cut_are_a_bad_model(tmp_path: Path) -> None:
    """An IR without its .bin, or with a part of it, is refused."""
    weights = openvino_model(tmp_path / "m.xml", FASHION / "model.onnx").with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1000])
    assert fault(tmp_path / "m.xml").code == "bad_model"
    weights.unlink()
    assert fault(tmp_path / "m.xml").code == "bad_model"


@EVERY
def test_a_missing_file_is_a_bad_model(kind: str, tmp_path: Path) -> None:
    """A path without a file is told as such."""
    suffix = {"openvino": ".xml", "tflite": ".tflite"}.get(kind, ".onnx")
    found = fault(tmp_path / f"no{suffix}", kind.partition("-")[0])
    assert found.code == "bad_model"
    assert "not a readable file" in found.message


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("domain", ["", "acme.example"])
def test_an_unknown_onnx_operator_is_unsupported(backend: str, domain: str, tmp_path: Path) -> None:
    """An operator that the runtime lacks is unsupported_op and named, in ONNX's own set or in another."""
    found = fault(onnx_model(tmp_path / "m.onnx", "Frobnicate", domain=domain), backend)
    assert found.code == "unsupported_op"
    assert "Frobnicate" in found.message


def test_an_unknown_ir_operator_is_unsupported(tmp_path: Path) -> None:
    """OpenVINO names the operator of an IR that it does not know."""
    path = openvino_model(tmp_path / "m.xml", onnx_model(tmp_path / "m.onnx"))
    path.write_text(path.read_text().replace('type="ReLU"', 'type="Frobnicate"'))
    found = fault(path)
    assert found.code == "unsupported_op"
    assert "Frobnicate" in found.message


def test_an_unknown_tflite_operator_is_unsupported(tmp_path: Path) -> None:
    """TFLite names the custom operator that nobody registered."""
    found = fault(tflite_model(tmp_path / "m.tflite", custom="Frobnicate"))
    assert found.code == "unsupported_op"
    assert "Frobnicate" in found.message


def test_an_onnx_opset_newer_than_the_runtime_is_unsupported(tmp_path: Path) -> None:
    """A refusal that is long keeps its end, which says how far the support goes."""
    found = fault(onnx_model(tmp_path / "m.onnx", opset=99))
    assert found.code == "unsupported_op"
    assert "till opset" in found.message
    assert len(found.message) < 320


@pytest.mark.parametrize("statement", ["raise RuntimeError('no such symbol')", "raise SystemExit(3)", "import no_such_library"])
def test_a_runtime_whose_import_explodes_is_told_not_raised(statement: str, tmp_path: Path) -> None:
    """Whatever a broken runtime does on import, probe answers and start is env_missing."""
    for module in ("onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(statement)
    for line in without_runtimes(sys.executable, {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}):
        assert line == [False, "env_missing"]


def test_python_3_6_without_runtimes_says_env_missing() -> None:
    """The package imports under Python 3.6.15 and its backends say what is missing."""
    python = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions" / "3.6.15" / "bin" / "python"
    if not python.exists() and not os.environ.get("CI"):
        pytest.skip("pyenv has no Python 3.6.15")
    assert list(without_runtimes(str(python), {"PYTHONPATH": str(ROOT)})) == [[False, "env_missing"]] * len(backends.NAMES)


PROBES = """
import json
import backends
from agent.schema import FaultError
for name in backends.NAMES:
    ok = backends.get(name).probe().ok
    try:
        backends.get(name).start({})
    except FaultError as error:
        print(json.dumps([ok, error.fault.code]))
"""


def without_runtimes(python: str, environ: dict[str, str]) -> Any:
    done = subprocess.run([python, "-c", PROBES], env=environ, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(backends.NAMES)
    return map(json.loads, done.stdout.splitlines())
