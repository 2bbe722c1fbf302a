"""Weight-only quantisation for TFLite: int8 or int4 constants behind DEQUANTIZE, arithmetic in float32."""
# litert-quantizer has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Literal

from agent.schema import FaultError
from compress import tflite_model, tflite_passes
from compress.techniques import FILES, Applied, Params, Technique, Workspace

BITS = {"int8": 8, "int4": 4}
INT4_NOTE = "tflite-runtime 2.14 and older refuse int4 weights when they load them, ai-edge-litert 2.3 takes them"


class TfliteWeightOnlyParams(Params):
    """How weights are stored."""

    dtype: Literal["int8", "int4"] = "int8"


class TfliteWeightOnly(Technique[TfliteWeightOnlyParams]):
    """Symmetric weights with a scale for each output channel; depthwise convolutions stay int8 where others are int4.

    R. Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference" (2018). Behind an operator of its own, because
    int4 weights with activations quantised at run time give garbage on tflite-runtime 2.14, and this fails to load there instead.
    """

    def apply(self, source: Path, params: TfliteWeightOnlyParams, context: Workspace) -> Applied:
        """The model with quantised weights; raises FaultError `unsupported_op` where nothing can be quantised."""
        from litert_quantizer.qtyping import TFLOperationName
        from litert_quantizer.quantizer import Quantizer

        model = tflite_model.read(source)
        names = tflite_model.output_names(model)
        tflite_passes.normalise(model)
        prepared, quantised = context.folder / "prepared.tflite", context.folder / "quantised.tflite"
        tflite_model.write(model, prepared)
        quantizer = Quantizer(prepared)
        quantizer.add_weight_only_config(".*", TFLOperationName.ALL_SUPPORTED, BITS[params.dtype])
        quantizer.add_weight_only_config(".*", TFLOperationName.DEPTHWISE_CONV_2D, BITS["int8"])
        quantizer.quantize(None, serialize_to_path=quantised, enable_progress_report=False, enable_progress_bar=False)
        model = tflite_model.read(quantised)
        if not any(tflite_model.has_weights(model, kind.upper()) for kind in BITS):
            message = "litert-quantizer finds no weights to quantise in the TFLite model"
            raise FaultError("unsupported_op", message, "use fp16", "compress")
        tflite_passes.rename_outputs(model, names)
        target = context.folder / FILES["tflite"][0]
        tflite_model.write(model, target)
        notes = (INT4_NOTE,) if tflite_model.has_weights(model, "INT4") else ()
        return Applied(target, (*notes, f"only weights are {params.dtype}, arithmetic is floating-point"))


TECHNIQUES = (TfliteWeightOnly("weight-only", "tflite", params=TfliteWeightOnlyParams),)
