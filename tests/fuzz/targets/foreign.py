"""Files of other benchmark programs: the program's number, then its file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from test_import import COMPILED, LOG, MORE, OPERATORS, REPORT, SYNC, trace

from controller import foreign
from controller.errors import FleetmarkError
from fuzz import folder
from fuzz.mutation import json_lines

DECLARED = (FleetmarkError,)
WORDS = (
    *(
        "Execution results",
        "throughput;",
        "total number of iterations;",
        "latency (90 percentile) (ms);",
        "number of parallel infer requests;",
    ),
    *(
        "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): 4",
        "count=1 ",
        "median=",
        "std=1 min=1 max=2",
    ),
    *(
        "Throughput: 1 FPS",
        "Count: 1 iterations",
        "Median: 1 ms",
        "latencyMs",
        "startH2dMs",
        "computeMs",
        "Operator Count Status",
        "1e308",
        "²",
    ),
)
TOOLS = tuple(foreign.TOOLS)
FILE = Path(folder(), "told")
PRINTED = """[Step 8/11] Compile model took 220.74 ms
Read model took 45.29 ms
[Step 10/11] Measuring performance (Start inference asynchronously, 4 inference requests, limits: 1000 ms duration)
First inference took 7.49 ms
Count:            1155 iterations
Duration:         1002.36 ms
Median:           8.62 ms
Throughput:   1152.28 FPS
"""
mutate = json_lines


def seeds() -> Iterator[bytes]:
    """What each program writes or prints."""
    as_json = '{"execution_results": {"throughput": 3.0, "total number of iterations": 2}, "configuration_setup": {"API": "sync"}}'
    for tool, text in (
        ("benchmark_app", REPORT.format(**SYNC)),
        ("benchmark_app", PRINTED),
        ("benchmark_app", as_json),
        ("benchmark_model", LOG.format(more=MORE)),
        ("trtexec", trace([1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0])),
        ("edgetpu_compiler", COMPILED),
        ("edgetpu_compiler", OPERATORS),
    ):
        yield f"{TOOLS.index(tool)}{text}".encode()


def one(data: bytes) -> None:
    """Finite values, none below zero, and texts of a bounded length."""
    FILE.write_bytes(data[1:])
    _, reading = foreign.read(FILE, TOOLS[data[0] % len(TOOLS)] if data else TOOLS[0])
    assert all(values.ndim == 1 and values.size and np.isfinite(values).all() for values in reading.values.values())
    assert all((values >= 0).all() for values in reading.values.values())
    assert all(len(str(value)) <= 1000 for value in reading.details.values())
