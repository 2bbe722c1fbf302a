"""The page's scripts: what is selected is selected in every section, by pointer, keyboard or address."""

from collections.abc import Iterator

import pytest
from browser import View, chromium, come_alive, opened, saved
from factory_runs import mixed_run
from playwright.sync_api import Browser

from reports.page import render

ROWS = "#latency tr[data-cell]:visible"
SAID = "#selected output"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the mixed run: 32 cells, of which 26 have latencies."""
    return saved(tmp_path_factory.mktemp("pages"), "mixed", render(mixed_run()))


@pytest.fixture
def view(browser: Browser, address: str) -> Iterator[View]:
    """The page with its charts alive and its tables unfolded; no script may complain in a test."""
    with opened(browser, address) as found:
        come_alive(found)
        found.page.evaluate("document.querySelectorAll('#latency details').forEach((one) => { one.open = true; })")
        yield found
        assert found.complaints == []


def test_a_square_of_the_matrix_selects_its_cell_in_every_section(view: View) -> None:
    """After two clicks two rows are left of the 26, a third on the first square leaves one; the bar counts, and Clear brings all back."""
    squares = view.page.locator(".matrix [data-cell]")
    squares.nth(0).click()
    squares.nth(1).click()
    assert view.page.locator(ROWS).count() == 2
    assert view.page.locator(SAID).inner_text() == "2 of 32 cells"
    squares.nth(0).click()
    assert view.page.locator(ROWS).count() == 1
    assert view.page.locator(SAID).inner_text() == "1 of 32 cells: fp16 on laptop with onnxruntime"
    assert squares.nth(1).get_attribute("aria-pressed") == "true"
    view.page.click("#selected button")
    assert view.page.locator(ROWS).count() == 26
    assert not view.page.is_visible("#selected")


def test_a_mark_of_a_chart_selects_its_cell(view: View) -> None:
    """A click on a point of the latency chart leaves that cell's row, and the marks of the others fade."""
    view.page.locator("#chart-latency .mark-symbol path").first.click(force=True)
    assert view.page.locator(ROWS).count() == 1
    faded = "[...document.querySelectorAll('#chart-latency .mark-symbol path')].filter((one) => one.getAttribute('opacity') < 0.2).length"
    assert view.page.evaluate(faded) > 0


def test_chips_narrow_by_device_and_variant(view: View) -> None:
    """Two devices and one variant: the cells that have one of those devices and that variant; none of them is unsteady."""
    for name in ("laptop", "pi-a", "int8"):
        view.page.get_by_role("button", name=name, exact=True).click()
    assert view.page.locator(SAID).inner_text() == "6 of 32 cells"
    assert view.page.locator(ROWS).count() == 6
    view.page.get_by_role("button", name="unsteady", exact=True).click()
    assert view.page.locator(SAID).inner_text() == "0 of 32 cells"


def test_the_keyboard_selects_and_clears(view: View) -> None:
    """A focused square is pressed by the space bar and by Enter, and Escape clears."""
    view.page.locator(".matrix [data-cell]").first.focus()
    for key, rows in ((" ", 1), ("Enter", 26), (" ", 1), ("Escape", 26)):
        view.page.keyboard.press(key)
        assert view.page.locator(ROWS).count() == rows


def test_the_address_keeps_what_is_selected(browser: Browser, address: str) -> None:
    """A page opened with the fragment of another shows the same selection; names that it does not have are passed over."""
    with opened(browser, address + "#device=pi-a&variant=int8&device=nobody&status=%3Cimg%3E&percentile=latency_p99_s") as found:
        assert found.page.locator(SAID).inner_text() == "3 of 32 cells"
        assert found.words("#matrix .note span") == "p99 latency"
        found.page.get_by_role("button", name="tflite", exact=True).click()
        assert found.page.evaluate("location.hash") == "#device=pi-a&variant=int8&backend=tflite&percentile=latency_p99_s"
        assert found.complaints == []


