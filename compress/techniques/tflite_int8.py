"""int8 for TFLite by litert-quantizer, with the passes that make it work on old files and old runtimes."""
# litert-quantizer has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any, Literal

from agent.schema import FaultError
from compress import tflite_model, tflite_passes
from compress.techniques import FILES, Applied, Params, Technique, Workspace

FLOAT_OPS = {
    "BATCH_MATMUL": "int8 BATCH_MATMUL gives wrong results in every runtime tried",
    "PRELU": "litert-quantizer has no int8 PRELU",
}


class StaticInt8Params(Params):
    """How values become whole numbers, as for ONNX."""

    granularity: Literal["channel", "tensor"] = "channel"
    """Whether each output channel's weights have a scale of their own; those of FULLY_CONNECTED have one for all in either case."""
    activations: Literal["asymmetric", "symmetric"] = "asymmetric"
    """Whether the range of an activation may have its zero anywhere, or in the middle, where 16 bits have it always."""
    calibration: Literal["minmax", "average"] = "minmax"
    """The range of an activation: the smallest and largest value seen, or a moving average of each sample's, which clips."""
    activation_bits: Literal[8, 16] = 8


class TfliteStaticInt8(Technique[StaticInt8Params]):
    """Weights int8, activations int8 or int16, calibrated; inputs and outputs stay float32.

    B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018).
    """

    def apply(self, source: Path, params: StaticInt8Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` where nothing can be quantised."""
        return quantise(source, context, params)


class TfliteDynamicInt8(Technique[Params]):
    """Weights int8 per channel (per tensor in FULLY_CONNECTED), activations float32, quantised at run time."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` where nothing can be quantised."""
        return quantise(source, context, None)


def quantise(source: Path, context: Workspace, static: StaticInt8Params | None, float_ends: bool = True) -> Applied:
    """The model with int8 weights, and with `static` whole activations; inputs and outputs too unless `float_ends`.

    Raises FaultError `unsupported_op` where nothing can be quantised.
    """
    from litert_quantizer.quantizer import Quantizer

    model = tflite_model.read(source)
    names = tflite_model.output_names(model)
    tflite_passes.normalise(model)
    prepared, target = context.folder / "prepared.tflite", context.folder / FILES["tflite"][0]
    tflite_model.write(model, prepared)
    quantizer = Quantizer(prepared)
    kept = sorted(tflite_model.operator_names(model) & set(FLOAT_OPS))
    _configure(quantizer, static, [*kept, "INPUT", "OUTPUT"] if float_ends else kept)
    calibration = _calibrate(prepared, quantizer.get_quantization_recipe(), context, static.calibration) if static else None
    quantised = context.folder / "quantised.tflite"
    quantizer.quantize(calibration, serialize_to_path=quantised, enable_progress_report=False, enable_progress_bar=False)
    model = tflite_model.read(quantised)
    if not tflite_model.has_weights(model, "INT8"):
        raise FaultError("unsupported_op", "litert-quantizer finds no weights to quantise in the TFLite model", "use fp16", "compress")
    tflite_passes.set_versions(model)
    tflite_passes.rename_outputs(model, names)
    tflite_model.write(model, target)
    return Applied(target, tuple(f"{name} stays float: {FLOAT_OPS[name]}" for name in kept))


def _configure(quantizer: Any, static: StaticInt8Params | None, float_ops: list[str]) -> None:
    """FULLY_CONNECTED per tensor: per channel and dynamic, tflite-runtime 2.14 computes something else and says nothing."""
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import QuantGranularity, TFLOperationName

    per_tensor, per_channel = QuantGranularity.TENSORWISE, QuantGranularity.CHANNELWISE
    if static:
        others = per_channel if static.granularity == "channel" else per_tensor
        quantizer.update_quantization_recipe(".*", TFLOperationName.ALL_SUPPORTED, _static_config(static, others))
        quantizer.update_quantization_recipe(".*", TFLOperationName.FULLY_CONNECTED, _static_config(static, per_tensor))
    else:
        quantizer.add_dynamic_config(".*", TFLOperationName.ALL_SUPPORTED, 8)
        quantizer.add_dynamic_config(".*", TFLOperationName.FULLY_CONNECTED, 8, per_tensor)
    for name in float_ops:
        if name in TFLOperationName.__members__:
            quantizer.update_quantization_recipe(".*", TFLOperationName[name], algorithm_key=AlgorithmName.NO_QUANTIZE)


def _static_config(static: StaticInt8Params, granularity: Any) -> Any:
    from litert_quantizer.qtyping import ComputePrecision, OpQuantizationConfig, TensorQuantizationConfig

    symmetric = static.activations == "symmetric" or static.activation_bits == 16
    return OpQuantizationConfig(
        activation_tensor_config=TensorQuantizationConfig(num_bits=static.activation_bits, symmetric=symmetric),
        weight_tensor_config=TensorQuantizationConfig(num_bits=8, symmetric=True, granularity=granularity),
        compute_precision=ComputePrecision.INTEGER,
    )


def _calibrate(prepared: Path, recipe: Any, context: Workspace, calibration: str) -> Any:
    """The range of every activation over the samples."""
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils.qsv_utils import min_max_update, moving_average_update

    manager = RecipeManager()
    manager.load_quantization_recipe(recipe)
    update = min_max_update if calibration == "minmax" else moving_average_update
    calibrator = Calibrator(str(prepared), num_threads=1, qsv_update_func=update)
    key, names = tflite_model.signature_inputs(tflite_model.read(prepared))
    samples = [{names[name]: value for name, value in feeds.items()} for feeds in context.batches()]
    calibrator.calibrate({key: samples}, manager)
    ranges = calibrator.get_model_qsvs()
    if not ranges:
        raise FaultError("unsupported_op", "litert-quantizer finds nothing to quantise in the TFLite model", "use fp16", "compress")
    return ranges


TECHNIQUES = (
    TfliteStaticInt8("int8-static", "tflite", params=StaticInt8Params, needs_data=True),
    TfliteDynamicInt8("int8-dynamic", "tflite"),
)
