"""fleetmark compare."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import MAX_WIDTH, even_if_unread, json_text, stderr_text, terminal_width, write

if TYPE_CHECKING:
    from reports.baseline import Baseline


class FailOn(StrEnum):
    """From what on `compare` ends with code 1; each includes those before it."""

    NONE = "none"
    FAILED = "failed"
    REGRESSION = "regression"
    SUSPECTED = "suspected"
    WORSE = "worse"


class Form(StrEnum):
    """How `compare` tells it."""

    TEXT = "text"
    MARKDOWN = "markdown"


VERDICTS = {FailOn.FAILED: "now failed", FailOn.REGRESSION: "regression", FailOn.SUSPECTED: "suspected", FailOn.WORSE: "worse"}

Run = Annotated[str, typer.Argument(metavar="BASE", help="The run to compare with: an id, a unique prefix of one, a tag, or latest.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The run that is asked about.")]
Rerun = Annotated[
    str | None, typer.Option("--rerun", metavar="RUN", help="A second run like NEW: what is slower there too is a regression.")
]
To = Annotated[Form, typer.Option("--to", help="text, or markdown for a pull request; HTML: fleetmark report NEW --baseline BASE.")]
Out = Annotated[Path | None, typer.Option("--output", "-o", help="Write it there instead of to the terminal; - is stdout.")]
Fail = Annotated[
    FailOn,
    typer.Option(
        "--fail-on",
        help="End with code 1 if any cell failed now; is a confirmed regression, or failed; is suspected of one, or any of these; "
        "or is worse in another metric, or any of these.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Show the unchanged cells one by one too.")]


def compare(
    base: Run,
    new: New = "latest",
    rerun: Rerun = None,
    fail_on: Fail = FailOn.NONE,
    whole: All = False,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
    to: To = Form.TEXT,
    output: Out = None,
) -> int:
    """Compare a run with an earlier one, worst first.

    Every cell of either run has a verdict, and beside it what changed in its device, runtime, settings and artifact. Slower means: the
    95 % interval excludes no change, the effect is above the noise floor, and it holds after adjustment for the number of cells; it is
    suspected until a rerun confirms it.
    """
    from rich.console import Console

    from controller import history
    from controller.errors import ExitCode, FleetmarkError
    from reports import compared

    if json and to == Form.MARKDOWN:
        raise FleetmarkError("--json and --to markdown ask for two forms", next="leave one of them out")
    found = history.compare(options.open_store(results, url), base, new, rerun)
    with even_if_unread():
        if output is None and to == Form.TEXT and not json:
            Console(width=terminal_width()).print(compared.drawn(found, whole=whole))
        else:
            _write(_document(found) if json else _text(found, whole, to), output)
    return ExitCode.GATE_FAILED if _is_failing(found, fail_on) else ExitCode.OK


def _write(text: str, output: Path | None) -> None:
    written = write(text, output)
    if written:
        stderr_text("the comparison is in:")
        typer.echo(written)


def _document(found: "Baseline") -> str:
    from reports import compared

    return json_text("comparison", compared.document(found))


def _text(found: "Baseline", whole: bool, to: Form) -> str:
    """As Markdown, or what the terminal shows with no line cut."""
    from io import StringIO

    from rich.console import Console

    from reports import compared

    if to == Form.MARKDOWN:
        return compared.to_markdown(found, whole=whole)
    text = StringIO()
    Console(file=text, width=MAX_WIDTH, color_system=None).print(compared.drawn(found, whole=whole))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _is_failing(found: "Baseline", fail_on: FailOn) -> bool:
    levels = list(FailOn)
    return any(found.counts.get(VERDICTS[level]) for level in levels[1 : levels.index(fail_on) + 1])
