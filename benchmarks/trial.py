"""One trial of the workload `server` by our own loop, its rate given; prints the p50 of a query in ns.

`python trial.py RUNTIME MODEL INPUT.npy QUERIES SAMPLES RATE SEED`, as bare.py takes it.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import backends
from agent import server, workloads

BOUND_S = 0.12
LONGEST_S = 60.0
TRIES = 3


def p50_ns(runtime: str, model: str, value: object, queries: int, rate: float, seed: int) -> int:
    """Give the median latency of a trial; raises RuntimeError where in TRIES of them over 1 % of queries took longer than BOUND_S."""
    backend = backends.get(runtime)
    backend.start({})
    session = backend.load(model, {})
    session.bind({session.inputs()[0].name: value})
    workloads.warm_up(session.infer, 0.1, 200, 10.0)
    goal = server.Goal(BOUND_S, 0.0, queries, early_stopping=False)
    end = workloads.clock_ns() + int(LONGEST_S * 1e9)
    for _ in range(TRIES):
        window = server.trial(session.infer, rate, goal, end, server.gaps(seed, queries), workloads.sample_buffer(queries))
        if window is not None:
            return sorted(window.latency_ns)[(len(window.latency_ns) - 1) // 2]
    raise RuntimeError(f"more than 1 % of {queries} queries at {rate:g}/s took over {BOUND_S:g} s")


if __name__ == "__main__":
    _, runtime, path, sample, count, _, rate, seed = sys.argv
    print(p50_ns(runtime, path, np.load(sample), int(count), float(rate), int(seed)))
