"""float16 for ONNX: weights and arithmetic in half precision, inputs and outputs stay float32."""
# onnxruntime has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path

from agent.schema import FaultError
from compress import onnx_model
from compress.techniques import FILES, Applied, Params, Technique, Workspace


class OnnxFloat16(Technique[Params]):
    """Runs everywhere: onnxruntime's CPU kernels cast back to float32 where they have no float16 one."""

    def apply(self, source: Path, params: Params, context: Workspace) -> Applied:
        """The model with a Cast after each input and before each output."""
        from onnx import TensorProto
        from onnxruntime.transformers.float16 import convert_float_to_float16

        prepared, notes = onnx_model.prepare(source, context.folder)  # a variance of BatchNorm may not fit into float16, merged it does
        target = context.folder / FILES["onnx"][0]
        model = convert_float_to_float16(onnx_model.parse(prepared.read_bytes(), prepared.name), keep_io_types=True)
        if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
            raise FaultError("unsupported_op", "float16 finds no float32 weights in the ONNX model", "leave fp16 out for it", "compress")
        onnx_model.sort(model)  # the casts of inputs were put last
        onnx_model.save(model, target)
        return Applied(target, notes)


TECHNIQUES = (OnnxFloat16("float16", "onnx"),)
