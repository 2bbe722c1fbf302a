"""Small models for the compression tests, the same weights as ONNX (NCHW) and as TFLite (NHWC), and a way to run artifacts here."""

import sys
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper

from compress.build import Context, Data, Source

CHANNELS, SIDE, HIDDEN, CLASSES = 8, 12, 64, 10
FEATURES = CHANNELS * SIDE * SIDE
TO_NHWC = (0, 2, 3, 1)
MEAN, STD = 0.2860, 0.3530
EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"


def example(eval_count=200, calib_count=50):
    """The shipped example and its first samples."""
    with np.load(EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        feeds = {split: ((arrays[f"{split}_image"] / 255 - MEAN) / STD).astype(np.float32) for split in ("eval", "calib")}
        labels = arrays["eval_labels"][:eval_count]
    data = Data({"image": feeds["eval"][:eval_count]}, {"image": feeds["calib"][:calib_count]}, labels, {"image": TO_NHWC})
    return Source("fashion", EXAMPLE / "model.onnx", EXAMPLE / "model.tflite"), data


def random_data(eval_count=20, calib_count=40):
    return Data({"image": images(eval_count, 1)}, {"image": images(calib_count, 2)}, None, {"image": TO_NHWC})


def context(folder):
    return Context(folder / "cache", run_model)


def run_model(path, kind, feeds):
    """The outputs of every sample, by the runtime's own calls."""
    return {"onnx": _run_onnx, "tensorrt": _run_onnx, "tflite": _run_tflite, "openvino": _run_openvino}[kind](path, feeds)


def _run_onnx(path, feeds):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batch = session.get_inputs()[0].shape[0]
    results = [session.run(None, part) for part in _parts(feeds, batch if isinstance(batch, int) else 1)]
    return _joined([output.name for output in session.get_outputs()], results)


def _run_tflite(path, feeds):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    results = []
    for part in _parts(feeds, 1):
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], part[detail["name"]])
        interpreter.invoke()
        results.append([interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()])
    return _joined([detail["name"] for detail in interpreter.get_output_details()], results)


def _run_openvino(path, feeds):
    sys.modules["openvino_telemetry"] = None
    import openvino

    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = [[value.copy() for value in model(part).values()] for part in _parts(feeds, 1)]
    return _joined([output.any_name for output in model.outputs], results)


def _parts(feeds, batch):
    count = len(next(iter(feeds.values())))
    return [{name: array[at : at + batch] for name, array in feeds.items()} for at in range(0, count, batch)]


def _joined(names, results):
    return {name: np.concatenate([result[at] for result in results]) for at, name in enumerate(names)}


def weights(hidden=HIDDEN, seed=0):
    """He-initialised weights of Conv 3x3 -> ReLU -> dense -> ReLU -> dense, in ONNX's order of axes."""
    rng = np.random.default_rng(seed)
    shapes = {
        "conv_w": (CHANNELS, 1, 3, 3),
        "conv_b": (CHANNELS,),
        "fc1_w": (hidden, FEATURES),
        "fc1_b": (hidden,),
        "fc2_w": (CLASSES, hidden),
        "fc2_b": (CLASSES,),
    }
    return {
        name: (rng.standard_normal(shape) * np.sqrt(2 / (np.prod(shape[1:]) if len(shape) > 1 else 100))).astype(np.float32)
        for name, shape in shapes.items()
    }


def images(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 1, SIDE, SIDE)).astype(np.float32)


def write_onnx(path: Path, opset=13, batch=1) -> Path:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    nodes = [
        helper.make_node("Conv", ["image", "conv_w", "conv_b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc1_w", "fc1_b"], ["fc1"], transB=1),
        helper.make_node("Relu", ["fc1"], ["relu1"]),
        helper.make_node("Gemm", ["relu1", "fc2_w", "fc2_b"], ["logits"], transB=1),
    ]
    return save_graph(path, nodes, [batch, 1, SIDE, SIDE], [batch, CLASSES], initializers, opset)


def save_graph(path, nodes, input_shape, output_shape, initializers, opset=13):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output_shape)],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


