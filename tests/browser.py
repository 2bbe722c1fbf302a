"""A real headless Chromium for tests, as the system has it, driven by Playwright over a pipe: no port, and no browser is fetched.

A page is opened as people open it, from a file, or from a server on the loopback interface that adds a header.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_TIMEOUT_MS = 120_000  # a busy machine
_SWITCHES = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
_KEEP_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


_FIRST_SCREEN = """() => {
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
  while (walker.nextNode()) {
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (box.width && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth) {
      texts.push(walker.currentNode.data);
    }
  }
  return texts.join(" ");
}"""


@dataclass(frozen=True, slots=True)
class View:
    """An open page with all it has asked for and all that its console and its dialogs said since it was opened."""

    page: Page
    requests: list[str] = field(default_factory=list[str])
    complaints: list[str] = field(default_factory=list[str])

    def violations(self) -> list[str]:
        """What the page's policy refused, as `directive address`."""
        return self.page.evaluate("window.violations")

    def words(self, selector: str = "body") -> str:
        """The text that can be seen there, white space collapsed."""
        return " ".join(self.page.inner_text(selector).split())

    def charts(self) -> list[str]:
        """The ids of the charts, in their order."""
        return self.page.eval_on_selector_all("figure.chart", "all => all.map(one => one.id)")

    def first_screen(self) -> str:
        """The text of which all is seen without scrolling, white space collapsed."""
        self.page.evaluate("scrollTo(0, 0)")
        return " ".join(self.page.evaluate(_FIRST_SCREEN).split())

    @contextmanager
    def resized(self, width: int) -> Iterator[None]:
        """The window so wide within the block, and as before after it."""
        before = self.page.viewport_size
        assert before is not None
        self.page.set_viewport_size({**before, "width": width})
        yield
        self.page.set_viewport_size(before)

    @contextmanager
    def preferring(self, scheme: Literal["light", "dark"]) -> Iterator[None]:
        """A reader that prefers this colour scheme within the block."""
        self.page.emulate_media(color_scheme=scheme)
        yield
        self.page.emulate_media(color_scheme="light")

    def bottom(self, selector: str) -> float:
        """Where the lower edge of the first such element is, in CSS pixels from the top of the page."""
        return self.page.eval_on_selector(selector, "one => one.getBoundingClientRect().bottom + scrollY")

    def width(self) -> int:
        """How wide the document is, whatever scrolls within it, in CSS pixels."""
        return self.page.evaluate("document.documentElement.scrollWidth")

    def barriers(self, *unasked: str) -> list[str]:
        """What axe-core finds, but for these of its rules: rule, place and why."""
        options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
        options["rules"] = {rule: {"enabled": False} for rule in unasked}
        found = Axe().run(self.page, options=options).response["violations"]
        return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, one process that ends with the block; a failure where CI has none, else the test is skipped."""
    program = shutil.which("chromium")
    if program is None:
        assert os.environ.get("CI") != "true", "chromium is not installed"
        pytest.skip("chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=list(_SWITCHES))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> Iterator[View]:
    """A page in a profile of its own, loaded and with its charts live where scripts may run; closed after the block."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
    context.set_default_timeout(_TIMEOUT_MS)
    context.add_init_script(_KEEP_VIOLATIONS)
    view = View(context.new_page())
    view.page.on("request", lambda request: view.requests.append(request.url))
    view.page.on("console", lambda message: view.complaints.append(f"{message.type}: {message.text}"))
    view.page.on("pageerror", lambda error: view.complaints.append(f"pageerror: {error}"))
    view.page.on("dialog", lambda dialog: (view.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    view.page.goto(address)
    try:
        yield view
    finally:
        context.close()


def come_alive(view: View) -> None:
    """Wait until each chart is live; Playwright's TimeoutError where one stays as it was drawn."""
    view.page.wait_for_function("document.querySelectorAll('figure.chart').length === document.querySelectorAll('[data-live=true]').length")


def saved(folder: Path, name: str, document: str) -> str:
    """The address of a page kept as a file, as `fleetmark report` writes it."""
    path = folder / f"{name}.html"
    path.write_text(document, "utf-8")
    return path.as_uri()


@contextmanager
def served(document: str, policy: str) -> Iterator[str]:
    """The address of a page that comes with a Content-Security-Policy from a server on the loopback interface."""
    content = document.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
