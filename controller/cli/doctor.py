"""fleetmark doctor."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stdout_json, stdout_table

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
        stdout_table(["device", "", "level", "check", "seen", "to mend it"], _rows(found))
    code = _code([check for checks in found.values() for check in checks])
    if code:
        raise typer.Exit(code)


def _examine(device: "Device") -> "list[Check]":
    from agent.schema import FaultError
    from controller import doctor
    from controller.visit import visiting

    try:
        with visiting(device) as remote:
            return doctor.checks(device, remote.probe({}), remote.lease())
    except FaultError as error:
        return doctor.refused(error.fault)


def _rows(found: "dict[str, list[Check]]") -> Sequence[Sequence[str]]:
    """What is wrong first, the gravest on top."""
    levels = ("required", "recommended", "info")
    return [
        [name, "ok" if check.ok else "FAIL" if check.level == "required" else "warn", check.level, check.name, check.message, _mend(check)]
        for name, checks in found.items()
        for check in sorted(checks, key=lambda one: (one.ok, levels.index(one.level)))
    ]


def _mend(check: "Check") -> str:
    return "" if check.ok else check.mend


def _code(checks: "list[Check]") -> int:
    from controller.errors import ExitCode, gravest

    failed = [check.name for check in checks if check.level == "required" and not check.ok]
    return gravest([ExitCode.UNREACHABLE if name == "reachable" else ExitCode.GATE_FAILED for name in failed])
