"""Deep Compression's last stage: what is left of a pruned model as codebooks and Huffman codes, in a file of its own."""
# protobuf messages have no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from agent.schema import FaultError
from compress.techniques import FILES, Applied, Params, Technique, Workspace

if TYPE_CHECKING:
    import onnx

    from compress.coding import CodedFile, Shared

CODED = "model.fmdc"
CONV_RANK = 3
"""Weights of a convolution have at least so many axes."""

Bits = Annotated[int, Field(ge=1, le=8)]


class DeepCodingParams(Params):
    """How many values a layer's weights may have, and how they and the biases are written."""

    conv_bits: Bits = 8
    """A convolution has a codebook of at most 2 ** conv_bits values other than zero; weights that have no more keep theirs."""
    fc_bits: Bits = 5
    """The same for fully connected layers."""
    values: Literal["float16", "float32"] = "float16"
    """How codebooks, biases and all other floating-point numbers are written."""


class DeepCoding(Technique[DeepCodingParams]):
    """Writes the model as a coded file, reads it back, and hands on what it read: the file holds exactly the model that was verified.

    Per layer a codebook by k-means where there are more values than it takes, positions of the weights that are not zero relative to the
    one before, and Huffman codes for both. Needs no data; it is small after pruning (sparsify) and share-weights. Han, Mao and Dally,
    Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman Coding, 2016.
    """

    def apply(self, source: Path, params: DeepCodingParams, context: Workspace) -> Applied:
        """The model as read from the coded file, CODED beside it; raises FaultError `unsupported_op` for a model without weights."""
        from compress import coding, onnx_model

        model = onnx_model.parse(source.read_bytes(), source.name)
        shared = _shared(model, params)
        if not shared:
            message = "deep-coding finds no float32 weights of two or more axes in the ONNX model"
            raise FaultError("unsupported_op", message, "use fp16", "compress")
        file = coding.encode(model, shared, half=params.values == "float16")
        (context.folder / CODED).write_bytes(file.content)
        target = context.folder / FILES["onnx"][0]
        onnx_model.save(coding.decode((context.folder / CODED).read_bytes(), CODED), target)
        return Applied(target, told=_told(file, shared, source.stat().st_size), extras=(context.folder / CODED,))


def _shared(model: "onnx.ModelProto", params: DeepCodingParams) -> dict[str, "Shared"]:
    from onnx import numpy_helper

    from compress import codebook, coding

    found: dict[str, Shared] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == tensor.FLOAT and len(tensor.dims) > 1:
            bits = params.conv_bits if len(tensor.dims) >= CONV_RANK else params.fc_bits
            found[tensor.name] = coding.Shared(*codebook.share(numpy_helper.to_array(tensor), 2**bits))
    return found


def _told(file: "CodedFile", shared: Mapping[str, "Shared"], float_bytes: int) -> dict[str, object]:
    """`weights_bytes` is the part of all float32 tensors, biases included; `ratio_of_weights` is 4 bytes a weight against it."""
    weights_bytes = sum(file.tensor_bytes.values())
    return {
        "file": CODED,
        "file_bytes": len(file.content),
        "sha256": hashlib.sha256(file.content).hexdigest(),
        "graph_bytes": file.graph_bytes,
        "weights_bytes": weights_bytes,
        "ratio_of_file": round(float_bytes / len(file.content), 2),
        "ratio_of_weights": round(4 * file.weights / weights_bytes, 2),
        "layers": {
            name: {
                "values": len(tensor.centres),
                "density": round(float((tensor.labels != 0).mean()), 4),
                "bytes": file.tensor_bytes[name],
            }
            for name, tensor in shared.items()
        },
    }


TECHNIQUES = (DeepCoding("deep-coding", "onnx", params=DeepCodingParams, stays_float=True),)
