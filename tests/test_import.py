"""Files of other programs become rows marked with the program's name: what it told, never more, and never ranked with ours."""

import dataclasses
import html
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory_runs import cell, run_of
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from stored_runs import keep
from tiny_models import onnx_model
from typer.testing import CliRunner

from controller import foreign, history
from controller.cli.__main__ import app
from controller.cli.import_ import Tool
from controller.errors import FleetmarkError
from controller.store import Store
from reports.comparison import judge
from reports.page import render
from reports.records import RunRecord
from reports.summary import summary
from reports.table import Row, by_cell, rows
from reports.verdict import NOTHING_OURS, verdict

REPORT = """Command line parameters
-m;model.onnx
-d;CPU

Configuration setup
topology;Model1
target device;CPU
API;{api}
precision;UNSPECIFIED
batch size;{batch}
number of parallel infer requests;{requests}

Execution results
read model time (ms);45.29
compile model time (ms);220.74
first inference time (ms);7.49
total execution time (ms);1002.36
total number of iterations;1155
latency (ms);{latency}
avg latency;8.82
throughput;1152.28

"""
SYNC = {"api": "sync", "batch": 1, "requests": 1, "latency": "8.62"}
LOG = """STARTING!
Num threads: [4]
Graph: [mobilenet.tflite]
Loaded model mobilenet.tflite
INFO: Initialized session in 17.187ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=170 first=3421 curr=2802 min=2701 max=9000 avg=2950.1 std=500

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=337 first=2881 curr=2703 min=2605 max=20356 avg=2942.27 std=1190{more}

INFO: Inference timings in us: Init: 6395, First inference: 2761, Warmup (avg): 3243.58, Inference (avg): 2942.27
INFO: Memory footprint delta from the start of the tool (MB): init=39.4531 overall=40.5
"""
MORE = " p5=2647 median=2781 p95=3169"
COMPILED = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3438 ms.

Input model: yolov5s-int8.tflite
Input size: 7.31MiB
Output model: yolov5s-int8_edgetpu.tflite
Output size: 7.52MiB
On-chip memory used for caching model parameters: 6.00MiB
On-chip memory remaining for caching model parameters: 1.00KiB
Off-chip memory used for streaming uncached model parameters: 175.00KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 225
Operation log: yolov5s-int8_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU.
Number of operations that will run on Edge TPU: 216
Number of operations that will run on CPU: 9
"""
OPERATORS = """Edge TPU Compiler version 16.0.384591198
Input: m.tflite
Output: m_edgetpu.tflite

Operator                       Count      Status

CONV_2D                        3          Mapped to Edge TPU
SOFTMAX                        1          Operation is working on an unsupported data type
"""


def trace(latencies_ms: list[float], start_ms: float = 200.0) -> str:
    """What `trtexec --exportTimes` writes of TensorRT 8: one query each millisecond, the first of which warm up."""
    entries: list[dict[str, float]] = []
    for at, latency in enumerate(latencies_ms):
        begin = start_ms - 5 + at
        compute = {"startComputeMs": begin, "endComputeMs": begin + 0.5, "startD2hMs": begin + 0.5, "endD2hMs": begin + 0.6}
        spans = {"startEnqMs": begin, "endEnqMs": begin, "startH2dMs": begin - 0.1, "endH2dMs": begin, **compute}
        entries.append({**spans, "h2dMs": 0.1, "computeMs": 0.5, "d2hMs": 0.1, "latencyMs": latency, "endToEndMs": latency})
    return "[\n  " + "\n, ".join(json.dumps(entry) for entry in entries) + "\n]\n"


def read(tool: str, text: str, folder: Path) -> foreign.Reading:
    path = folder / "told"
    path.write_text(text)
    return foreign.read(path, tool)[1]


def told(tool: str, text: str, folder: Path) -> dict[str, float]:
    """The single values that a file tells."""
    return {name: float(values[0]) for name, values in read(tool, text, folder).values.items() if len(values) == 1}


def imported(results: Path, path: Path, tool: str, *options: str) -> RunRecord:
    """The run that `fleetmark import` made, or added to."""
    names = ("--device", "nano", "--model", "lenet", "--variant", "int8")
    done = CliRunner().invoke(
        app, ["import", str(path), "--from", tool, *names, "--results", str(results), *options], catch_exceptions=False
    )
    assert done.exit_code == 0
    return history.load(Store.open(results), done.stdout.strip())


def test_every_tool_can_be_named() -> None:
    """The command's choices are the programs that there are readers for."""
    assert [tool.value for tool in Tool] == list(foreign.TOOLS)


