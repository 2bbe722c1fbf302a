"""Gates are judged by the table: held, broken, not measured or not judged, how surely, and which device is the cheapest that keeps them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from factory_runs import CRASH, NO_ROUTE, UNSUPPORTED, broken, cell, mixed_run, run_of
from test_report import words

from agent.schema import Workload, cell_id
from controller import gate_file
from controller import gates as controller_gates
from controller.errors import ConfigError, ExitCode
from reports import format as fmt
from reports.baseline import against
from reports.cheapest import Answer, gated
from reports.comparison import TWIN, UNSENSED
from reports.gates import OUTCOMES, Judged, Ruling, rulings
from reports.metrics import METRICS
from reports.page import render
from reports.records import CellRecord, DeviceRecord, Gate, Price, RunRecord
from reports.summary import gate_lines
from reports.table import Row, rows
from reports.verdict import verdict

P90 = "latency_p90_s"
MIXED = mixed_run()
LAPTOP = cell("laptop", "int8", "tflite", 1)


def gate(metric: str, at_most: float | None = None, at_least: float | None = None, devices: tuple[str, ...] = ("laptop",)) -> Gate:
    return Gate("all", metric, at_most, at_least, f"{metric} within limits", devices)


def gated_run(*cells: CellRecord, gates: tuple[Gate, ...], prices: Mapping[str, Price] | None = None) -> RunRecord:
    run = run_of(cells)
    devices = {name: replace(device, price=(prices or {}).get(name)) for name, device in run.devices.items()}
    return replace(run, devices=devices, gates=gates)


def ruled(run: RunRecord) -> list[Ruling]:
    return rulings(run, rows(run))


def only(run: RunRecord) -> Judged:
    ((one,),) = (ruling.cells for ruling in ruled(run))
    return one


def answers(run: RunRecord) -> tuple[Answer, ...]:
    return gated(run, rows(run)).answers


def row_of(record: CellRecord, metric: str = P90) -> Row:
    (row,) = (row for row in rows(run_of((record,))) if row.metric == metric)
    return row


def between(one: float | None, other: float | None) -> float:
    assert one is not None
    assert other is not None
    return (one + other) / 2


@pytest.mark.parametrize(
    ("ends", "outcome", "resolved"),
    [
        (("high", "beyond"), "held", True),
        (("value", "high"), "held", False),
        (("low", "value"), "broken", False),
        (("zero", "low"), "broken", True),
    ],
)
def test_a_limit_is_held_or_broken_and_resolved_where_the_interval_is_on_one_side(
    ends: tuple[str, str], outcome: str, resolved: bool
) -> None:
    """Wherever the limit lies beside the value and its interval, outcome, certainty and words agree."""
    row = row_of(LAPTOP)
    points = {"zero": 0.0, "low": row.low, "value": row.value, "high": row.high, "beyond": 1.0}
    one = only(gated_run(LAPTOP, gates=(gate(P90, between(points[ends[0]], points[ends[1]])),)))
    assert (one.outcome, one.resolved, one.fails) == (outcome, resolved, outcome == "broken")
    assert ("its interval reaches over the limit" in one.sentence()) == (not resolved)
    assert fmt.value(P90, row.value) in one.sentence()


def test_a_value_on_the_limit_keeps_it() -> None:
    """At most and at least mean just that."""
    size = gate("size_bytes", 68_212, 68_212)
    assert only(gated_run(LAPTOP, gates=(size,))).outcome == "held"
    assert only(gated_run(LAPTOP, gates=(replace(size, at_most=68_211),))).outcome == "broken"
    assert only(gated_run(LAPTOP, gates=(replace(size, at_least=68_213, at_most=None),))).outcome == "broken"


def test_two_bounds_are_resolved_together() -> None:
    """Held for sure is the interval within both, broken for sure is all of it beyond one."""
    row = row_of(LAPTOP, "accuracy")
    low, value, high = row.low or 0.0, row.value or 0.0, row.high or 0.0
    cases = [((1.0, low), "held", True), ((1.0, between(low, value)), "held", False), ((low / 2, 0.0), "broken", True)]
    for (at_most, at_least), outcome, resolved in [*cases, ((1.0, between(high, 1.0)), "broken", True)]:
        one = only(gated_run(LAPTOP, gates=(gate("accuracy", at_most, at_least),)))
        assert (one.outcome, one.resolved) == (outcome, resolved)


def test_a_number_that_is_missing_fails_and_says_why() -> None:
    """No sensor, no samples enough: not measured is no pass."""
    few = cell("laptop", "int8", "tflite", 1, samples=20)
    for record, metric, why in [
        (LAPTOP, "energy_net_j", "no power sensor"),
        (few, "latency_p99_s", "n too small: latency_p99_s needs 299"),
    ]:
        one = only(gated_run(record, gates=(gate(metric, 1.0),)))
        assert (one.outcome, one.fails, one.resolved) == ("not measured", True, None)
        assert why in one.sentence()


def test_a_number_without_an_interval_says_so() -> None:
    """Two launches give none; a file's size needs none."""
    two = cell("laptop", "int8", "tflite", 1, launches=2)
    assert only(gated_run(two, gates=(gate(P90, 1.0),))).note() == "no interval: fewer than 3 launches"
    assert only(gated_run(two, gates=(gate("size_bytes", 1e6),))).note() == ""


