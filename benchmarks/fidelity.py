"""Compares our p50 with the vendor's own tool, or with a bare bound loop: `python -m benchmarks.fidelity [--minutes 10] [--only openvino]`.

Our side is a launch as a run makes it: the agent's zipapp, its supervisor, a fresh worker. Theirs is a fresh process too, benchmark_app or
bare.py: what a process happens to get (addresses, caches, cores) shifts a median by more than the loop does, so that two long-lived
processes would compare two draws of it, over and over (T. Mytkowicz et al., Producing Wrong Data Without Doing Anything Obviously Wrong!,
2009). The two sides of a pair follow each other at once, pairs alternate in order, and both sides run the same sample, about as often.
"""
# openvino is typed in part only.
# pyright: reportUnknownMemberType=false

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from agent.schema import Artifact, FaultError, Feed, LaunchSpec, ModelFile, Workload
from benchmarks import results
from benchmarks.ratio import Ratio, median_ratio
from controller.collect import collect
from controller.local import LocalTransport
from controller.profiles import MAX_SAMPLES
from controller.remote import Remote
from reports.statistics import percentile

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
BARE = Path(__file__).parent / "bare.py"
BENCHMARK_APP, BARE_LOOP = "benchmark_app", "a bare bound loop"
CALL, RUNTIME = "latency_ns", "runtime_ns"
COMPARISONS = {
    "tflite": ("tflite", CALL, BARE_LOOP),
    "onnxruntime": ("onnxruntime", CALL, BARE_LOOP),
    "openvino-bare": ("openvino", CALL, BARE_LOOP),
    "openvino": ("openvino", RUNTIME, BENCHMARK_APP),
}
FORMATS = {"openvino": "openvino", "onnxruntime": "onnx", "tflite": "tflite"}
PACKAGES = ("ai-edge-litert", "numpy", "onnxruntime", "openvino")
AXES = {"tflite": [0, 2, 3, 1]}
MEAN, STD = 0.2860, 0.3530
WINDOW_S = 0.5
WIDTH, LOW, HIGH = 0.01, 0.97, 1.03
LOOP_COST_S = 0.5e-6
NOTE = """Like is compared with like. A bare loop times the call from Python, as our latency does. benchmark_app prints what OpenVINO's own
clock says, inside the Python binding: the same clock is read for our runtime_latency, which leaves out the call from Python and the dict of
copied outputs that it returns."""
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
OWNER = "fidelity"
MEDIAN = re.compile(r"Median: +([0-9.]+) (us|ms)")


