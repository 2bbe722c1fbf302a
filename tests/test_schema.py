"""The records that cross the wire."""

import json
import math
from functools import cache
from typing import Any, Dict, List, NamedTuple, Optional, Union, get_args, get_origin, get_type_hints  # noqa: UP035 - the schema's own

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import description, schema
from agent.lease import Lease
from agent.power import PowerTrace
from agent.schema import Cell, Event, Fault, LaunchSpec, SchemaError, Workload, cell_id, decode, dump, encode, fingerprint, load

MODULES = {**vars(schema), **vars(description)}
RECORDS = [kind for kind in MODULES.values() if isinstance(kind, type) and hasattr(kind, "_fields")] + [Lease, PowerTrace]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=8)
LEAVES = st.none() | st.booleans() | st.integers() | NUMBERS | TEXT
ANY = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {str: TEXT, int: st.integers(), float: NUMBERS, bool: st.booleans(), Any: ANY}
EXAMPLE = Cell("pi4-a", "m", "int8", "onnx", "0" * 64, "onnxruntime", {"threads": 4}, Workload("single_stream", {"batch": 1.5}))


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if kind in SCALARS:
        return SCALARS[kind]
    arguments = get_args(kind)
    if get_origin(kind) is Union:
        return st.none() | values(arguments[0])
    if get_origin(kind) is list:
        return st.lists(values(arguments[0]), max_size=3)
    if get_origin(kind) is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=3)
    return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})


ANY_RECORD = st.one_of([values(kind) for kind in RECORDS])
THOROUGH = settings(max_examples=100, deadline=None)


def test_every_record_of_the_wire_is_tried() -> None:
    """The round trips below cover the records that DESIGN.md names."""
    assert {kind.__name__ for kind in RECORDS} >= {"Cell", "LaunchSpec", "Measurement", "Conditions", "Fault", "Probe", "Event"}


@THOROUGH
@given(ANY_RECORD)
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    """What encode writes of any record, decode and load read as the same record: one ASCII line, objects by field name."""
    kind = type(record)
    line = encode(record)
    assert line.isascii()
    assert b"\n" not in line
    assert line.startswith(b"{")
    assert load(kind, decode(line)) == record
    assert encode(load(kind, decode(line))) == line


@pytest.mark.parametrize("record", [EXAMPLE, Event(1, 7, 12.5, "fault", dump(Fault("oom", "load", "zu groß", "")))])
def test_a_record_cut_at_any_byte_is_refused(record: Any) -> None:
    """No prefix of a record is a record, nor is one with a byte too many."""
    line = encode(record)
    for cut in range(len(line)):
        with pytest.raises(SchemaError):
            load(type(record), decode(line[:cut]))
    with pytest.raises(SchemaError):
        decode(line + b"}")


@THOROUGH
@given(st.sampled_from(RECORDS), ANY)
def test_any_json_is_a_record_or_a_schema_error(kind: Any, value: Any) -> None:
    """Whatever JSON arrives, load gives the record or raises SchemaError with a short printable message, never anything else."""
    message = ""
    try:
        load(kind, value)
    except SchemaError as error:
        message = str(error)
    assert len(message) < 300
    assert message.isprintable()


@THOROUGH
@given(st.binary() | st.text().map(str.encode) | ANY.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_json_or_a_schema_error(text: bytes) -> None:
    """Whatever bytes arrive, decode gives a value that encode can write, or raises SchemaError."""
    try:
        value = decode(text)
    except SchemaError:
        return
    encode(value)


@THOROUGH
@given(ANY_RECORD, st.data())
def test_a_field_too_few_or_too_many_is_refused(record: Any, data: st.DataObject) -> None:
    """A record without one of its fields, or with one that it does not have, is refused, and so is the list of its values."""
    document = dump(record)
    left_out = data.draw(st.sampled_from(sorted(document)))
    missing = {name: value for name, value in document.items() if name != left_out}
    for wrong in (missing, {**document, "extra": 1}, list(document.values())):
        with pytest.raises(SchemaError):
            load(type(record), wrong)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(int, True), (int, 1.0), (int, "1"), (float, "1.0"), (float, True), (float, 10**400), (bool, 1), (str, 1), (str, None), (str, [])],
)
def test_nothing_is_coerced(kind: Any, value: Any) -> None:
    """A field takes its own type only; the one exception is a float written without its point."""
    with pytest.raises(SchemaError):
        load(kind, value)
    assert load(float, 3) == 3.0


NUMBERS_REFUSED = ["NaN", "Infinity", "-Infinity", '{"a":NaN}', "1e999", "[-1e999]", "9" * 5000]
TOO_DEEP = ["[" * 33 + "]" * 33, "[" * 100_000, '{"a":' * 50_000]
NOT_QUITE_JSON = ["", "{}{}", "\ufeff{}", "'a'", '"\n"', "[1,]"]


@pytest.mark.parametrize("text", NUMBERS_REFUSED + TOO_DEEP + NOT_QUITE_JSON)
def test_hostile_documents_are_refused(text: str) -> None:
    """Numbers that are none or too large, nesting beyond MAX_DEPTH, and what is not quite JSON."""
    with pytest.raises(SchemaError):
        decode(text)


def test_the_deepest_document_that_is_allowed() -> None:
    """MAX_DEPTH levels of lists are read."""
    assert decode("[" * 31 + "]" * 31)


def test_nan_is_not_written() -> None:
    """A record with NaN or infinity cannot be encoded."""
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            encode(schema.Measurement("latency_s", "s", [number]))


def test_a_cells_identity_is_its_content() -> None:
    """Equal cells have one id, whatever the order of their options; any other field gives another."""
    options = {"a": 1, "b": [2.5, None]}
    cell = EXAMPLE._replace(options=options)
    assert cell_id(cell) == cell_id(cell._replace(options=dict(reversed(options.items())))) == fingerprint(cell)[:16]
    others = [EXAMPLE._replace(**{name: "other"}) for name in ("device", "model", "variant", "format", "artifact", "backend")]
    assert len({cell_id(one) for one in [cell, EXAMPLE, *others, EXAMPLE._replace(workload=Workload("offline", {}))]}) == 9


class _Old(NamedTuple):
    """What Python 3.6 calls the types."""

    one: List[int]  # noqa: UP006
    two: Dict[str, float]  # noqa: UP006
    three: Optional[str]  # noqa: UP045


def test_the_typing_module_of_old_is_understood() -> None:
    """List, Dict and Optional of typing are checked as list, dict and a value or None."""
    assert load(_Old, {"one": [1], "two": {"a": 1}, "three": None}) == _Old([1], {"a": 1.0}, None)
    for wrong in ({"one": ["1"]}, {"two": {"a": None}}, {"three": 3}):
        with pytest.raises(SchemaError):
            load(_Old, {"one": [], "two": {}, "three": None, **wrong})


def test_a_launch_spec_names_the_field_that_is_wrong() -> None:
    """The message of a SchemaError leads to the field."""
    with pytest.raises(SchemaError, match=r"LaunchSpec.*missing"):
        load(LaunchSpec, {})
    with pytest.raises(SchemaError, match=r"Cell\.workload: an object expected, not int"):
        load(Cell, {**dump(EXAMPLE), "workload": 1})
