"""What a launch tells the controller: the lines of a spool, then, behind an empty line, the content of its sample files."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np

from agent.operations import Profiled
from agent.power import PowerTrace
from agent.schema import Conditions, Fault, FaultError, Measurement, SampleFile, dump
from controller import answers
from controller.collect import Collected, collect
from fuzz.mutation import json_lines

DECLARED = (FaultError,)
WORDS = ("latency_ns", "runtime_ns", "operation_ns", "inference_ns", "details", "int64", "float32", "stride", "shape", "values", "\n\n")
CONTENT = np.arange(6, dtype="<i8").tobytes()
mutate = json_lines


def seeds() -> Iterator[bytes]:
    """A launch that measured, and one that timed operations."""
    file = SampleFile("latency_ns", "ns", "int64", [6], 1, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    conditions = Conditions("before", 1.0, 2.0, 0.5, 1, 0.1, {"cpu": 40.0}, {"cpu0": 1e9}, ["performance"], {}, {}, {}, {}, "", None)
    trace = PowerTrace("ina226", "board", "power", ["VDD"], 0.1, [0.0], "", 6, 0, {"chip": "ina226"})
    yield _lines(
        ("hello", {"agent": "0.1.0"}),
        ("conditions", dump(conditions)),
        ("phase", {"name": "load", "details": {"threads": 4}}),
        ("sample", dump(file)),
        ("sample", dump(file._replace(metric="output_0", dtype="float32", shape=[3, 4]))),
        ("measure", dump(Measurement("cold_start_load_s", "s", [0.1]))),
        ("sensor", dump(trace)),
        ("conditions", dump(conditions._replace(when="after"))),
        ("log", {"text": "a log"}),
        ("fault", dump(Fault("oom", "measure", "killed", "use a smaller model"))),
        ("end", {}),
    )
    operations = [dump(Profiled(f"node{at}", "Conv", "cpu", "cpu")) for at in range(3)]
    profile = [dump(file._replace(metric=metric)) for metric in ("inference_ns", "operation_ns")]
    yield b"profiled" + _lines(("operations", {"operations": operations}), *(("sample", one) for one in profile), ("end", {}))
    yield _lines(("phase", {"name": "load"}), ("lost", {"code": "rebooted"}))


def _lines(*events: tuple[str, object]) -> bytes:
    told = [{"v": 1, "seq": at, "t": 1.0, "type": kind, "data": data} for at, (kind, data) in enumerate(events)]
    return b"\n".join(json.dumps(event).encode() for event in [{}, *told]) + b"\n\n" + CONTENT


def one(data: bytes) -> None:
    """A record that can be stored, or a fault."""
    lines, _, content = data.partition(b"\n\n")
    head, *events = lines.split(b"\n")
    told = (answers.event("device", line) for line in events)
    _check(collect(told, lambda _: content, profiled=head.startswith(b"profiled")))


def _check(launch: Collected) -> None:
    """What every reader of a launch relies on."""
    assert launch.complete
    assert launch.fault or launch.operations is not None or launch.samples["latency_ns"].array.dtype == np.int64
    assert all(sample.stride > 0 and len(sample.unit) <= 64 for sample in launch.samples.values())
    assert all(np.isfinite(sample.array).all() for sample in launch.samples.values() if sample.array.dtype == np.float64)
    json.dumps(launch.details)
