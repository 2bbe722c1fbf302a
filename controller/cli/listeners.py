"""Who hears of a run that was started here: the screen, the log and, where it is asked for, the timeline."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from controller.cli import progress
from controller.cli.output import stderr_text, write
from controller.errors import FleetmarkError, render
from controller.listener import Listeners, Logged
from controller.trace import Trace


@contextmanager
def listening(run_id: str, timeline: Path | None) -> Generator[Listeners]:
    """Give all listeners; the timeline is written to its path however the block ends. Raises FleetmarkError if it cannot be, at once."""
    if timeline is None:
        with progress.choose() as shown:
            yield Listeners(shown, Logged())
        return
    if timeline.is_dir() or not os.access(timeline.absolute().parent, os.W_OK):
        raise FleetmarkError(
            f"cannot write the timeline {timeline}", next="give --trace the path of a file, in a folder that can be written"
        )
    trace = Trace(run_id)
    try:
        with progress.choose() as shown:
            yield Listeners(shown, Logged(), trace)
    finally:
        _write(trace, timeline)


def _write(trace: Trace, path: Path) -> None:
    try:
        write(trace.text(), path)
    except FleetmarkError as error:  # what was measured is worth more
        stderr_text(render(error), "red")
    else:
        stderr_text(f"timeline, for Perfetto: {path}")
