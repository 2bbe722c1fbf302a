"""What a device's agent answers, hostile until it is validated here. Every function raises FaultError `protocol` in the device's name."""

import json
from typing import Any

from agent.schema import PROTOCOL, REASONS, Event, Fault, FaultError, SchemaError, decode, load
from controller import limits


class ToldError(FaultError):
    """An error that the agent itself tells of, after which it answers the next question."""


def object_of(name: str, text: bytes) -> dict[str, Any]:
    """Give the JSON object that a line is."""
    try:
        value: Any = decode(text)
        _check_storable(value)
    except SchemaError as error:
        raise fault(name, f"the agent's answer is {error}") from error
    if not isinstance(value, dict):
        raise fault(name, "the agent's answer is not an object")
    return value  # pyright: ignore[reportUnknownVariableType]


def record(name: str, kind: Any, value: object) -> Any:
    """Give a part of an answer as a record."""
    try:
        return load(kind, value)
    except SchemaError as error:
        raise fault(name, f"the agent's answer is malformed: {error}") from error


def result(name: str, verb: str, line: bytes) -> dict[str, Any]:
    """Give what a verb answered; raises the FaultError that the agent tells of, too."""
    answer = object_of(name, line)
    if "fault" in answer:
        raise remote_fault(name, answer["fault"])
    found = answer.get("ok")
    if answer.get("v") != PROTOCOL or not isinstance(found, dict):
        raise fault(name, f"the agent's {verb} answered in an unknown way")
    return found  # pyright: ignore[reportUnknownVariableType] - JSON


def event(name: str, line: bytes) -> Event:
    """Give a spool's event; raises the FaultError that the agent tells of instead, too."""
    answer = object_of(name, line)
    if "fault" in answer:
        raise remote_fault(name, answer["fault"])
    found: Event = record(name, Event, answer)
    if found.v != PROTOCOL:
        raise fault(name, f"the agent speaks version {found.v} of the protocol, we {PROTOCOL}")
    return found


def remote_fault(name: str, value: object) -> FaultError:
    """Give the error that the agent tells of, or that of an agent that tells of none that there is."""
    found: Fault = record(name, Fault, value)
    if found.code not in REASONS:
        raise fault(name, f"{found.code[:40]!a} is not a reason code")
    message = f"{name}: {found.message[: limits.MAX_TEXT_CHARACTERS]}"
    return ToldError(found.code, message, found.next[: limits.MAX_TEXT_CHARACTERS], found.phase[:40])


def fault(name: str, message: str) -> FaultError:
    """Give the error of a device that does not keep to the protocol."""
    return FaultError("protocol", f"{name}: {message}", "run again")


def last_line(text: bytes | str) -> str:
    """Give the last line of what a command printed, on one line for people."""
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).strip().splitlines()
    return json.dumps(lines[-1][:200])[1:-1] if lines else "no message"


def _check_storable(value: Any) -> None:
    """Refuse numbers that neither the store nor a float can hold, and half characters, which nothing can show."""
    match value:
        case str() if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise SchemaError("text with half a character")
        case int() if abs(value) > limits.MAX_WHOLE:
            raise SchemaError("a whole number of more than 64 bits")
        case dict():
            _check_storable([*value, *value.values()])  # pyright: ignore[reportUnknownArgumentType] - JSON
        case list():
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                _check_storable(item)
        case _:
            pass


def check_sizes(value: Any) -> None:
    """Refuse a probe that is larger than a device's can be, before it is stored and shown."""
    match value:
        case str() if len(value) > limits.MAX_PATH_CHARACTERS:
            raise SchemaError(f"a text of {len(value)} characters")
        case dict() | list() if len(value) > limits.MAX_PROBE_ENTRIES:  # pyright: ignore[reportUnknownArgumentType] - JSON
            raise SchemaError(f"a list of {len(value)} entries")  # pyright: ignore[reportUnknownArgumentType]
        case dict() | list():
            for item in [*value, *value.values()] if isinstance(value, dict) else value:  # pyright: ignore[reportUnknownVariableType]
                check_sizes(item)
        case _:
            pass
