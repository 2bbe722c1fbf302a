"""Trade-offs: who is on the frontier, tied with it, or dominated by whom; what is never ranked; what is never mixed."""

import dataclasses
import re

import numpy as np
import pytest
from factory_runs import SIZES, cell, charts, mixed_run, run_of
from test_energy_section import mixed_power, powered
from test_report import words

from agent.schema import cell_id
from reports.page import render
from reports.pareto import Pairing, pairings
from reports.records import CellRecord, Gate, Price, RunRecord
from reports.table import rows
from reports.verdict import verdict


def found(run: RunRecord) -> dict[str, Pairing]:
    """The pairings by title."""
    return {pairing.title: pairing for pairing in pairings(run, rows(run))}


def standings(pairing: Pairing) -> dict[str, str]:
    """Each cell's standing by its device and variant."""
    return {f"{point.row.device} {point.row.variant}": point.standing for point in pairing.points}


def timed(device: str, variant: str, medians_s: list[float], size_bytes: int) -> CellRecord:
    """A cell with a launch for each median, all its latencies exactly that."""
    made = cell(device, variant, "tflite", 1, launches=len(medians_s))
    launches = [
        dataclasses.replace(launch, values={**launch.values, "latency_s": np.full(400, median_s)})
        for launch, median_s in zip(made.launches, medians_s, strict=True)
    ]
    return dataclasses.replace(made, size_bytes=size_bytes, launches=tuple(launches))


def test_frontier_tied_and_dominated() -> None:
    """Slower and larger is dominated by the one that is neither; an interval that reaches the fastest's time ties one of the same size."""
    small, fast = timed("a", "int8", [4e-3] * 3, 1000), timed("a", "fp32", [1e-3] * 3, 4000)
    spread, large = timed("b", "fp32", [0.9e-3, 1.1e-3, 1.3e-3], 4000), timed("b", "fp16", [2e-3] * 3, 9000)
    pairing = found(run_of((small, fast, spread, large)))["model size"]
    assert standings(pairing) == {"a int8": "frontier", "a fp32": "frontier", "b fp32": "tied", "b fp16": "dominated"}
    assert [(point.row.device, point.row.variant, point.number) for point in pairing.points][:3] == [
        ("a", "fp32", 1),
        ("a", "int8", 2),
        ("b", "fp32", 3),
    ]
    (dominated,) = pairing.of("dominated")
    assert dominated.by is not None
    assert (dominated.by.device, dominated.by.variant) == ("a", "fp32")


def test_what_the_verdict_calls_tied_dominates_nobody() -> None:
    """Of the same size: 2 % slower is below the floor; 30 % slower than what is 20 % unsure of itself is not resolved; 60 % is."""
    for fastest, others in (
        ([1e-3] * 3, {"tied": 1.02e-3, "dominated": 1.04e-3}),
        ([0.9e-3, 1e-3, 1.1e-3], {"tied": 1.2e-3, "dominated": 1.6e-3}),
    ):
        cells = [timed("a", "fp32", fastest, 4000), *(timed("b", name, [median_s] * 3, 4000) for name, median_s in others.items())]
        run = run_of(tuple(cells))
        assert standings(found(run)["model size"]) == {"a fp32": "frontier", "b tied": "tied", "b dominated": "dominated"}
        (ranking,) = verdict(run, rows(run)).findings
        assert [one.relation for one in ranking.standings] == ["best", "tied", "slower"]


def test_a_lead_that_is_not_resolved_is_said_of_a_cell_on_the_frontier() -> None:
    """Six times as slow and better only within noise: in energy it is on the frontier by its value, and who beats it is told."""
    fast, slow = (powered(timed("a", variant, [pace_s] * 3, 4000)) for variant, pace_s in (("fp32", 1e-3), ("fp16", 6e-3)))
    factors = (0.99, 0.998, 1.005)
    scaled = [
        dataclasses.replace(one, values={**one.values, "power_0_uw": factor * one.values["power_0_uw"]})
        for one, factor in zip(slow.launches, factors, strict=True)
    ]
    pairing = found(run_of((fast, dataclasses.replace(slow, launches=tuple(scaled)))))["energy per inference, gross, board"]
    assert standings(pairing) == {"a fp32": "frontier", "a fp16": "frontier"}
    assert [point.by and point.by.variant for point in pairing.points] == [None, "fp32"]
    small, fast = timed("a", "int8", [4e-3] * 3, 1000), timed("a", "fp32", [1e-3] * 3, 4000)
    assert [point.by for point in found(run_of((small, fast)))["model size"].points] == [None, None]


