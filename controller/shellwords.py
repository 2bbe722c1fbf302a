"""A command line that any login shell passes on unharmed: they all quote differently, octal digits they all leave alone."""

import os
import re
import shlex
from collections.abc import Sequence

MARKER = "fleetmark-begins"
MAX_LINE_BYTES = 120_000  # Linux refuses a single argument above 128 KiB

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=:, ")
_ENCODED = tuple(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in range(256))
_MARKER_LINE = re.compile(rb"%s ?(\d{0,9})\n" % MARKER.encode())


def wrap(argv: Sequence[str]) -> str:
    """The line for a login shell (sh, bash, zsh, csh, tcsh, fish) that runs the program `argv[0]` with exactly these words.

    What the shell prints of its own comes before a line of MARKER and the number of the process group (see `process_group`); the
    exit status is the program's, 128 + N if signal N ended it. Raises ValueError for a NUL, for more than a command line can hold, and for
    a program called -something, which some shells' `exec` takes for an option.
    """
    if not argv or argv[0].startswith("-") or any("\0" in word for word in argv):
        raise ValueError(f"not a command line: {ascii(list(argv))[:200]}")
    # Only /proc tells a shell its process group. The subshell makes `exec` return here, so that a signal becomes a status.
    group = "group=; read -r _ _ _ _ group _ < /proc/$$/stat"
    script = f"{group}; printf '\\n%s %s\\n' {MARKER} \"$group\"; (exec {shlex.join(argv)}); exit $?"
    line = f"""/bin/sh -c 'eval "$(printf %b "$1")"' sh '{_octal(os.fsencode(script))}'"""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a command line of {len(line)} bytes: more than {MAX_LINE_BYTES}; send it on standard input")
    return line


def _octal(script: bytes) -> str:
    return "".join(map(_ENCODED.__getitem__, script))


def process_group(line: bytes) -> int | None:
    """The process group that a line of output names if it is the marker's (0 where the device could not tell), else None."""
    match = _MARKER_LINE.fullmatch(line)
    return int(match[1] or 0) if match else None