def test_a_report_of_benchmark_app_is_read_as_csv_json_and_console(tmp_path: Path) -> None:
    """Median, throughput and the parts of the start are the same in each form, and finer where it is printed in microseconds."""
    expected = {
        "queries": 1155,
        "throughput_per_s": 1152.28,
        "latency_p50_s": 0.00862,
        "cold_start_load_s": pytest.approx(0.26603),
        "cold_start_first_inference_s": 0.00749,
    }
    report = REPORT.format(**SYNC)
    assert told("benchmark_app", report, tmp_path) == expected
    sections = [dict(line.split(";") for line in part.splitlines()[1:]) for part in report.strip().split("\n\n")]
    document = dict(zip(("cmd_options", "configuration_setup", "execution_results"), sections, strict=True))
    assert told("benchmark_app", json.dumps(document), tmp_path) == expected


@pytest.mark.parametrize(
    ("changed", "metrics", "workload"),
    [
        ({"latency": "0.06"}, set(), "single_stream"),
        ({"api": "async", "requests": 4}, {"latency_p50_s"}, "offline"),
        ({"batch": 8}, {"latency_p50_s"}, "offline"),
        ({"api": "async", "requests": 1}, {"latency_p50_s"}, "single_stream"),
    ],
)
def test_what_benchmark_app_measured_decides_the_workload(
    changed: dict[str, Any], metrics: set[str], workload: str, tmp_path: Path
) -> None:
    """Several requests or samples at once are no single stream; a latency that its rounding hides is left out and said so."""
    found = read("benchmark_app", REPORT.format(**{**SYNC, **changed}), tmp_path)
    assert {name for name in found.values if name.startswith("latency")} == metrics
    assert found.workload.name == workload
    assert bool(found.notes) == (not metrics)


def test_another_percentile_of_benchmark_app_is_that_percentile(tmp_path: Path) -> None:
    """`-latency_percentile 90` gives a p90; 80, which the table does not have, gives none and says so."""
    assert (
        told("benchmark_app", REPORT.format(**SYNC).replace("latency (ms)", "latency (90 percentile) (ms)"), tmp_path)["latency_p90_s"]
        == 0.00862
    )
    found = read("benchmark_app", REPORT.format(**SYNC).replace("latency (ms)", "latency (80 percentile) (ms)"), tmp_path)
    assert not [name for name in found.values if name.startswith("latency")]
    assert "80" in found.notes[0]


def test_the_real_benchmark_app_is_read(tmp_path: Path) -> None:
    """Of 200 inferences of a tiny model by OpenVINO's own program, what it prints and its report tell the same count and throughput."""
    model = onnx_model(tmp_path / "tiny.onnx")
    program = Path(sys.executable).with_name("benchmark_app")
    command = [program, "-m", model, "-d", "CPU", "-api", "sync", "-niter", "200", "-hint", "none", "-report_type", "no_counters"]
    done = subprocess.run([*command, "-report_folder", tmp_path], capture_output=True, text=True, timeout=120, check=True)
    printed = told("benchmark_app", done.stdout, tmp_path)
    reported = told("benchmark_app", (tmp_path / "benchmark_report.csv").read_text(), tmp_path)
    assert (printed["queries"], printed["throughput_per_s"]) == (200, reported["throughput_per_s"])
    assert 1e-7 < printed["latency_p50_s"] < 1


