"""The three backends with their real runtimes."""
# The runtimes are typed in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tiny_models import FASHION, KINDS, load, onnx_model, openvino_model, run, save_onnx, tflite_model, tiny

import backends
from agent.schema import TensorSpec
from backends.litert import Tensor

EVERY = pytest.mark.parametrize("kind", KINDS)


@EVERY
def test_the_example_model_is_as_good_as_its_readme_says(kind: str, tmp_path: Path) -> None:
    """All backends classify the example's 1,000 evaluation images with the published accuracy, within half a point."""
    with np.load(FASHION / "data.npz") as data:
        images, labels = data["eval_image"], data["eval_labels"]
    images = ((images.astype(np.float32) / 255 - 0.2860) / 0.3530).astype(np.float32)
    path = FASHION / ("model.tflite" if kind == "tflite" else "model.onnx")
    if kind == "openvino":
        path = openvino_model(tmp_path / "model.xml", path)
    session = load(path, kind.partition("-")[0])
    samples = images.transpose(0, 2, 3, 1) if kind == "tflite" else images
    classes = [int(run(session, image=sample[None])["logits"].argmax()) for sample in samples]
    assert abs(float(np.mean(np.equal(classes, labels))) - 0.925) <= 0.005


@EVERY
def test_inputs_are_copied_in_and_outputs_copied_out(kind: str, tmp_path: Path) -> None:
    """A feed may change after bind, an output stays as it was after the next inference, and an inference can be repeated."""
    session = tiny(kind, tmp_path)
    assert session.inputs() == [TensorSpec("image", [1, 4], "float32")]
    feed = np.array([[1, 2, 3, 4]], np.float32)
    session.bind({"image": feed})
    feed[:] = 100
    session.infer()
    session.infer()
    first = session.outputs()["y"]
    before = first.copy()
    second = run(session, image=feed)["y"]
    factor = 2 if kind == "tflite" else 1
    assert before.tolist() == (np.array([[1, 2, 3, 4]]) * factor).tolist()
    assert (first == before).all()
    assert second.tolist() == [[100 * factor] * 4]
    session.close()


@EVERY
def test_a_feed_that_is_not_contiguous_is_bound_in_its_own_order(kind: str, tmp_path: Path) -> None:
    """A transposed view gives the same outputs as its copy."""
    view = np.arange(8, dtype=np.float32).reshape(4, 2).transpose()[1:]
    session = tiny(kind, tmp_path)
    assert (run(session, image=view)["y"] == run(session, image=view.copy())["y"]).all()


@EVERY
def test_the_timed_call_is_the_runtimes_own(kind: str, tmp_path: Path) -> None:
    """Between two timestamps stands no Python function of ours."""
    infer: Any = tiny(kind, tmp_path).infer
    function = infer.func if isinstance(infer, functools.partial) else infer
    assert function.__module__.split(".")[0] in {"onnxruntime", "openvino", "ai_edge_litert"}


def test_openvinos_own_clock_lies_inside_ours(tmp_path: Path) -> None:
    """It gives the last call's time in nanoseconds, above nothing and below the time that we take around the call."""
    session = tiny("openvino", tmp_path)
    run(session, image=np.zeros((1, 4), np.float32))
    begin = time.perf_counter_ns()
    session.infer()
    taken = time.perf_counter_ns() - begin
    assert session.runtime_ns is not None
    assert 0 < session.runtime_ns() < taken


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_open_dimension_takes_the_feeds_size(backend: str, tmp_path: Path) -> None:
    """An ONNX model with an open batch runs two samples, then three, then two."""
    session = load(onnx_model(tmp_path / "open.onnx", rows="batch"), backend)
    assert session.inputs() == [TensorSpec("image", [-1, 4], "float32")]
    for rows in (2, 3, 2):
        feed = np.full((rows, 4), rows, np.float32)
        assert (run(session, image=feed)["y"] == feed).all()


def test_tflite_sets_an_open_dimension_to_one(tmp_path: Path) -> None:
    """A TFLite model with an open batch is resized to one sample."""
    session = load(tflite_model(tmp_path / "open.tflite", open_rows=True))
    assert session.inputs() == [TensorSpec("image", [1, 4], "float32")]
    assert run(session, image=np.ones((1, 4), np.float32))["y"].tolist() == [[2, 2, 2, 2]]


def test_onnxruntime_outputs_may_change_shape_with_the_data(tmp_path: Path) -> None:
    """An output whose shape depends on the values is right for each feed: the last one's buffer is not kept."""
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]), helper.make_tensor_value_info("y", TensorProto.INT64, [1, "n"])]
    session = load(save_onnx(tmp_path / "m.onnx", [helper.make_node("NonZero", ["x"], ["y"])], values[:1], values[1:]))
    assert run(session, x=np.array([1, 0, 1], np.float32))["y"].tolist() == [[0, 2]]
    assert run(session, x=np.array([1, 1, 1], np.float32))["y"].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_outputs_keep_names_and_order_where_only_some_are_open(backend: str, tmp_path: Path) -> None:
    """An output of open shape before one of fixed shape: each under its own name, in the model's order."""
    value, floats = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("Relu", ["a"], ["z"]), helper.make_node("Relu", ["b"], ["y"])]
    path = save_onnx(
        tmp_path / "m.onnx",
        nodes,
        [value("a", floats, ["n", 2]), value("b", floats, [1, 3])],
        [value("z", floats, ["n", 2]), value("y", floats, [1, 3])],
    )
    outputs = run(load(path, backend), a=np.ones((2, 2), np.float32), b=np.full((1, 3), 5, np.float32))
    assert {name: output.tolist() for name, output in outputs.items()} == {"z": [[1, 1], [1, 1]], "y": [[5, 5, 5]]}
    assert list(outputs) == ["z", "y"]


