"""OpenVINO's benchmark_app: its report as CSV or JSON (`-report_type no_counters`), or what it prints.

Its reports round latencies to 0.01 ms; what it prints is finer for small models. Source: openvino/tools/benchmark of OpenVINO 2026.4.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from agent.schema import Workload
from controller.errors import FleetmarkError
from controller.foreign import SINGLE_STREAM, Reading, Source, one

Told = dict[str, tuple[str, int]]  # what stands behind a key, and in which line

MEND = "run benchmark_app with -report_type no_counters to its end and import benchmark_report.csv or .json, or what it printed"
_PERCENTILES = {"50": "latency_p50_s", "90": "latency_p90_s", "95": "latency_p95_s", "99": "latency_p99_s"}
_ROUNDED_S = 0.5e-5  # by how much 0.01 ms may be off
_PRECISE = 0.01
_PRINTED = {
    "read model time (ms)": r"Read model took ([\d.]+) ms",
    "compile model time (ms)": r"Compile model took ([\d.]+) ms",
    "first inference time (ms)": r"First inference took ([\d.]+) ms",
    "total number of iterations": r"Count: +(\d+) iterations",
    "total execution time (ms)": r"Duration: +([\d.]+) ms",
    "latency": r"(?:Median|\d+ percentile): +([\d.]+ [um]s)",
    "percentile": r"(\d+) percentile: +[\d.]+ [um]s",
    "throughput": r"Throughput: +([\d.]+) FPS",
    "batch size": r"Model batch size: (\d+)",
    "API": r"Start inference (a?sync)hronously",
    "number of parallel infer requests": r"asynchronously, (\d+) inference requests",
}


def read(source: Source) -> Reading:
    """Give what a report or a log tells; raises FleetmarkError."""
    start = source.text.lstrip("\ufeff \n")
    told = _json(source) if start.startswith("{") else _csv(source) if "Execution results" in start else _printed(source)
    if "throughput" not in told or "total number of iterations" not in told:
        raise source.refusal(0, "not a finished report of benchmark_app: no throughput or number of iterations", MEND)
    numbers = _Numbers(source, told)
    values = {
        "queries": one(numbers.get("total number of iterations")),
        "throughput_per_s": one(numbers.get("throughput")),
        **_cold_start(numbers),
    }
    latency, notes = _latency(numbers)
    kept = ("target device", "precision", "API", "number of parallel infer requests", "number of CPU streams", "batch size", "topology")
    details = {key: told[key][0][:200] for key in kept if key in told}
    return Reading({**values, **latency}, _workload(numbers), details=details, notes=notes)


class _Numbers:
    """The numbers behind keys, checked when they are asked for."""

    def __init__(self, source: Source, told: Told) -> None:
        self.source, self.told = source, told

    def get(self, key: str) -> float:
        """The number; raises FleetmarkError with its line."""
        text, line = self.told[key]
        return self.source.number(text, line, key)


def _cold_start(numbers: _Numbers) -> Mapping[str, NDArray[np.float64]]:
    found: dict[str, NDArray[np.float64]] = {}
    if {"read model time (ms)", "compile model time (ms)"} <= numbers.told.keys():
        found["cold_start_load_s"] = one((numbers.get("read model time (ms)") + numbers.get("compile model time (ms)")) / 1e3)
    if "first inference time (ms)" in numbers.told:
        found["cold_start_first_inference_s"] = one(numbers.get("first inference time (ms)") / 1e3)
    return found


def _latency(numbers: _Numbers) -> tuple[Mapping[str, NDArray[np.float64]], tuple[str, ...]]:
    """The percentile that was asked for, and what is to be said if it is left out."""
    told = numbers.told
    if "latency" in told:
        text, line = told["latency"]
        figure, unit = text.split()
        percentile = told.get("percentile", ("50", 0))[0]
        value, slack = numbers.source.number(figure, line, "latency") / (1e6 if unit == "us" else 1e3), 0.0
    else:
        keys = [key for key in told if re.fullmatch(r"latency (\(\d+ percentile\) )?\(ms\)", key)]
        if not keys:
            return {}, ()
        percentile = (re.findall(r"\d+", keys[0]) or ["50"])[0]
        value, slack = numbers.get(keys[0]) / 1e3, _ROUNDED_S
    if percentile not in _PERCENTILES:
        return {}, (f"its {percentile} percentile is none of the table's",)
    if slack > _PRECISE * value:
        return {}, (f"its latency of {1e3 * value:.2f} ms is rounded to 0.01 ms, too coarse to show: what benchmark_app prints is finer",)
    return {_PERCENTILES[percentile]: one(value)}, ()


def _workload(numbers: _Numbers) -> Workload:
    """single_stream for one request of one sample at a time; else offline, of which the throughput is shown."""
    batch = int(numbers.get("batch size")) if "batch size" in numbers.told else 1
    alone = numbers.told.get("API", ("", 0))[0] == "sync" or numbers.told.get("number of parallel infer requests", ("1", 0))[0] == "1"
    return SINGLE_STREAM if alone and batch == 1 else Workload("offline", {"batch": batch})


def _csv(source: Source) -> Told:
    told: Told = {}
    for at, line in enumerate(source.text.splitlines(), 1):
        key, found, value = line.partition(";")
        if found:
            told.setdefault(key, (value.strip(), at))
    return told


def _json(source: Source) -> Told:
    try:
        document: Any = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        raise source.refusal(getattr(error, "lineno", 0), f"not JSON: {str(error)[:80]}", MEND) from None
    told: Told = {}
    for part in ("execution_results", "configuration_setup"):
        section = document.get(part)
        if not isinstance(section, dict):
            raise _without(source, part)
        for key, value in cast(dict[str, Any], section).items():
            told.setdefault(key, (str(value), 1))
    return told


def _without(source: Source, part: str) -> FleetmarkError:
    return source.refusal(0, f"it has no {part}", MEND)


def _printed(source: Source) -> Told:
    told: Told = {}
    for at, line in enumerate(source.text.splitlines(), 1):
        for key, pattern in _PRINTED.items():
            found = re.search(pattern, line[:400])
            if found:
                told.setdefault(key, (found[1], at))
    return told