def test_benchmark_model_is_read_from_what_it_prints(tmp_path: Path) -> None:
    """Mean with its spread, median and p95 where they are printed, of the measured runs and not of the warm-up; also from Android's log."""
    plain = {"queries": 337, "latency_mean_s": 0.00294227, "cold_start_load_s": 0.006395, "cold_start_first_inference_s": 0.002761}
    plain["peak_memory_bytes"] = 40.5 * 1024 * 1024
    assert told("benchmark_model", LOG.format(more=""), tmp_path) == pytest.approx(plain)
    full = LOG.format(more=MORE).replace("INFO: ", "07-08 15:34:26.202 I/tflite  ( 5395): ")
    assert told("benchmark_model", full, tmp_path) == pytest.approx({**plain, "latency_p50_s": 0.002781, "latency_p95_s": 0.003169})
    about = read("benchmark_model", full, tmp_path).about["latency_mean_s"]
    assert about == "standard deviation 1190 µs, from 2605 to 20356 µs, of 337 inferences"


def test_trtexec_gives_raw_latencies_without_its_warm_up(tmp_path: Path) -> None:
    """The queries of the first 200 ms are left out and counted; the rest are raw, so that percentiles obey our rules."""
    latencies = [9.0] * 5 + [0.7 + 0.001 * at for at in range(400)]
    found = read("trtexec", trace(latencies), tmp_path)
    np.testing.assert_allclose(found.values["latency_s"], np.array(latencies[5:]) / 1e3)
    assert set(found.values["runtime_s"].tolist()) == {0.5e-3}
    assert found.values["window_s"][0] == pytest.approx(0.3997)
    assert "5 queries" in found.notes[0]


