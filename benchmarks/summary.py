"""Times the table and the verdict of a large run, and the memory they take: `python -m benchmarks.summary`.

The run is synthetic and in memory, as the store gives it: 1,000 cells of 5 launches of 10,000 latencies, 400 MB of raw values.
"""

import resource
import time
from dataclasses import dataclass

import numpy as np

from agent.schema import Cell, Workload, cell_id
from benchmarks import results
from reports.records import CellRecord, LaunchRecord, RunRecord
from reports.table import rows
from reports.verdict import verdict

CELLS, LAUNCHES, SAMPLES = 1_000, 5, 10_000
DEVICES = 10
PACKAGES = ("numpy", "scipy")
TARGET_S, TARGET_BYTES = 20.0, 1e9


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds for the table and for the verdict from it, and the process's peak memory before and after both."""

    rows: int
    table_s: float
    verdict_s: float
    before_bytes: int
    peak_bytes: int


def run_of(cells: int, launches: int, samples: int) -> RunRecord:
    """Give a run of valid cells, each of so many launches of so many latencies with a seeded effect of cell and launch."""
    generator = np.random.default_rng(4)
    return RunRecord(
        id="synthetic",
        started_at="2025-01-01T12:00:00Z",
        finished_at="2025-01-01T13:00:00Z",
        fleetmark="0",
        profile="standard",
        suite="synthetic",
        launches_planned=launches,
        devices={},
        variants=(),
        cells=tuple(_cell(at, launches, samples, generator) for at in range(cells)),
        conditions={},
    )


def _cell(number: int, launches: int, samples: int, generator: np.random.Generator) -> CellRecord:
    cell = Cell(
        f"device-{number % DEVICES}", "model", f"variant-{number}", "onnx", "a" * 64, "onnxruntime", {}, Workload("single_stream", {})
    )
    pace = generator.normal(-9, 1)
    measured = [_launch(f"{number}-{at}", at, np.exp(generator.normal(pace, 0.05, samples))) for at in range(launches)]
    return CellRecord(cell_id(cell), cell, "valid", 250_000, tuple(measured))


def _launch(name: str, round_: int, latencies: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> LaunchRecord:
    window = {"queries": np.array([float(len(latencies))]), "window_s": np.array([latencies.sum()])}
    return LaunchRecord(name, round_, "valid", "2025-01-01T12:00:00Z", {"latency_s": latencies, **window})


def measure(cells: int = CELLS, launches: int = LAUNCHES, samples: int = SAMPLES) -> Cost:
    """Make a run of that size, then its table and verdict; each is timed once."""
    run = run_of(cells, launches, samples)
    before = peak_bytes()
    begin = time.perf_counter()
    table = rows(run)
    tabled = time.perf_counter()
    verdict(run, table)
    return Cost(len(table), tabled - begin, time.perf_counter() - tabled, before, peak_bytes())


def peak_bytes() -> int:
    """Give the most memory that this process has had resident so far; Linux counts it in KiB."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def table_of(cost: Cost) -> str:
    """Give the cost beside its targets as a Markdown table."""
    whole_s = cost.table_s + cost.verdict_s
    lines = (
        (
            "cells x launches x samples",
            "rows",
            "table (s)",
            "verdict (s)",
            "both, target",
            "peak memory (MB)",
            "of it raw values, imports",
            "target",
        ),
        ("---",) * 8,
        (
            f"{CELLS:,} x {LAUNCHES} x {SAMPLES:,}",
            f"{cost.rows:,}",
            f"{cost.table_s:.2f}",
            f"{cost.verdict_s:.2f}",
            f"{TARGET_S:.0f} s: {_met(whole_s < TARGET_S)}",
            f"{cost.peak_bytes / 1e6:,.0f}",
            f"{cost.before_bytes / 1e6:,.0f}",
            f"{TARGET_BYTES / 1e6:,.0f}: {_met(cost.peak_bytes < TARGET_BYTES)}",
        ),
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _met(good: bool) -> str:
    return "met" if good else "**missed**"


def main() -> None:
    """Measure, print the table and write it to RESULTS.md."""
    machine = results.describe(PACKAGES)
    text = table_of(measure())
    print(text)
    results.write("summary", machine, text)


if __name__ == "__main__":
    main()
