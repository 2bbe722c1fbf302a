"""Weight-only quantisation for OpenVINO by nncf: int8, int4 and nf4."""
# nncf is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agent.schema import FaultError
from compress.techniques import Applied, Params, Technique, Workspace
from compress.techniques.openvino import nncf, read, save, smaller

WHOLE_CHANNEL = -1


class OpenvinoWeightOnlyParams(Params):
    """How weights are stored."""

    dtype: Literal["int8", "int4", "nf4"] = "int8"
    """Whole numbers, or the sixteen quantiles of a normal distribution."""
    block: Annotated[int, Field(ge=4, le=1024)] | None = None
    """How many weights along the inputs share a scale, which must divide those of each layer; None: all of an output. Not of int8."""
    weights: Literal["symmetric", "asymmetric"] = "symmetric"
    """Whether the range of weights has its zero in the middle, as that of nf4 has."""

    @model_validator(mode="after")
    def _quantiles_are_symmetric(self) -> "OpenvinoWeightOnlyParams":
        if self.dtype == "nf4" and self.weights == "asymmetric":
            raise ValueError("nf4 is symmetric")
        return self


class OpenvinoWeightOnly(Technique[OpenvinoWeightOnlyParams]):
    """Weights as int8, int4 or NormalFloat with a scale for each output or block, expanded when the model is loaded or run.

    nf4: T. Dettmers, A. Pagnoni, A. Holtzman, L. Zettlemoyer, "QLoRA: Efficient Finetuning of Quantized LLMs" (2023).
    """

    def apply(self, source: Path, params: OpenvinoWeightOnlyParams, context: Workspace) -> Applied:
        """The IR with quantised weights; raises FaultError `unsupported_op` where it did not get smaller."""
        try:
            compressed = nncf().compress_weights(read(source), **_settings(params))
        except nncf().InvalidGroupSizeError as error:
            message = f"blocks of {params.block} do not divide the inputs of every layer of the OpenVINO model"
            raise FaultError("unsupported_op", message, "leave `block` out for it", "compress") from error
        target = save(compressed, context.folder)
        return Applied(smaller(target, source, params.dtype), (f"only weights are {params.dtype}, arithmetic is floating-point",))


def _settings(params: OpenvinoWeightOnlyParams) -> dict[str, Any]:
    modes = nncf().CompressWeightsMode
    kind = "sym" if params.weights == "symmetric" else "asym"
    mode = modes.NF4 if params.dtype == "nf4" else modes[f"{params.dtype}_{kind}".upper()]
    whole = {"group_size": params.block or WHOLE_CHANNEL, "all_layers": True}
    return {"mode": mode} | (whole if params.dtype != "int8" else {})


TECHNIQUES = (OpenvinoWeightOnly("weight-only", "openvino", params=OpenvinoWeightOnlyParams),)