def test_a_long_trace_is_thinned_and_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most samples that are kept, every k-th is, with the count of all."""
    monkeypatch.setattr("controller.foreign.trtexec.MAX_SAMPLES", 100)
    found = read("trtexec", trace([0.7] * 255), tmp_path)
    assert (len(found.values["latency_s"]), found.stride, found.values["queries"][0]) == (84, 3, 250)
    assert "every 3th" in found.notes[1]


def test_edgetpu_compiler_tells_placement_and_memory(tmp_path: Path) -> None:
    """From what it printed: the share of operations and memory on the chip; from its log: the share that its table counts."""
    assert told("edgetpu_compiler", COMPILED, tmp_path) == {"accelerator_operation_share": 0.96, "accelerator_memory_bytes": 6 << 20}
    assert told("edgetpu_compiler", OPERATORS, tmp_path) == {"accelerator_operation_share": 0.75}


@pytest.mark.parametrize(
    ("tool", "text", "said"),
    [
        ("benchmark_app", REPORT.format(**{**SYNC, "latency": "8.6x"}), ":19: latency (ms) is '8.6x'"),
        ("benchmark_app", REPORT.format(**SYNC).replace("1152.28", "inf"), ":21: throughput is 'inf'"),
        ("benchmark_app", REPORT.format(**SYNC).replace("1152.28", "1e99"), ":21: throughput is '1e99', no number from 0 to 1e+15"),
        ("benchmark_app", REPORT.format(**SYNC).partition("throughput")[0], "no throughput"),
        ("benchmark_app", '{"execution_results": []}', "no execution_results"),
        ("benchmark_app", '{\n"execution_results":', ":2: not JSON"),
        ("benchmark_model", LOG.format(more="") + LOG.format(more=""), ":25: several results"),
        ("benchmark_model", LOG.partition("INFO: Inference")[0], "no line `Inference timings in us`"),
        ("benchmark_model", LOG.format(more="").replace("avg): 2942.27", "avg): 1e-.e5"), ":12: a timing is '1e-.e5'"),
        ("trtexec", trace([0.7] * 50).replace('"latencyMs": 0.7', '"latencyMs": NaN', 1), ":2: query 1: latencyMs is 'NaN'"),
        ("trtexec", trace([0.7] * 50).replace('"latencyMs": 0.7', '"latencyMs": -1'), ":2: query 1: latencyMs is '-1'"),
        ("trtexec", trace([0.7] * 3), "no query begins after the warm-up"),
        ("trtexec", "{}", "not a list"),
        ("trtexec", "[1]", ":2: query 1: startH2dMs"),
        ("edgetpu_compiler", OPERATORS.partition("CONV")[0], "no table of operators"),
        ("edgetpu_compiler", COMPILED.replace("Number of operations that will run on CPU: 9", ""), "its output cannot be used"),
        ("edgetpu_compiler", "hello", "does not tell its version"),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_and_line(tool: str, text: str, said: str, tmp_path: Path) -> None:
    """The error names the file, the line where there is one, what is wrong, and what to do."""
    with pytest.raises(FleetmarkError) as caught:
        read(tool, text, tmp_path)
    assert f"{tmp_path / 'told'}" in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.next


@given(st.sampled_from(list(foreign.TOOLS)), st.data())
def test_a_damaged_file_is_read_or_refused(tool: str, data: st.DataObject) -> None:
    """Cut anywhere or with any text put in, a file gives finite numbers or a FleetmarkError, never anything else."""
    whole = {"benchmark_app": REPORT.format(**SYNC), "benchmark_model": LOG.format(more=MORE), "trtexec": trace([0.7] * 8)}.get(
        tool, COMPILED
    )
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.text(max_size=12)) + whole[at + data.draw(st.integers(0, 12)) :]
    module = __import__(f"controller.foreign.{tool}", fromlist=["read"])
    try:
        found = module.read(foreign.Source(Path("told"), damaged, "0" * 64))
    except FleetmarkError:
        return
    assert all(np.isfinite(values).all() for values in found.values.values())


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound it is refused."""
    monkeypatch.setattr(foreign, "MAX_BYTES", 100)
    with pytest.raises(FleetmarkError, match="larger than"):
        read("trtexec", trace([0.7] * 8), tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with a run of ours: the same model and device, slower than what trtexec will say."""
    folder = tmp_path / "results"
    keep(run_of((cell("nano", "int8", "tflite", 1, median_s=5e-3), cell("nano", "fp32", "tflite", 2, median_s=5e-3))), folder)
    return folder


def foreign_rows(record: RunRecord) -> list[Row]:
    return [row for row in rows(record) if row.protocol]


def test_foreign_rows_are_marked_and_never_ranked_or_compared(results: Path, tmp_path: Path) -> None:
    """A trace that is faster than all of ours is in the table with its percentiles and no interval; verdict and judgement leave it out."""
    path = tmp_path / "times.json"
    path.write_text(trace([0.7 + 0.001 * at for at in range(405)]))
    before = history.load(Store.open(results), "latest")
    record = imported(results, path, "trtexec", "--run", "latest")
    found = foreign_rows(record)
    assert (rows(record)[: len(rows(before))], record.finished_at) == (rows(before), before.finished_at)
    assert {(row.protocol, row.device, row.backend, row.status) for row in found} == {("trtexec", "nano", "tensorrt tool=trtexec", "valid")}
    head = {row.metric: row for row in found}["latency_p90_s"]
    assert (head.value, head.low, head.n, head.reason) == (pytest.approx(1.064e-3), None, 400, "foreign protocol")
    decided = verdict(record, rows(record))
    assert decided.foreign
    assert dataclasses.replace(decided, foreign=False) == verdict(before, rows(before))
    ours = next(row for row in rows(record) if row.metric == "latency_p90_s" and not row.protocol)
    assert judge(ours, head).reasons == judge(head, ours).reasons == ("foreign protocol",)


def test_a_file_is_imported_once(results: Path, tmp_path: Path) -> None:
    """A second time it is refused, with the run; another file of the same program is another launch of the cell."""
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=MORE))
    imported(results, path, "benchmark_model", "--run", "latest")
    names = ("--from", "benchmark_model", "--device", "nano", "--model", "lenet", "--variant", "int8", "--run", "latest")
    again = CliRunner().invoke(app, ["import", str(path), *names, "--results", str(results)])
    assert "already" in str(again.exception)
    path.write_text(LOG.format(more=MORE).replace("median=2781", "median=2983"))
    record = imported(results, path, "benchmark_model", "--run", "latest")
    (metrics,) = by_cell(foreign_rows(record)).values()
    assert (metrics["latency_p50_s"].value, metrics["latency_p50_s"].n) == (pytest.approx(0.002882), 674)
    assert metrics["latency_p90_s"].reason == "not told; p50 latency 2.88 ms"


def test_a_new_run_holds_only_what_was_told(tmp_path: Path) -> None:
    """Without --run there is a finished run of one cell whose launch names file and digest; nothing is ranked, and it is never resumed."""
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=MORE))
    record = imported(tmp_path / "new", path, "benchmark_model")
    assert verdict(record, rows(record)).sentences() == [NOTHING_OURS]
    details = record.cells[0].launches[0].details
    assert (details["foreign"], details["file"]) == ("benchmark_model", "printed.txt")
    assert details["file_sha256"] == foreign.read(path, "benchmark_model")[0].sha256
    mean = {row.metric: row for row in rows(record)}["latency_mean_s"]
    assert mean.message.startswith("standard deviation 1190 µs")
    resumed = CliRunner().invoke(app, ["run", "--resume", record.id, "--results", str(tmp_path / "new")])
    assert "imported" in str(resumed.exception)


def test_a_percentile_of_too_few_queries_is_not_told(tmp_path: Path) -> None:
    """A p95 that the tool printed of 40 inferences is left out, as ours would be."""
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=MORE).replace("count=337", "count=40"))
    found = {row.metric: row for row in rows(imported(tmp_path / "new", path, "benchmark_model"))}
    assert (found["latency_p95_s"].value, found["latency_p95_s"].reason) == (None, "n too small")
    assert found["latency_p50_s"].value == pytest.approx(0.002781)


def test_a_file_that_cannot_be_used_leaves_no_store(tmp_path: Path) -> None:
    """A folder without results is as it was: the file is read before anything is made."""
    names = ("--from", "trtexec", "--device", "nano", "--model", "lenet", "--variant", "int8")
    done = CliRunner().invoke(app, ["import", str(tmp_path / "missing"), *names, "--results", str(tmp_path / "new")])
    assert "cannot read" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_takes_no_import(tmp_path: Path) -> None:
    """It would not be resumed any more: the error says to end it first."""
    keep(dataclasses.replace(run_of((cell("nano", "int8", "tflite", 1),)), finished_at=None), tmp_path / "results")
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=MORE))
    names = ("--from", "benchmark_model", "--device", "nano", "--model", "lenet", "--variant", "int8", "--run", "latest")
    done = CliRunner().invoke(app, ["import", str(path), *names, "--results", str(tmp_path / "results")])
    assert "--resume" in getattr(done.exception, "next", "")


@pytest.mark.parametrize("name", ["", "a\x1b[2Jb", "x" * 81])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing is written for a device without a name, with a terminal's escapes in it, or with a very long one."""
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=MORE))
    command = ["import", str(path), "--from", "benchmark_model", "--device", name, "--model", "m", "--variant", "v"]
    done = CliRunner().invoke(app, [*command, "--results", str(tmp_path / "results")])
    assert "--device" in str(done.exception)
    assert not (tmp_path / "results").exists()


def test_the_report_says_what_is_foreign_and_counts_it_nowhere(results: Path, tmp_path: Path) -> None:
    """The mean with its spread stands in the latencies, marked; the terminal's matrix has the word; ours are counted without it."""
    path = tmp_path / "printed.txt"
    path.write_text(LOG.format(more=""))
    record = imported(results, path, "benchmark_model", "--run", "latest")
    shown = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", render(record))).split())
    assert "foreign protocol; standard deviation 1190 µs" in shown
    assert "2.94 ms" in shown
    assert "2 of 2 valid cells have 3 or more valid launches" in shown
    out = io.StringIO()
    Console(file=out, width=200).print(summary(record, rows(record)))
    assert "tflite tool=benchmark_model (foreign protocol)" in " ".join(out.getvalue().split())
    assert "2 valid" in out.getvalue()
