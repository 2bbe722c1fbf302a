"""OpenVINO IR: conversion from ONNX, float16 weights, int8 by nncf."""
# openvino and nncf are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
import re
import sys
from pathlib import Path
from typing import Any

from agent.schema import FaultError
from compress.techniques import FILES, Applied, Params, Technique, Workspace


def convert(source: Path, folder: Path) -> Path:
    """The ONNX model `source` as uncompressed IR in `folder`; raises FaultError `convert_fail`."""
    openvino = _library()
    return _save(openvino.convert_model(source), folder)


class OpenvinoFloat16(Technique[Params]):
    """Constants stored as float16; the plug-in chooses the arithmetic."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The IR with float16 constants; raises FaultError `unsupported_op` where it did not get smaller."""
        return Applied(_smaller(_save(_read(source), context.folder, to_float16=True), source, "float16"))


class OpenvinoStaticInt8(Technique[Params]):
    """nncf: weights int8 per channel and symmetric, activations int8 with ranges from the smallest and largest value seen.

    nncf's defaults, averaged ranges and corrected biases, gave SQNR 18.0 dB and accuracy 0.917 on examples/fashion; these 40.1 and 0.925.
    """

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised IR, inputs and outputs float32; raises FaultError `unsupported_op` where nothing can be quantised."""
        nncf = _nncf()
        feeds = list(context.batches())
        ranges = nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX
        quantised = nncf.quantize(
            _read(source),
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges, disable_bias_correction=True
            ),
        )
        if not any(operation.get_type_name() == "FakeQuantize" for operation in quantised.get_ops()):
            raise FaultError("unsupported_op", "nncf finds nothing to quantise in the OpenVINO model", "use fp16", "compress")
        return Applied(_save(quantised, context.folder))


class OpenvinoWeightInt8(Technique[Params]):
    """nncf's weight compression: int8 weights per channel, expanded to float when the model is loaded or run."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The IR with int8 weights; raises FaultError `unsupported_op` where it did not get smaller."""
        target = _save(_nncf().compress_weights(_read(source)), context.folder)
        return Applied(_smaller(target, source, "int8"), ("only weights are int8, arithmetic is floating-point",))


def _smaller(target: Path, source: Path, what: str) -> Path:
    before, after = _size_bytes(source), _size_bytes(target)
    if after >= before:
        message = f"{what} weights do not shrink the OpenVINO model ({before} to {after} bytes)"
        raise FaultError("unsupported_op", message, "leave the recipe out for it", "compress")
    return target


def _library() -> Any:
    """The module openvino; kept from importing openvino_telemetry, which reports the import to a server on the internet."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def _nncf() -> Any:
    _library()
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


def _read(path: Path) -> Any:
    return _library().Core().read_model(path)


def _save(model: Any, folder: Path, to_float16: bool = False) -> Path:
    target = folder / FILES["openvino"][0]
    _number_names(model)
    _library().save_model(model, target, compress_to_fp16=to_float16)
    return target


def _number_names(model: Any) -> None:
    """Numbers generated names by place: openvino counts through the whole process, and the same model would never be the same file."""
    for at, operation in enumerate(model.get_ordered_ops()):
        kind = operation.get_type_name()
        if kind != "Parameter" and re.fullmatch(r"[A-Z][A-Za-z]*_\d+", operation.get_friendly_name()):
            operation.set_friendly_name(f"{kind}_{at}")


def _size_bytes(path: Path) -> int:
    return sum(path.with_name(name).stat().st_size for name in FILES["openvino"])


TECHNIQUES = (
    OpenvinoFloat16("float16", "openvino"),
    OpenvinoStaticInt8("int8-static", "openvino", needs_data=True),
    OpenvinoWeightInt8("int8-dynamic", "openvino"),
)
