"""A fake of NVIDIA's TensorRT bindings for tests: engines hold the ONNX model, onnxruntime executes it on addresses in host memory.

FAKE_TENSORRT_VERSION chooses the release that it simulates. What that release does not have raises AttributeError, here as there: SINCE
and UNTIL are read off NVIDIA's binding sources (python/src/infer/pyCore.cpp of 8.2 and 8.5) and migration guides, and compared with the
real bindings of 8.6.1, 10.3.0 and 11.4.0 (members.json) and with the published type stubs of 10.13 by test_tensorrt_fake.py.
FAKE_TENSORRT_ERROR is a message with which the builder fails. FAKE_CUDART is the fake libcudart that traces the executions.
"""

import ctypes
import json
import os
import warnings

import numpy
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "10.3.0.26")
RELEASE = tuple(int(part) for part in __version__.split(".")[:2])
MAGIC = b"fake-tensorrt "
SLOW_INT8 = ("53", "62")  # Jetson Nano, TX2


class Enumerator:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def __int__(self):
        return self.value

    def __eq__(self, other):
        return isinstance(other, Enumerator) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self):
        return hash((self.name, self.value))


def enumeration(name, *members):
    return type(name, (), {member: Enumerator(member, at) for at, member in enumerate(members)})


DataType = enumeration("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64")
BuilderFlag = enumeration("BuilderFlag", "FP16", "INT8", "TF32")
LayerType = enumeration("LayerType", "CONVOLUTION", "CONSTANT", "QUANTIZE", "DEQUANTIZE")
MemoryPoolType = enumeration("MemoryPoolType", "WORKSPACE")
NetworkDefinitionCreationFlag = enumeration("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH", "STRONGLY_TYPED")
TensorIOMode = enumeration("TensorIOMode", "NONE", "INPUT", "OUTPUT")
LayerInformationFormat = enumeration("LayerInformationFormat", "ONELINE", "JSON")
ErrorCode = enumeration("ErrorCode", "SUCCESS", "MODEL_DESERIALIZE_FAILED", "INVALID_NODE", "UNSUPPORTED_NODE")

FED, READ = TensorIOMode.INPUT, TensorIOMode.OUTPUT
TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.INT8: DataType.INT8,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64,
    TensorProto.BOOL: DataType.BOOL,
}
LAYERS = {"QuantizeLinear": LayerType.QUANTIZE, "DequantizeLinear": LayerType.DEQUANTIZE, "Constant": LayerType.CONSTANT}


PLUGINS = {"InstanceNormalization"}
REGISTERED = []


def init_libnvinfer_plugins(logger, namespace):
    assert logger.was_initialised
    REGISTERED.append(namespace)
    return True