def test_tflite_hides_int8_inputs_and_outputs(tmp_path: Path) -> None:
    """An int8 model is fed and read as float32 by scale and zero point; values beyond its range are clipped."""
    session = load(tflite_model(tmp_path / "int8.tflite", int8=(0.5, 3)))
    assert session.inputs() == [TensorSpec("image", [1, 4], "float32")]
    assert session.details()["quantised"] == ["image", "y"]
    output = run(session, image=np.array([[1.0, -2.6, 1000.0, -1000.0]], np.float32))["y"]
    assert output.dtype == np.float32
    assert output.tolist() == [[2.0, -5.0, 62.0, -65.5]]


def test_quantising_rounds_half_to_even_and_clips() -> None:
    """x / scale + zero point, 0.5 and 2.5 going to the even neighbour, within the dtype."""
    tensor = Tensor("x", 0, [6], "uint8", 0.5, 10)
    assert tensor.quantise(np.array([0.25, 0.75, 1.25, -0.25, 1e9, -1e9], np.float32)).tolist() == [10, 12, 12, 10, 255, 0]
    assert tensor.dequantise(np.array([10, 12, 0], np.uint8)).tolist() == [0.0, 1.0, -5.0]


@pytest.mark.parametrize(
    ("tensors", "signature", "names"),
    [
        (("serving_default_image:0", "StatefulPartitionedCall:0"), ("image", "scores"), ["image", "scores"]),
        (("serving_default_image:0", "Identity:0"), None, ["image", "Identity"]),
        (("image", "Call:0", "Call:1"), None, ["image", "Call:0", "Call:1"]),
    ],
)
def test_tflite_names_are_the_signatures_or_undecorated(
    tensors: tuple[str, ...], signature: tuple[str, str] | None, names: list[str], tmp_path: Path
) -> None:
    """Names come from the signature, else lose the converter's decorations unless two would become the same."""
    session = load(tflite_model(tmp_path / "m.tflite", tensors, signature=signature))
    outputs = run(session, **{session.inputs()[0].name: np.ones((1, 4), np.float32)})
    assert [session.inputs()[0].name, *outputs] == names


def test_details_tell_the_settings_in_force(tmp_path: Path) -> None:
    """Threads, placement and precision are the runtime's own answers, and JSON."""
    onnx, tflite = onnx_model(tmp_path / "m.onnx"), tflite_model(tmp_path / "m.tflite")
    details = load(onnx, threads=1, graph_optimization="basic").details()
    assert details["intra_op_num_threads"] == details["inter_op_num_threads"] == 1
    assert (details["providers"], details["fallback"]) == (["CPUExecutionProvider"], [])
    assert details["graph_optimization"] == "ORT_ENABLE_BASIC"
    details |= load(onnx, "openvino", threads=1).details()
    assert (details["inference_num_threads"], details["num_streams"], details["performance_hint"]) == (1, 1, "LATENCY")
    assert details["execution_devices"] == ["CPU"]
    assert details["inference_precision_hint"] in {"f32", "bf16", "f16"}
    assert load(onnx, "openvino", hint="THROUGHPUT").details()["performance_hint"] == "THROUGHPUT"
    details |= load(tflite, threads=2).details()
    assert (details["runtime"], details["threads"], details["operations"], details["delegate_nodes"]) == ("ai-edge-litert", 2, 1, 1)
    assert json.loads(json.dumps(details)) == details


def test_a_provider_that_silently_falls_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime offers a provider and then goes on without it, details name it."""
    import onnxruntime

    offered = ["XNNPACKExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    with pytest.warns(UserWarning, match="XNNPACKExecutionProvider"):
        details = load(onnx_model(tmp_path / "m.onnx"), providers=offered).details()
    assert details["fallback"] == ["XNNPACKExecutionProvider"]
    assert details["providers"] == ["CPUExecutionProvider"]


def test_a_runtime_of_the_wanted_version_is_accepted(tmp_path: Path) -> None:
    """The version that probe tells is one that `runtime` can ask for, on every backend."""
    for backend, path in (("onnxruntime", onnx_model(tmp_path / "m.onnx")), ("tflite", tflite_model(tmp_path / "m.tflite"))):
        told = backends.get(backend).probe()
        backends.get(backend).start({"runtime": f"{told.runtime}=={told.version}"})
        assert load(path, backend, runtime=f"{told.runtime}=={told.version}").details()["version"] == told.version
