"""fleetmark device probe."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_json, stdout_table

if TYPE_CHECKING:
    from agent.description import Probe
    from agent.schema import FaultError
    from controller.inventory import Device

MAX_CHARACTERS = 500


def probe(
    selectors: options.Selectors = None,
    select: options.Select = None,
    quick: Annotated[bool, typer.Option("--quick", help="Ask no program there and try no runtime.")] = False,
    inventory: options.Inventory = options.INVENTORY,
    json: options.Json = False,
) -> None:
    """Ask devices what they are and what they offer.

    Board, system, processor, accelerators, power sensors, runtimes, each tried in a process of its own. A disabled device is asked if it
    is named. Exit code 4 if a device cannot be reached; the others are asked all the same.
    """
    from agent.schema import FaultError, dump
    from controller import lanes
    from controller.errors import exit_code, gravest, render

    devices = options.devices(inventory, selectors, select)
    answers = lanes.each(devices, lambda device: _ask(device, quick))
    found = {device.name: answer for device, answer in zip(devices, answers, strict=True)}
    faults = [answer for answer in answers if isinstance(answer, FaultError)]
    if json:
        stdout_json(
            "probes",
            {name: {"fault": dump(each.fault)} if isinstance(each, FaultError) else {"probe": dump(each)} for name, each in found.items()},
        )
    for name, each in () if json else found.items():
        if not isinstance(each, FaultError):
            _print(name, dump(each))
    for fault in faults:
        stderr_text(render(fault), "red")
    if faults:
        raise typer.Exit(gravest([exit_code(fault) for fault in faults]))


def _ask(device: "Device", quick: bool) -> "Probe | FaultError":
    from agent.schema import FaultError
    from controller.survey import survey
    from controller.visit import visiting

    try:
        with visiting(device) as remote:
            return remote.probe() if quick else survey(device, remote).probe
    except FaultError as error:
        return error


def _print(name: str, probe: dict[str, Any]) -> None:
    """A table on a terminal; elsewhere one line per fact, to be searched."""
    from controller.errors import printable

    rows = [[key, value[:MAX_CHARACTERS]] for key, value in _facts(probe)]
    if sys.stdout.isatty():
        stderr_text(name, "bold")
        stdout_table(["", "found"], rows)
        return
    for key, value in rows:
        typer.echo(printable(f"{name}: {key}: {value}"))


def _facts(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What there is, a line each: of a list of records each record, of a mapping its pairs."""
    for key, each in value.items():
        if isinstance(each, list) and any(isinstance(item, dict) for item in each):  # pyright: ignore[reportUnknownVariableType] - JSON
            yield from ((f"{key}[{at}]", _words(item)) for at, item in enumerate(each))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        elif each not in ("", [], {}, None):
            yield key, _amount(key, each)


def _words(value: Any) -> str:
    match value:
        case dict():
            return "; ".join(f"{key}: {_words(each)}" for key, each in value.items() if each not in ("", [], {}, None))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case list():
            return ", ".join(map(_words, value))  # pyright: ignore[reportUnknownArgumentType]
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


def _amount(key: str, value: Any) -> str:
    return f"{value / 1e9:.1f} GB" if key in ("memory_bytes", "disk_free_bytes") else _words(value)