def test_paper_has_every_cell_and_no_controls(view: View) -> None:
    """Before printing, rows that a selection hides come back and folded parts open; afterwards both are as before."""
    folded = view.page.locator("details:not([open])").count()
    view.page.locator(".matrix [data-cell]").first.click()
    view.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    view.page.emulate_media(media="print")
    assert view.page.locator(ROWS).count() == 26
    assert view.page.locator("details:not([open])").count() == 0
    assert view.page.locator("form:visible, header:visible").count() == 0
    view.page.emulate_media(media="screen")
    view.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert view.page.locator(ROWS).count() == 1
    assert view.page.locator("details:not([open])").count() == folded


def test_a_limit_recomputes_the_verdict(view: View) -> None:
    """Where accuracy must not change for the worse fp32 is fastest; it is marked in the matrix, and losing cells leave every section."""
    view.page.locator("#limit-accuracy").focus()
    view.page.keyboard.press("Home")
    assert view.words("label[for=limit-accuracy] ~ .said") == "at least +0.30 pp"
    view.page.keyboard.press("ArrowRight")
    assert view.words("label[for=limit-accuracy] ~ .said") == "at least 0.00 pp"
    assert view.page.locator(SAID).inner_text() == "13 of 32 cells"
    assert view.page.inner_text("#explore .result b").startswith("fp32 on laptop with onnxruntime is the fastest valid cell: p90 latency")
    assert "fastest" in view.page.locator(".matrix td.best", has_text="103 µs").inner_text()
    view.page.locator("#limit-latency").focus()
    view.page.keyboard.press("Home")
    assert view.page.inner_text("#explore .result").endswith("keeps no limit of it.")
    view.page.keyboard.press("Escape")
    assert view.page.input_value("#limit-accuracy") == view.page.get_attribute("#limit-accuracy", "max")


def test_a_percentile_is_chosen_for_matrix_chart_and_limit(view: View) -> None:
    """With p99 the matrix has each cell's p99, the chart its figures, and the verdict is told by it; a limit keeps the cells it kept."""
    view.page.locator("#limit-latency").focus()
    view.page.keyboard.press("Home")
    for _ in range(3):
        view.page.keyboard.press("ArrowRight")
    kept = view.page.locator(SAID).inner_text()
    assert kept == "4 of 32 cells"
    view.page.get_by_role("button", name="p99", exact=True).click()
    assert view.page.locator(SAID).inner_text() == kept
    p99 = "cells[3].rows.latency_p99_s"
    figure = view.page.evaluate(f"live.shown[{p99}.cell][{p99}.metric][0]")
    assert figure in view.page.inner_text("#explore .result")
    assert figure in view.page.locator(".matrix td.best").inner_text()
    assert figure in view.page.inner_text("#chart-latency")
    view.page.get_by_role("button", name="as ranked", exact=True).click()
    assert view.words("#matrix .note span") == "p90 latency"


def test_an_axis_is_logarithmic_or_not(view: View) -> None:
    """The latency chart's axis changes its type and its ticks, and the cells that are selected stay so."""
    view.page.locator(".matrix [data-cell]").first.click()
    ticks = view.page.locator("#chart-latency .role-axis-label").all_text_contents()
    before = view.page.inner_text("#latency .axis [aria-pressed=true]")
    view.page.locator("#latency .axis [aria-pressed=false]").first.click()
    view.page.wait_for_function("(before) => document.querySelector('#latency .axis [aria-pressed=true]').innerText !== before", arg=before)
    assert view.page.locator("#chart-latency .role-axis-label").all_text_contents() != ticks
    assert view.page.locator(ROWS).count() == 1


@pytest.mark.parametrize("name", ["#device=laptop", ""])
def test_the_page_without_a_choice_says_what_the_verdict_says(browser: Browser, address: str, name: str) -> None:
    """Where all that is valid and real is on one device, its sentence below the limits is the verdict's own."""
    with opened(browser, address + name) as found:
        told = found.words("#explore .result")
        assert (told.startswith("AMONG 12 OF 32 CELLS") and found.words("h1") in told) if name else "move one" in told
