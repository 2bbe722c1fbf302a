"""The example model and its data, as they are committed."""
# onnx and ai_edge_litert are typed in part only.
# pyright: reportUnknownMemberType=false

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

FOLDER = Path(__file__).parent.parent / "examples" / "fashion"


@pytest.fixture(scope="module")
def data() -> dict[str, NDArray[np.uint8]]:
    with np.load(FOLDER / "data.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def feeds(data: dict[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
    return ((data["eval_image"].astype(np.float32) / 255 - 0.2860) / 0.3530).astype(np.float32)


@pytest.fixture(scope="module")
def onnx_logits(feeds: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in feeds])


@pytest.fixture(scope="module")
def tflite_logits(feeds: NDArray[np.float32]) -> NDArray[np.float32]:
    from ai_edge_litert.interpreter import Interpreter

    run: Any = Interpreter(str(FOLDER / "model.tflite"), num_threads=1).get_signature_runner()
    return np.concatenate([run(image=image[None])["logits"] for image in feeds.transpose(0, 2, 3, 1)])


def test_onnx_model_is_lenet5() -> None:
    """The ONNX model has LeNet-5's layers and 61,706 parameters, opset 13, and a static batch of 1."""
    model = onnx.load(FOLDER / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer if tensor.name.endswith("weight")}
    assert weights == {
        "conv1.weight": [6, 1, 5, 5],
        "conv2.weight": [16, 6, 5, 5],
        "fc1.weight": [120, 400],
        "fc2.weight": [84, 120],
        "fc3.weight": [10, 84],
    }
    assert sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer) == 61_706
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert [_signature(value) for value in model.graph.input] == [("image", "float32", [1, 1, 28, 28])]
    assert [_signature(value) for value in model.graph.output] == [("logits", "float32", [1, 10])]


def test_tflite_model_has_the_same_names_with_channels_last() -> None:
    """The TFLite model's signature names `image` and `logits`; it takes float32 [1, 28, 28, 1]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(str(FOLDER / "model.tflite"))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}
    details = interpreter.get_input_details() + interpreter.get_output_details()
    assert [(tensor["shape_signature"].tolist(), tensor["dtype"]) for tensor in details] == [
        ([1, 28, 28, 1], np.float32),
        ([1, 10], np.float32),
    ]


def test_data_holds_three_parts(data: dict[str, NDArray[np.uint8]]) -> None:
    """data.npz has 1,000 evaluation, 200 calibration and 4,000 training samples as uint8, of all ten classes."""
    sizes = {"eval": 1_000, "calib": 200, "train": 4_000}
    shapes = {f"{part}_image": (size, 1, 28, 28) for part, size in sizes.items()}
    shapes |= {f"{part}_labels": (size,) for part, size in sizes.items()}
    assert {name: array.shape for name, array in data.items()} == shapes
    assert {array.dtype for array in data.values()} == {np.dtype(np.uint8)}
    for part in sizes:
        assert np.unique(data[f"{part}_labels"]).tolist() == list(range(10))


def test_no_image_is_in_two_parts(data: dict[str, NDArray[np.uint8]]) -> None:
    """All 5,200 images differ, so none that is evaluated was calibrated or trained on."""
    images = [image.tobytes() for part in ("eval", "calib", "train") for image in data[f"{part}_image"]]
    assert len(images) == 5_200
    assert len(set(images)) == len(images)


def test_both_formats_agree(
    data: dict[str, NDArray[np.uint8]], onnx_logits: NDArray[np.float32], tflite_logits: NDArray[np.float32]
) -> None:
    """ONNX and TFLite give the same logits on every evaluation image, and the accuracy that the README states."""
    np.testing.assert_allclose(tflite_logits, onnx_logits, rtol=1e-4, atol=1e-4)
    for logits in (onnx_logits, tflite_logits):
        assert (logits.argmax(1) == data["eval_labels"]).mean() == pytest.approx(0.9250)


def test_example_is_small() -> None:
    """The committed files are under 4 MB together."""
    committed = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {"model.onnx", "model.tflite", "data.npz"} <= {path.name for path in committed}
    assert sum(path.stat().st_size for path in committed) < 4_000_000


def _signature(value: onnx.ValueInfoProto) -> tuple[str, str, list[int]]:
    tensor = value.type.tensor_type
    return value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, [size.dim_value for size in tensor.shape.dim]
