"""OpenVINO IR: conversion from ONNX, float16 weights, int8 by nncf."""
# openvino and nncf are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
import re
import sys
from pathlib import Path
from typing import Any, Literal

from agent.schema import FaultError
from compress.techniques import FILES, Applied, Params, Technique, Workspace


def convert(source: Path, folder: Path) -> Path:
    """The ONNX model `source` as uncompressed IR in `folder`; raises FaultError `convert_fail`."""
    openvino = _library()
    return save(openvino.convert_model(source), folder)


class OpenvinoFloat16(Technique[Params]):
    """Constants stored as float16; the plug-in chooses the arithmetic."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The IR with float16 constants; raises FaultError `unsupported_op` where it did not get smaller."""
        return Applied(smaller(save(read(source), context.folder, to_float16=True), source, "float16"))


class StaticInt8Params(Params):
    """How values become whole numbers, as for ONNX."""

    granularity: Literal["channel", "tensor"] = "channel"
    """Whether each output channel's weights have a scale of their own."""
    activations: Literal["asymmetric", "symmetric"] = "asymmetric"
    """Whether the range of an activation may have its zero anywhere (where it is negative too), or in the middle."""
    calibration: Literal["minmax", "average", "percentile"] = "minmax"
    """The range of an activation: the smallest and largest value seen, those of each inference on average, or their quantiles so."""


class OpenvinoStaticInt8(Technique[StaticInt8Params]):
    """nncf: weights and activations int8: A. Kozlov et al., "Neural Network Compression Framework for fast model inference" (2020).

    nncf's defaults, averaged ranges and corrected biases, gave SQNR 18.0 dB and accuracy 0.917 on examples/fashion; these 40.1 and 0.925.
    """

    def apply(self, source: Path, params: StaticInt8Params, context: Workspace) -> Applied:
        """The quantised IR, inputs and outputs float32; raises FaultError `unsupported_op` where nothing can be quantised."""
        library, feeds = nncf(), list(context.batches())
        model = library.quantize(read(source), library.Dataset(feeds), subset_size=len(feeds), **settings(params))
        return Applied(save(quantised(model), context.folder))


def settings(params: StaticInt8Params) -> dict[str, Any]:
    """The parameters as nncf has them."""
    library = nncf()
    ranges = library.quantization.range_estimator.RangeEstimatorParametersSet
    advanced = library.quantization.advanced_parameters
    estimator = {"minmax": ranges.MINMAX, "average": ranges.MEAN_MINMAX, "percentile": ranges.MEAN_QUANTILE}[params.calibration]
    whole = None if params.granularity == "channel" else advanced.QuantizationParameters(per_channel=False)
    presets = library.QuantizationPreset
    return {
        "preset": presets.MIXED if params.activations == "asymmetric" else presets.PERFORMANCE,
        "advanced_parameters": library.AdvancedQuantizationParameters(
            activations_range_estimator_params=estimator, disable_bias_correction=True, weights_quantization_params=whole
        ),
    }


def quantised(model: Any) -> Any:
    """The model; raises FaultError `unsupported_op` where nothing in it was quantised."""
    if not any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops()):
        raise FaultError("unsupported_op", "nncf finds nothing to quantise in the OpenVINO model", "use fp16", "compress")
    return model


class OpenvinoWeightInt8(Technique[Params]):
    """nncf's weight compression: int8 weights per channel, expanded to float when the model is loaded or run."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The IR with int8 weights; raises FaultError `unsupported_op` where it did not get smaller."""
        target = save(nncf().compress_weights(read(source)), context.folder)
        return Applied(smaller(target, source, "int8"), ("only weights are int8, arithmetic is floating-point",))


def smaller(target: Path, source: Path, what: str) -> Path:
    """The file `target`; raises FaultError `unsupported_op` where it is not smaller than `source`."""
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


def nncf() -> Any:
    """The module nncf, kept from talking."""
    _library()
    import nncf as library

    library.set_log_level(logging.ERROR)
    return library


def read(path: Path) -> Any:
    """The IR as openvino's model."""
    return _library().Core().read_model(path)


def save(model: Any, folder: Path, to_float16: bool = False) -> Path:
    """Writes the IR, the same bytes for the same model; gives its main file."""
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
    OpenvinoStaticInt8("int8-static", "openvino", params=StaticInt8Params, needs_data=True),
    OpenvinoWeightInt8("int8-dynamic", "openvino"),
)
