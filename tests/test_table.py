"""The table has every cell, gates percentiles by n, counts valid launches only and survives CSV and JSON; the verdict ranks it."""

import csv
import dataclasses
import io
import json
import unicodedata

import numpy as np
import pytest
from factory_runs import CRASH, SIZES, broken, cell, mixed_run, run_of
from hypothesis import given
from hypothesis import strategies as st

from agent.schema import STATUSES, Fault
from reports import format as fmt
from reports import text
from reports.metrics import METRICS
from reports.records import CellRecord
from reports.table import COLUMNS, Row, by_cell, heads, rows, to_csv, to_json
from reports.verdict import verdict


def metrics_of(*records: CellRecord) -> dict[str, Row]:
    """The rows of the last of these cells by metric."""
    return by_cell(rows(run_of(records)))[records[-1].id]


def test_every_cell_has_its_rows_whatever_became_of_it() -> None:
    """Each of the 32 cells, of five statuses, has one headline row; without a value it has the status, a reason and a sentence."""
    run = mixed_run()
    found = heads(rows(run))
    assert [row.cell for row in found] == [record.id for record in run.cells]
    assert {row.status for row in found} == {"valid", "unsteady", "failed", "unsupported", "unreachable"}
    empty = [row for row in found if row.value is None]
    assert len(empty) == 6
    assert {(row.status, row.reason) for row in empty} == {
        ("failed", "crash"),
        ("unsupported", "unsupported_op"),
        ("unreachable", "unreachable"),
    }
    assert all(row.message for row in empty)


@pytest.mark.parametrize("status", STATUSES)
def test_a_cell_of_any_status_without_launches_is_in_the_table(status: str) -> None:
    """Also one for which nobody recorded a fault."""
    record = dataclasses.replace(broken("pi-a", "fp32", "tflite", status, CRASH, launched=False), fault=None)
    assert [(row.status, row.value, row.reason) for row in rows(run_of((record,)))] == [(status, None, "no data")]


@pytest.mark.parametrize(("metric", "n"), [("latency_p50_s", 5), ("latency_p90_s", 29), ("latency_p95_s", 59), ("latency_p99_s", 299)])
def test_a_percentile_is_printed_from_its_n_on(metric: str, n: int) -> None:
    """With one sample fewer in each launch there is no number but the reason, however many samples there are together."""
    enough, short = (metrics_of(cell("laptop", "fp32", "tflite", 1, samples=samples))[metric] for samples in (n, n - 1))
    assert enough.value is not None
    assert enough.n == 3 * n
    assert (short.value, short.low, short.reason) == (None, None, "n too small")
    assert str(n) in short.message


def test_the_smallest_launch_decides() -> None:
    """One launch of 28 samples among large ones suppresses p90, not p50."""
    record, small = cell("laptop", "fp32", "tflite", 1), cell("laptop", "fp32", "tflite", 1, samples=28)
    found = metrics_of(dataclasses.replace(record, launches=(*record.launches[:2], small.launches[2])))
    assert found["latency_p90_s"].reason == "n too small"
    assert found["latency_p50_s"].value is not None


def test_the_runtimes_own_clock_has_its_row() -> None:
    """Where launches have it."""
    record = cell("laptop", "fp32", "tflite", 1)
    assert "runtime_latency_p50_s" not in metrics_of(record)
    timed = [dataclasses.replace(it, values={**it.values, "runtime_s": it.values["latency_s"] / 2}) for it in record.launches]
    found = metrics_of(dataclasses.replace(record, launches=tuple(timed)))
    assert found["runtime_latency_p50_s"].value == pytest.approx(found["latency_p50_s"].value / 2)


def test_values_are_those_of_the_raw_samples() -> None:
    """p90 is a pooled raw sample, throughput all queries over all wall time, the cold start the sum of its parts' means."""
    record = cell("laptop", "fp32", "tflite", 1)
    found = {name: row.value for name, row in metrics_of(record).items()}
    pooled = np.sort(np.concatenate([launch.values["latency_s"] for launch in record.launches]))
    windows = [launch.values["window_s"][0] for launch in record.launches]
    parts = [found[f"cold_start_{part}_s"] for part in ("process", "import", "load", "first_inference")]
    assert found["latency_p90_s"] == pooled[1079]
    assert found["throughput_per_s"] == pytest.approx(1200 / sum(windows))
    assert found["cold_start_s"] == pytest.approx(sum(part for part in parts if part is not None))
    assert found["size_bytes"] == SIZES["fp32"]


def test_only_valid_launches_are_counted() -> None:
    """An unsteady launch ten times as slow changes no figure of a cell with valid ones; a cell of unsteady ones shows them as such."""
    record = cell("laptop", "fp32", "tflite", 1)
    slow = cell("laptop", "fp32", "tflite", 2, median_s=1e-3, status="unsteady")
    both = metrics_of(dataclasses.replace(record, launches=(*record.launches, *slow.launches)))
    assert both == metrics_of(record)
    shown = metrics_of(slow)["latency_p90_s"]
    assert shown.status == "unsteady"
    assert shown.value == pytest.approx(1e-3, rel=0.2)


