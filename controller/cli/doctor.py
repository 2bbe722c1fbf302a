"""fleetmark doctor."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from controller.cli import options
from controller.cli.output import stdout_json, stdout_lines

if TYPE_CHECKING:
    from controller.doctor import Check
    from controller.inventory import Device, Meter


def doctor(
    selectors: options.Selectors = None,
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> None:
    """Look what keeps devices from being measured, or from being measured well, and say how to mend it.

    The results are read too, if there are any: whether all of them are whole, each in its place, and none twice.
    Nothing on a device is changed but for the agent in its own folder. A disabled device is looked at if it is named. Exit code 1 if a
    required check failed, 4 if a device cannot be reached.
    """
    from dataclasses import asdict

    from controller import inventory as inventories
    from controller import lanes
    from controller.database import FILE_NAME

    devices = options.devices(inventory, selectors, select)
    meters = inventories.load(inventory).meters

    def examine(device: "Device") -> "list[Check]":
        return [*_examine(device), *(_look_at(device.meter, meters[device.meter]) if device.meter else ())]

    found = dict(zip((device.name for device in devices), lanes.each(devices, examine), strict=True))
    if url or (results / FILE_NAME).exists():
        found["the store"] = [_look_into(results, url)]  # no device has a space in its name
    if json:
        stdout_json("doctor", {name: [asdict(check) for check in checks] for name, checks in found.items()})
    else:
        stdout_lines(lines(found))
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
            before_s = time.time()
            found = survey(device, remote)
            now_s = min(
                max(found.probe.wall_time_s, before_s), time.time()
            )  # it took a while, and the device told its time somewhere in it
            return doctor.checks(device, found.probe, remote.lease(), now_s, found.refusals)
    except FaultError as error:
        return doctor.refused(error.fault)


def _look_at(name: str, meter: "Meter") -> "Iterator[Check]":
    from agent.schema import FaultError
    from controller import doctor, metering

    try:
        yield doctor.meter(name, metering.read(meter))
    except FaultError as error:
        yield doctor.unread_meter(name, error.fault)


def _look_into(results: Path, url: str | None) -> "Check":
    from contextlib import closing

    from controller import doctor
    from controller.errors import FleetmarkError

    try:
        with closing(options.open_store(results, url)) as store:
            return doctor.store(store.name, store.check())
    except FleetmarkError as error:
        return doctor.store("", [error.message], error.next)


def lines(found: "Mapping[str, Sequence[Check]]") -> Iterator[tuple[str, str]]:
    """Lines with their styles: each device, what is wrong first, the gravest on top, its mend on lines of its own to be copied."""
    levels = ("required", "recommended", "info")
    for name, checks in found.items():
        wrong = [check for check in checks if not check.ok]
        grave = sum(check.level == "required" for check in wrong)
        yield f"{name}: {len(checks)} checks, {grave} failed, {len(wrong) - grave} to consider", "bold"
        for check in sorted(checks, key=lambda one: (one.ok, levels.index(one.level))):
            word, style = ("ok", "green") if check.ok else ("FAIL", "red") if check.level == "required" else ("warn", "yellow")
            yield f"  {word:<5} {check.name:<16} {check.message}", style
            for at, line in enumerate(check.mend.split("\n") if check.mend and not check.ok else []):
                yield f"        {'' if at else 'mend:':<16} {line}", ""


def _code(checks: "list[Check]") -> int:
    from controller.errors import ExitCode, gravest

    failed = [check.name for check in checks if check.level == "required" and not check.ok]
    return gravest([ExitCode.UNREACHABLE if name == "reachable" else ExitCode.GATE_FAILED for name in failed])
