"""NVIDIA's trtexec: the trace of `--exportTimes`, one object a query with its times in milliseconds.

`latencyMs` is the copy in, the computation and the copy out; `computeMs` the computation by the GPU's events. Source: samples/common/
sampleReporting.cpp of TensorRT 8 and 10. Traces of TensorRT 8.2 begin with the warm-up, by default 200 ms, and later ones leave it out.
"""

import json
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from controller.foreign import MAX_SAMPLES, Reading, Source, one

MEND = "run trtexec with --exportTimes=times.json to its end and import that file"
WARM_UP_MS = 200.0
MAX_QUERIES = 2_000_000
_KEYS = ("startH2dMs", "startComputeMs", "endD2hMs", "computeMs", "latencyMs")


def read(source: Source) -> Reading:
    """Give the raw latencies and times of computation behind the warm-up; raises FleetmarkError."""
    table = _table(source)
    start_in, start_compute, end_out, compute, latency = table.T
    kept = start_compute >= WARM_UP_MS
    if not kept.any():
        raise source.refusal(
            0, f"no query begins after the warm-up of {WARM_UP_MS:g} ms", "measure for longer, with the warm-up that trtexec has"
        )
    window_s = float(end_out[kept].max() - start_in[kept].min()) / 1e3
    stride = -(-int(kept.sum()) // MAX_SAMPLES)
    values = {"latency_s": latency[kept][::stride] / 1e3, "runtime_s": compute[kept][::stride] / 1e3, "queries": one(float(kept.sum()))}
    values |= {"window_s": one(window_s)} if window_s > 0 else {}
    left_out = len(table) - int(kept.sum())
    notes = (f"{left_out} queries of the first {WARM_UP_MS:g} ms are left out as warm-up",) if left_out else ()
    notes += (f"samples thinned: every {stride}th kept",) if stride > 1 else ()
    return Reading(values, notes=notes, stride=stride)


def _table(source: Source) -> NDArray[np.float64]:
    """(queries, _KEYS) in milliseconds."""
    try:
        document: Any = json.loads(source.text, parse_constant=lambda name: name)
    except (ValueError, RecursionError) as error:
        raise source.refusal(getattr(error, "lineno", 0), f"not JSON: {str(error)[:80]}", MEND) from None
    if not isinstance(document, list) or not document or len(cast(list[Any], document)) > MAX_QUERIES:
        raise source.refusal(0, f"not a list of 1 to {MAX_QUERIES:,} queries", MEND)
    return np.array([_times(source, at, entry) for at, entry in enumerate(cast(list[Any], document), 1)])


def _times(source: Source, at: int, entry: Any) -> list[float]:
    told: list[Any] = [cast(dict[str, Any], entry).get(key) if isinstance(entry, dict) else None for key in _KEYS]
    for key, value in zip(_KEYS, told, strict=True):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
            raise source.refusal(at + 1, f"query {at}: {key} is {str(value)[:40]!r}, no time", MEND)
    return [float(value) for value in told]