def test_fewer_than_three_launches_have_no_interval() -> None:
    """The value is there, low and high are not."""
    found = metrics_of(cell("laptop", "fp32", "tflite", 1, launches=2))
    assert all(found[name].low is None for name in ("latency_p90_s", "throughput_per_s", "peak_memory_bytes", "cold_start_s"))
    assert found["latency_p90_s"].value is not None


def test_accuracy_changes_against_the_same_device_and_backend() -> None:
    """int8 loses 11 samples and gains 3 of 1,000: -0.80 pp; without fp32 on its backend there is no change, and it says so."""
    reference, other = cell("laptop", "fp32", "tflite", 1), cell("laptop", "fp32", "onnxruntime", 1)
    change = metrics_of(reference, cell("laptop", "int8", "tflite", 2))["accuracy_change_pp"]
    assert change.value == pytest.approx(-0.8)
    assert change.low is not None
    assert change.high is not None
    assert change.low < -0.8 < change.high
    assert metrics_of(reference)["accuracy_change_pp"].reason == "reference"
    alone = metrics_of(other, cell("laptop", "int8", "tflite", 2))["accuracy_change_pp"]
    assert (alone.value, alone.reason) == (None, "no reference")


@pytest.mark.parametrize("raw", [np.inf, np.nan])
@pytest.mark.parametrize("metric", ["latency_s", "peak_memory_bytes", "drift_sqnr_db"])
def test_what_is_no_number_is_told_in_words(metric: str, raw: float) -> None:
    """Infinity and NaN in the raw values give no value, because JSON has none, but a reason; and the document can be written."""
    record = cell("laptop", "fp32", "tflite", 1)
    spoiled = [dataclasses.replace(launch, values={**launch.values, metric: np.full(300, raw)}) for launch in record.launches]
    run = run_of((dataclasses.replace(record, launches=tuple(spoiled)),))
    refused = [row for row in rows(run) if row.reason == "not a number"]
    assert len(refused) == (4 if metric == "latency_s" else 1)
    assert all(row.value is None and row.low is None for row in refused)
    json.dumps(to_json(rows(run), run), allow_nan=False)


def test_missing_and_empty_raw_values_are_missing_figures() -> None:
    """A launch without samples, window or parts leaves those figures out, and the cell keeps its headline row."""
    record = cell("laptop", "fp32", "tflite", 1)
    bare = [dataclasses.replace(launch, values={"latency_s": np.array([]), "window_s": np.array([0.0])}) for launch in record.launches]
    found = metrics_of(dataclasses.replace(record, launches=tuple(bare)))
    assert set(found) == {"latency_p90_s", "size_bytes"}


def test_an_emulated_device_is_labelled_on_every_number_and_never_ranked_with_hardware() -> None:
    """All its values carry the reason "emulated", hardware's never do, and no finding of the verdict holds both kinds."""
    table = rows(run_of((cell("laptop", "int8", "tflite", 1), cell("qemu-pi", "int8", "tflite", 2, median_s=1e-6))))
    valued = [row for row in table if row.value is not None]
    assert {("emulated" in row.reason) == (row.device == "qemu-pi") for row in valued} == {True}
    decided = verdict(run_of(()), table)
    assert [[one.row.device for one in finding.standings] for finding in decided.findings] == [["laptop"], ["qemu-pi"]]


def test_csv_and_json_carry_the_table_unchanged() -> None:
    """Parsed again, each CSV field and each JSON row equals the row it came from; the columns are the documented ones, in order."""
    run = mixed_run()
    table = rows(run)
    header, *lines = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert header == list(COLUMNS)
    document = json.loads(json.dumps(to_json(table, run), allow_nan=False))
    assert (document["schema"], document["version"]) == ("fleetmark.table", 1)
    for row, line, loaded in zip(table, lines, document["rows"], strict=True):
        fields = dict(zip(header, line, strict=True))
        for name in ("value", "low", "high"):
            assert (float(fields[name]) if fields[name] else None) == getattr(row, name) == loaded[name]
        assert (fields["unit"], fields["n"], fields["reason"]) == (METRICS[row.metric].unit, str(row.n), row.reason)
        assert loaded["per_launch"] == [list(pair) for pair in row.per_launch]


@given(st.text(max_size=120))
def test_hostile_names_cross_csv_as_one_harmless_field(name: str) -> None:
    """Whatever a device is called, its rows have every column, and no text field starts as a spreadsheet's formula does."""
    record = broken("pi-a", "fp32", "tflite", "failed", Fault(name, "load", name, name), launched=False)
    record = dataclasses.replace(record, cell=record.cell._replace(device=name, variant=name))
    lines = list(csv.reader(io.StringIO(to_csv(rows(run_of((record,)))), newline="")))
    assert [len(line) for line in lines] == [len(COLUMNS)] * 2
    assert not [field for field in lines[1] if field.startswith(("=", "+", "-", "@", "\t", "\r"))]


