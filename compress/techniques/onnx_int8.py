"""int8 for ONNX by onnxruntime's quantiser: static with calibration, or dynamic."""
# onnxruntime has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from agent.schema import FaultError
from compress import onnx_model
from compress.techniques import FILES, Applied, Params, Technique, Workspace

PER_CHANNEL_OPSET = 13  # below it DequantizeLinear has no axis, and onnxruntime writes an invalid model
WIDE_OPSET = 21  # below it QuantizeLinear has no int16
DYNAMIC_OPS = ["MatMul", "Gemm"]


CALIBRATORS = {"minmax": "MinMax", "average": "MinMax", "percentile": "Percentile"}


class StaticInt8Params(Params):
    """How values become whole numbers."""

    granularity: Literal["channel", "tensor"] = "channel"
    """Whether each output channel's weights have a scale of their own."""
    activations: Literal["asymmetric", "symmetric"] = "asymmetric"
    """Whether the range of an activation may have its zero anywhere, or in the middle."""
    calibration: Literal["minmax", "average", "percentile"] = "minmax"
    """The range of an activation: the smallest and largest value seen, those of each inference on average, or what holds 99.999 % of the
    values. Not by entropy: onnxruntime 1.31 has as many bins as steps, so that its search has one candidate, the whole range."""
    activation_bits: Literal[8, 16] = 8


class OnnxStaticInt8(Technique[StaticInt8Params]):
    """QDQ: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018).

    With `activation_bits: 16` onnxruntime computes in float32 between rounding to 16 bits: it shows the accuracy, and only weights shrink.
    """

    def apply(self, source: Path, params: StaticInt8Params, context: Workspace) -> Applied:
        """The quantised model; inputs and outputs stay float32."""
        wide = params.activation_bits == 16
        prepared, notes = onnx_model.prepare(source, context.folder, WIDE_OPSET if wide else PER_CHANNEL_OPSET)
        notes += ("16-bit activations need onnxruntime 1.18 or newer",) if wide else ()
        return Applied(quantise(prepared, context, **_settings(params)), notes)


def _settings(params: StaticInt8Params) -> dict[str, Any]:
    from onnxruntime.quantization import CalibrationMethod, QuantType

    options = {"ActivationSymmetric": params.activations == "symmetric", "CalibMovingAverage": params.calibration == "average"}
    return {
        "per_channel": params.granularity == "channel",
        "activation_type": QuantType.QInt16 if params.activation_bits == 16 else QuantType.QInt8,
        "calibrate_method": CalibrationMethod[CALIBRATORS[params.calibration]],
        "extra_options": {name: True for name, chosen in options.items() if chosen},
    }


class OnnxDynamicInt8(Technique[Params]):
    """Weights of MatMul and Gemm in int8, their inputs quantised at run time; convolutions stay float (ConvInteger is slower)."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` where no MatMul or Gemm has constant weights."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        prepared, notes = onnx_model.prepare(source, context.folder, PER_CHANNEL_OPSET)
        quantised = context.folder / "quantised.onnx"
        quantize_dynamic(prepared, quantised, op_types_to_quantize=DYNAMIC_OPS, per_channel=True, weight_type=QuantType.QInt8)
        why = "int8-dynamic finds no MatMul or Gemm with constant weights"
        return Applied(_finish(quantised, context.folder, "MatMulInteger", why, "use int8, which quantises convolutions too"), notes)


def quantise(prepared: Path, context: Workspace, **settings: Any) -> Path:
    """The model with Q/DQ pairs, weights per channel, all int8; `settings` are further ones of onnxruntime's `quantize_static`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, feeds: Iterator[Any]) -> None:
            self.feeds = feeds

        def get_next(self) -> Any:
            return next(self.feeds, None)

    quantised = context.folder / "quantised.onnx"
    defaults: dict[str, Any] = {
        "per_channel": True,
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "quant_format": QuantFormat.QDQ,
    }
    quantize_static(prepared, quantised, Reader(context.batches()), **(defaults | settings))
    return _finish(quantised, context.folder, "QuantizeLinear", "int8 finds nothing to quantise", "use fp16")


def _finish(quantised: Path, folder: Path, sign: str, why: str, next_step: str) -> Path:
    """Writes the result; the operator `sign` is in it, or nothing was quantised."""
    model = onnx_model.parse(quantised.read_bytes(), quantised.name)
    if not any(node.op_type == sign for node in model.graph.node):
        raise FaultError("unsupported_op", f"{why} in the ONNX model", next_step, "compress")
    target = folder / FILES["onnx"][0]
    onnx_model.save(model, target)
    return target


TECHNIQUES = (OnnxStaticInt8("int8-static", "onnx", params=StaticInt8Params, needs_data=True), OnnxDynamicInt8("int8-dynamic", "onnx"))
