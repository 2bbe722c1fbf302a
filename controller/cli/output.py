"""How commands print: results to stdout, narration to stderr; JSON documents carry a version."""

import json
import os
import secrets
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

VERSION = 1
MAX_WIDTH = 10_000  # characters


def stderr_text(text: str, style: str = "", **fields: str) -> None:
    """Print narration to stderr as `show` does, and log it, with these fields; red is the style of errors."""
    import logging

    from controller.context import LOG

    LOG.getChild("cli").log(logging.ERROR if style == "red" else logging.INFO, "%s", text, extra={"fields": fields})
    show(text, style)


def show(text: str, style: str = "") -> None:
    """Print to stderr, in a style where that is a terminal; nothing in the text is read as markup or steers the terminal."""
    from rich.console import Console
    from rich.text import Text

    from controller.errors import printable
    from controller.redaction import redact

    lines = "\n".join(map(printable, redact(text).split("\n")))
    Console(stderr=True, soft_wrap=True).print(Text(lines, style))


def stdout_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines of (text, style), never folded, so that a command in one can be copied; nothing in them is read as markup."""
    from rich.console import Console
    from rich.text import Text

    from controller.errors import printable

    console = Console(soft_wrap=True)
    for text, style in lines:
        console.print(Text(printable(text), style))


def stdout_path(label: str, path: Path) -> None:
    """Print `label: path`, on a terminal with the path as a link to the file."""
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    from controller.errors import printable

    link = Style(link=path.absolute().as_uri())
    Console(soft_wrap=True).print(Text.assemble(f"{label}: ", (printable(str(path)), link)))


def stdout_json(kind: str, content: object) -> None:
    """Print one versioned JSON document whose only other key is `kind`."""
    sys.stdout.write(json_text(kind, content))


def json_text(kind: str, content: object) -> str:
    """Give what `stdout_json` prints, secrets redacted."""
    from controller.redaction import REDACTOR

    plain = json.loads(json.dumps({"version": VERSION, kind: content}, default=str))
    return json.dumps(REDACTOR.document(plain), indent=2) + "\n"


def stdout_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print a table; columns named in `right` are aligned there, those without a cell left out. Cells are text, never markup.

    On a terminal it is as wide as that; elsewhere no cell is folded, so that it can be searched, unless COLUMNS says how wide it is.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from controller.errors import printable

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    filled = [at for at in range(len(columns)) if not rows or any(row[at] for row in rows)]
    for column in (columns[at] for at in filled):
        table.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(Text(printable(row[at])) for at in filled))
    Console(width=terminal_width()).print(table)


def terminal_width() -> int | None:
    """How wide to print: None for what the terminal, or COLUMNS, says; elsewhere so wide that nothing is folded."""
    is_fitted = sys.stdout.isatty() or "COLUMNS" in os.environ
    return None if is_fitted else MAX_WIDTH


@contextmanager
def even_if_unread() -> Generator[None]:
    """Let a command come to its exit code where nobody reads its output any more, as in `fleetmark check | head -1`."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # the latter is how rich tells it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(text: str, path: Path | None) -> Path | None:
    """Write to `path` whole or not at all, or to stdout where it is None or `-`; give the path written. Raises FleetmarkError."""
    if path is None or str(path) == "-":
        sys.stdout.write(text)
        return None
    with replacing(path) as file:
        file.write(text.encode())
    return path


@contextmanager
def replacing(path: Path) -> Generator[IO[bytes]]:
    """Give an empty file that takes the place of `path` once the block ends well, else leaves no trace. Raises FleetmarkError."""
    from controller.errors import FleetmarkError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as file:
            yield file
    except OSError as error:
        raise FleetmarkError(f"cannot write {path}: {error.strerror}", next="free some space, or choose another path") from error


@contextmanager
def _temporary(path: Path) -> Generator[IO[bytes]]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:  # not by tempfile, which knows nothing of the umask
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def pairs(mapping: Mapping[str, Any]) -> str:
    """Give a mapping as `key=value` words."""
    return " ".join(f"{key}={value}" for key, value in mapping.items())
