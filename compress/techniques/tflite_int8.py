"""int8 for TFLite by litert-quantizer, with the passes that make it work on old files and old runtimes."""
# litert-quantizer has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

from agent.schema import FaultError
from compress import tflite_model, tflite_passes
from compress.techniques import FILES, Applied, Params, Technique, Workspace

FLOAT_OPS = {
    "BATCH_MATMUL": "int8 BATCH_MATMUL gives wrong results in every runtime tried",
    "PRELU": "litert-quantizer has no int8 PRELU",
}


class TfliteStaticInt8(Technique[Params]):
    """Weights int8 per channel (per tensor in FULLY_CONNECTED), activations int8, calibrated; inputs and outputs stay float32."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` where nothing can be quantised."""
        return quantise(source, context, static=True)


class TfliteDynamicInt8(Technique[Params]):
    """Weights int8 per channel (per tensor in FULLY_CONNECTED), activations float32, quantised at run time."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The quantised model; raises FaultError `unsupported_op` where nothing can be quantised."""
        return quantise(source, context, static=False)


def quantise(source: Path, context: Workspace, *, static: bool, float_ends: bool = True) -> Applied:
    """The model with int8 weights, and with `static` int8 activations; inputs and outputs too unless `float_ends`.

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
    calibration = _calibrate(prepared, quantizer.get_quantization_recipe(), context) if static else None
    quantised = context.folder / "quantised.tflite"
    quantizer.quantize(calibration, serialize_to_path=quantised, enable_progress_report=False, enable_progress_bar=False)
    model = tflite_model.read(quantised)
    if not tflite_model.has_int8_weights(model):
        raise FaultError("unsupported_op", "litert-quantizer finds no weights to quantise in the TFLite model", "use fp16", "compress")
    tflite_passes.set_versions(model)
    tflite_passes.rename_outputs(model, names)
    tflite_model.write(model, target)
    return Applied(target, tuple(f"{name} stays float: {FLOAT_OPS[name]}" for name in kept))


def _configure(quantizer: Any, static: bool, float_ops: list[str]) -> None:
    """FULLY_CONNECTED per tensor: per channel and dynamic, tflite-runtime 2.14 computes something else and says nothing."""
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import QuantGranularity, TFLOperationName

    per_tensor = QuantGranularity.TENSORWISE
    if static:
        quantizer.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
        quantizer.add_static_config(".*", TFLOperationName.FULLY_CONNECTED, 8, 8, per_tensor)
    else:
        quantizer.add_dynamic_config(".*", TFLOperationName.ALL_SUPPORTED, 8)
        quantizer.add_dynamic_config(".*", TFLOperationName.FULLY_CONNECTED, 8, per_tensor)
    for name in float_ops:
        if name in TFLOperationName.__members__:
            quantizer.update_quantization_recipe(".*", TFLOperationName[name], algorithm_key=AlgorithmName.NO_QUANTIZE)


def _calibrate(prepared: Path, recipe: Any, context: Workspace) -> Any:
    """Smallest and largest value of every activation over the samples (litert-quantizer's default averages them, which clips)."""
    from litert_quantizer.calibrator import Calibrator
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils.qsv_utils import min_max_update

    manager = RecipeManager()
    manager.load_quantization_recipe(recipe)
    calibrator = Calibrator(str(prepared), num_threads=1, qsv_update_func=min_max_update)
    key, names = tflite_model.signature_inputs(tflite_model.read(prepared))
    samples = [{names[name]: value for name, value in feeds.items()} for feeds in context.batches()]
    calibrator.calibrate({key: samples}, manager)
    ranges = calibrator.get_model_qsvs()
    if not ranges:
        raise FaultError("unsupported_op", "litert-quantizer finds nothing to quantise in the TFLite model", "use fp16", "compress")
    return ranges


TECHNIQUES = (TfliteStaticInt8("int8-static", "tflite", needs_data=True), TfliteDynamicInt8("int8-dynamic", "tflite"))
