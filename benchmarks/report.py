"""Times how long the HTML report takes to write and to appear, and how large it is: `python -m benchmarks.report`.

The runs are synthetic, full, and in memory, as the store gives them: five launches a cell with latencies, telemetry once a second and
power ten times a second, and one more with the times of 20 operations. Each is written in fresh processes, imports included; all but the
very first find what the first kept of Vega.
"""

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agent.cache import Cache
from agent.operations import Profiled
from agent.probe import probe
from agent.schema import Cell, Conditions, Workload, cell_id, dump
from benchmarks import results
from reports.records import CellRecord, DeviceRecord, LaunchRecord, Price, RunRecord, VariantRecord

LAUNCHES, SAMPLES, EVALUATED, SECONDS, OPERATIONS, INFERENCES = 5, 2_000, 1_000, 20, 20, 50
VARIANTS = ("fp32", "fp16", "int8", "prune-50", "prune-50-int8")
BACKENDS = ("onnxruntime", "tflite")
WRITES, PAINTS = 5, 5
PACKAGES = ("altair", "jinja2", "playwright", "vl-convert-python")
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
STARTED = "2025-01-01T12:00:00Z"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a report of so many cells may take; None: no limit."""

    size_bytes: float
    write_s: float
    paint_s: float | None


LIMITS = {30: Limits(2e6, 3.0, 1.0), 500: Limits(5e6, 15.0, None)}


@dataclass(frozen=True, slots=True)
class Cost:
    """A report's size, the seconds it took to write in each process, and those until its first paint, without scripts and with them."""

    cells: int
    size_bytes: int
    write_s: list[float]
    still_s: list[float]
    live_s: list[float]


def run_of(cells: int) -> RunRecord:
    """Give a run of so many valid cells, ten on each device."""
    generator = np.random.default_rng(5)
    places = [(variant, backend) for variant in VARIANTS for backend in BACKENDS]
    records = [_cell(f"board-{at // len(places):02}", *places[at % len(places)], generator) for at in range(cells)]
    with tempfile.TemporaryDirectory() as folder:
        here = probe(Cache(folder), "/", None)
    names = dict.fromkeys(record.cell.device for record in records)
    return RunRecord(
        id="synthetic",
        started_at=STARTED,
        finished_at="2025-01-01T13:00:00Z",
        fleetmark="0",
        profile="standard",
        suite="suite.yaml",
        launches_planned=LAUNCHES,
        devices={
            name: DeviceRecord(name, "generic", {"room": "lab"}, here._replace(hostname=name), ("boards",), Price(60.0, "USD"))
            for name in names
        },
        variants=tuple(
            VariantRecord("model", variant, "onnx", format(at, "x") * 64, 250_000, {"recipe": variant})
            for at, variant in enumerate(VARIANTS)
        ),
        cells=tuple(records),
        conditions={"host": "synthetic", "command": "fleetmark run suite.yaml"},
    )


