"""From a document to a record, strictly: an unknown key, a wrong type or a wrong unit is a problem with its place and a way out."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails

from controller.errors import ConfigError, Problem
from controller.yamlfile import Document, Place, is_secret

NAME = "[A-Za-z0-9][A-Za-z0-9._-]*"
MAX_NAMES = 20  # that a message lists
MAX_SHOWN = 60  # characters of a wrong text that are repeated in its message

UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "c": "degrees Celsius",
    "mbps": "megabits per second",
}

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a name or a mapping (`key: value`)",
    "is_instance_of": "a path",
}

_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a decimal number",
    tuple: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What validators may look at: the whole document, and which record each mapping of it, by its id, was read as."""

    document: Document
    records: dict[int, type["Record"]] = field(default_factory=dict[int, type["Record"]])


class Record(BaseModel):
    """A mapping of a file: frozen, no unknown keys, nothing coerced. A known key without a value counts as absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_keys(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        values = cast(dict[str, object], data)
        if isinstance(info.context, Context):
            info.context.records[id(values)] = cls
        return {key: value for key, value in values.items() if value is not None or key not in cls.model_fields}


R = TypeVar("R", bound=Record)


def validate(document: Document, kind: type[R]) -> R:
    """Give the document as a record of this kind; raises ConfigError with every problem, those of the reading included."""
    context = Context(document)
    problems = list(document.problems)
    try:
        record = kind.model_validate(document.data, context=context)
    except ValidationError as error:
        problems += [_problem(context, detail) for detail in error.errors(include_url=False) if not _is_echo(document, detail)]
        raise ConfigError(document.path, problems) from None
    if problems:
        raise ConfigError(document.path, problems)
    return record


def nearest(text: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the nearest known one, or else all of them, where that is one too many the first."""
    names = sorted(known)
    near = difflib.get_close_matches(text.lower(), names, n=1)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(names[:MAX_NAMES]) or 'none'}{more}"


def quoted(text: object) -> str:
    """A text of the file for a message, cut where it is long."""
    shown = str(text)
    return f"`{shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}`"


def check_name(text: str) -> str:
    """`text`, which must be a name; raises ValueError."""
    if not re.fullmatch(NAME, text):
        raise ValueError(f"{quoted(text)} is not a name: letters, digits, `.`, `_` and `-`, the first a letter or digit")
    return text


def resolve(value: Any, info: ValidationInfo) -> Any:
    """The absolute path for a text, taken from the document's folder; anything else as it is. Raises ValueError for an unknown ~user."""
    if not isinstance(value, str):
        return value
    folder = info.context.document.path.parent if isinstance(info.context, Context) else Path()
    try:
        return Path(folder, Path(value).expanduser()).absolute()
    except RuntimeError as error:
        raise ValueError(f"{quoted(value)}: {error}") from None


def refuse(faults: Mapping[Place, str]) -> None:
    """Raise, from within a validator, the faults that are not empty, each at its place below the validated value."""
    details = [
        InitErrorDetails(type="value_error", loc=place, input=None, ctx={"error": fault}) for place, fault in faults.items() if fault
    ]
    if details:
        raise ValidationError.from_exception_data("", details)


def _check_unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`values`, none of which stands there twice; raises ValueError."""
    for at, value in enumerate(values):
        if value in values[:at]:
            raise ValueError(f"{quoted(getattr(value, 'name', value))} stands here twice")
    return values


def _check_version(version: int) -> int:
    if version != 1:
        raise ValueError(f"this fleetmark reads version 1, not {version}")
    return version


Name = Annotated[str, AfterValidator(check_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})]
Version = Annotated[int, AfterValidator(_check_version), WithJsonSchema({"const": 1})]
UniqueNames = AfterValidator(_check_unique)
FilePath = Annotated[Path, BeforeValidator(resolve, json_schema_input_type=str)]  # relative to the file's folder; absolute once read


def _is_echo(document: Document, detail: ErrorDetails) -> bool:
    """Whether it only follows from another problem: the reading took no value there, or none of a list's items was right."""
    place = detail["loc"]
    found, _ = document.follow(place)
    taken = place not in document.refused and not any(found[:length] in document.refused for length in range(len(found) + 1))
    return not taken or (detail["type"] == "too_short" and bool(detail["input"]))


def _problem(context: Context, detail: ErrorDetails) -> Problem:
    document = context.document
    found, value = document.follow(detail["loc"])
    at_key = isinstance(value, dict | None) or detail["type"] in ("missing", "extra_forbidden") or detail["loc"][-1:] == ("[key]",)
    position = (document.keys.get(found) if at_key else None) or document.values.get(found) or (1, 1)
    return Problem(*position, _message(context, detail, found))


def _message(context: Context, detail: ErrorDetails, found: Place) -> str:
    kind, value = detail["type"], detail["input"]
    key = next((part for part in reversed(found) if isinstance(part, str)), "")
    if kind == "extra_forbidden":
        return _unknown_key(key, context.records[id(context.document.follow(found[:-1])[1])])
    if kind in ("missing", "union_tag_not_found"):
        return f"`{detail['loc'][-1] if kind == 'missing' else 'name'}` is missing" + (f" in `{key}`" if key else "")
    if kind == "value_error":
        return str(detail.get("ctx", {})["error"])
    if kind in ("literal_error", "union_tag_invalid"):
        return _unknown_word(key, detail)
    if kind == "too_short":
        return f"`{key}` is empty"
    if kind in _EXPECTED:
        return f"`{key}`: {_EXPECTED[kind]} expected, not {_KINDS[type(value)]}{_mend(kind, key, value)}"
    return f"`{key}`: {detail['msg'].replace('Input should', 'must')}"


def _unknown_key(key: str, record: type[Record]) -> str:
    said = f"unknown key {quoted(key)}"
    if is_secret(key):
        return f"{said}: keys and the SSH agent log in, no file holds a secret"
    for name, info in record.model_fields.items():
        stem, _, unit = name.rpartition("_")
        if unit in UNITS and stem in (key, key.rpartition("_")[0]):
            return f"{said}: did you mean `{name}`? it is given in {UNITS[unit]}"
        for kind in (info.annotation, *get_args(info.annotation)) if get_origin(info.annotation) in (None, UnionType) else ():
            if isinstance(kind, type) and issubclass(kind, Record) and key in kind.model_fields:
                return f"{said}: it belongs under `{name}`"
    return f"{said}: {nearest(key, record.model_fields)}"


def _unknown_word(key: str, detail: ErrorDetails) -> str:
    """For a word that is none of a fixed set."""
    ctx = detail.get("ctx", {})
    word = ctx.get("tag", detail["input"])
    known = re.findall(r"'([^']*)'", ctx.get("expected") or ctx["expected_tags"])
    if isinstance(word, str):
        return f"`{key}`: {quoted(word)} is not known; {nearest(word, known)}"
    return f"`{key}`: one of {', '.join(known)} expected, not {_KINDS[type(word)]}"


def _mend(kind: str, key: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return "; write it in quotes"
    if kind == "tuple_type" and isinstance(value, str):
        return "; write it in [brackets]"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        unit = UNITS.get(key.rpartition("_")[2])
        return "; write the bare number" + (f", in {unit}" if unit else "")
    return ""
