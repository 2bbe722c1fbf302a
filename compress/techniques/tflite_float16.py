"""float16 for TFLite: large weights stored in half precision, arithmetic stays float32."""

from pathlib import Path

from agent.schema import FaultError
from compress import tflite_model, tflite_passes
from compress.techniques import FILES, Applied, Params, Technique, Workspace


class TfliteFloat16(Technique[Params]):
    """Weights become float16 constants with a DEQUANTIZE, which every runtime since 2.3 takes."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The model with float16 weights; raises FaultError `unsupported_op` where no constant is large enough to gain."""
        model = tflite_model.read(source)
        if not tflite_passes.halve_weights(model):
            message = "float16 finds no float32 weights large enough to gain in the TFLite model"
            raise FaultError("unsupported_op", message, "use fp32: the file is float16 already, or tiny", "compress")
        target = context.folder / FILES["tflite"][0]
        tflite_model.write(model, target)
        return Applied(target)


TECHNIQUES = (TfliteFloat16("float16", "tflite"),)
