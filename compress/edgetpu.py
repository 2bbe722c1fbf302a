"""The last step to an Edge TPU artifact: an int8 TFLite model, verified already, goes through edgetpu_compiler and is checked."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.schema import Fault, FaultError
from compress import edgetpu_log, tflite_model
from compress.edgetpu_log import MAPPED, Compilation
from compress.edgetpu_mapping import Prediction, predict
from compress.recipes import Recipe, Step
from compress.records import Compiler
from compress.tflite_model import Table, indices, type_name

CUSTOM_OP = b"edgetpu-custom-op"
"""What the operations on the Edge TPU become in a compiled file."""

MAX_ROWS_NOTED = 3
MAX_CHARACTERS = 400


def refusal(recipe: Recipe) -> Fault | None:
    """Why a recipe gives nothing that the Edge TPU computes, None for one that ends with static int8, by its own rules or not yet."""
    if recipe.steps and recipe.steps[-1].technique in ("int8-static", "int8-edgetpu"):
        return None
    return Fault("unsupported_op", "compress", f"the Edge TPU computes in int8 only, not in {recipe.name}", "use int8")


def uncompiled(recipe: Recipe) -> Recipe:
    """The recipe for the TFLite model to compile: int8 by the Edge TPU's rules, with the same floor; raises as `refusal` tells."""
    fault = refusal(recipe)
    if fault:
        raise FaultError(fault.code, fault.message, fault.next, fault.phase)
    return replace(recipe, steps=(*recipe.steps[:-1], Step("int8-edgetpu", recipe.steps[-1].params)))


def compile_to(target: Path, model: Path, compiler: Compiler | Fault) -> tuple[dict[str, Any], list[str]]:
    """Writes the compiled model; gives what the manifest tells of it, and notes.

    Raises FaultError `compile_fail` with the reason, which is `compiler` where there is none, and with what is predicted to map.
    """
    prediction = predict(tflite_model.read(model))
    try:
        if isinstance(compiler, Fault):
            raise FaultError(compiler.code, compiler.message, compiler.next, compiler.phase)
        compilation = _compile(target, model, compiler)
    except FaultError as error:
        raise FaultError(error.fault.code, f"{error.fault.message}; {prediction}", error.fault.next, error.fault.phase) from error
    told = {"compiled_on": compiler.where, **asdict(compilation), "version": compiler.version, "predicted": asdict(prediction)}
    return told, _notes(compilation, prediction)


def _compile(target: Path, model: Path, compiler: Compiler) -> Compilation:
    run = compiler.run(model)
    compilation = edgetpu_log.parse(run.output, run.log, run.status)
    if not compilation.operations_on_edgetpu:
        raise _fault("it maps no operation to the Edge TPU", "run the .tflite on the CPU, or export it without the first operation")
    if run.model is None:
        raise _fault("it says that it compiled the model, but there is none", "look for free space where it runs")
    target.write_bytes(run.model)
    _check(target, model)
    return compilation


def _check(compiled: Path, plain: Path) -> None:
    """The compiled file holds Edge TPU code, and takes and gives what the model did."""
    try:
        after = tflite_model.read(compiled)
    except FaultError as error:
        raise _fault(error.fault.message, "compile it again") from error
    codes = [after.operatorCodes[operator.opcodeIndex].customCode for operator in after.subgraphs[0].operators]
    if CUSTOM_OP not in codes:
        raise _fault(f"the file that it wrote holds no {CUSTOM_OP.decode()}", "compile it again")
    before = tflite_model.read(plain)
    for what in ("inputs", "outputs"):
        ours, theirs = _ends(before, what), _ends(after, what)
        if ours != theirs:
            raise _fault(f"the {what} of the file that it wrote are {theirs}, the model's are {ours}", "compile it again")


def _ends(model: Table, what: str) -> list[tuple[list[int], str, list[float], list[int]]]:
    """Shape, type, scale and zero point of each input or output of the model."""
    graph = model.subgraphs[0]
    tensors = [graph.tensors[at] for at in indices(getattr(graph, what))]
    return [(indices(tensor.shape), type_name(tensor), *_quantisation(tensor)) for tensor in tensors]


def _quantisation(tensor: Table) -> tuple[list[float], list[int]]:
    found = tensor.quantization
    if found is None or found.scale is None:
        return [], []
    return [float(scale) for scale in found.scale], indices(found.zeroPoint)


def _notes(compilation: Compilation, prediction: Prediction) -> list[str]:
    notes = ["verified before it was compiled: only an Edge TPU runs the compiled model"]
    total, mapped = compilation.operations, compilation.operations_on_edgetpu
    if mapped < total:
        rows = [f"{row.count} {row.name} ({row.status})" for row in compilation.operators if row.status != MAPPED]
        named = ", ".join(rows[:MAX_ROWS_NOTED]) or "the log does not tell which"
        notes.append(f"{total - mapped} of {total} operations run on the CPU: {named}{', ...' if len(rows) > MAX_ROWS_NOTED else ''}")
    if (mapped, total) != (prediction.mapped, prediction.operations):
        notes.append(f"edgetpu_compiler maps {mapped} of {total} operations; {prediction}")
    return notes


def _fault(message: str, mend: str) -> FaultError:
    return FaultError("compile_fail", f"edgetpu_compiler: {message[:MAX_CHARACTERS]}", mend, "compile")
