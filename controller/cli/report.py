"""fleetmark report."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text, write

Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="RUN", help="Compare with this run (default: an earlier one of the suite tagged baseline)."),
]
Open = Annotated[bool, typer.Option("--open", help="Show it in the browser.")]


def report(
    run: options.Run = "latest",
    baseline: Baseline = None,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    output: options.Output = None,
    show: Open = False,
) -> None:
    """Write a run's HTML report again."""
    from controller import history
    from controller.errors import FleetmarkError
    from controller.laptop import cache_folder
    from reports import page

    if show and str(output) == "-":
        raise FleetmarkError("--open shows a file, and -o - writes none", next="leave one of them out")
    store = options.open_store(results, url)
    record = history.load(store, run)
    document = page.render(record, history.baseline(store, record, baseline), cache_folder())
    written = write(document, output or results / record.id / "report.html")
    if written:
        stderr_text("the report is in:")
        typer.echo(written)
    if written and show:
        _open(written)


def _open(path: Path) -> None:
    """Show the file in the browser; where there is none, say so: the path is already told."""
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        stderr_text("no browser was found here: copy the file to a machine that has one, or set BROWSER")