@pytest.mark.parametrize("status", ["unsteady", "throttled", "failed", "unsupported", "unreachable"])
def test_a_cell_that_is_not_valid_is_judged_by_no_gate(status: str) -> None:
    """Whatever its numbers, it neither keeps nor breaks: its status is told instead."""
    fault = {"unsupported": UNSUPPORTED, "unreachable": NO_ROUTE}.get(status, CRASH)
    slow = status in ("unsteady", "throttled")
    record = (
        cell("laptop", "int8", "tflite", 1, status=status) if slow else broken("laptop", "int8", "tflite", status, fault, launched=False)
    )
    one = only(gated_run(record, gates=(gate(P90, 1e-9),)))
    assert (one.outcome, one.fails, one.note()) == ("not judged", False, f"the cell is {status}")


def labelled(record: CellRecord, suffix: str) -> CellRecord:
    return replace(record, id=record.id + suffix, cell=record.cell._replace(variant=record.cell.variant + suffix))


def test_second_labels_of_a_cell_are_not_judged_again() -> None:
    """The cell without its sensor has no energy, which is no fault of it."""
    run = gated_run(LAPTOP, labelled(LAPTOP, TWIN), labelled(LAPTOP, UNSENSED), gates=(gate("energy_net_j", 1.0),))
    assert [one.row.variant for one in ruled(run)[0].cells] == ["int8"]


def driven(record: CellRecord, workload: str) -> CellRecord:
    named = record.cell._replace(workload=Workload(workload, {}))
    return replace(record, id=cell_id(named), cell=named)


def test_a_gate_on_what_one_workload_measures_means_that_workload() -> None:
    """A rate within the bound is asked of `server` alone; a latency of every workload."""
    cells = (LAPTOP, driven(LAPTOP, "server"), driven(LAPTOP, "sustained"))
    gates = tuple(gate(metric, at_least=1.0) for metric in ("server_rate_per_s", "sustained_slowdown", P90))
    found = ruled(gated_run(*cells, gates=gates))
    assert [[one.row.workload for one in ruling.cells] for ruling in found] == [
        ["server"],
        ["sustained"],
        [row.cell.workload.name for row in cells],
    ]


def test_a_gate_may_be_for_some_models_variants_and_workloads() -> None:
    """All that it names must fit; what it names none of, it leaves to all, and its words say so."""
    cells = (LAPTOP, cell("laptop", "fp32", "tflite", 2), driven(LAPTOP, "offline"))
    plain = gate(P90, 1.0)
    for scope, count in [
        ({"variants": ("int8", "fp16")}, 2),
        ({"workloads": ("offline",)}, 1),
        ({"models": ("lenet",), "workloads": ("single_stream",)}, 2),
        ({"models": ("other",)}, 0),
    ]:
        (ruling,) = ruled(gated_run(*cells, gates=(replace(plain, **scope),)))
        assert len(ruling.cells) == count
        assert all(f"{name} {', '.join(names)}" in ruling.sentence() for name, names in scope.items())


