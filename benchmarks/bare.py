"""A runtime called in a bare loop, without any of fleetmark; prints the p50 of a query in ns.

`python -I bare.py RUNTIME MODEL INPUT.npy QUERIES SAMPLES RATE SEED`: a query is so many calls; with a rate above 0 so many queries arrive
a second, at random by the seed, and their latency runs from the arrival.
Its settings are those that a cell without options has: one thread for TFLite, the latency hint for OpenVINO, onnxruntime as it comes.
"""
# The runtimes ship no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARMUP = 200
SPIN_S = 1e-3


def onnxruntime_call(model: str, value: Any) -> Callable[[], object]:
    """Give a call that runs an ONNX model on bound input and output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, value)
    output = session.get_outputs()[0]
    binding.bind_ortvalue_output(
        output.name, onnxruntime.OrtValue.ortvalue_from_shape_and_type([len(value), *output.shape[1:]], np.float32)
    )
    return lambda: session.run_with_iobinding(binding)


def tflite_call(model: str, value: Any) -> Callable[[], object]:
    """Give a call that runs a TFLite model on the input that was set."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    return interpreter.invoke


def openvino_call(model: str, value: Any) -> Callable[[], object]:
    """Give a call that runs an OpenVINO model on the input that was set."""
    import openvino

    request = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    request.set_input_tensor(openvino.Tensor(value))
    return request.infer


def p50_ns(call: Callable[[], object], queries: int) -> int:
    """Give the median of `queries` calls after a warm-up, in nanoseconds."""
    for _ in range(WARMUP):
        call()
    taken: list[int] = []
    for _ in range(queries):
        begin = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - begin)
    return sorted(taken)[(queries - 1) // 2]


def open_loop_p50_ns(call: Callable[[], object], queries: int, rate: float, seed: int) -> int:
    """Give the median latency of queries that arrive at a mean rate a second, whether the last one is done or not, in nanoseconds."""
    draw = random.Random(seed)  # noqa: S311 - arrivals, not a secret
    for _ in range(WARMUP):
        call()
    taken: list[int] = []
    arrival = time.perf_counter_ns()
    for _ in range(queries):
        arrival += int(draw.expovariate(rate) * 1e9)
        spare_s = (arrival - time.perf_counter_ns()) / 1e9 - SPIN_S
        if spare_s > SPIN_S:
            time.sleep(spare_s)
        while time.perf_counter_ns() < arrival:
            pass
        call()
        taken.append(time.perf_counter_ns() - arrival)
    return sorted(taken)[(queries - 1) // 2]


def repeated(call: Callable[[], object], times: int) -> Callable[[], object]:
    """Give a call that makes so many."""

    def query() -> None:
        for _ in range(times):
            call()

    return query if times > 1 else call


if __name__ == "__main__":
    _, runtime, path, sample, count, samples, rate, seed = sys.argv
    make = {"onnxruntime": onnxruntime_call, "tflite": tflite_call, "openvino": openvino_call}[runtime]
    query = repeated(make(path, np.load(sample)), int(samples))
    print(open_loop_p50_ns(query, int(count), float(rate), int(seed)) if float(rate) > 0 else p50_ns(query, int(count)))