def _cell(device: str, variant: str, backend: str, generator: np.random.Generator) -> CellRecord:
    cell = Cell(device, "model", variant, "onnx", "a" * 64, backend, {}, Workload("single_stream", {}))
    name, pace_s = cell_id(cell), float(np.exp(generator.normal(-6, 0.7)))
    launches = tuple(_launch(f"{name}-{at}", at, pace_s, generator) for at in range(LAUNCHES))
    return CellRecord(name, cell, "valid", 250_000 // (1 + VARIANTS.index(variant)), launches, profiled=_profiled(name, pace_s, generator))


def _launch(name: str, number: int, pace_s: float, generator: np.random.Generator) -> LaunchRecord:
    latency = pace_s * np.exp(generator.normal(0, 0.05, SAMPLES) + generator.normal(0, 0.01))
    single = {
        "window_s": latency.sum(),
        "queries": SAMPLES,
        "loop_cost_s": 1.5e-7,
        "peak_memory_bytes": 4e6 * np.exp(generator.normal(0, 0.01)),
        "drift_sqnr_db": 38.4,
        "drift_cosine": 0.9998,
        "drift_max_abs": 0.04,
        **{f"cold_start_{part}_s": 0.05 * np.exp(generator.normal(0, 0.1)) for part in ("process", "import", "load", "first_inference")},
    }
    values = {name: np.array([value], float) for name, value in single.items()}
    correct = (generator.random(EVALUATED) < 0.9).astype(float)
    watched, power = _telemetry(generator), _power(generator)
    about = {"boundary": "board", "driver": "ina226", "kind": "power", "period_s": 0.1, "problem": "", "rails": ["in"], "ranges_j": [0.0]}
    details: dict[str, Any] = {"threads": 4, "power": {**about, "reads": len(power["power_t_s"]), "failed": 0, "details": {}}}
    arrays = {"latency_s": latency, "correct": correct, **values, **watched, **power}
    return LaunchRecord(name, number, "valid", STARTED, arrays, _conditions("before"), _conditions("after"), details=details)


def _telemetry(generator: np.random.Generator) -> dict[str, Any]:
    """Clock, temperature and free memory once a second, as agent/telemetry.py names them."""
    t_s = np.arange(-2.0, SECONDS)
    series = {
        "clock_hz": 1.8e9 + 0 * t_s,
        "temp_c": 50 + 0.5 * t_s + generator.normal(0, 0.2, len(t_s)),
        "memory_available_bytes": 3e9 + generator.normal(0, 1e6, len(t_s)),
    }
    return {f"trace_{name}": one for name, one in series.items()} | {f"trace_{name}_t_s": t_s for name in series}


def _power(generator: np.random.Generator) -> dict[str, Any]:
    """Readings of one rail, 2 W idle and 5 W in the window, and when they were taken, as agent/power.py names them."""
    t_s = np.arange(0.0, SECONDS + 10, 0.1)
    begin, end = 5.0, 5.0 + SECONDS
    power_w = np.where((t_s >= begin) & (t_s < end), 5.0, 2.0) + generator.normal(0, 0.05, len(t_s))
    return {
        "power_t_s": t_s,
        "power_0_uw": 1e6 * power_w,
        "power_window_s": np.array([begin, end]),
        "power_idle_before_s": np.array([1.0, 4.0]),
        "power_idle_after_s": np.array([end + 1, end + 4]),
    }


def _profiled(name: str, pace_s: float, generator: np.random.Generator) -> LaunchRecord:
    told = [Profiled(f"/layer{at}/Conv", "Conv", "CPUExecutionProvider", "cpu") for at in range(OPERATIONS)]
    shares = generator.dirichlet(np.ones(OPERATIONS), INFERENCES) * 0.95
    values: Mapping[str, Any] = {"inference_s": np.full(INFERENCES, pace_s), "operation_s": (pace_s * shares).ravel()}
    counted = {**values, "operations_left_out": np.array([0.0])}
    return LaunchRecord(f"{name}-profiled", LAUNCHES, "valid", STARTED, counted, details={"operations": dump(told)})


def _conditions(when: str) -> Conditions:
    return Conditions(
        when=when,
        wall_time_s=1.7e9,
        monotonic_s=100.0,
        load_1m=0.1,
        memory_available_bytes=3_000_000_000,
        cpu_busy_share=0.02,
        temps_c={"cpu": 45.0},
        clocks_hz={"cpu0": 1.8e9},
        governors=["performance"],
        limits_c={"cpu": 80.0},
        peaks_c={},
        throttle={"get_throttled": 0},
        usb_mbps={},
        power_mode="",
        shared_gpu_bytes=None,
    )


def write(cells: int, path: Path) -> float:
    """Write the report of a run of so many cells, and give the seconds that took: imports, rendering, file."""
    run = run_of(cells)
    begin = time.perf_counter()
    from reports.page import render

    path.write_text(render(run, kept=path.parent / "kept"), "utf-8")
    return time.perf_counter() - begin


def paints(path: Path, *, scripts: bool, times: int = PAINTS) -> list[float]:
    """Give the seconds from the navigation to the first contentful paint of a page in Chromium, each in a fresh profile."""
    from playwright.sync_api import sync_playwright

    taken: list[float] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--disable-gpu"])
        for _ in range(times):
            context = browser.new_context(viewport={"width": 1280, "height": 800}, java_script_enabled=scripts)
            page = context.new_page()
            page.goto(path.as_uri())
            while (painted_ms := page.evaluate(FIRST_PAINT)) is None:  # a page may be loaded before it is painted
                page.wait_for_timeout(20)
            taken.append(painted_ms / 1e3)
            context.close()
        browser.close()
    return taken


def measure(cells: int, folder: Path) -> Cost:
    """Write a report of so many cells WRITES times, each in a process of its own, and open it PAINTS times with scripts and without."""
    path = folder / f"{cells}.html"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as processes:
        taken = [processes.submit(write, cells, path).result() for _ in range(WRITES)]
    return Cost(cells, path.stat().st_size, taken, paints(path, scripts=False), paints(path, scripts=True))


def table(costs: list[Cost]) -> str:
    """Give the costs beside their limits as a Markdown table."""
    columns = ("cells", "size (MB)", "limit", "written (s)", "limit", "first paint (ms)", "limit", "with scripts (ms)")
    return "\n".join((f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(_row(cost) for cost in costs)))


def _row(cost: Cost) -> str:
    limits = LIMITS[cost.cells]
    write_s, still_s, live_s = (median(one) for one in (cost.write_s, cost.still_s, cost.live_s))
    cells = (
        str(cost.cells),
        f"{cost.size_bytes / 1e6:.2f}",
        f"{limits.size_bytes / 1e6:.0f}: {_met(cost.size_bytes < limits.size_bytes)}",
        f"{write_s:.2f}",
        f"{limits.write_s:.0f}: {_met(write_s < limits.write_s)}",
        f"{still_s * 1e3:.0f}",
        "" if limits.paint_s is None else f"{limits.paint_s * 1e3:,.0f}: {_met(still_s < limits.paint_s)}",
        f"{live_s * 1e3:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _met(good: bool) -> str:
    return "met" if good else "**missed**"


def main() -> None:
    """Measure, print the table and write it to RESULTS.md."""
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        text = table([measure(cells, Path(folder)) for cells in LIMITS])
    note = (
        f"Each cell has {LAUNCHES} launches of {SAMPLES:,} latencies with telemetry and power, and {OPERATIONS} timed operations.\n"
        f"Written: the median of {WRITES} fresh processes, imports included. First paint: PerformancePaintTiming in headless\n"
        f"Chromium, the median of {PAINTS}, without scripts and with them."
    )
    print(text)
    results.write("report", machine, f"{text}\n\n{note}")


if __name__ == "__main__":
    main()
