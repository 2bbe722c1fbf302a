"""Builds TensorRT engines from ONNX through NVIDIA's Python bindings, TensorRT 8.2 to 11.

What changed on the way: max_workspace_size became set_memory_pool_limit in 8.4; explicit batch is the only kind of network from 10 and its
flag gone in 11, as are FP16, INT8 and the builder's platform_has_...: there every network is strongly typed, the model alone says in which
precision it is computed.
INT8 is only built of models with Q/DQ layers: calibrators are gone in 11.
"""

import contextlib
import os
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from agent.schema import FaultError
from backends import checks

EXPLICIT_BATCH_IS_ALL = 10  # major version from which networks have no implicit batch and the flag is ignored or absent
OUT_OF_MEMORY = ("out of memory", "OutOfMemory", "MEM_ALLOC_FAILED", "bad_alloc", "nsufficient memory", "could not be allocated")
NO_KERNEL = "Could not find any implementation"
NO_PLUGIN = "Plugin not found"  # what the parser says of an operator that it does not know, 10.x with code INVALID_NODE
KEPT_MESSAGES = 20


class Settings(NamedTuple):
    """What a build is asked for: option `precision` (auto, fp32, fp16 or int8), and the workspace that it may use."""

    precision: str
    workspace_mb: int


class Built(NamedTuple):
    """A serialised engine, the record of how it was built, and the timings of kernels for the next build."""

    content: bytes
    record: Dict[str, Any]
    timing: bytes


