"""Strings that others wrote, made safe to show: log lines, probes, fault messages.

HTML escaping is the template's; this is about what escaping leaves alone: terminal escapes, marks that reorder text, sheer length.
"""

import re
import unicodedata

LOG_LIMIT = 4000
LINE_LIMIT = 300

_TERMINAL_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")  # ECMA-48: CSI, OSC, others
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def line(text: object, limit: int = LINE_LIMIT) -> str:
    """One line of at most `limit` characters: white space collapsed, terminal escapes gone, other invisible characters as \\uXXXX."""
    start = str(text)[: 4 * limit]
    shown = visible(" ".join(_TERMINAL_ESCAPE.sub("", start).split()))
    return shown if len(shown) <= limit and len(str(text)) <= 4 * limit else shown[: limit - 1] + "…"


def log(text: str, limit: int = LOG_LIMIT) -> str:
    """The end of a log, about `limit` characters of it, lines kept, the rest as in `line`."""
    tail = _TERMINAL_ESCAPE.sub("", text[-limit:]).replace("\r\n", "\n").replace("\t", "    ").strip("\n")
    return visible(tail) if len(text) <= limit else f"… (the last {limit:,} of {len(text):,} characters)\n{visible(tail)}"


def visible(text: str) -> str:
    """The text with every invisible character but the line feed as \\uXXXX."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if unicodedata.category(character) in _INVISIBLE else character for character in text)


def _escaped(character: str) -> str:
    return character if character == "\n" else f"\\u{ord(character):04x}"
