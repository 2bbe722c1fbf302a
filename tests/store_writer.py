"""A controller that does nothing but write: `python store_writer.py FOLDER URL RUN LAUNCHES`; URL may be empty.

Says `ready` once its store is open, waits for a line, writes launches of three metrics each, and says the name of each that is finished.
"""

import sys
from pathlib import Path

import numpy as np

from agent.schema import Cell, Workload, cell_id
from controller.collect import Samples
from controller.store import Store
from reports.records import LaunchRecord

CELL = Cell("laptop", "lenet", "fp32", "onnx", "a" * 64, "onnxruntime", {}, Workload("single_stream", {}))
METRICS = ("latency_ns", "window_ns", "queries")


def values(run: str, number: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.arange(2_000, dtype=np.int64) * (number + 1) + len(run)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(folder: str, url: str, run: str, launches: int) -> None:
    store = Store(Path(folder), url or None)
    say("ready")
    sys.stdin.readline()
    store.create_run(
        run, "2026-01-01T00:00:00.000+00:00", {"fleetmark": "0", "profile": "quick", "suite": "s", "launches": launches, "provenance": {}}
    )
    with store.exclusive(run):
        store.add_cells(run, [(cell_id(CELL), CELL, None)], [])
        for number in range(launches):
            name = f"{run}-{number}"
            store.begin_launch(run, cell_id(CELL), number, name, f"2026-01-01T00:00:00.{number:03}+00:00")
            raw = [Samples(metric, "ns", values(run, number)) for metric in METRICS]
            store.finish_launch(LaunchRecord(name, number, "valid", "", {}), raw)
            say(name)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
