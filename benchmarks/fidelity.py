"""Compares our p50 with the vendor's own tool, or with a bare loop that does the same by hand: `python -m benchmarks.fidelity`.

Our side is a launch as a run makes it: the agent's zipapp, its supervisor, a fresh worker. Theirs is a fresh process too, benchmark_app or
bare.py: what a process happens to get (addresses, caches, cores) shifts a median by more than the loop does, so that two long-lived
processes would compare two draws of it, over and over (T. Mytkowicz et al., Producing Wrong Data Without Doing Anything Obviously Wrong!,
2009). The two sides of a pair follow each other at once, pairs alternate in order, and both sides run the same sample, about as often.
"""

import argparse
import math
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.schema import LaunchSpec, Workload
from benchmarks import results
from benchmarks.launching import WINDOW_S, Example, collected, example, local_agent, upload
from benchmarks.ratio import Ratio, median_ratio
from controller.remote import Remote
from reports.statistics import percentile

BARE, TRIAL = (Path(__file__).with_name(name) for name in ("bare.py", "trial.py"))
BENCHMARK_APP, BARE_LOOP = "benchmark_app", "a bare bound loop"
CALL, RUNTIME = "latency_ns", "runtime_ns"
SINGLE_STREAM = Workload("single_stream", {})
RUNTIMES = {
    "tflite": ("tflite", SINGLE_STREAM, CALL, BARE_LOOP),
    "onnxruntime": ("onnxruntime", SINGLE_STREAM, CALL, BARE_LOOP),
    "openvino-bare": ("openvino", SINGLE_STREAM, CALL, BARE_LOOP),
    "openvino": ("openvino", SINGLE_STREAM, RUNTIME, BENCHMARK_APP),
}
WORKLOADS = {
    "multi_stream": ("tflite", Workload("multi_stream", {"samples": 8}), CALL, BARE_LOOP),
    "offline": ("onnxruntime", Workload("offline", {"batch": 8}), CALL, BARE_LOOP),
    "server": ("tflite", Workload("server", {"rate_per_s": 200.0}), CALL, BARE_LOOP),
    "sustained": ("tflite", Workload("sustained", {}), CALL, BARE_LOOP),
}
COMPARISONS = {**RUNTIMES, **WORKLOADS}
WINDOWS_S = {"sustained": 5.0}
ARRIVALS, SEED = 500, 7
PACKAGES = ("ai-edge-litert", "numpy", "onnxruntime", "openvino")
WIDTH, LOW, HIGH = 0.01, 0.97, 1.03
LOOP_COST_S = 0.5e-6
NOTE = """Like is compared with like. A bare loop times the call from Python, as our latency does. benchmark_app prints what OpenVINO's own
clock says, inside the Python binding: the same clock is read for our runtime_latency, which leaves out the call from Python and the dict of
copied outputs that it returns."""
WORKLOADS_NOTE = f"""multi_stream: a query is 8 samples back to back, by hand a loop of 8 calls. offline: batches of 8. server: {ARRIVALS}
seeded Poisson arrivals at 200/s, latency from the arrival on, by the search's own trial against an open loop by hand; no launch fixes its
rate, so the trial runs in a process of its own. sustained: as single_stream, in windows of {WINDOWS_S["sustained"]:g} s: more queries than
are stored."""
SECTIONS = {"fidelity": (RUNTIMES, NOTE), "fidelity of workloads": (WORKLOADS, WORKLOADS_NOTE)}
FEWEST_PAIRS = 30
COLUMNS = (
    "comparison",
    "our clock",
    "against",
    "ours p50 (us)",
    "theirs p50 (us)",
    "ratio",
    "95 % interval",
    "pairs",
    f"{LOW} to {HIGH}",
    "loop (us)",
)
MEDIAN = re.compile(r"Median: +([0-9.]+) (us|ms)")


@dataclass(frozen=True, slots=True)
class Case:
    """What is compared: the example model, driven how, which clock of ours, and with what."""

    name: str
    model: Example
    workload: Workload
    clock: str
    against: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What one of our launches measured."""

    p50_s: float
    queries: int
    loop_cost_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' medians over the pairs in seconds, the ratio ours / theirs, and the loop's own cost in seconds, NaN where it has none."""

    case: Case
    ours_s: float
    theirs_s: float
    ratio: Ratio
    loop_cost_s: float


def make_case(name: str, folder: Path) -> Case:
    """Give one of COMPARISONS with the example model; what a runtime needs of it besides is written to `folder`."""
    runtime, workload, clock, against = COMPARISONS[name]
    return Case(name, example(runtime, folder, workload.options.get("batch", 1)), workload, clock, against)


def launch_of(remote: Remote, case: Case) -> LaunchSpec:
    """Put the case's model and data where the agent finds them; give the launch that measures it, still without a name."""
    window_s = WINDOWS_S.get(case.name, WINDOW_S)
    return upload(remote, case.model)._replace(workload=case.workload, min_duration_s=window_s)


def ours(remote: Remote, case: Case, spec: LaunchSpec) -> Launch:
    """Run one launch, its p50 by the case's clock, CALL or the runtime's own; of `server` a trial. Raises FaultError where it failed."""
    if case.workload.name == "server":
        return Launch(int(_output(sys.executable, str(TRIAL), *_arguments(case, ARRIVALS))) / 1e9, ARRIVALS, math.nan)
    remote.start(spec)
    found = collected(remote, spec).samples
    remote.forget([spec.launch])
    loop_cost_s = float(found["loop_cost_s"].array[0])
    return Launch(percentile(found[case.clock].array, 0.5) / 1e9, int(found["queries"].array[0]), loop_cost_s)