class ILogger:
    Severity = enumeration("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING
    INFO, VERBOSE = Severity.INFO, Severity.VERBOSE

    def __init__(self):
        self.was_initialised = True  # pybind11 refuses a subclass that does not call this

    def log(self, severity, msg):
        raise NotImplementedError


class IProfiler:
    def __init__(self):
        self.was_initialised = True

    def report_layer_time(self, layer_name, ms):
        raise NotImplementedError


class IHostMemory:
    __slots__ = ("content",)

    def __init__(self, content):
        self.content = content

    def __bytes__(self):  # the real one has the buffer protocol, which Python code cannot have before 3.12
        return self.content

    @property
    def nbytes(self):
        return len(self.content)


class ITensor:
    __slots__ = ("dtype", "name", "shape")

    def __init__(self, name, shape, dtype):
        self.name, self.shape, self.dtype = name, tuple(shape), dtype


class ILayer:
    __slots__ = ("name", "output", "type")
    num_outputs = 1

    def __init__(self, name, kind, dtype):
        self.name, self.type, self.output = name, kind, ITensor(name, (), dtype)

    def get_output(self, index):
        assert index == 0
        return self.output

    def get_output_type(self, index):
        assert index == 0
        return self.output.dtype


class INetworkDefinition:
    __slots__ = ("content", "inputs", "layers")

    def __init__(self):
        self.content, self.inputs, self.layers = b"", [], []

    @property
    def num_inputs(self):
        return len(self.inputs)

    @property
    def num_layers(self):
        return len(self.layers)

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self.layers[index]


class ParserError:
    __slots__ = ("_code", "_desc", "_node", "_operator")

    def __init__(self, code, desc, node=-1, operator=""):
        self._code, self._desc, self._node, self._operator = code, desc, node, operator

    def code(self):
        return self._code

    def desc(self):
        return self._desc

    def node(self):
        return self._node

    def node_name(self):
        return ""

    def node_operator(self):
        return self._operator


class OnnxParser:
    __slots__ = ("errors", "network")

    def __init__(self, network, logger):
        assert logger.was_initialised
        self.network, self.errors = network, []

    @property
    def num_errors(self):
        return len(self.errors)

    def get_error(self, index):
        return self.errors[index]

    def parse(self, model, path=None):
        assert path is None  # external weights travel inside
        try:
            proto = onnx.load_model_from_string(bytes(model))
        except DecodeError:
            proto = onnx.ModelProto()
        if not proto.graph.node:
            self.errors.append(ParserError(ErrorCode.MODEL_DESERIALIZE_FAILED, "Failed to parse the model"))
            return False
        self._check(proto)
        if self.errors:
            return False
        self.network.content = bytes(model)
        constants = {tensor.name for tensor in proto.graph.initializer}
        fed = [value for value in proto.graph.input if value.name not in constants]
        self.network.inputs = [ITensor(value.name, shape_of(value), type_of(value)) for value in fed]
        self.network.layers = [layer_of(node, proto) for node in proto.graph.node]
        return True

    def _check(self, proto):
        constants = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
        known = {schema.name for schema in onnx.defs.get_all_schemas()}
        for at, node in enumerate(proto.graph.node):
            if node.op_type not in known:
                code = ErrorCode.UNSUPPORTED_NODE if RELEASE < (10, 0) else ErrorCode.INVALID_NODE
                self.errors.append(ParserError(code, 'creator && "Plugin not found, are the plugin name correct?"', at, node.op_type))
            if node.op_type in PLUGINS and not REGISTERED and RELEASE < (10, 0):
                self.errors.append(ParserError(ErrorCode.UNSUPPORTED_NODE, "Plugin not found", at))
            whole = constants.get(node.input[0]) if node.input else None
            if node.op_type == "DequantizeLinear" and (whole == TensorProto.INT32 or (whole == TensorProto.INT8 and RELEASE < (10, 0))):
                self.errors.append(ParserError(ErrorCode.INVALID_NODE, "only activation types allowed as input to this layer.", at))


def shape_of(value):
    return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]


def type_of(value):
    kind = TYPES[value.type.tensor_type.elem_type]
    return DataType.INT32 if kind.name == "INT64" and RELEASE < (10, 0) else kind


