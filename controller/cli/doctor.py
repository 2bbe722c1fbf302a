"""fleetmark doctor."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stdout_json, stdout_lines

if TYPE_CHECKING:
    from controller.doctor import Check
    from controller.inventory import Device

AT_ONCE = 16

Selectors = Annotated[
    list[str] | None, typer.Argument(metavar="[SEL]...", help="Which devices: names, groups, key=value tags; all if none.")
]


def doctor(selectors: Selectors = None, inventory: options.Inventory = options.INVENTORY, json: options.Json = False) -> None:
    """Look what keeps devices from being measured, or from being measured well, and say how to mend it.

    Nothing on a device is changed but for the agent in its own folder. Exit code 1 if a required check failed, 4 if a device cannot be
    reached.
    """
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import asdict

    from controller import inventory as inventories
    from controller import selectors as selecting

    devices = selecting.select(inventories.load(inventory), selectors or [])
    with ThreadPoolExecutor(min(AT_ONCE, len(devices))) as pool:
        found = dict(zip((device.name for device in devices), pool.map(_examine, devices), strict=True))
    if json:
        stdout_json("doctor", {name: [asdict(check) for check in checks] for name, checks in found.items()})
    else:
        stdout_lines(_lines(found))
    code = _code([check for checks in found.values() for check in checks])
    if code:
        raise typer.Exit(code)


def _examine(device: "Device") -> "list[Check]":
    from agent.schema import FaultError
    from controller import doctor
    from controller.survey import survey
    from controller.visit import visiting

    try:
        with visiting(device) as remote:
            now_s = time.time()
            return doctor.checks(device, survey(device, remote), remote.lease(), now_s)
    except FaultError as error:
        return doctor.refused(error.fault)


def _lines(found: "Mapping[str, Sequence[Check]]") -> Iterator[tuple[str, str]]:
    """Lines with their styles: each device, what is wrong first, the gravest on top, its mend on a line of its own to be copied."""
    levels = ("required", "recommended", "info")
    for name, checks in found.items():
        wrong = [check for check in checks if not check.ok]
        grave = sum(check.level == "required" for check in wrong)
        yield f"{name}: {len(checks)} checks, {grave} failed, {len(wrong) - grave} to consider", "bold"
        for check in sorted(checks, key=lambda one: (one.ok, levels.index(one.level))):
            word, style = ("ok", "green") if check.ok else ("FAIL", "red") if check.level == "required" else ("warn", "yellow")
            yield f"  {word:<5} {check.name:<16} {check.message}", style
            if not check.ok and check.mend:
                yield f"        {'mend:':<16} {check.mend}", ""


def _code(checks: "list[Check]") -> int:
    from controller.errors import ExitCode, gravest

    failed = [check.name for check in checks if check.level == "required" and not check.ok]
    return gravest([ExitCode.UNREACHABLE if name == "reachable" else ExitCode.GATE_FAILED for name in failed])