@given(st.text(), st.integers(8, 60))
def test_shown_text_is_visible_and_short(raw: str, limit: int) -> None:
    """A line has no control, format or surrogate character and no line break, and is not longer than asked; a log keeps line feeds."""
    shown, log = text.line(raw, limit), text.log(raw + "\u202e\n.")
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert len(shown) <= limit
    assert not {unicodedata.category(character) for character in log.replace("\n", "")} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert log.endswith("\\u202e\n.")


def test_logs_keep_their_end_their_lines_and_lose_their_colours() -> None:
    """Terminal escapes vanish, lines stay, and of a long log its last characters are shown with how many there were."""
    assert text.log("\x1b[31mred\x1b[0m\r\nnext\x07\n") == "red\nnext\\u0007"
    long = text.log("x" * 10_000_000 + "end", limit=50)
    assert long.endswith("end")
    assert "10,000,003" in long
    assert len(long) < 120


@pytest.mark.parametrize(
    ("factor", "launches", "relation"), [(1.02, 5, "tied"), (1.2, 5, "slower"), (1.2, 2, "not comparable")], ids=["below", "above", "few"]
)
def test_the_verdict_needs_launches_and_a_difference_above_the_floor(factor: float, launches: int, relation: str) -> None:
    """2 % is a tie however small the spread, 20 % is resolved, and with two launches nothing is."""
    first = cell("laptop", "int8", "tflite", 1, launches=launches)
    slower = [
        dataclasses.replace(launch, values={**launch.values, "latency_s": factor * launch.values["latency_s"]}) for launch in first.launches
    ]
    second = cell("laptop", "fp32", "tflite", 1)
    run = run_of((first, dataclasses.replace(second, launches=tuple(slower))))
    (finding,) = verdict(run, rows(run)).findings
    assert [one.relation for one in finding.standings] == ["best", relation]


def test_the_verdict_says_which_cell_how_sure_and_what_it_costs() -> None:
    """Winner, interval, resolved runner-up, loss of accuracy and the fastest cell without one are in its sentences; counts are complete."""
    run = mixed_run()
    decided = verdict(run, rows(run))
    spoken = " ".join(decided.findings[0].sentences)
    assert spoken.startswith(
        "int8 on laptop with onnxruntime is the fastest valid cell: p90 latency 57.1 µs (95 % interval 55.5 to 58.5 µs)."
    )
    for part in ("Runner-up: int8 on laptop with tflite, 75.2 µs, 1.32 times as long", "resolved.", "-0.80 pp", "int8-dynamic on laptop"):
        assert part in spoken
    assert dict(decided.counts) == {"valid": 25, "unsteady": 1, "failed": 1, "unsupported": 1, "unreachable": 4}


def test_without_a_valid_cell_the_verdict_points_to_the_failures() -> None:
    """Nothing is ranked, and the sentence says where to look."""
    run = run_of((broken("pi-a", "fp32", "tflite", "failed", CRASH, launched=True),))
    decided = verdict(run, rows(run))
    assert not decided.findings
    assert "failures" in decided.sentences()[0]


@pytest.mark.parametrize(
    ("metric", "number", "shown"),
    [
        ("latency_p90_s", 3.4249e-5, "34.2 µs"),
        ("latency_p90_s", 9.997e-4, "1.00 ms"),
        ("latency_p90_s", 12.5, "12.5 s"),
        ("latency_p90_s", 0.0, "0 s"),
        ("size_bytes", 812.0, "812 B"),
        ("size_bytes", 247_312.0, "247 kB"),
        ("peak_memory_bytes", 4.112e6, "4.11 MB"),
        ("throughput_per_s", 29_304.4, "29,304 /s"),
        ("accuracy", 0.912, "91.20 %"),
        ("accuracy_change_pp", 0.3, "+0.30 pp"),
        ("accuracy_change_pp", -0.0001, "0.00 pp"),
        ("drift_cosine", 0.99987, "0.99987"),
        ("drift_max_abs", 0.0412, "0.0412"),
        ("latency_p90_s", None, "-"),
    ],
)
def test_a_number_has_one_form(metric: str, number: float | None, shown: str) -> None:
    """Three significant digits and an SI unit for times and sizes, fixed decimals for shares, a sign for changes."""
    assert fmt.value(metric, number) == shown


def test_an_interval_has_the_unit_and_digits_of_its_value() -> None:
    """And one digit more where that tells its ends apart."""
    assert fmt.interval("latency_p90_s", 1.02e-3, 0.97e-3, 1.0741e-3) == "0.97 to 1.07 ms"
    assert fmt.interval("latency_p90_s", 1.02e-3, 1.0199e-3, 1.0201e-3) == "1.02 to 1.02 ms"
    assert fmt.interval("latency_p90_s", 1.02e-3, 1.0188e-3, 1.0219e-3) == "1.019 to 1.022 ms"
    assert fmt.interval("latency_p90_s", 1.02e-3, None, None) == ""
