"""Magnitude pruning without training: zeros in the weights of an ONNX graph."""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from agent.schema import FaultError
from compress import onnx_graph, onnx_model
from compress.onnx_graph import Layer
from compress.techniques import FILES, Applied, Params, Technique, Workspace

Side = Annotated[int, Field(ge=1, le=1024)]


class SparsifyParams(Params):
    """Which weights become zero."""

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of the weights that become zero; of `n:m` it is 1 - n/m."""
    granularity: Literal["element", "block", "n:m"] = "element"
    """Single weights, blocks of them, or all but n of m that follow each other along the inputs."""
    scope: Literal["network", "layer"] = "network"
    """Whether `sparsity` is of all layers together or of each."""
    block: tuple[Side, Side] = (4, 4)
    """Outputs x inputs of a block; those at the edge are smaller."""
    n: Side = 2
    m: Side = 4

    @model_validator(mode="after")
    def _some_remain(self) -> "SparsifyParams":
        if self.granularity == "n:m" and self.n >= self.m:
            raise ValueError("n must be less than m")
        if self.granularity == "n:m" and "sparsity" in self.model_fields_set and not np.isclose(self.sparsity, 1 - self.n / self.m):
            raise ValueError(f"{self.n} of {self.m} is a sparsity of {1 - self.n / self.m:g}, leave `sparsity` out")
        return self


class OnnxSparsify(Technique[SparsifyParams]):
    """The smallest weights of Conv, Gemm and MatMul become zero: S. Han et al., "Learning both Weights and Connections" (2015).

    With `scope: network` weights of different layers are compared by their LAMP score, which keeps thin layers: J. Lee et al.,
    "Layer-Adaptive Sparsity for the Magnitude-Based Pruning" (2021). Blocks go by their mean square; n:m as by A. Mishra et al.,
    "Accelerating Sparse Deep Neural Networks" (2021), along a convolution's input channels. The file gets smaller only once it is coded.
    """

    def apply(self, source: Path, params: SparsifyParams, context: Workspace) -> Applied:
        """The model with zeros; raises FaultError `unsupported_op` where no weight becomes one."""
        prepared, notes = onnx_model.prepare(source, context.folder)
        model = onnx_model.parse(prepared.read_bytes(), prepared.name)
        layers = onnx_graph.layers(model, "sparsify")
        masks = [n_of_m(layer, params.n, params.m) for layer in layers] if params.granularity == "n:m" else by_scores(layers, params)
        zeros = {layer.name: float(1 - mask.mean()) for layer, mask in zip(layers, masks, strict=True)}
        if not any(zeros.values()):
            message = f"sparsify finds no weight to set to zero ({params.granularity}) in the ONNX model"
            raise FaultError("unsupported_op", message, "ask for more, or for a finer granularity", "compress")
        for layer, mask in zip(layers, masks, strict=True):
            onnx_graph.set_constant(model, layer.name, layer.shaped((layer.matrix * mask).astype(np.float32)))
        target = context.folder / FILES["onnx"][0]
        onnx_model.save(model, target)
        return Applied(target, notes, {"sparsity": zeros})


def by_scores(layers: Sequence[Layer], params: SparsifyParams) -> list[NDArray[np.bool_]]:
    """Which weights stay, outputs x inputs of each layer: all but the share of `sparsity` with the lowest scores."""
    block = params.block if params.granularity == "block" else (1, 1)
    squares = [_block_means(layer.matrix, block) for layer in layers]
    sizes = [_block_sizes(layer.matrix, block) for layer in layers]
    if params.scope == "network":
        scores = [lamp(square, size) for square, size in zip(squares, sizes, strict=True)]
        kept = _kept(np.concatenate([one.ravel() for one in scores]), np.concatenate([one.ravel() for one in sizes]), params.sparsity)
        parts = np.split(kept, np.cumsum([one.size for one in scores])[:-1])
    else:
        parts = [_kept(square.ravel(), size.ravel(), params.sparsity) for square, size in zip(squares, sizes, strict=True)]
    return [_spread(part.reshape(one.shape), block, layer) for part, one, layer in zip(parts, squares, layers, strict=True)]


def lamp(squares: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each block's mean square over the sum of squares of those of its layer that are not smaller; its largest scores highest."""
    order = np.argsort(squares, axis=None, kind="stable")[::-1]
    sums = (squares * sizes).ravel()[order].cumsum()
    scores = np.empty(squares.size)
    scores[order] = squares.ravel()[order] / np.maximum(sums, np.finfo(np.float64).tiny)
    return scores.reshape(squares.shape)


def n_of_m(layer: Layer, n: int, m: int) -> NDArray[np.bool_]:
    """Which weights stay: the n largest of each m along the inputs, a convolution's channels; what is left over at the end stays whole."""
    weights = layer.weights if layer.node.op_type == "Conv" else layer.matrix
    last = np.moveaxis(weights, 1, -1)
    whole = last.shape[-1] // m * m
    groups = np.abs(last[..., :whole]).reshape(*last.shape[:-1], whole // m, m)
    ranks = np.argsort(np.argsort(-groups, axis=-1, kind="stable"), axis=-1)
    mask = np.ones(last.shape, np.bool_)
    mask[..., :whole] = (ranks < n).reshape(*last.shape[:-1], whole)
    return np.moveaxis(mask, -1, 1).reshape(layer.matrix.shape)


def _block_means(matrix: NDArray[np.float32], block: tuple[int, int]) -> NDArray[np.float64]:
    return _block_sums(matrix.astype(np.float64) ** 2, block) / _block_sizes(matrix, block)


def _block_sizes(matrix: NDArray[np.float32], block: tuple[int, int]) -> NDArray[np.int64]:
    return _block_sums(np.ones(matrix.shape), block).astype(np.int64)


def _block_sums(values: NDArray[np.float64], block: tuple[int, int]) -> NDArray[np.float64]:
    rows = np.add.reduceat(values, range(0, values.shape[0], block[0]), axis=0)
    return np.add.reduceat(rows, range(0, values.shape[1], block[1]), axis=1)


def _kept(scores: NDArray[np.float64], sizes: NDArray[np.int64], sparsity: float) -> NDArray[np.bool_]:
    """Which blocks stay when those of the lowest scores go, as long as no more than `sparsity` of the weights do."""
    order = np.argsort(scores, kind="stable")
    going = order[sizes[order].cumsum() <= sparsity * sizes.sum() + 1e-9]
    kept = np.ones(len(scores), np.bool_)
    kept[going] = False
    return kept


def _spread(kept: NDArray[np.bool_], block: tuple[int, int], layer: Layer) -> NDArray[np.bool_]:
    rows, columns = layer.matrix.shape
    return kept.repeat(block[0], axis=0).repeat(block[1], axis=1)[:rows, :columns]


TECHNIQUES = (OnnxSparsify("sparsify", "onnx", params=SparsifyParams, stays_float=True, strength="sparsity"),)
