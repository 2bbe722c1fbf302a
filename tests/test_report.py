"""The report shows the table's figures and nothing else, holds up against hostile strings, and works in a real browser as it is."""

import base64
import csv
import dataclasses
import hashlib
import html
import io
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from factory_runs import NO_ROUTE, SIZES, broken, cell, mixed_run, probe, run_of
from rich.console import Console

from reports import format as fmt
from reports.page import render
from reports.records import DeviceRecord, RunRecord
from reports.summary import summary
from reports.table import rows, to_csv, to_json

HOSTILE = '</script><script>document.title="taken"</script>\x1b[31mred\x07 \u202egnp"><img src=x onerror=alert(1)>\u0000{{ 7 * 7 }}'
CHARTS = ("latency", "footprint", "cold-start", "accuracy-accuracy")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)


@pytest.fixture(scope="module")
def page() -> str:
    """The report of the mixed run, 32 cells."""
    return render(mixed_run())


class Browser:
    """A headless Chromium that opens one page at a time, each with a fresh profile."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder, self.opened = program, folder, 0

    def open(self, document: str, *flags: str) -> tuple[str, list[str]]:
        """(what it printed, the console's messages) for a page given as HTML."""
        self.opened += 1
        path = self.folder / f"{self.opened}.html"
        path.write_text(document, "utf-8")
        command = [self.program, *FLAGS, f"--user-data-dir={self.folder / str(self.opened)}", *flags, path.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return done.stdout.decode(), [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]

    def first_pixel(self, document: str, *flags: str) -> tuple[int, int, int]:
        """The colour of the page's top left corner, read from a PNG: its first pixel is stored as it is under every filter."""
        picture = self.folder / "shot.png"
        self.open(document, f"--screenshot={picture}", "--window-size=400,300", *flags)
        data, at, packed = picture.read_bytes(), 8, b""
        while at < len(data):
            (size,) = struct.unpack(">I", data[at : at + 4])
            packed += data[at + 8 : at + 8 + size] if data[at + 4 : at + 8] == b"IDAT" else b""
            at += size + 12
        red, green, blue = zlib.decompress(packed)[1:4]
        return red, green, blue


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Debian's Chromium; a failure where CI has none."""
    program = shutil.which("chromium")
    if program is None:
        assert os.environ.get("CI") != "true", "chromium is not installed"
        pytest.skip("chromium is not installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


def words(document: str) -> str:
    """The visible text of a page, white space collapsed, but for the controls that only scripts fill."""
    body = re.sub(r"<(script|style|svg|form)\b.*?</\1>", " ", document, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def embedded_rows(page: str) -> list[dict[str, Any]]:
    """The table's rows as the page's script reads them."""
    found = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    texts, textual = found["texts"], found["textual"]
    rows = [zip(found["columns"], row, strict=True) for row in found["rows"]]
    return [{**found["same"], **{name: texts[value] if name in textual else value for name, value in row}} for row in rows]


def hostile_run() -> RunRecord:
    """A run in which all that a device or a user can name is hostile, with a log of 10 MB."""
    run = run_of((cell("laptop", "fp32", "tflite", 1), broken("laptop", "int8", "tflite", "failed", NO_ROUTE, launched=True)))
    good, bad = run.cells
    fault = NO_ROUTE._replace(message=HOSTILE, next=HOSTILE, phase=HOSTILE)
    last = dataclasses.replace(bad.launches[-1], fault=fault, log_tail=HOSTILE * 90_000, details={HOSTILE: HOSTILE}, notes=(HOSTILE,))
    launches = tuple(dataclasses.replace(launch, details={HOSTILE: [HOSTILE]}, notes=(HOSTILE,)) for launch in good.launches)
    named = good.cell._replace(device=HOSTILE, variant=HOSTILE, model=HOSTILE, options={"a": HOSTILE})
    device = DeviceRecord(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, probe(HOSTILE)._replace(board=HOSTILE * 1000))
    cells = (dataclasses.replace(good, cell=named, launches=launches), dataclasses.replace(bad, launches=(last,)))
    devices = {**run.devices, HOSTILE: device}
    return dataclasses.replace(run, cells=cells, devices=devices, suite=HOSTILE, conditions={HOSTILE: HOSTILE, "nested": {HOSTILE: 1}})


def test_the_same_figure_is_in_csv_json_terminal_and_report(page: str) -> None:
    """For each of 26 cells the ranked figure, formatted from the CSV, is in the terminal's summary and the report; JSON has its value."""
    run = mixed_run()
    table = rows(run)
    terminal = io.StringIO()
    Console(file=terminal, width=220).print(summary(run, table))
    shown = words(page)
    lines = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    embedded = embedded_rows(page)
    exported = json.loads(json.dumps(to_json(table, run)))["rows"]
    assert [{**row, "per_launch": []} for row in embedded] == [{**row, "per_launch": []} for row in exported]
    ranked = [at for at, row in enumerate(exported) if row["metric"].startswith("latency_p")]
    assert [embedded[at]["per_launch"] for at in ranked] == [exported[at]["per_launch"] for at in ranked]
    checked = 0
    for line, row in zip(lines, embedded, strict=True):
        if line["metric"] == "latency_p90_s" and line["value"]:
            figure = fmt.value(line["metric"], float(line["value"]))
            span = fmt.interval(line["metric"], float(line["value"]), float(line["low"]), float(line["high"]))
            assert row["value"] == float(line["value"])
            assert f"{figure} {span}" in shown
            assert figure in terminal.getvalue()
            checked += 1
    assert checked == 26


def test_every_number_of_the_table_is_in_the_report(page: str) -> None:
    """Each value of each of the 17 metrics is shown, in its one form."""
    shown = words(page)
    missing = [row for row in rows(mixed_run()) if row.value is not None and fmt.value(row.metric, row.value) not in shown]
    assert not missing


def test_no_cell_is_left_out_and_failures_say_what_to_do(page: str) -> None:
    """All 32 cells stand in the matrix with their status; each cause is there with message, advice and, where one was kept, the log."""
    matrix = re.findall(r'<section id="matrix">.*?</section>', page, re.DOTALL)[0]
    for status, count in {"valid": 25, "unsteady": 1, "failed": 1, "unsupported": 1, "unreachable": 4}.items():
        assert len(re.findall(rf'class="status s-{status}"', matrix)) == count
    shown = words(re.findall(r'<section id="failures">.*?</section>', page, re.DOTALL)[0])
    for part in (
        "SIGSEGV",
        "run it with one thread",
        "Fatal: segmentation fault",
        "ConvInteger",
        "fleetmark doctor pi-b",
        "3 of 3 launches",
    ):
        assert part in shown


def test_a_cell_that_is_not_valid_is_called_so_beside_its_numbers(page: str) -> None:
    """The unsteady cell's numbers stand in the tables of latency, footprint and accuracy, each time with its status."""
    (unsteady,) = [record.id for record in mixed_run().cells if record.status == "unsteady"]
    for name in ("latency", "footprint", "accuracy"):
        section = re.findall(rf'<section id="{name}">.*?</section>', page, re.DOTALL)[0]
        lines = re.findall(rf'<tr data-cell="{unsteady}">.*?</tr>', section, re.DOTALL)
        assert lines
        assert all("<small>unsteady</small>" in line for line in lines)


def test_emulated_numbers_are_labelled_in_matrix_charts_and_tables(page: str) -> None:
    """The emulated device never appears in a name without saying that it is."""
    assert "emulated: qemu-aarch64" in page
    assert not re.findall(r"qemu-pi ·", page)
    assert "qemu-pi (emulated) · int8" in page


def test_the_report_allows_its_own_scripts_and_nothing_else(page: str) -> None:
    """The policy names the hashes of exactly the scripts that run, forbids the rest, and the page refers to no other file."""
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    assert re.findall(r"'sha256-([^']*)'", policy) == hashes
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert {value for value in re.findall(r'(?:src|href|action)="([^"]*)"', outside) if not value.startswith(("#", "data:"))} == set()
    assert len(page.encode()) < 2_000_000


def test_a_run_without_numbers_needs_no_script() -> None:
    """It says that there is nothing to rank and why, and allows no script at all."""
    found = render(run_of(tuple(broken("pi-b", variant, "tflite", "unreachable", NO_ROUTE, launched=False) for variant in SIZES)))
    assert "script-src &#39;none&#39;" in found
    assert "<script>" not in found
    assert "Nothing to rank" in words(found)
    assert NO_ROUTE.next in words(found)


def test_one_sample_is_shown_as_too_few() -> None:
    """A valid cell with one launch of one sample has no percentile and no rank, but its reason."""
    shown = words(render(run_of((cell("laptop", "fp32", "tflite", 1, launches=1, samples=1),))))
    assert "n too small" in shown
    assert "Nothing to rank" in shown


def test_the_terminal_shows_hostile_names_as_text() -> None:
    """No control character and no markup of a name reaches the terminal."""
    run, out = hostile_run(), io.StringIO()
    named = dataclasses.replace(run.cells[0], cell=run.cells[0].cell._replace(device="[bold]\x1b[2J[/nothing]"))
    run = dataclasses.replace(run, cells=(named,))
    Console(file=out, width=200).print(summary(run, rows(run)))
    assert "[bold][/nothing]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_with_scripts_the_charts_come_alive_without_a_complaint(browser: Browser, page: str) -> None:
    """Under the page's own policy all four charts are drawn by Vega from the same specification, and the console stays empty."""
    document, console = browser.open(page, "--dump-dom")
    assert console == []
    for name in CHARTS:
        live = re.findall(rf'id="chart-{name}">.*?</figure>', document, re.DOTALL)[0]
        assert 'data-live="true"' in live
        assert "vega-embed" in live
        assert "laptop · int8 · onnxruntime" in live
    assert words(document) == words(page)


def test_without_scripts_the_report_is_whole(browser: Browser, page: str) -> None:
    """Under a policy that allows no script only the two scripts are refused: the drawn charts stand in place and every word is there."""
    document, console = browser.open(re.sub(r"script-src .*?; (?=style-src)", "", page, count=1), "--dump-dom")
    assert len(console) == 2
    assert all("script" in line and "Content Security Policy" in line for line in console)
    assert "data-live" not in document
    for name in CHARTS:
        assert "laptop · int8 · onnxruntime" in re.findall(rf'id="chart-{name}">.*?</figure>', document, re.DOTALL)[0]
    assert words(document) == words(page)


def test_the_page_follows_light_and_dark(browser: Browser, page: str) -> None:
    """Its background is white when the reader prefers light, and dark when the reader prefers dark."""
    assert browser.first_pixel(page, "--blink-settings=preferredColorScheme=1") == (255, 255, 255)
    assert max(browser.first_pixel(page, "--blink-settings=preferredColorScheme=0")) < 64


def test_hostile_strings_are_text_in_the_browser(browser: Browser) -> None:
    """Nothing that a device says becomes an element, a script or an invisible character, and 10 MB of log stay a few kilobytes."""
    found = render(hostile_run())
    assert len(found.encode()) < 1_500_000
    assert not re.findall(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", re.sub(r"<script>.*?</script>", "", found, flags=re.DOTALL)
    )
    document, console = browser.open(found, "--dump-dom")
    assert console == []
    assert "<title>fleetmark report" in document
    assert "<img" not in re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)
    assert len(re.findall(r"<script", document)) == 5
    assert 'data-live="true"' in document
    assert "onerror=alert(1)" in words(document)
