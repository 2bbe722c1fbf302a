"""fleetmark report."""

import typer

from controller.cli import options
from controller.cli.output import stderr_text, write


def report(run: options.Run = "latest", results: options.Results = options.RESULTS, output: options.Output = None) -> None:
    """Write a run's HTML report again."""
    from controller import history
    from controller.store import Store
    from reports import page

    store = Store.open(results)
    record = history.load(store, run)
    written = write(page.render(record), output or results / record.id / "report.html")
    if written:
        stderr_text("the report is in:")
        typer.echo(written)
