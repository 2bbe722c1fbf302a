"""The duty cycle: idle all day and the inferences on top, in Python and in the page alike, each power boundary for itself."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import View, chromium, come_alive, opened, saved
from factory_runs import cell, run_of
from playwright.sync_api import Browser
from test_energy_section import mixed_power, powered
from test_report import words

from reports import page
from reports.duty_cycle import Duty, duty_cycles
from reports.page import render
from reports.table import rows

TEMPLATES = Path(page.__file__).parent / "templates"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def view(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """The report of cells measured on the board and at the wall, and of some without a sensor."""
    with opened(browser, saved(tmp_path_factory.mktemp("pages"), "power", render(mixed_power()))) as found:
        come_alive(found)
        yield found


def test_a_day_is_idle_power_and_the_inferences() -> None:
    """2 W idle and 0.3 J an inference, once a second: 48 Wh and 7.2 Wh; a battery of 110.4 Wh lasts two days."""
    duty = Duty("a", 2.0, 0.3, None)
    assert duty.daily_wh(3600) == pytest.approx(55.2)
    assert duty.told(3600, 110.4) == ("55,200 mWh", "2.00 days")
    assert duty.told(3600, 27.6) == ("55,200 mWh", "12.0 h")


def test_a_rate_that_was_not_measured_is_refused() -> None:
    """Above the throughput there is no energy of a day, but what the cell keeps; at it there is."""
    duty = Duty("a", 2.0, 0.3, 3600.0)
    assert duty.told(3601) == ("cannot keep it", "at most 3,600/h")
    assert duty.told(3600)[0] == "55,200 mWh"


def test_net_energy_below_zero_gives_no_negative_day() -> None:
    """Where idle took more than the inferences, the day may come out negative: neither it nor a battery's life is told."""
    assert Duty("a", 0.1, -1.0, None).told(3600, 10) == ("not known", "-")


def test_boundaries_stand_apart_and_cells_without_energy_are_left_out() -> None:
    """Of four cells one was measured on the board and one at the wall; a sensor that hung and a device without one give no duty cycle."""
    table = rows(mixed_power())
    devices = {row.cell: row.device for row in table}
    found = {duties.boundary: [devices[duty.cell] for duty in duties.cells] for duties in duty_cycles(table)}
    assert found == {"board": ["pi-a"], "wall": ["laptop"]}
    shown = words(render(mixed_power()))
    assert "Boundary: board. Inferences an hour:" in shown
    assert "Boundary: wall. Inferences an hour:" in shown


def test_a_run_without_energy_has_no_duty_cycle() -> None:
    """Nothing is said of batteries where no power was measured."""
    plain = run_of((cell("laptop", "fp32", "tflite", 1),))
    assert duty_cycles(rows(plain)) == []
    assert "duty-cycle" not in render(plain)


def test_the_rate_a_cell_keeps_is_its_throughput() -> None:
    """The most inferences an hour are 3,600 times those a second of the table's throughput."""
    run = run_of((powered(cell("pi-a", "fp32", "tflite", 1)),))
    table = rows(run)
    ((duty,),) = [duties.cells for duties in duty_cycles(table)]
    (throughput,) = [row.value for row in table if row.metric == "throughput_per_s"]
    assert throughput is not None
    assert duty.most_per_h == pytest.approx(3600 * throughput)


def test_the_page_reckons_alike(browser: Browser) -> None:
    """Over 300 duty cycles of all sizes the script's words are Python's."""
    scripts = "\n".join((TEMPLATES / name).read_text("utf-8") for name in ("verdict.js", "duty.js"))
    generator = np.random.default_rng(3)
    sizes = np.exp(generator.uniform(-9, 9, (300, 5))).tolist()
    cases = [
        (Duty("a", idle, net if at % 5 else -net, most if at % 3 else None), rate, battery)
        for at, (idle, net, most, rate, battery) in enumerate(sizes)
    ]
    tab = browser.new_page()
    told = f"(cases) => {{ {scripts}; return cases.map(([one, rate, battery]) => duty.told(one, rate, battery)); }}"
    found = tab.evaluate(told, [(dataclasses.asdict(one), rate, battery) for one, rate, battery in cases])
    assert [tuple(one) for one in found] == [one.told(rate, battery) for one, rate, battery in cases]
    assert {"cannot keep it", "not known"} <= {daily for daily, _ in found}
    tab.close()


def test_a_rate_and_a_battery_are_typed_in(view: View) -> None:
    """At 3,600 an hour and 110 Wh every cell has its figures; without a rate there are none, and no limit of the page changes."""
    cells = [duty for duties in duty_cycles(rows(mixed_power())) for duty in duties.cells]
    view.page.fill("#duty-rate", "3600")
    view.page.fill("#duty-battery", "110")
    shown = view.page.locator("#duty tbody tr")
    assert [tuple(line.split("\t")[1:]) for line in shown.all_inner_texts()] == [duty.told(3600, 110) for duty in cells]
    view.page.fill("#duty-rate", "")
    assert [line.split("\t")[1:] for line in shown.all_inner_texts()] == [["-", "-"]] * len(cells)
    assert view.complaints == []