def theirs(case: Case, queries: int) -> float:
    """Run their tool once in a fresh process and give its p50 in seconds; raises RuntimeError where it failed."""
    if case.against == BENCHMARK_APP:
        command = [str(Path(sys.executable).with_name("benchmark_app")), "-api", "sync", "-hint", "latency", "-niter", str(queries)]
        return parse_median(_output(*command, "-m", str(case.model.files[0]), "-i", str(case.model.sample)))
    return int(_output(sys.executable, "-I", str(BARE), *_arguments(case, queries))) / 1e9


def _arguments(case: Case, queries: int) -> list[str]:
    """What bare.py and trial.py are told: runtime, model, input, queries; samples in a query, arrivals a second or 0, their seed."""
    options = case.workload.options
    driven = [options.get("samples", 1), options.get("rate_per_s", 0), SEED]
    return [case.model.runtime, str(case.model.files[0]), str(case.model.sample), str(queries), *map(str, driven)]


def _output(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr or done.stdout}")
    return done.stdout


def parse_median(text: str) -> float:
    """Give the median latency that benchmark_app printed, in seconds: to 0.01 us where the mean is below a millisecond, else to 0.01 ms."""
    found = MEDIAN.search(text)
    if found is None:
        raise ValueError("benchmark_app printed no median latency")
    return float(found[1]) / {"us": 1e6, "ms": 1e3}[found[2]]


def compare(case: Case, minutes: float) -> Comparison:
    """Measure pairs until the interval is narrower than 1 % either way, or the minutes have passed."""
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder, local_agent(Path(folder), 60 * minutes + 600) as remote:
        spec = launch_of(remote, case)
        queries = ours(remote, case, spec._replace(launch="unpaired")).queries
        launches: list[Launch] = []
        others: list[float] = []
        while True:
            ours_first = len(others) % 2 == 0
            if not ours_first:
                others.append(theirs(case, queries))
            launches.append(ours(remote, case, spec._replace(launch=f"pair-{len(launches)}")))
            if ours_first:
                others.append(theirs(case, queries))
            found = _comparison(case, launches, others)
            settled = found.ratio.pairs >= FEWEST_PAIRS and found.ratio.is_narrower(WIDTH)
            if settled or time.monotonic() >= end:
                return found
            if found.ratio.pairs % 10 == 0:
                print(_line(found), file=sys.stderr)


def _comparison(case: Case, launches: list[Launch], others: list[float]) -> Comparison:
    ratios = [launch.p50_s / other for launch, other in zip(launches, others, strict=True)]
    ours_s, loop_cost_s = median(launch.p50_s for launch in launches), median(launch.loop_cost_s for launch in launches)
    return Comparison(case, ours_s, median(others), median_ratio(ratios), loop_cost_s)


def _line(found: Comparison) -> str:
    ratio = found.ratio
    verdict = "inside" if ratio.is_inside(LOW, HIGH) else "**not inside**"
    width = "" if ratio.is_narrower(WIDTH) else ", wider than 1 %"
    cells = (
        found.case.name,
        {CALL: "around the call", RUNTIME: "the runtime's"}[found.case.clock],
        found.case.against,
        f"{found.ours_s * 1e6:.2f}",
        f"{found.theirs_s * 1e6:.2f}",
        f"{ratio.median:.4f}",
        f"{ratio.low:.4f} to {ratio.high:.4f}{width}",
        str(ratio.pairs),
        verdict,
        "-" if math.isnan(found.loop_cost_s) else f"{found.loop_cost_s * 1e6:.2f}{_too_much(found.loop_cost_s)}",
    )
    return f"| {' | '.join(cells)} |"


def _too_much(loop_cost_s: float) -> str:
    return "" if loop_cost_s < LOOP_COST_S else " **too much**"


def table(found: list[Comparison]) -> str:
    """Give the comparisons as a Markdown table."""
    return "\n".join((f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(_line, found)))


def main() -> None:
    """Make each comparison, print the tables and write them to RESULTS.md."""
    parser = argparse.ArgumentParser(prog="benchmarks.fidelity", description="Our p50 against the vendor's tool or a bare loop.")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each comparison (default: %(default)s)")
    parser.add_argument("--section", choices=list(SECTIONS), help="one section of RESULTS.md; the other stays as it is")
    parser.add_argument("--only", choices=list(COMPARISONS), help="one comparison; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only:
            print(table([compare(make_case(arguments.only, Path(folder)), arguments.minutes)]))
            return
        for section in [arguments.section] if arguments.section else SECTIONS:
            _write(section, machine, Path(folder), arguments.minutes)


def _write(section: str, machine: str, folder: Path, minutes: float) -> None:
    """Make a section's comparisons; what is done so far is in RESULTS.md after each."""
    names, note = SECTIONS[section]
    found: list[Comparison] = []
    for name in names:
        found.append(compare(make_case(name, folder), minutes))
        results.write(section, machine, f"{table(found)}\n\n{note}")
    print(table(found))


if __name__ == "__main__":
    main()
