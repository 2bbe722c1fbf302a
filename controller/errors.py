"""What can go wrong on the laptop's side, the exit code it ends with, and how it is told to a person."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from agent.schema import Fault, FaultError
from controller.redaction import redact

MAX_LINES = 100  # of problems shown; the rest is counted


class ExitCode(IntEnum):
    """What the program ends with."""

    OK = 0
    GATE_FAILED = 1  # or a regression, or a failed required check of doctor
    USAGE = 2  # usage, configuration or inventory invalid
    INCOMPLETE = 3  # finished, with failed or invalid cells
    UNREACHABLE = 4  # a selected device could not be reached or would not let us in
    NOTHING_SELECTED = 5
    INTERNAL = 70
    INTERRUPTED = 130  # partial results are kept


_PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.INTERNAL,
    ExitCode.USAGE,
    ExitCode.NOTHING_SELECTED,
    ExitCode.UNREACHABLE,
    ExitCode.GATE_FAILED,
    ExitCode.INCOMPLETE,
    ExitCode.OK,
)


class FleetmarkError(Exception):
    """The root of the controller's own errors; a device's or a cell's are `agent.schema.FaultError`.

    ::

        FleetmarkError              2  usage
        ├── ConfigError             2  config             problems of one file, with line and column
        ├── SelectorError           2  selector           no device has that name, group or tag
        └── NothingSelectedError    5  nothing_selected   the selectors are right, but no device is left
    """

    code = "usage"
    exit_code = ExitCode.USAGE

    def __init__(self, message: str, why: str = "", next: str = "") -> None:  # noqa: A002 - the word that people read on the screen
        super().__init__(message)
        self.message = message
        self.why = why
        self.next = next


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file; line and column count from 1, line 0 means the file as a whole."""

    line: int
    column: int
    message: str


class ConfigError(FleetmarkError):
    """A file that cannot be used; `problems` has all of them in the file's order."""

    code = "config"

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(set(problems)))
        lines = [f"{path}:{one.line}:{one.column}: {one.message}" if one.line else f"{path}: {one.message}" for one in self.problems]
        why = lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], f"and {len(lines) - MAX_LINES} more"]
        count = f": {len(lines)} problems" if len(lines) > 1 else ""
        super().__init__(f"cannot use {path}{count}", "\n".join(why), "mend this, then run the command again")

    def __str__(self) -> str:
        return f"{self.message}\n{self.why}"


class SelectorError(FleetmarkError):
    """A selector that no device of the inventory answers to."""

    code = "selector"


class NothingSelectedError(FleetmarkError):
    """Selectors that together leave no device."""

    code = "nothing_selected"
    exit_code = ExitCode.NOTHING_SELECTED


def exit_code(error: BaseException) -> ExitCode:
    """The exit code for a command that an error ended."""
    if isinstance(error, FleetmarkError):
        return error.exit_code
    if isinstance(error, FaultError):
        return ExitCode.UNREACHABLE if error.fault.code in ("unreachable", "auth", "host_key") else ExitCode.INCOMPLETE
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.INTERNAL


def gravest(codes: Sequence[ExitCode]) -> ExitCode:
    """The code to end with where several apply; OK for none."""
    return min(codes, key=_PRECEDENCE.index, default=ExitCode.OK)


def render(error: FleetmarkError | FaultError | Fault) -> str:
    """The error as people read it, plain text without a last newline: what failed, why, what to do next.

    The first line of a fault's message says what failed, further ones why. Characters that would steer a terminal are shown escaped.
    """
    if isinstance(error, FleetmarkError):
        code, what, why, following = error.code, error.message, error.why, error.next
    else:
        fault = error.fault if isinstance(error, FaultError) else error
        what, _, why = fault.message.partition("\n")
        code, following = fault.code, fault.next
    lines = [f"error[{code}]: {redact(what)}", *_block("why:", redact(why)), *_block("next:", redact(following))]
    return "\n".join(printable(line) for line in lines)


def printable(text: str) -> str:
    """`text` without secrets, every character that is not printed as itself (control, bidirectional, surrogate) as a backslash escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in redact(text))


def _block(label: str, text: str) -> list[str]:
    return [f"  {label if at == 0 else '':<5} {line}" for at, line in enumerate(text.split("\n"))] if text else []
