"""The verdict that the page's script reaches is the one that reports.comparison and reports.verdict reach, on every pair of rows."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium
from factory_runs import cell, mixed_run, run_of
from playwright.sync_api import Page
from scipy.special import stdtrit
from test_energy_section import mixed_power

from reports import format as fmt
from reports import page
from reports.comparison import judge, known_floors
from reports.live import live
from reports.records import NoiseFloor, RunRecord
from reports.table import Row, rows, to_json
from reports.verdict import verdict

SCRIPT = (Path(page.__file__).parent / "templates" / "verdict.js").read_text("utf-8")
OTHER = {"protocol": "trtexec", "usb_mbps": 480.0, "model": "other", "workload": "offline", "boundary": "wall"}
METRICS = ("latency_p90_s", "latency_p50_s", "throughput_per_s", "energy_net_j", "size_bytes")


@pytest.fixture(scope="module")
def script() -> Iterator[Page]:
    """An empty page that has loaded verdict.js."""
    with chromium() as browser:
        tab = browser.new_page()
        tab.evaluate(f"globalThis.verdict = (() => {{ {SCRIPT}; return verdict; }})()")
        yield tab


def many_kinds() -> RunRecord:
    """The mixed run beside cells with few and with more launches, equal ones, a second label, two power boundaries; a floor of a device."""
    mixed, power = mixed_run(), mixed_power()
    launches = tuple(cell("pi-c", f"v{at}", "tflite", at, median_s=9e-4 * (1 + 0.01 * at), launches=at) for at in range(1, 8))
    twin = cell("pi-a", "int8 (A/A)", "tflite", 21, median_s=9e-4)
    (first,) = run_of((cell("pi-c", "same", "openvino", 5),)).cells
    same = dataclasses.replace(first, id="same", cell=first.cell._replace(variant="again"))
    late = tuple(dataclasses.replace(one, round=one.round + 7) for one in first.launches)
    shifted = dataclasses.replace(first, id="shifted", cell=first.cell._replace(variant="later"), launches=late)
    cells = (*mixed.cells, *launches, twin, first, same, shifted, *(one for one in power.cells if one.cell.device != "laptop"))
    run = run_of(cells)
    return dataclasses.replace(run, floors={"pi-a": NoiseFloor(0.11, 3)})


def judged_by_script(script: Page, table: list[Row], run: RunRecord, pairs: list[tuple[Row, Row]]) -> list[dict[str, Any]]:
    """What `judge` of verdict.js says of the pairs, which are given by position in the exported rows."""
    at = {id(row): number for number, row in enumerate(table)}
    document = {
        "rows": json.loads(json.dumps(to_json(table, run)))["rows"],
        "pairs": [(at[id(one)], at[id(two)]) for one, two in pairs],
        "rules": live(run, table),
    }
    return script.evaluate("({rows, pairs, rules}) => pairs.map(([one, two]) => verdict.judge(rows[one], rows[two], rules))", document)


def test_every_pair_is_judged_alike(script: Page) -> None:
    """Over thousands of pairs the word, the reasons and the floor are the same, and ratio and interval to 1e-9."""
    run = many_kinds()
    table = rows(run)
    table += [dataclasses.replace(table[0], **{name: value}) for name, value in OTHER.items()]
    table += [dataclasses.replace(table[0], usb_mbps=5000.0)]
    floors = known_floors(run, table)
    chosen = [[row for row in table if row.metric == metric] for metric in METRICS]
    pairs = [pair for each in chosen for pair in itertools.permutations(each, 2)]
    pairs += [(table[0], row) for row in table[:40]] + list(itertools.permutations(table[-6:], 2))
    found = judged_by_script(script, table, run, pairs)
    words = set[str]()
    for (one, two), there in zip(pairs, found, strict=True):
        here = judge(one, two, floors)
        words |= {here.verdict, *here.reasons}
        assert (there["verdict"], there["reasons"]) == (here.verdict, list(here.reasons)), (one, two)
        assert there["floor"] == pytest.approx(here.floor, rel=1e-12)
        assert (there["comparison"] is None) == (here.comparison is None)
        if here.comparison:
            for part in ("ratio", "low", "high"):
                assert there["comparison"][part] == pytest.approx(getattr(here.comparison, part), rel=1e-9)
    assert len(pairs) > 5000
    assert {"faster", "slower", "tied", "n too small", "emulated", "unsteady", "failed"} <= words
    assert {"another metric", "another model", "another workload", "foreign protocol", "other boundary", "other USB speed"} <= words


def test_every_ranking_is_told_in_the_same_words(script: Page) -> None:
    """Best, tied, slower and the two sentences that tell them: of the whole run, and of each device alone."""
    run = many_kinds()
    for some in (run, *(dataclasses.replace(run, cells=tuple(c for c in run.cells if c.cell.device == name)) for name in run.devices)):
        table = rows(some)
        rules = live(some, table)
        ranked = [row for row in json.loads(json.dumps(to_json(table, some)))["rows"] if row["metric"] == "latency_p90_s"]
        ranked = [row for row in ranked if not rules["cells"][row["cell"]]["twin"]]  # pyright: ignore
        there = script.evaluate(
            """({ranked, rules}) => verdict.rank(ranked, rules).map((standings) => ({
              relations: standings.map(({row, relation}) => [row.cell, relation]),
              sentences: verdict.sentences(
                standings, rules, (row) => rules.shown[row.cell][row.metric], (row) => rules.cells[row.cell].name),
            }))""",
            {"ranked": ranked, "rules": rules},
        )
        findings = verdict(some, table).findings
        assert [one["relations"] for one in there] == [[[each.row.cell, each.relation] for each in one.standings] for one in findings]
        assert [one["sentences"] for one in there] == [list(one.sentences[:2]) for one in findings]


def test_the_quantile_of_student_is_that_of_scipy(script: Page) -> None:
    """From 1 to 5,000 degrees of freedom, fractional ones too, to 1e-11."""
    freedoms = [1, 2, 3, 4, 9, 100, 5000, *np.random.default_rng(1).uniform(1, 60, 200).tolist()]
    found = script.evaluate("(freedoms) => freedoms.map(verdict.tQuantile)", freedoms)
    assert found == pytest.approx(stdtrit(freedoms, 0.975).tolist(), rel=1e-11)


def test_a_ratio_is_shown_alike(script: Page) -> None:
    """Three significant digits, thousands in groups, from a millionth to millions."""
    numbers = [0.0, 1.0, 9.995001, 99.95001, 999.5001, 1234567.0, *np.exp(np.random.default_rng(2).uniform(-14, 14, 500)).tolist()]
    assert script.evaluate("(numbers) => numbers.map(verdict.ratio)", numbers) == [fmt.ratio(number) for number in numbers]