def test_a_gate_means_its_devices_and_says_where_it_means_none() -> None:
    """Cells of others are not its own, and one without any judges nothing, which is no failure."""
    run = replace(MIXED, gates=(gate(P90, 1.0, devices=("pi-a",)), gate(P90, 1e-9, devices=("nano",))))
    first, second = ruled(run)
    assert {one.row.device for one in first.cells} == {"pi-a"}
    assert (second.cells, second.outcome, second.tightest) == ((), "not judged", None)
    assert "no cell that it means" in second.sentence()


def test_a_ruling_counts_every_cell_once_and_names_the_worst_first() -> None:
    """Counts add up to the cells; the failing ones come farthest over the limit first, the sentence has the counts."""
    run = replace(MIXED, gates=(gate(P90, 1.2e-3, devices=tuple(MIXED.devices)),))
    (ruling,) = ruled(run)
    assert sum(ruling.counts.values()) == len(ruling.cells) == len(MIXED.cells)
    assert tuple(ruling.counts) == OUTCOMES
    values = [one.row.value or 0.0 for one in ruling.failing]
    assert len(values) > 2
    assert values == sorted(values, reverse=True)
    assert ruling.tightest == ruling.failing[0]
    assert f"held by {ruling.counts['held']} of {ruling.counts['held'] + ruling.counts['broken']} cells" in ruling.sentence()


PI_A, PI_C = cell("pi-a", "int8", "tflite", 3, median_s=9e-4), cell("pi-c", "int8", "tflite", 4, median_s=8e-4)
DEVICES = ("laptop", "pi-a", "pi-c")
DOLLARS = {"laptop": Price(900.0, "USD"), "pi-a": Price(35.0, "USD"), "pi-c": Price(59.9, "USD")}


def test_the_cheapest_device_that_keeps_every_gate_is_the_answer() -> None:
    """By price, the next dearer one is the runner-up, and whether their speeds differ is said; what misses a gate is counted."""
    run = gated_run(LAPTOP, PI_A, PI_C, gates=(gate(P90, 0.1, devices=DEVICES),), prices=DOLLARS)
    (answer,) = answers(run)
    assert answer.best
    assert answer.runner_up
    assert answer.judgement
    assert (answer.best.device, answer.runner_up.device, answer.judgement.verdict, answer.missing) == ("pi-a", "pi-c", "faster", 0)
    assert "the cheapest that keeps every gate is int8 on pi-a with tflite for 35 USD" in answer.sentence
    assert "pi-c with tflite for 59.90 USD" in answer.sentence
    assert answer.sentence.rstrip(".").endswith("resolved")


def test_a_device_that_breaks_any_gate_is_not_the_answer() -> None:
    """One of another selector counts too: what a gate of the coral breaks is not recommended for all."""
    gates = (gate(P90, 0.1, devices=DEVICES), Gate("pi-a", "size_bytes", 1.0, None, "size_bytes <= 1", ("pi-a",)))
    everything, of_pi = answers(gated_run(LAPTOP, PI_A, PI_C, gates=gates, prices=DOLLARS))
    assert everything.best
    assert (everything.best.device, everything.missing, everything.judged) == ("pi-c", 1, 3)
    assert "1 of 3 valid cells fails a gate" in everything.sentence
    assert (of_pi.best, of_pi.runner_up, of_pi.price) == (None, None, None)
    assert "no valid cell keeps every gate" in of_pi.sentence


@pytest.mark.parametrize("prices", [{}, {**DOLLARS, "pi-c": Price(59.9, "EUR")}, {"pi-a": DOLLARS["pi-a"]}])
def test_without_comparable_prices_the_fastest_is_the_answer(prices: dict[str, Price]) -> None:
    """None, several currencies, or a device without one: no price decides, and none is told."""
    (answer,) = answers(gated_run(LAPTOP, PI_A, PI_C, gates=(gate(P90, 0.1, devices=DEVICES),), prices=prices))
    assert answer.best
    assert (answer.best.device, answer.price) == ("laptop", None)
    assert "the fastest that keeps every gate" in answer.sentence
    assert "USD" not in answer.sentence
    assert ("Prices do not decide" in answer.sentence) is bool(prices)


