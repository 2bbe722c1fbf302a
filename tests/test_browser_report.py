"""The report of a mixed run in a real Chromium: with scripts and without, light and dark, wide and narrow, on paper, by keyboard."""

import io
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pypdf
import pytest
from browser import NO_SCRIPTS, View, chromium, come_alive, opened, saved, served
from factory_runs import hostile_run, mixed_run
from playwright.sync_api import Browser

from reports import format as fmt
from reports.labels import sentence_name
from reports.page import render
from reports.table import rows
from reports.verdict import verdict

HOSTILE = (
    "</script><script>window.hacked=1</script>\x1b[31mred\x07 \u202egnp\"><img src=x onerror='window.hacked=1'>"
    "</style>--><svg onload=window.hacked=1>${window.hacked=1}{{ 7 * 7 }}\u0000"
)
RECORD_FOCUS = """
window.focused = [];
addEventListener("focusin", ({ target }) => {
  const style = getComputedStyle(target);
  focused.push([target, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1]);
});
"""
UNREACHED = """
[...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((one) => one.checkVisibility() && !one.disabled && one.type !== "radio" && !focused.some(([target]) => target === one))
  .map((one) => one.outerHTML.slice(0, 120))
"""
PIECES = "h1, h2, h3, caption, dt, summary, figcaption, .note, td, tbody th"
PRINTED_TEXT = "all => all.filter(one => one.closest('section') && one.getClientRects().length).map(one => one.innerText)"


@pytest.fixture(scope="module")
def document() -> str:
    """The report of the mixed run, 32 cells."""
    return render(mixed_run())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def live(browser: Browser, document: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    """The report opened from a file, with its scripts, 1280 x 800 and light; a test that changes it puts it back."""
    with opened(browser, saved(tmp_path_factory.mktemp("report"), "report", document)) as view:
        come_alive(view)
        yield view


@pytest.fixture(scope="module")
def still(browser: Browser, document: str) -> Iterator[View]:
    """The report under a policy that allows no script."""
    with served(document, NO_SCRIPTS) as address, opened(browser, address) as view:
        yield view


def test_the_first_screen_tells_device_variant_and_how_sure(live: View) -> None:
    """At 1280 x 800 the best cell's device and variant, its figure with the interval, and the counts are there without scrolling."""
    run = mixed_run()
    best = verdict(run, rows(run)).findings[0].standings[0].row
    shown = live.first_screen()
    assert sentence_name(best) in shown
    assert fmt.value(best.metric, best.value) in shown
    assert fmt.interval(best.metric, best.value, best.low, best.high) in shown
    assert re.search(r"25 valid", shown)


def test_with_scripts_the_charts_are_live_and_nobody_complains(live: View) -> None:
    """Under the page's own policy every chart is drawn by Vega, with nothing refused (so no eval) and nothing said in the console."""
    assert len(live.charts()) >= 4
    assert live.page.locator("figure.chart [data-live=true] svg").count() == len(live.charts())
    assert live.violations() == []
    assert live.complaints == []


def test_no_request_leaves_the_page(live: View, still: View) -> None:
    """All that the browser ever asks for is the document itself."""
    assert live.requests == [live.page.url]
    assert still.requests == [still.page.url]


def test_without_scripts_the_report_is_whole(live: View, still: View) -> None:
    """Under a policy without scripts those alone are refused; every section, every drawn chart and the same verdict are there."""
    count = len(re.findall(r"<script>", still.page.content()))
    assert still.violations() == ["script-src-elem inline"] * count
    assert still.charts() == live.charts()
    for name in still.charts():
        box = still.page.locator(f"#{name} svg").first.bounding_box()
        assert box is not None
        assert box["height"] > 50
    assert still.words("#verdict") == live.words("#verdict")
    sections = "all => all.map(one => [one.id, one.innerText.length > 40])"
    assert still.page.eval_on_selector_all("section", sections) == live.page.eval_on_selector_all("section", sections)


@pytest.mark.parametrize("width", [1280, 320])
def test_nothing_is_wider_than_the_window(live: View, still: View, width: int) -> None:
    """At 1280 and 320 CSS pixels the page itself never scrolls sideways, with scripts or without; wide tables scroll within."""
    for view in (live, still):
        with view.resized(width):
            assert view.width() <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_axe_finds_no_barrier(live: View, scheme: Literal["light", "dark"], width: int) -> None:
    """axe-core has nothing against the live page, light or dark, wide or narrow: names, roles, order, contrast."""
    with live.resized(width), live.preferring(scheme):
        assert live.barriers() == []


def test_axe_finds_no_barrier_without_scripts(still: View) -> None:
    """Nor against the page as it was written."""
    assert still.barriers() == []


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, live: View) -> None:
    """Tab meets the skip link first and then every link, chart, table, fold and control, each with an outline, without a trap."""
    with opened(browser, live.page.url) as view:
        come_alive(view)
        view.page.evaluate(RECORD_FOCUS)
        for _ in range(400):
            view.page.keyboard.press("Tab")
            if view.page.evaluate("focused.length > 1 && focused.at(-1)[0] === focused[0][0]") or view.page.evaluate(
                "document.activeElement === document.body"
            ):
                break
        else:
            pytest.fail("400 tabs do not lead through the page")
        assert view.page.evaluate("focused[0][0].className") == "skip"
        assert view.page.evaluate(UNREACHED) == []
        assert view.page.evaluate("focused.filter(([, outlined]) => !outlined).map(([one]) => one.outerHTML.slice(0, 120))") == []


def test_paper_has_the_text_of_every_section(live: View) -> None:
    """Printed to PDF, all that is folded on the screen is open: headings, captions, terms and every table's figures are found."""
    pages = pypdf.PdfReader(io.BytesIO(live.page.pdf(prefer_css_page_size=True))).pages
    printed = squeezed("".join(page.extract_text() for page in pages))
    live.page.emulate_media(media="print")
    pieces = live.page.eval_on_selector_all(PIECES, PRINTED_TEXT)
    live.page.emulate_media(media="screen")
    assert len(pieces) > 500
    assert [piece for piece in pieces if squeezed(piece) not in printed] == []
    headings = live.page.locator("section > h2").all_text_contents()
    assert len(headings) >= 8
    assert [heading for heading in headings if squeezed(heading) not in printed] == []


def squeezed(text: str) -> str:
    """The text without white space and ligatures, as it is compared across line ends."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_what_devices_say_is_text(browser: Browser, tmp_path: Path) -> None:
    """Names, probes, faults and 10 MB of log with markup, escapes and marks that reorder text run nothing and stay in their place."""
    found = render(hostile_run(HOSTILE))
    assert len(found.encode()) < 2_000_000
    with opened(browser, saved(tmp_path, "hostile", found)) as view:
        come_alive(view)
        assert view.page.evaluate("window.hacked") is None
        assert view.violations() == []
        assert view.complaints == []
        assert view.requests == [view.page.url]
        assert view.page.locator("img, main script, svg[onload]").count() == 0
        assert "window.hacked=1" in view.first_screen()
        assert "\\u202e" in view.words()
        assert view.bottom("#verdict h1") < 800
        assert view.width() <= 1280
        assert view.barriers() == []
