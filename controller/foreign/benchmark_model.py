"""TensorFlow Lite's benchmark_model: what it prints, also with a prefix as Android's log has it.

Source: tensorflow/lite/tools/benchmark. Times are in microseconds; a "MB" of its memory is 1024 x 1024 bytes.
"""

import re

import numpy as np
from numpy.typing import NDArray

from controller.foreign import Reading, Source, one

MEND = "run benchmark_model to its end and import all that it printed"
_FIGURE = r"([\d.e+-]{1,30})"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_FIGURE}, First inference: {_FIGURE}, Warmup \(avg\): {_FIGURE}, Inference \(avg\): {_FIGURE}"
)
_COUNT = re.compile(r"\bcount=(\d{1,12}) (.*)")
_MEMORY = re.compile(
    rf"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): init={_FIGURE} overall={_FIGURE}"
)
_SPREAD = ("std", "min", "max")


def read(source: Source) -> Reading:
    """Give mean, and median and p95 where it prints them, memory and cold start; raises FleetmarkError."""
    lines = [line[:400] for line in source.text.splitlines()]
    timings = [(at, found) for at, line in enumerate(lines, 1) if (found := _TIMINGS.search(line))]
    if len(timings) != 1:
        what = "no line `Inference timings in us`" if not timings else f"several results, the second in line {timings[1][0]}"
        raise source.refusal(
            timings[1][0] if timings else 0, what, MEND if not timings else "import each model's output as a file of its own"
        )
    at, found = timings[0]
    init, first, _, mean = (source.number(text, at, "a timing") / 1e6 for text in found.groups())
    values = {"cold_start_load_s": one(init), "cold_start_first_inference_s": one(first), "latency_mean_s": one(mean), "queries": one(1)}
    told, about = _measured(source, lines[: at - 1])
    values |= told
    for number, line in enumerate(lines, 1):
        memory = _MEMORY.search(line)
        if memory:
            values["peak_memory_bytes"] = one(source.number(memory[2], number, "memory") * (1 << 20))
    return Reading(values, about=about)


def _measured(source: Source, lines: list[str]) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """The line with count= above the result, which is that of the measured runs: the warm-up's comes before it."""
    counts = [(at, found) for at, line in enumerate(lines, 1) if (found := _COUNT.search(line))]
    if not counts:
        raise source.refusal(0, "no line `count=` before the result", MEND)
    at, found = counts[-1]
    figures = {key: source.number(text, at, key) for key, text in re.findall(rf"\b(\w{{1,10}})={_FIGURE}", found[2])}
    values = {"queries": one(source.number(found[1], at, "count"))}
    for key, metric in {"median": "latency_p50_s", "p95": "latency_p95_s"}.items():
        if key in figures:
            values[metric] = one(figures[key] / 1e6)
    if not all(key in figures for key in _SPREAD):
        return values, {"latency_mean_s": "its spread is not told"}
    deviation, low, high = (figures[key] for key in _SPREAD)
    return values, {"latency_mean_s": f"standard deviation {deviation:g} µs, from {low:g} to {high:g} µs, of {found[1]} inferences"}