def test_a_frontier_has_no_invalid_emulated_or_foreign_cell() -> None:
    """However fast they are: an unsteady cell, one on an emulated device and one of another program are off the frontier."""
    slow = timed("real", "int8", [9e-3] * 3, 9000)
    unsteady = dataclasses.replace(cell("real", "fp16", "tflite", 2, status="unsteady"), size_bytes=10)
    emulated = timed("qemu-pi", "int8", [1e-6] * 3, 10)
    other = timed("real", "fp32", [1e-6] * 3, 10)
    told = other.cell._replace(options={"tool": "benchmark_app"})
    foreign = dataclasses.replace(other, id=cell_id(told), cell=told)
    run = run_of((slow, unsteady, emulated, foreign))
    pairing = found(run)["model size"]
    expected = {"real int8": "frontier", "real fp16": "not valid", "qemu-pi int8": "emulated", "real fp32": "foreign"}
    assert standings(pairing) == expected
    assert not pairing.emulated


def test_emulated_devices_alone_have_a_frontier_that_says_so() -> None:
    """Without a real device the emulated ones are ranked among themselves, and the page says that they are emulated."""
    run = run_of(tuple(cell("qemu-pi", variant, "tflite", at) for at, variant in enumerate(SIZES)))
    assert found(run)["model size"].emulated
    page = render(run)
    assert "emulated devices only" in words(page[page.index('<section id="pareto"') : page.index('<section id="latency"')])


def test_a_device_that_runs_the_same_variant_slower_is_not_tied_by_its_accuracy() -> None:
    """The interval of an accuracy is no advantage over a cell of the same variant, which answers the same."""
    run = run_of(tuple(cell(device, "int8", "tflite", 1, median_s=pace) for device, pace in (("a", 1e-4), ("b", 9e-4))))
    assert standings(found(run)["accuracy"]) == {"a int8": "frontier", "b int8": "dominated"}


def test_boundaries_and_currencies_are_never_mixed() -> None:
    """A pairing for each power boundary and for each currency in which prices differ, each with its devices only."""
    run = mixed_power()
    prices = {"laptop": Price(900.0, "EUR"), "pi-a": Price(60.0, "USD"), "plain": Price(35.0, "USD")}
    devices = {name: dataclasses.replace(device, price=prices[name]) for name, device in run.devices.items()}
    made = found(dataclasses.replace(run, devices=devices))
    inside = {title: {point.row.device for point in pairing.points} for title, pairing in made.items()}
    assert inside["energy per inference, gross, board"] == {"pi-a"}
    assert inside["energy per inference, gross, wall"] == {"laptop"}
    assert "device price in EUR" not in inside
    assert inside["device price in USD"] == {"pi-a", "plain"}


@pytest.fixture(scope="module")
def limited() -> tuple[RunRecord, str]:
    """The mixed run with a gate on the latency of the laptop and one on the size of no device, and its page."""
    gates = (
        Gate("laptop", "latency_p90_s", 1e-4, None, "latency_p90_us at most 100", ("laptop",)),
        Gate("none", "size_bytes", 200_000, None, "size_kb at most 200", ()),
    )
    run = dataclasses.replace(mixed_run(), gates=gates)
    return run, render(run)


def test_the_chart_shows_standings_in_words_and_the_gates_that_mean_its_devices(limited: tuple[RunRecord, str]) -> None:
    """The legend names what shapes mean, the numbers of the frontier are beside its points, and one of the two limits is a line."""
    run, _ = limited
    table = rows(run)
    drawn = charts(table, pairings(run, table))
    svg = drawn["pareto-1"].svg
    assert all(f">{word}</text>" in svg for word in ("frontier", "dominated", "not valid", "emulated", "1"))
    assert "latency_p90_us at most 100 (laptop)" in svg
    assert "size_kb" not in svg
    assert {datum["id"] for datum in drawn["pareto-1"].spec["datasets"]["points"]} <= {record.id for record in run.cells}


def test_the_page_has_every_cell_of_a_pairing_with_its_standing(limited: tuple[RunRecord, str]) -> None:
    """26 cells have latency and size: one on the frontier, 20 dominated by it, one unsteady and four emulated."""
    run, page = limited
    section = re.findall(r'<section id="pareto">.*?</section>', page, re.DOTALL)[0]
    sizes = section[section.index("Model size") : section.index("Accuracy")]
    assert len(re.findall(r"<tr data-cell", sizes)) == len(found(run)["model size"].points) == 26
    text = words(sizes)
    assert text.count("dominated by laptop · int8 · onnxruntime") == 20
    assert text.count("emulated, not ranked") == 4