def test_a_cell_without_the_number_that_it_is_ranked_by_is_not_the_answer() -> None:
    """A single sample gives no p90: such a cell may keep a gate on its size, and is neither fastest nor cheapest."""
    short = cell("laptop", "fp32", "tflite", 1, launches=1, samples=1)
    by_size = gate("size_bytes", 1e9, devices=DEVICES)
    (alone,) = answers(gated_run(short, gates=(by_size,), prices=DOLLARS))
    assert (alone.best, alone.missing) == (None, 0)
    assert "what keeps every gate has no number to rank by" in alone.sentence
    (both,) = answers(gated_run(short, PI_A, gates=(by_size,), prices={"laptop": DOLLARS["pi-a"], "pi-a": DOLLARS["laptop"]}))
    assert both.best
    assert both.best.device == "pi-a"
    assert "1 more keeps every gate without a number to rank by." in both.sentence


def test_a_tie_between_best_and_runner_up_is_said() -> None:
    """The same speed twice is not resolved; with too few launches nothing is."""
    twin = cell("pi-c", "int8", "tflite", 3, median_s=9e-4)
    for records, said in [((PI_A, twin), "not resolved"), ((PI_A, cell("pi-c", "int8", "tflite", 5, launches=2)), "n too small")]:
        (answer,) = answers(gated_run(*records, gates=(gate(P90, 0.1, devices=DEVICES),)))
        assert said in answer.sentence


def test_an_answer_whose_gate_is_not_resolved_says_which() -> None:
    """That the best keeps it is then only likely."""
    row = row_of(LAPTOP)
    (answer,) = answers(gated_run(LAPTOP, gates=(gate(P90, between(row.value, row.high)),)))
    assert f"That it keeps {P90} within limits is not resolved" in answer.sentence


def test_emulated_devices_are_the_answer_only_among_themselves() -> None:
    """Beside real devices they are not; alone they are, and are called emulated."""
    emulated = cell("qemu-pi", "int8", "tflite", 6, median_s=1e-6)
    gates = (gate(P90, 0.1, devices=("pi-a", "qemu-pi")),)
    (both,), (alone,) = (answers(gated_run(*cells, gates=gates)) for cells in ((PI_A, emulated), (emulated,)))
    assert both.best
    assert (both.best.device, both.runner_up, both.judged) == ("pi-a", None, 1)
    assert "qemu-pi (emulated)" in alone.sentence


def test_the_verdict_tells_the_budget_first_and_only_where_there_is_one() -> None:
    """Without gates it is what it was."""
    plain, bound = (verdict(run, rows(run)) for run in (MIXED, replace(MIXED, gates=(gate(P90, 0.1),))))
    assert bound.sentences()[0] == bound.gated.answers[0].sentence
    assert plain.sentences() == bound.sentences()[1:]
    assert (plain.gated.rulings, plain.gated.answers) == ((), ())


def said_first(run: RunRecord) -> tuple[str, str]:
    """The text of the page's verdict before what it says of the fastest cell, and from there on."""
    page = render(run)
    section = words(page[page.index('<section id="verdict"') :].partition("</section>")[0])
    head, _, rest = section.partition("Fastest valid cell: ")
    return head, rest


def test_the_page_is_headed_by_what_keeps_the_gates() -> None:
    """Not by the fastest cell where that breaks one, which comes second and says so; without a cell that keeps them, by that."""
    quick, slow = cell("laptop", "int8", "tflite", 1, median_s=1e-4), cell("pi-a", "int8", "tflite", 2, median_s=9e-4)
    gates = (
        Gate("all", P90, 0.1, None, "latency_p90_ms <= 100", DEVICES),
        Gate("laptop", "size_bytes", 1.0, None, "size_b <= 1", ("laptop",)),
    )
    run = gated_run(quick, slow, gates=gates, prices=DOLLARS)
    head, rest = said_first(run)
    assert "Cheapest that keeps every gate int8 on pi-a with tflite" in head
    assert "35 USD" in head
    assert "1 of 2 valid cells fails a gate." in head
    assert rest.startswith("int8 on laptop with tflite")
    assert "it fails size_b <= 1" in rest
    nobody, _ = said_first(replace(run, gates=(replace(gates[0], at_most=1e-9),)))
    assert "No valid cell keeps every gate latency_p90_ms <= 100 (all): held by 0 of 2 cells, 2 broken" in nobody


