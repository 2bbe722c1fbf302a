"""Synthetic runs for tests of reports: invented numbers, seeded, on devices that do not exist."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.description import Probe
from agent.schema import Availability, Cell, Conditions, Fault, Workload, cell_id
from reports.charts import Chart, cell_charts, further_charts
from reports.heat import Course
from reports.pareto import Pairing
from reports.records import CellRecord, DeviceRecord, Gate, LaunchRecord, Price, RunRecord, VariantRecord
from reports.table import Row

STARTED = "2025-01-01T12:00:00Z"
FORMATS = {"onnxruntime": "onnx", "tflite": "tflite", "openvino": "openvino"}
SIZES = {"fp32": 247_312, "fp16": 126_040, "int8-dynamic": 76_900, "int8": 68_212}
SPEEDS = {"fp32": 1.0, "fp16": 1.02, "int8-dynamic": 0.81, "int8": 0.55}
LOST = {"fp32": 0, "fp16": 0, "int8-dynamic": 4, "int8": 11}
CRASH = Fault("crash", "load", "the worker on pi-a was killed by signal 11 (SIGSEGV)", "update the runtime, or run it with one thread")
NO_ROUTE = Fault(
    "unreachable", "connect", "pi-b did not answer at 192.0.2.12 port 22 within 10 s", "switch it on, then: fleetmark doctor pi-b"
)
UNSUPPORTED = Fault("unsupported_op", "load", "model.onnx: operator ConvInteger is not implemented", "use int8 with this runtime")


def probe(hostname: str, emulated: str = "") -> Probe:
    runtimes = [Availability(name, True, name, "1.2.3", ["CPU"], "") for name in FORMATS]
    return Probe(
        agent="0.1.0",
        hostname=hostname,
        board="Synthetic Board 4",
        soc="synthetic",
        machine="aarch64",
        bits=64,
        page_bytes=4096,
        kernel="6.1.0",
        os="Synthetic Linux 12",
        glibc="2.36",
        python="3.11.2",
        python_path="/usr/bin/python3",
        cpu_model="Synthetic A72",
        cpu_count=4,
        memory_bytes=4_000_000_000,
        disk_free_bytes=9_000_000_000,
        cache_dir="/home/bench/.cache/fleetmark",
        boot_id="b",
        emulated=emulated,
        container="",
        user="bench",
        groups=["bench"],
        wall_time_s=1.7e9,
        monotonic_s=100.0,
        thermal_zones_c={},
        governors=["ondemand"],
        accelerators=[],
        power_sources=[],
        cache_problem="",
        environments=[],
        interpreters=[],
        power_mode="",
        versions={},
        tools={},
        backends=runtimes,
    )


def conditions(when: str) -> Conditions:
    return Conditions(
        when=when,
        wall_time_s=1.7e9,
        monotonic_s=100.0,
        load_1m=0.08,
        memory_available_bytes=3_100_000_000,
        cpu_busy_share=0.02,
        temps_c={"cpu": 44.5 if when == "before" else 51.0},
        clocks_hz={"cpu0": 1.8e9},
        governors=["ondemand"],
        limits_c={"cpu": 80.0},
        peaks_c={} if when == "before" else {"cpu": 52.0},
        throttle={"get_throttled": 0},
        usb_mbps={},
        power_mode="",
        shared_gpu_bytes=None,
    )


def values(
    generator: np.random.Generator, median_s: float, correct: NDArray[np.float64], samples: int = 400
) -> dict[str, NDArray[np.float64]]:
    latency = median_s * np.exp(generator.normal(0, 0.03, samples)) * np.exp(generator.normal(0, 0.01))
    single = {
        "window_s": float(latency.sum()) * 1.01,
        "queries": float(samples),
        "loop_cost_s": 1.5e-7,
        "peak_memory_bytes": 4.1e6 * float(np.exp(generator.normal(0, 0.01))),
        "cold_start_process_s": 0.031 * float(np.exp(generator.normal(0, 0.1))),
        "cold_start_import_s": 0.085 * float(np.exp(generator.normal(0, 0.1))),
        "cold_start_load_s": 0.012 * float(np.exp(generator.normal(0, 0.1))),
        "cold_start_first_inference_s": 10 * median_s,
        "drift_sqnr_db": 38.4,
        "drift_cosine": 0.99987,
        "drift_max_abs": 0.0412,
    }
    return {"latency_s": latency, "correct": correct, **{name: np.array([value]) for name, value in single.items()}}


def launch(name: str, number: int, status: str, measured: Mapping[str, NDArray[np.float64]], fault: Fault | None = None) -> LaunchRecord:
    return LaunchRecord(
        id=f"{name}-{number}",
        round=number,
        status=status,
        started_at=STARTED,
        values=measured,
        before=conditions("before"),
        after=conditions("after"),
        fault=fault,
        log_tail="loading model.onnx\nFatal: segmentation fault\n" if fault else "",
        details={"threads": 4, "providers": ["CPU"]},
    )


def cell(
    device: str,
    variant: str,
    backend: str,
    seed: int,
    *,
    median_s: float = 1e-4,
    launches: int = 3,
    samples: int = 400,
    status: str = "valid",
) -> CellRecord:
    """A cell with `launches` launches of `samples` latencies; int8 is the fastest and loses 11 samples of 1,000."""
    identity = Cell(device, "lenet", variant, FORMATS[backend], "a" * 64, backend, {}, Workload("single_stream", {}))
    generator = np.random.default_rng(seed)
    correct = np.ones(1000)
    correct[: 90 + LOST.get(variant, 0)] = 0
    correct[500:503] = 0 if variant == "fp32" else 1
    median_s *= SPEEDS.get(variant, 1.0)
    name = cell_id(identity)
    records = [launch(name, at, status, values(generator, median_s, correct, samples)) for at in range(launches)]
    return CellRecord(name, identity, status, SIZES.get(variant, 100_000), tuple(records))


def broken(device: str, variant: str, backend: str, status: str, fault: Fault, *, launched: bool) -> CellRecord:
    """A cell without numbers, whose launches failed or never were."""
    identity = Cell(device, "lenet", variant, FORMATS[backend], "b" * 64, backend, {}, Workload("single_stream", {}))
    name = cell_id(identity)
    launches = tuple(launch(name, at, "failed", {}, fault) for at in range(3)) if launched else ()
    return CellRecord(name, identity, status, None, launches, None if launched else fault)


def run_of(cells: tuple[CellRecord, ...], profile: str = "quick") -> RunRecord:
    """A run of these cells; devices called qemu-... are emulated, pi-b never answered."""
    names = dict.fromkeys(record.cell.device for record in cells)
    devices = {
        name: DeviceRecord(
            name,
            "raspberry-pi",
            {"room": "lab"},
            None if name == "pi-b" else probe(name, "qemu-aarch64" if name.startswith("qemu") else ""),
        )
        for name in names
    }
    variants = tuple(
        VariantRecord("lenet", variant, "onnx", format(at, "x") * 64, size, {"recipe": variant, "verified": {"cosine": 0.9999}})
        for at, (variant, size) in enumerate(SIZES.items(), 1)
    )
    return RunRecord(
        id="20250101-120000-synthetic",
        started_at=STARTED,
        finished_at="2025-01-01T12:04:31Z",
        fleetmark="0.1.0",
        profile=profile,
        suite="synthetic/suite.yaml",
        launches_planned=3,
        devices=devices,
        variants=variants,
        cells=cells,
        conditions={"host": "synthetic", "command": "fleetmark run suite.yaml", "packages": {"numpy": "2.0"}},
    )


def mixed_run() -> RunRecord:
    """Valid, unsteady, failed, unsupported, unreachable and emulated cells: two real devices that answer, one emulated, one that is off."""
    cells: list[CellRecord] = []
    for device, pace in (("laptop", 1e-4), ("pi-a", 9e-4), ("qemu-pi", 7e-3)):
        for number, backend in enumerate(FORMATS):
            if device == "qemu-pi" and backend != "tflite":
                continue
            median_s = pace * (1 + 0.3 * number)
            cells += [cell(device, variant, backend, 100 * number + at, median_s=median_s) for at, variant in enumerate(SIZES)]
    cells[6] = broken("laptop", "int8-dynamic", "tflite", "unsupported", UNSUPPORTED, launched=False)
    cells[14] = cell("pi-a", "int8-dynamic", "onnxruntime", 7, median_s=9e-4, status="unsteady")
    cells[17] = broken("pi-a", "fp16", "tflite", "failed", CRASH, launched=True)
    cells += [broken("pi-b", variant, "tflite", "unreachable", NO_ROUTE, launched=False) for variant in SIZES]
    return run_of(tuple(cells))


def fleet_run(devices: int, variants: Sequence[str] = ("fp32", "int8"), samples: int = 100) -> RunRecord:
    """A run on so many devices, each a little slower than the one before, with every variant valid."""
    cells = [
        cell(f"board-{at:02}", variant, "tflite", 10 * at + number, median_s=1e-3 * 1.05**at, samples=samples)
        for at in range(devices)
        for number, variant in enumerate(variants)
    ]
    return run_of(tuple(cells))


def hostile_run(text: str) -> RunRecord:
    """A run in which all that a device, a model or a user can name is `text`, with a log of 10 MB."""
    run = run_of((cell("laptop", "fp32", "tflite", 1), broken("laptop", "int8", "tflite", "failed", NO_ROUTE, launched=True)))
    good, bad = run.cells
    fault = NO_ROUTE._replace(message=text, next=text, phase=text)
    log = text * (10_000_000 // len(text) + 1)
    last = dataclasses.replace(bad.launches[-1], fault=fault, log_tail=log, details={text: text}, notes=(text,))
    launches = tuple(dataclasses.replace(one, details={text: [text]}, notes=(text,)) for one in good.launches)
    named = good.cell._replace(device=text, variant=text, model=text, options={"a": text})
    introduced = probe(text)._replace(board=text * 1000, soc=text, kernel=text, os=text, cpu_model=text, governors=[text], power_mode=text)
    devices = {**run.devices, text: DeviceRecord(text, text, {text: text}, introduced, (text,), Price(60.0, text))}
    return dataclasses.replace(
        run,
        cells=(dataclasses.replace(good, cell=named, launches=launches), dataclasses.replace(bad, launches=(last,))),
        devices=devices,
        variants=(VariantRecord(text, text, text, "a" * 64, 1, {text: {text: text}}),),
        suite=text,
        tag=text,
        conditions={text: text, "nested": {text: 1}},
        gates=(Gate(text, "latency_p90_s", 1e-9, None, text, (text, "laptop")),),
    )


def charts(
    table: Sequence[Row], pairings: Sequence[Pairing] = (), courses: Sequence[Course] = (), records: Sequence[CellRecord] = ()
) -> dict[str, Chart]:
    """All charts of a report by name, drawn in this process."""
    return {**cell_charts(table, records), **further_charts(table, pairings, courses)}