def layer_of(node, proto):
    halves = {tensor.name for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    to_half = any(attribute.name == "to" and attribute.i == TensorProto.FLOAT16 for attribute in node.attribute)
    dtype = DataType.HALF if to_half or halves & set(node.input) else DataType.FLOAT
    return ILayer(node.name or node.output[0], LAYERS.get(node.op_type, LayerType.CONVOLUTION), dtype)


class ITimingCache:
    __slots__ = ("content",)

    def __init__(self, content):
        self.content = content

    def serialize(self):
        return IHostMemory(self.content)


class IBuilderConfig:
    __slots__ = ("flags_", "timing", "workspace")

    def __init__(self):
        self.flags_, self.timing, self.workspace = {"TF32"}, None, None

    def set_flag(self, flag):
        self.flags_.add(flag.name)

    def clear_flag(self, flag):
        self.flags_.discard(flag.name)

    def get_flag(self, flag):
        return flag.name in self.flags_

    @property
    def max_workspace_size(self):
        return self.workspace

    @max_workspace_size.setter
    def max_workspace_size(self, size):
        if RELEASE >= (8, 4):
            warnings.warn("Use set_memory_pool_limit instead.", DeprecationWarning, stacklevel=2)
        self.workspace = size

    def set_memory_pool_limit(self, pool, pool_size):
        assert pool == MemoryPoolType.WORKSPACE
        self.workspace = pool_size

    def create_timing_cache(self, serialized_timing_cache):
        content = bytes(serialized_timing_cache)
        return None if content == b"garbage" else ITimingCache(content or timing_header())

    def set_timing_cache(self, cache, ignore_mismatch):
        if os.environ.get("FAKE_TENSORRT_NO_TIMING"):
            return False
        if not cache.content.startswith(timing_header()) and not ignore_mismatch:
            return False
        self.timing = cache
        return True

    def get_timing_cache(self):
        return self.timing


def timing_header():
    return ("timing of " + __version__ + ";").encode()


class Builder:
    __slots__ = ("logger",)

    def __init__(self, logger):
        assert logger.was_initialised
        self.logger = logger
        if os.environ.get("FAKE_TENSORRT_NO_BUILDER"):
            logger.log(ILogger.ERROR, "CUDA initialization failure with error: 35.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    platform_has_tf32 = property(lambda _: int(sm()) >= 80)
    platform_has_fast_fp16 = property(lambda _: True)
    platform_has_fast_int8 = property(lambda _: sm() not in SLOW_INT8)

    def create_network(self, flags=0):
        explicit = RELEASE >= (10, 0) or flags == 1 << int(NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
        assert explicit, "a network of implicit batch: the ONNX parser refuses it"
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        kinds = {layer.type for layer in network.layers}
        types = {layer.output.dtype for layer in network.layers}
        missing = [flag for flag, on in (("INT8", LayerType.QUANTIZE in kinds), ("FP16", DataType.HALF in types)) if on]
        problem = os.environ.get("FAKE_TENSORRT_ERROR", "")
        if RELEASE < (11, 0) and not problem and not config.flags_.issuperset(missing):
            problem = "precision has been set for a layer, but it is not configured in the builder"
        if problem:
            self.logger.log(ILogger.ERROR, "10: " + problem)
            self.logger.log(
                ILogger.ERROR, "2: [builder.cpp::buildSerializedNetwork] Error Code 2: Internal Error (Assertion engine failed.)"
            )
            return None
        if config.timing is not None:
            config.timing.content += b"x"
        header = json.dumps({"version": __version__, "sm": sm(), "workspace": config.workspace, "flags": sorted(config.flags_)})
        return IHostMemory(MAGIC + header.encode() + b"\n" + network.content)


def sm():
    return os.environ.get("FAKE_CUDA_SM", "53")


class Runtime:
    __slots__ = ("logger",)

    def __init__(self, logger):
        assert logger.was_initialised
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine):
        header, _, content = bytes(serialized_engine).partition(b"\n")
        try:
            told = json.loads(header[len(MAGIC) :]) if header.startswith(MAGIC) else {}
        except ValueError:
            told = {}
        if (told.get("version"), told.get("sm")) != (__version__, sm()) or os.environ.get("FAKE_TENSORRT_REFUSES"):
            self.logger.log(ILogger.ERROR, "1: [stdArchiveReader.cpp] Error Code 1: Serialization (Version tag does not match.)")
            return None
        return ICudaEngine(content)


class ICudaEngine:
    __slots__ = ("modes", "session", "tensors")
    device_memory_size = 4096
    device_memory_size_v2 = 4096

    def __init__(self, content):
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        graph = onnx.load_model_from_string(content).graph
        outputs = self.session.get_outputs()
        values = {value.name: value for value in (*graph.input, *graph.output)}
        self.tensors = [values[value.name] for value in (*self.session.get_inputs(), *outputs)]
        self.modes = [FED] * len(self.session.get_inputs()) + [READ] * len(outputs)

    num_layers = property(lambda _: 2)
    num_io_tensors = num_bindings = property(lambda self: len(self.tensors))

    def _named(self, name):
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def get_tensor_name(self, index):
        return self.tensors[index].name

    def get_tensor_mode(self, name):
        return self.modes[self.tensors.index(self._named(name))]

    def get_tensor_shape(self, name):
        return tuple(shape_of(self._named(name)))

    def get_tensor_dtype(self, name):
        return type_of(self._named(name))

    def get_binding_name(self, index):
        return self.tensors[index].name

    def binding_is_input(self, index):
        return self.modes[index] == FED

    def get_binding_shape(self, index):
        return tuple(shape_of(self.tensors[index]))

    def get_binding_dtype(self, index):
        return type_of(self.tensors[index])

    def create_execution_context(self):
        return None if os.environ.get("FAKE_TENSORRT_NO_CONTEXT") else IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector()


class EngineInspector:
    __slots__ = ()

    def get_engine_information(self, format):  # noqa: A002 - the real one's name
        assert format == LayerInformationFormat.JSON
        return json.dumps({"Layers": ["conv + relu", {"Name": "x" * 1000}], "Bindings": []})


class IExecutionContext:
    __slots__ = ("addresses", "engine", "profiler")

    def __init__(self, engine):
        self.engine, self.addresses, self.profiler = engine, {}, None

    def set_tensor_address(self, name, memory):
        assert isinstance(memory, int)
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        return self._execute(stream_handle)

    def execute_async_v2(self, bindings, stream_handle):
        self.addresses = dict(zip([tensor.name for tensor in self.engine.tensors], bindings, strict=True))
        return self._execute(stream_handle)

    def _execute(self, stream):
        assert isinstance(stream, int)
        ctypes.CDLL(os.environ["FAKE_CUDART"]).fake_mark(ctypes.c_char(b"x"))
        if os.environ.get("FAKE_TENSORRT_NO_EXECUTION"):
            return False
        engine = self.engine
        fed = sum(mode == FED for mode in engine.modes)
        feeds = {value.name: self._array(value) for value in engine.tensors[:fed]}
        for value, output in zip(engine.tensors[fed:], engine.session.run(None, feeds), strict=True):
            ctypes.memmove(self.addresses[value.name], numpy.ascontiguousarray(output).ctypes.data, output.nbytes)
        if self.profiler is not None:
            self.profiler.report_layer_time("conv + relu", 0.25)
        return True

    def _array(self, value):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = shape_of(value)
        size = int(numpy.prod(shape)) * dtype.itemsize
        return numpy.frombuffer(ctypes.string_at(self.addresses[value.name], size), dtype).reshape(shape)


SINCE = {
    "DataType.UINT8": (8, 5),
    "DataType.FP8": (8, 6),
    "DataType.BF16": (9, 0),
    "DataType.INT64": (10, 0),
    "IBuilderConfig.set_memory_pool_limit": (8, 4),
    "ICudaEngine.device_memory_size_v2": (10, 1),
    "ICudaEngine.get_tensor_dtype": (8, 5),
    "ICudaEngine.get_tensor_mode": (8, 5),
    "ICudaEngine.get_tensor_name": (8, 5),
    "ICudaEngine.get_tensor_shape": (8, 5),
    "ICudaEngine.num_io_tensors": (8, 5),
    "IExecutionContext.execute_async_v3": (8, 5),
    "IExecutionContext.set_tensor_address": (8, 5),
    "MemoryPoolType.WORKSPACE": (8, 4),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": (9, 0),
    "ParserError.node_name": (10, 0),
    "ParserError.node_operator": (10, 0),
    "TensorIOMode.INPUT": (8, 5),
}
UNTIL = {
    "Builder.platform_has_fast_fp16": (11, 0),
    "Builder.platform_has_fast_int8": (11, 0),
    "Builder.platform_has_tf32": (11, 0),
    "BuilderFlag.FP16": (11, 0),
    "BuilderFlag.INT8": (11, 0),
    "IBuilderConfig.max_workspace_size": (10, 0),
    "ICudaEngine.binding_is_input": (10, 0),
    "ICudaEngine.device_memory_size": (11, 0),
    "ICudaEngine.get_binding_dtype": (10, 0),
    "ICudaEngine.get_binding_name": (10, 0),
    "ICudaEngine.get_binding_shape": (10, 0),
    "ICudaEngine.num_bindings": (10, 0),
    "IExecutionContext.execute_async_v2": (10, 0),
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": (11, 0),
}
ABSENT = [path for path, release in SINCE.items() if release > RELEASE] + [path for path, release in UNTIL.items() if release <= RELEASE]
for path in ABSENT:
    owner, _, member = path.partition(".")
    delattr(globals()[owner], member)
