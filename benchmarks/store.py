"""Times how many samples a minute the store takes, on SQLite and on a PostgreSQL of its own: `python -m benchmarks.store`.

Launches of 10,000 latencies each are begun and finished as lanes do it, each in a transaction of its own, by several threads at once. The
latencies are seeded lognormal times in whole nanoseconds, so that they compress no better than real ones. Both databases sync to disk, as
they come; PostgreSQL is Debian's, on loopback, with its password asked for.
"""

import os
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.schema import Cell, Workload, cell_id
from benchmarks import results
from controller.collect import Samples
from controller.store import Store
from reports.records import LaunchRecord

LAUNCHES, SAMPLES, THREADS = 400, 10_000, 8
TARGET_PER_MINUTE = 1e6
PACKAGES = ("numpy", "psycopg", "sqlalchemy")
CELL = Cell("device", "model", "fp32", "onnx", "a" * 64, "onnxruntime", {}, Workload("single_stream", {}))
DOCUMENT = {"fleetmark": "0", "profile": "standard", "suite": "synthetic", "launches": LAUNCHES, "request": {}, "provenance": {}}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one database took: launches of so many samples each, in so many seconds."""

    name: str
    launches: int
    samples: int
    wall_s: float

    @property
    def per_minute(self) -> float:
        """Samples a minute."""
        return 60 * self.launches * self.samples / self.wall_s


def measure(name: str, folder: Path, url: str | None, launches: int = LAUNCHES, samples: int = SAMPLES) -> Rate:
    """Write so many launches and count what is there afterwards; raises AssertionError where it is not all of it."""
    generator = np.random.default_rng(5)
    latencies = [generator.lognormal(-9, 0.05, samples) * 1e9 for _ in range(THREADS)]
    with closing(Store(folder, url)) as store:
        store.create_run("run", "2026-01-01T00:00:00.000+00:00", DOCUMENT)
        store.add_cells("run", [(cell_id(CELL), CELL, None)], [])

        def write(number: int) -> None:
            launch = f"run-{number}"
            store.begin_launch("run", cell_id(CELL), number, launch, "2026-01-01T00:00:00.000+00:00")
            taken = Samples("latency_ns", "ns", latencies[number % THREADS].astype(np.int64))
            store.finish_launch(LaunchRecord(launch, number, "valid", "", {}), [taken])

        begin = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(write, range(launches)))
        wall_s = time.perf_counter() - begin
        found = [len(values) for launch in store.load_run("run").cells[0].launches for values in launch.values.values()]
        assert (len(found), sum(found), store.check()) == (launches, launches * samples, [])
        return Rate(name, launches, samples, wall_s)


@contextmanager
def postgres() -> Generator[str]:
    """Give the URL of an empty database on a server of its own, which syncs to disk and is gone afterwards."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from postgres import Postgres

    server = Postgres(fsync="on")
    try:
        url = server.start().database()
        os.environ["PGPASSFILE"] = str(server.pgpass)
        yield url
    finally:
        server.remove()


def table(rates: Sequence[Rate]) -> str:
    """Give the rates beside the target as a Markdown table."""
    lines = ["| store | launches x samples | threads | wall (s) | samples a minute | target |", "|---|---|---|---|---|---|"]
    for one in rates:
        met = "met" if one.per_minute >= TARGET_PER_MINUTE else "**missed**"
        size = f"{one.launches:,} x {one.samples:,}"
        lines.append(f"| {one.name} | {size} | {THREADS} | {one.wall_s:.2f} | {one.per_minute:,.0f} | {TARGET_PER_MINUTE:,.0f}: {met} |")
    return "\n".join(lines)


def main() -> None:
    """Measure both, print the table and write it to RESULTS.md."""
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder, postgres() as url:
        rates = [measure("SQLite", Path(folder), None), measure("PostgreSQL", Path(folder), url)]
    note = "A launch is two transactions, each synced to disk, and its samples are one row. All samples were there afterwards."
    text = f"{table(rates)}\n\n{note}"
    print(text)
    results.write("store", machine, text)


if __name__ == "__main__":
    main()