class Flatbuffer:
    """Builds a TFLite model tensor by tensor and operator by operator."""

    def __init__(self):
        self.model = schema.ModelT(version=3, buffers=[schema.BufferT()], operatorCodes=[])
        self.graph = schema.SubGraphT(tensors=[], operators=[], name=b"main")
        self.model.subgraphs = [self.graph]

    def tensor(self, name, shape, value=None):
        buffer = 0
        if value is not None:
            self.model.buffers.append(schema.BufferT(data=np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)))
            buffer = len(self.model.buffers) - 1
        kind = schema.TensorType.INT32 if value is not None and value.dtype == np.int32 else schema.TensorType.FLOAT32
        self.graph.tensors.append(schema.TensorT(name=name.encode(), shape=list(shape), type=kind, buffer=buffer))
        return len(self.graph.tensors) - 1

    def operator(self, name, inputs, outputs, options=None, options_type=0):
        code = getattr(schema.BuiltinOperator, name)
        self.model.operatorCodes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1))
        self.graph.operators.append(
            schema.OperatorT(
                opcodeIndex=len(self.model.operatorCodes) - 1,
                inputs=inputs,
                outputs=outputs,
                builtinOptions=options,
                builtinOptionsType=options_type,
            )
        )

    def save(self, path, inputs, outputs):
        self.graph.inputs, self.graph.outputs = inputs, outputs
        path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))
        return path


def write_tflite(path: Path, hidden=HIDDEN) -> Path:
    """The model of `write_onnx`, dense weights permuted because NHWC flattens in another order; no SignatureDef, as old files."""
    w = weights(hidden)
    dense = w["fc1_w"].reshape(hidden, CHANNELS, SIDE, SIDE).transpose(TO_NHWC).reshape(hidden, FEATURES)
    build = Flatbuffer()
    image = build.tensor("image", [1, SIDE, SIDE, 1])
    conv = build.tensor("conv", [1, SIDE, SIDE, CHANNELS])
    convolution = schema.Conv2DOptionsT(padding=0, strideW=1, strideH=1, fusedActivationFunction=1, dilationHFactor=1, dilationWFactor=1)
    kernel = build.tensor("conv_w", [CHANNELS, 3, 3, 1], w["conv_w"].transpose(TO_NHWC))
    build.operator("CONV_2D", [image, kernel, build.tensor("conv_b", [CHANNELS], w["conv_b"])], [conv], convolution, 1)
    flat = build.tensor("flat", [1, FEATURES])
    shape = build.tensor("shape", [2], np.array([1, FEATURES], np.int32))
    build.operator("RESHAPE", [conv, shape], [flat], schema.ReshapeOptionsT(newShape=[1, FEATURES]), schema.BuiltinOptions.ReshapeOptions)
    middle = build.tensor("middle", [1, hidden])
    logits = build.tensor("logits", [1, CLASSES])
    for source, target, matrix, bias, activation in ((flat, middle, dense, "fc1_b", 1), (middle, logits, w["fc2_w"], "fc2_b", 0)):
        options = schema.FullyConnectedOptionsT(fusedActivationFunction=activation)
        inputs = [source, build.tensor(bias[:3] + "_w", matrix.shape, matrix), build.tensor(bias, [len(w[bias])], w[bias])]
        build.operator("FULLY_CONNECTED", inputs, [target], options, schema.BuiltinOptions.FullyConnectedOptions)
    return build.save(path, [image], [logits])


def write_batch_matmul(path: Path) -> Path:
    """Two Linear layers without bias, as converters write them."""
    rng = np.random.default_rng(0)
    build = Flatbuffer()
    tensors = [build.tensor(name, [1, 1, size]) for name, size in (("image", 64), ("middle", 64), ("logits", 10))]
    for source, target, size in ((*tensors[:2], 64), (*tensors[1:], 10)):
        matrix = (rng.standard_normal((1, 64, size)) / 8).astype(np.float32)
        operands = [source, build.tensor(f"matrix_{size}", matrix.shape, matrix)]
        build.operator("BATCH_MATMUL", operands, [target], schema.BatchMatMulOptionsT(), schema.BuiltinOptions.BatchMatMulOptions)
    return build.save(path, tensors[:1], tensors[2:])
