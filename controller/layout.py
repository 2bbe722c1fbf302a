"""Where the devices stand in the text of an inventory.yaml, and that text with one more, one less, or another host key.

A device's own lines are its entry, the comments within and below it that are indented deeper than its name, and those right above
its name. All other lines stay as they are, byte for byte.
"""
# ruamel.yaml types neither its nodes nor what it dumps.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from controller.errors import FleetmarkError

BOM = "\ufeff"
COLUMN = 2
_QUOTED = ("host_key", "jump_host_key", "path")

Entry = Mapping[str, Any]
"""A device as it stands in the file: keys and values of `devices: NAME:`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The lines of an inventory: `head` is that of `devices:`, `keys` are those of the names, behind `end` stands something else."""

    lines: Sequence[str]
    head: int
    keys: Mapping[str, int]
    column: int
    end: int

    @classmethod
    def of(cls, text: str) -> "Layout":
        """Give the layout of a text that the strict loader takes; raises FleetmarkError where the devices stand in {braces}."""
        root = _compose(text)
        keys = [key for key, _ in root.value]
        at = next((at for at, key in enumerate(keys) if key.value == "devices"), None)
        if at is None:
            return cls.of(text + ("" if text.endswith("\n") else "\n") + "devices:\n")
        value = root.value[at][1]
        if not getattr(value, "value", None) or not isinstance(value, MappingNode):
            begin, end = _index(text, value.start_mark), _index(text, value.end_mark)
            if end > begin:  # `{}` or `null`
                return cls.of(text[:begin].rstrip(" ") + text[end:])
        elif value.flow_style:
            raise FleetmarkError(
                "the inventory's devices stand in {braces}, which are not edited", next="give each a line of its own below `devices:`"
            )
        following = keys[at + 1].start_mark if at + 1 < len(keys) else root.end_mark
        lines = split(text)
        end = _line(text, following) if text[_index(text, following) :].strip() else len(lines)
        names = [key for key, _ in value.value] if isinstance(value, MappingNode) else []
        column = names[0].start_mark.column if names else COLUMN
        return cls(lines, _line(text, keys[at].start_mark), {key.value: _line(text, key.start_mark) for key in names}, column, end)

    def with_entries(self, entries: Mapping[str, Entry]) -> str:
        """Give the text with devices behind those that are there, a blank line between them where that is the file's way."""
        at, is_spaced = self._slot()
        newline = "\r\n" if self.lines[0].endswith("\r\n") else "\n"
        new: list[str] = []
        for name, entry in entries.items():
            new += [newline] if is_spaced else []
            new += [" " * self.column + line + newline for line in dump({name: entry}).splitlines()]
        before = list(self.lines[:at])
        if not before[-1].endswith("\n"):
            before[-1] += newline
            new[-1] = new[-1].removesuffix(newline)
        return "".join([*before, *new, *self.lines[at:]])

    def without(self, name: str) -> str:
        """Give the text without a device and its own comments, and without the blank lines that set it off."""
        start, stop = self._own(name)
        if name == list(self.keys)[-1]:
            while not self.lines[start - 1].strip():
                start -= 1
        else:
            while not self.lines[stop].strip():
                stop += 1
        before = list(self.lines[:start])
        if stop == len(self.lines) and not self.lines[-1].endswith("\n"):
            before[-1] = before[-1].rstrip("\r\n")
        return "".join([*before, *self.lines[stop:]])

    def _own(self, name: str) -> tuple[int, int]:
        """A device's own first line, and the one behind its last."""
        key = start = self.keys[name]
        following = min((at for at in self.keys.values() if at > key), default=self.end)
        stop = max(at for at in range(key, following) if at == key or not _is_idle(self.lines[at])) + 1
        for at in range(stop, following):
            if self.lines[at].strip() and _indent(self.lines[at]) <= self.column:
                break
            stop = at + 1 if self.lines[at].strip() else stop
        while _is_comment(self.lines[start - 1]) and _indent(self.lines[start - 1]) == self.column:
            start -= 1
        return start, stop

    def _slot(self) -> tuple[int, bool]:
        """The line that a new device gets, and whether a blank one sets it off."""
        if self.keys:
            start, stop = self._own(list(self.keys)[-1])
            return stop, not self.lines[start - 1].strip()
        at = self.head + 1
        for line in range(at, self.end):
            if self.lines[line].strip() and not _indent(self.lines[line]):
                break
            at = line + 1 if self.lines[line].strip() else at
        return at, at > self.head + 1


def with_pin(text: str, name: str, key: str, pin: str) -> str:
    """Give the text with `key` of a device's `ssh` set to `pin`; the device has an `ssh`."""
    ssh = _child(_child(_child(_compose(text), "devices"), name), "ssh")
    found = {each.value: (each, value) for each, value in ssh.value}
    if key in found:
        begin, end = (_index(text, mark) for mark in (found[key][1].start_mark, found[key][1].end_mark))
        return f'{text[:begin]}{" " if begin == end else ""}"{pin}"{text[end:]}'
    host, value = found["host"]
    end = _index(text, value.end_mark)
    if ssh.flow_style:
        return f'{text[:end]}, {key}: "{pin}"{text[end:]}'
    line_end = re.compile(r"\r?\n|$").search(text, end)
    assert line_end  # noqa: S101 - `$` always matches
    added = f'{line_end[0] or chr(10)}{" " * host.start_mark.column}{key}: "{pin}"'
    return text[: line_end.start()] + added + text[line_end.start() :]


def dump(entries: Mapping[str, Entry]) -> str:
    """Give devices as YAML: a key a line, what is below it in braces."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 1_000_000
    yaml.dump({name: {key: _flow(key, value) for key, value in entry.items()} for name, entry in entries.items()}, stream)
    return stream.getvalue()


def split(text: str) -> list[str]:
    """Give the lines with their ends."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _flow(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        mapping = CommentedMap({name: _flow(name, each) for name, each in value.items()})
        mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list | tuple):
        sequence = CommentedSeq(value)
        sequence.fa.set_flow_style()
        return sequence
    return DoubleQuotedScalarString(value) if key in _QUOTED and isinstance(value, str) else value


def _compose(text: str) -> Any:
    try:
        return YAML().compose(text.removeprefix(BOM))
    except YAMLError as error:  # `devices:` behind the end of a document that has none
        raise FleetmarkError("the inventory cannot be changed safely; nothing was written", next="edit it by hand") from error


def _child(node: Any, key: str) -> Any:
    return next(value for each, value in node.value if each.value == key)


def _index(text: str, mark: Any) -> int:
    return int(mark.index) + text.startswith(BOM)


def _line(text: str, mark: Any) -> int:
    return text.count("\n", 0, _index(text, mark))


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_idle(line: str) -> bool:
    return not line.strip() or _is_comment(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