@dataclass(frozen=True, slots=True)
class Case:
    """A runtime, which clock of ours is compared with what, its model's files (the one to open first), and the other side's sample."""

    name: str
    runtime: str
    clock: str
    against: str
    files: tuple[Path, ...]
    sample: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """What one of our launches measured."""

    p50_s: float
    queries: int
    loop_cost_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' medians over the pairs in seconds, the ratio ours / theirs, and the loop's own cost in seconds."""

    case: Case
    ours_s: float
    theirs_s: float
    ratio: Ratio
    loop_cost_s: float


def make_case(name: str, folder: Path) -> Case:
    """Give one of COMPARISONS with the example model; OpenVINO's IR and the sample are written to `folder`."""
    runtime, clock, against = COMPARISONS[name]
    with np.load(EXAMPLE / "data.npz") as data:
        image = (data["eval_image"][:1].astype(np.float32) / 255 - MEAN) / STD
    sample = folder / f"{runtime}.npy"
    np.save(sample, np.ascontiguousarray(image.transpose(AXES.get(runtime, [0, 1, 2, 3])), dtype=np.float32))
    if runtime != "openvino":
        return Case(name, runtime, clock, against, (EXAMPLE / f"model.{FORMATS[runtime]}",), sample)
    import openvino

    openvino.save_model(openvino.convert_model(EXAMPLE / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    return Case(name, runtime, clock, against, (folder / "model.xml", folder / "model.bin"), sample)


@contextmanager
def local_agent(folder: Path, seconds: float) -> Generator[Remote]:
    """Give the agent on this machine, its cache in `folder`, leased for `seconds`."""
    transport = LocalTransport("laptop")
    try:
        remote = Remote(transport, "laptop", sys.executable, str(folder))
        remote.deploy()
        remote.acquire(OWNER, seconds)
        yield remote
    finally:
        transport.close()


def upload(remote: Remote, case: Case) -> LaunchSpec:
    """Put model and data where the agent finds them; give the launch that measures the model, still without a name."""
    paths = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in (*case.files, EXAMPLE / "data.npz")}
    remote.upload(paths)
    *models, data = paths
    files = [ModelFile(path.name, sha256, path.stat().st_size) for sha256, path in paths.items()][:-1]
    return LaunchSpec(
        launch="",
        owner=OWNER,
        artifact=Artifact(models[0], FORMATS[case.runtime], files),
        backend=case.runtime,
        options={},
        workload=Workload("single_stream", {}),
        python="",
        environment="",
        environ={},
        data=data,
        feeds=[Feed("image", "eval_image", 1 / 255, [MEAN], [STD], AXES.get(case.runtime, []))],
        evaluate=False,
        min_duration_s=WINDOW_S,
        min_queries=100,
        warmup_min_s=0.1,
        warmup_min_queries=10,
        warmup_max_s=10.0,
        max_samples=MAX_SAMPLES,
        deadline_s=120.0,
    )


def ours(remote: Remote, spec: LaunchSpec, clock: str) -> Launch:
    """Run one launch, its p50 by our clock CALL or the runtime's own; raises FaultError where it failed."""
    remote.start(spec)
    done = collect(remote.follow(spec.launch), lambda file: remote.fetch(spec.launch, file))
    if done.fault:
        raise FaultError(done.fault.code, f"{spec.backend}: {done.fault.message}", done.fault.next, done.fault.phase)
    loop_cost_s = float(done.samples["loop_cost_s"].array[0])
    return Launch(percentile(done.samples[clock].array, 0.5) / 1e9, int(done.samples["queries"].array[0]), loop_cost_s)


def theirs(case: Case, queries: int) -> float:
    """Run their tool once in a fresh process and give its p50 in seconds; raises RuntimeError where it failed."""
    model, count = str(case.files[0]), str(queries)
    if case.against == BENCHMARK_APP:
        command = [str(Path(sys.executable).with_name("benchmark_app")), "-api", "sync", "-hint", "latency"]
        return parse_median(_output(*command, "-m", model, "-i", str(case.sample), "-niter", count))
    return int(_output(sys.executable, "-I", str(BARE), case.runtime, model, str(case.sample), count)) / 1e9


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
        spec = upload(remote, case)
        queries = ours(remote, spec._replace(launch="unpaired"), case.clock).queries
        launches: list[Launch] = []
        others: list[float] = []
        while True:
            ours_first = len(others) % 2 == 0
            if not ours_first:
                others.append(theirs(case, queries))
            launches.append(ours(remote, spec._replace(launch=f"pair-{len(launches)}"), case.clock))
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
        f"{found.loop_cost_s * 1e6:.2f}{'' if found.loop_cost_s < LOOP_COST_S else ' **too much**'}",
    )
    return f"| {' | '.join(cells)} |"


def table(found: list[Comparison]) -> str:
    """Give the comparisons as a Markdown table."""
    return "\n".join((f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(_line, found)))


def main() -> None:
    """Make each comparison, print the table and write it to RESULTS.md."""
    parser = argparse.ArgumentParser(prog="benchmarks.fidelity", description="Our p50 against the vendor's tool or a bare loop.")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each comparison (default: %(default)s)")
    parser.add_argument("--only", choices=list(COMPARISONS), help="one comparison; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        found: list[Comparison] = []
        for name in [arguments.only] if arguments.only else list(COMPARISONS):
            found.append(compare(make_case(name, Path(folder)), arguments.minutes))
            if not arguments.only:
                results.write("fidelity", machine, f"{table(found)}\n\n{NOTE}")
    print(table(found))


if __name__ == "__main__":
    main()
