"""Parameters, multiply-accumulates and zeros, against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from compress_models import EXAMPLE
from onnx import TensorProto, helper, numpy_helper, save

from compress import cost


def model(folder: Path, nodes, inputs, outputs, weights) -> Path:
    """An ONNX file of these nodes; `inputs` and `outputs` by name and shape."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    path = folder / "model.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_lenet(kind: str) -> None:
    """28*28*6*25 + 10*10*16*150 + 400*120 + 120*84 + 84*10, and no zeros."""
    assert cost.of(EXAMPLE / f"model.{kind}", kind) == cost.Cost(61_706, 416_520, 0.0)


@pytest.mark.parametrize(
    ("node", "inputs", "output", "weights", "macs"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], group=2), {"x": [1, 4, 8, 8]}, [1, 6, 6, 6], {"w": (6, 2, 3, 3)}, 6 * 36 * 2 * 9),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), {"x": [1, 4, 5, 5]}, [1, 3, 6, 6], {"w": (4, 3, 2, 2)}, 4 * 25 * 3 * 4),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"x": [7, 2]}, [2, 5], {"w": (7, 5)}, 2 * 5 * 7),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": [1, 9, 7]}, [1, 9, 5], {"w": (7, 5)}, 9 * 5 * 7),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3),
            {"x": [10, 1, 4]},
            [10, 1, 1, 3],
            {"w": (1, 12, 4), "r": (1, 12, 3)},
            10 * 12 * (4 + 3),
        ),
        (helper.make_node("Relu", ["x"], ["y"]), {"x": [1, 4]}, [1, 4], {}, 0),
        (helper.make_node("Conv", ["x", "w"], ["y"]), {"x": ["n", 1, 5, 5]}, ["n", 2, 3, 3], {"w": (2, 1, 3, 3)}, 2 * 9 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"]), {"x": [1, 1, "h", 5]}, [1, 2, "k", 3], {"w": (2, 1, 3, 3)}, None),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik"), {"x": [2, 3]}, [2, 4], {"w": (3, 4)}, None),
    ],
)
def test_an_operator(node, inputs, output, weights, macs, tmp_path: Path) -> None:
    """Groups, turned inputs, sequences; an open batch counts as 1, any other open size and what is not counted make it unknown."""
    path = model(tmp_path, [node], inputs, {"y": output}, {name: np.ones(shape) for name, shape in weights.items()})
    assert cost.of(path, "onnx").macs == macs


def test_zeros_are_those_of_weights_not_of_biases(tmp_path: Path) -> None:
    """6 of 8 weights are zero; the bias of zeros does not count."""
    weights = np.array([[1, 0, 0, 0], [0, 2, 0, 0]])
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    path = model(tmp_path, [node], {"x": [1, 4]}, {"y": [1, 2]}, {"w": weights, "b": np.zeros(2)})
    assert cost.of(path, "onnx") == cost.Cost(10, 8, 0.75)