def make_logger(runtime: Any) -> Any:
    """Return a TensorRT logger that writes warnings and errors to standard error and keeps the last errors in `errors`.

    TensorRT's own plug-ins are registered with it: some ONNX operators, such as InstanceNormalization in 8.x, are among them.
    """

    class Logger(runtime.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            runtime.ILogger.__init__(self)
            self.errors = []  # type: List[str]

        def log(self, severity: Any, msg: str) -> None:
            if severity in (runtime.ILogger.INTERNAL_ERROR, runtime.ILogger.ERROR):
                self.errors = [*self.errors, msg][-KEPT_MESSAGES:]
            if severity not in (runtime.ILogger.INFO, runtime.ILogger.VERBOSE):
                sys.stderr.write("[TensorRT] {}\n".format(msg))

    logger = Logger()
    runtime.init_libnvinfer_plugins(logger, "")
    return logger


def build(runtime: Any, logger: Any, path: str, settings: Settings, timing: bytes) -> Built:
    """Build an engine from the ONNX file at `path`; `timing` is an earlier build's, or empty.

    Raises FaultError: bad_model, unsupported_op (an operator or a shape that TensorRT lacks, a precision that the file does not have),
    oom, compile_fail, no_device.
    """
    name, begin = os.path.basename(path), time.monotonic()
    builder = _builder(runtime, logger)
    network = builder.create_network(_network_flags(runtime))
    parser = _parse(runtime, logger, network, path)
    _check_shapes(network, name)
    config = builder.create_builder_config()
    _limit_workspace(runtime, config, settings.workspace_mb)
    record = _set_precision(runtime, builder, network, config, settings.precision, name)
    _set_timing(config, timing)
    content = builder.build_serialized_network(network, config)
    del parser  # until here: the network's weights are in its memory
    if content is None:
        raise _build_fault(name, logger.errors, settings, record["notes"])
    known = config.get_timing_cache()
    record.update(workspace_mb=settings.workspace_mb, network_layers=network.num_layers, build_s=round(time.monotonic() - begin, 3))
    return Built(bytes(content), record, bytes(known.serialize()) if known is not None else b"")


def _builder(runtime: Any, logger: Any) -> Any:
    try:
        return runtime.Builder(logger)
    except (TypeError, RuntimeError) as error:  # what the binding makes of a null pointer
        message = checks.one_line("TensorRT gives no builder: {}".format(last_error(logger.errors) or error))
        raise FaultError("no_device", message, "check that TensorRT's and the driver's CUDA versions fit", "load") from None


def _network_flags(runtime: Any) -> int:
    major = int(str(runtime.__version__).split(".")[0])
    return 0 if major >= EXPLICIT_BATCH_IS_ALL else 1 << int(runtime.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _parse(runtime: Any, logger: Any, network: Any, path: str) -> Any:
    """Return the parser that has filled the network; raises FaultError."""
    with open(path, "rb") as file:
        content = file.read()
    parser = runtime.OnnxParser(network, logger)
    if parser.parse(content):
        return parser
    errors = [parser.get_error(at) for at in range(parser.num_errors)]
    texts = [_parser_text(error) for error in errors] or [last_error(logger.errors) or "TensorRT cannot parse it"]
    code, remedy = "bad_model", "check the file; export or compress it again"
    if any(error.code().name == "MEM_ALLOC_FAILED" for error in errors):
        code, remedy = "oom", "use a smaller model or a device with more memory"
    elif any(error.code().name.startswith("UNSUPPORTED") or NO_PLUGIN in error.desc() for error in errors):
        code, remedy = "unsupported_op", "export the model without this operator, or use another backend or a newer TensorRT"
    raise FaultError(code, checks.one_line("{}: {}".format(os.path.basename(path), texts[0])), remedy, "load")


def _parser_text(error: Any) -> str:
    """Return which node the parser refused and why; releases before 10 know its number only."""
    with contextlib.suppress(AttributeError):
        return "node {} {} ({}): {}".format(error.node(), error.node_name(), error.node_operator(), error.desc())
    return "node {}: {}".format(error.node(), error.desc())


def _check_shapes(network: Any, name: str) -> None:
    for at in range(network.num_inputs):
        tensor = network.get_input(at)
        if any(size < 0 for size in tensor.shape):
            message = "{}: input {} has open dimensions {}".format(name, tensor.name, list(tensor.shape))
            raise FaultError("unsupported_op", message, "export the model with fixed shapes", "load")


def _limit_workspace(runtime: Any, config: Any, workspace_mb: int) -> None:
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(runtime.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    else:
        config.max_workspace_size = workspace_mb << 20


def _set_precision(runtime: Any, builder: Any, network: Any, config: Any, wanted: str, name: str) -> Dict[str, Any]:
    """Set the builder's flags and return what is in force: precisions, tf32, strongly_typed, notes."""
    quantised, half = _kinds(runtime, network)
    flags = runtime.BuilderFlag
    notes = []  # type: List[str]
    weakly_typed = hasattr(flags, "FP16")
    if wanted == "int8" and not quantised:
        message = "{} has no Q/DQ layers, without which there is no int8".format(name)
        raise FaultError("unsupported_op", message, "use the recipe int8, which puts them there", "load")
    if wanted == "fp16" and not half and not weakly_typed:
        message = "{} has no float16 tensors, and TensorRT {} takes the precision from the model".format(name, runtime.__version__)
        raise FaultError("unsupported_op", message, "use the recipe fp16, which puts them there", "load")
    half = half or wanted == "fp16"
    if weakly_typed:
        for flag in [flags.INT8] * quantised + [flags.FP16] * half:
            config.set_flag(flag)
    if quantised and not getattr(builder, "platform_has_fast_int8", True):
        notes.append("this GPU has no INT8 hardware: int8 is no speed-up here")
    if wanted == "fp32":
        config.clear_flag(flags.TF32)
    precisions = ["int8"] * quantised + ["fp16"] * half + ["fp32"]
    tf32 = bool(getattr(builder, "platform_has_tf32", True) and config.get_flag(flags.TF32))  # 11 does not tell
    return {"precisions": precisions, "tf32": tf32, "strongly_typed": not weakly_typed, "notes": notes}


def _kinds(runtime: Any, network: Any) -> Tuple[bool, bool]:
    """Return whether a network quantises, and whether it has float16 tensors."""
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    kinds = {layer.type for layer in layers}
    outputs = [(layer, at) for layer in layers for at in range(layer.num_outputs)]
    types = {dtype for layer, at in outputs for dtype in (layer.get_output(at).dtype, layer.get_output_type(at))}
    return runtime.LayerType.QUANTIZE in kinds, runtime.DataType.HALF in types


def _set_timing(config: Any, timing: bytes) -> None:
    """Give the builder an earlier build's timings; ones that it does not take, as of another release, make place for new ones."""
    for content in (timing, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _build_fault(name: str, errors: List[str], settings: Settings, notes: List[str]) -> FaultError:
    text = "; ".join([last_error(errors) or "TensorRT builds no engine and does not say why", *notes])
    told = "\n".join(errors)
    code, remedy = "compile_fail", "see the log; try another recipe, or another release of TensorRT"
    if any(words in told for words in OUT_OF_MEMORY):
        code, remedy = "oom", "lower option workspace_mb (it is {}), stop what else runs, or add swap".format(settings.workspace_mb)
    elif NO_KERNEL in told:
        code = "unsupported_op"
        remedy = "raise option workspace_mb (it is {}), or use another recipe".format(settings.workspace_mb)
    return FaultError(code, checks.one_line("{}: {}".format(name, text)), remedy, "load")


def last_error(errors: List[str]) -> Optional[str]:
    """Return the error that says most: of the last two the first, since TensorRT ends with one that says only that it failed."""
    return errors[-2:][0] if errors else None