def test_the_terminal_names_some_failing_cells_and_counts_the_rest() -> None:
    """`check` names all of them."""
    found = ruled(replace(MIXED, gates=(gate(P90, 1e-9, devices=tuple(MIXED.devices)),)))
    ((_, some),), ((_, every),) = gate_lines(found, 3), gate_lines(found)
    assert (len(some), str(some[-1])) == (4, f"and {len(every) - 3} more: fleetmark check names them all")
    assert len(every) == found[0].counts["broken"] > 4


def test_every_metric_of_the_table_has_a_key_in_every_unit() -> None:
    """Whatever a row can be of, a gate can be on, and the limit comes out in the row's unit."""
    measures = controller_gates.MEASURES
    assert {measure.metric for measure in measures.values()} == METRICS.keys()
    for key, metric, si in [
        ("power_idle_mw", "power_idle_w", 2.5),
        ("pss_load_mb", "pss_load_bytes", 2.5e9),
        ("time_to_throttle_s", "time_to_throttle_s", 2500.0),
    ]:
        assert (measures[key].metric, measures[key].si(2500)) == (metric, si)


@pytest.mark.parametrize(
    ("statuses", "failing", "code"),
    [
        (("valid", "unsupported", "skipped"), 0, ExitCode.OK),
        (("valid",), 2, ExitCode.GATE_FAILED),
        (("valid", "throttled"), 0, ExitCode.INCOMPLETE),
        (("failed",), 1, ExitCode.GATE_FAILED),
        (("failed", "unreachable"), 1, ExitCode.UNREACHABLE),
    ],
)
def test_the_exit_code_is_the_gravest(statuses: tuple[str, ...], failing: int, code: ExitCode) -> None:
    """Unreachable before a broken gate before a cell that gave no valid number."""
    run = run_of(tuple(replace(LAPTOP, status=status) for status in statuses))
    assert controller_gates.exit_code(run, failing) == code


def written(tmp_path: Path, text: str) -> tuple[Gate, ...]:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    return gate_file.load(path)


def test_what_a_gate_is_for_is_written_beside_its_limits(tmp_path: Path) -> None:
    """Lists of names, for each limit of the selector."""
    found = written(tmp_path, "all: {variants: [int8, fp16], latency_p90_ms: 20, workloads: [offline], accuracy: {min: 0.9}}\n")
    assert [(one.metric, one.variants, one.workloads, one.models) for one in found] == [
        (P90, ("int8", "fp16"), ("offline",), ()),
        ("accuracy", ("int8", "fp16"), ("offline",), ()),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variants: int8", "`variants`: a list of names expected"),
        ("variants: []", "`variants` is empty"),
        ("variants: [int8, int8]", "`int8` stands here twice"),
        ("latency_p90_ms: [3]", "`latency_p90_ms`: a number"),
        ("variant: [int8]", "did you mean `variants`?"),
    ],
)
def test_what_a_gate_cannot_be_for_is_a_problem_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    """As strictly as all of the file."""
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, f"all: {{size_kb: 1, {text}}}\n")
    (problem,) = caught.value.problems
    assert problem.line == 1
    assert said in problem.message


def test_selectors_are_bound_to_the_devices_of_the_run() -> None:
    """By name, group, tag and kind; one with ! means the others."""
    devices = [DeviceRecord("a", "raspberry-pi", {"room": "1"}, None, ("pis",)), DeviceRecord("b", "generic", {"room": "2"}, None)]
    for selector, names in {
        "all": ("a", "b"),
        "a": ("a",),
        "pis": ("a",),
        "room=2": ("b",),
        "kind=generic": ("b",),
        "!pis": ("b",),
        "x": (),
    }.items():
        assert [one.devices for one in controller_gates.bind([replace(gate(P90, 1.0), selector=selector)], devices)] == [names]


def test_a_gate_without_a_cell_to_judge_counts_none_as_held() -> None:
    """Nor does a run of nothing speak of other programs, or of cells."""
    dead = broken("laptop", "fp32", "tflite", "unreachable", NO_ROUTE, launched=False)
    (ruling,) = ruled(gated_run(dead, gates=(gate(P90, 1.0),)))
    assert ruling.told() == "1 not judged"
    nothing = run_of(())
    assert verdict(nothing, rows(nothing)).sentences() == ["The run has no cell."]
    assert against(nothing, nothing).sentences()[1] == "Neither run has a cell."
