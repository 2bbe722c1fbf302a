"""A YAML file as plain values with the place of each.

The file is data and nothing else: no tags, no duplicate keys, names are text, sizes and depth are bounded, and no secret stands in it.
Problems are collected, so that a person sees all of them at once. The round-trip loader reads it: whatever loads here can be written
back with its comments.
"""
# ruamel.yaml types neither its nodes nor its errors.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import codecs
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from controller.errors import ConfigError, Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_VALUES = 100_000  # aliases counted as often as they are used

Place = tuple[str | int, ...]  # keys and indexes on the way to a value

_TAG = "tag:yaml.org,2002:"
_SECRET_KEY = re.compile(r"(password|passwd|passphrase|secret|token|(api|private|access)[-_]?key)$", re.IGNORECASE)
_REFERENCE = re.compile(r"(env:[A-Za-z_]\w*|file:\S.*)")
_SECRET_TEXT = re.compile(
    r"://[^/\s]*:[^/\s]*@|^[^/\s:@]+:[^\s@]+@|[?&](password|passphrase|secret|token|api_?key)=|-----BEGIN [A-Z ]*PRIVATE KEY", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values: mappings as dicts, lists as tuples. `refused` are places whose value was not taken, for a problem already noted."""

    path: Path
    data: Mapping[str, object]
    problems: tuple[Problem, ...]
    refused: frozenset[Place]
    keys: Mapping[Place, tuple[int, int]]
    values: Mapping[Place, tuple[int, int]]

    def follow(self, place: Place) -> tuple[Place, object]:
        """`place` without the parts that the file does not have, and the value there."""
        node: Any = self.data
        found: Place = ()
        for part in place:
            children: Mapping[Any, Any] = dict(enumerate(node)) if isinstance(node, tuple) else node if isinstance(node, dict) else {}
            if part in children:
                node = children[part]
                found += (part,)
        return found, node

    def names(self, key: str) -> frozenset[str]:
        """The keys of the mapping at the top-level `key`."""
        value: Any = self.data.get(key)
        return frozenset(value) if isinstance(value, dict) else frozenset()


def read(path: Path) -> Document:
    """Give the file's values; raises ConfigError where there is no mapping to be had from it. Other problems are noted in the document."""
    return parse(path, text(path))


def parse(path: Path, text: str) -> Document:
    """Give the values of `text` as if it stood in the file; raises as `read`."""
    reader = _Reader(path)
    try:
        node = YAML().compose(text)
        if not isinstance(node, MappingNode):
            raise ConfigError(path, [Problem(1, 1, "the file is empty" if node is None else "a mapping (`key: value`) expected")])
        data = reader.mapping(node, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError(path, [Problem(line, column, _syntax(error))]) from error
    except ReaderError as error:
        raise ConfigError(path, [Problem(*_position(text[: error.position]), "a control character, which YAML does not allow")]) from error
    except RecursionError as error:
        raise ConfigError(path, [Problem(0, 0, f"nested deeper than {MAX_DEPTH}")]) from error
    except (YAMLError, AssertionError, NotImplementedError) as error:  # ruamel gives up so on comments in very odd places
        raise ConfigError(path, [Problem(0, 0, "not YAML that can be written back: look at the comments")]) from error
    return Document(path, data, tuple(reader.problems), frozenset(reader.refused), reader.keys, reader.values)


def is_secret(key: str) -> bool:
    """Whether a key of this name holds a secret."""
    return bool(_SECRET_KEY.search(key))


def text(path: Path) -> str:
    """Give the file's text without a byte order mark; raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(path, [Problem(0, 0, "no such file; `fleetmark init` writes a commented one")]) from error
    except (OSError, ValueError) as error:
        raise ConfigError(path, [Problem(0, 0, f"cannot be read: {error}")]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(path, [Problem(0, 0, f"larger than {MAX_BYTES:,} bytes")])
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise ConfigError(path, [Problem(*_position(before), f"not UTF-8: byte 0x{content[error.start]:02x}")]) from error


def _position(before: str) -> tuple[int, int]:
    """Line and column of what comes after `before`."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _syntax(error: MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "not YAML")
    if "another document" in problem:
        return "a second document begins here; one file holds one"
    return f"not YAML: {problem}" + ("; indent with spaces, not tabs" if "\\t" in problem else "")


@dataclass(slots=True)
class _Reader:
    """Turns nodes into values and remembers where each stands."""

    path: Path
    left: int = MAX_VALUES
    problems: list[Problem] = field(default_factory=list[Problem])
    refused: set[Place] = field(default_factory=set[Place])
    keys: dict[Place, tuple[int, int]] = field(default_factory=dict[Place, tuple[int, int]])
    values: dict[Place, tuple[int, int]] = field(default_factory=dict[Place, tuple[int, int]])

    def mapping(self, node: MappingNode, place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag == _TAG + "merge":
                self._note(key_node, "`<<` is not taken here: write the values out")
            elif not isinstance(key, str):
                self._note(key_node, "a name expected, not a list or a mapping")
            elif key_node.tag != _TAG + "str":
                self._note(key_node, f"`{key}` is not read as text: write it in quotes")
            elif key in found:
                self._note(key_node, f"`{key}` stands here twice, first in line {self.keys[*place, key][0]}")
            elif fault := _fault_of_text(key):
                self._note(key_node, fault)
            else:
                here = (*place, key)
                self.keys[here] = _start(key_node)
                found[key] = self._value(value_node, here, key)
        return found

    def _value(self, node: Node, place: Place, key: str) -> object:
        self.values[place] = _start(node)
        self.left -= 1
        if self.left < 0 or len(place) > MAX_DEPTH:
            what = f"more than {MAX_VALUES:,} values" if self.left < 0 else f"nested deeper than {MAX_DEPTH}"
            self._note(node, what)
            raise ConfigError(self.path, self.problems)
        if is_secret(key) and not _is_reference(node):
            return self._refuse(node, place, f"`{key}` holds a secret: keys and the SSH agent log in, a token is `env:NAME` or `file:PATH`")
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, place)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return tuple(self._value(item, (*place, at), "") for at, item in enumerate(node.value))
        return self._scalar(node, place)

    def _scalar(self, node: Node, place: Place) -> object:
        kind = node.tag.removeprefix(_TAG)
        text = node.value
        if not isinstance(node, ScalarNode) or kind not in ("str", "timestamp", "int", "float", "bool", "null"):
            return self._refuse(node, place, "a YAML tag, which is not taken here")
        if kind in ("int", "float"):
            number = _number(kind, text)
            return self._refuse(node, place, "not a finite number") if number is None else number
        if kind in ("bool", "null"):
            return text.lower() in ("true", "yes", "on", "y") if kind == "bool" else None
        fault = _fault_of_text(text)
        return self._refuse(node, place, fault) if fault else text

    def _note(self, node: Node, message: str) -> None:
        self.problems.append(Problem(*_start(node), message))

    def _refuse(self, node: Node, place: Place, message: str) -> None:
        self._note(node, message)
        self.refused.add(place)


def _start(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _is_reference(node: Node) -> bool:
    return isinstance(node, ScalarNode) and bool(_REFERENCE.fullmatch(node.value))


def _fault_of_text(text: str) -> str:
    if _SECRET_TEXT.search(text):
        return "a secret in the text: no password, token or private key belongs in this file"
    return "" if text.isprintable() else "a line break or another character that is not printed"


def _number(kind: str, text: str) -> int | float | None:
    digits = text.replace("_", "")
    try:
        if kind == "int":
            return int(digits, 10 if digits.lstrip("+-").isdigit() else 0)
        number = float(digits)
    except ValueError:  # .inf and .nan, or more digits than Python reads
        return None
    return number if math.isfinite(number) else None
