"""fleetmark gc."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_json, stdout_table

if TYPE_CHECKING:
    from agent.schema import Fault
    from controller.inventory import Device
    from controller.remote import Garbage

Selectors = Annotated[list[str] | None, typer.Argument(metavar="[SEL]...", help="With --remote: which devices; all if none.")]


def gc(
    selectors: Selectors = None,
    select: options.Select = None,
    remote: Annotated[bool, typer.Option("--remote", help="The agents' folders on devices, not this machine's cache.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete it.")] = False,
    inventory: options.Inventory = options.INVENTORY,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> int:
    """Tell what may go, and with --yes delete it.

    On this machine: artifacts, data and environments in the cache that no run in the results uses. With --remote: all that fleetmark keeps
    on the devices, which the next run ships again; never while somebody measures there.
    """
    from controller.errors import FleetmarkError

    selected = [*(selectors or ()), *(select or ())]
    if remote:
        return _remote(selected, inventory, yes, json)
    if selected:
        raise FleetmarkError("devices are named with --remote only", next=f"fleetmark gc --remote {' '.join(selected)}")
    from controller import garbage
    from controller.laptop import cache_folder

    items = garbage.find(cache_folder(), garbage.kept(results, url))
    if json:
        documents = [{"kind": item.kind, "path": item.path, "size_bytes": item.size_bytes, "why": item.why} for item in items]
        stdout_json("garbage", {"deleted": yes, "items": documents})
    else:
        rows = [[item.kind, str(item.path), f"{item.size_bytes:,}", item.why] for item in items]
        stdout_table(["kind", "path", "bytes", "why"], rows, right=["bytes"])
    if yes:
        stderr_text(f"freed {garbage.delete(items):,} bytes")
    else:
        stderr_text(f"{sum(item.size_bytes for item in items):,} bytes may go; fleetmark gc --yes deletes them")
    return 0


def _remote(selectors: Sequence[str], inventory: "options.Inventory", yes: bool, json: bool) -> int:
    from agent.schema import FaultError, dump
    from controller import lanes
    from controller.errors import exit_code, gravest

    devices = options.devices(inventory, selectors)
    found = lanes.each(devices, functools.partial(_one, yes=yes))
    if json:
        documents = [
            {"device": device.name, "size_bytes": held.size_bytes if held else {}, "freed_bytes": freed, "fault": dump(fault)}
            for device, (held, freed, fault) in zip(devices, found, strict=True)
        ]
        stdout_json("garbage", {"deleted": yes, "devices": documents})
    else:
        _show(devices, found, yes)
    return gravest([exit_code(FaultError(fault.code, fault.message)) for _, _, fault in found if fault])


def _one(device: "Device", yes: bool) -> "tuple[Garbage | None, int, Fault | None]":
    """What lies on a device, how much of it was deleted, and why nothing was."""
    from agent.schema import FaultError
    from controller.visit import visiting

    held = None
    try:
        with visiting(device) as remote:
            held = remote.garbage()
            return held, remote.empty() if yes else 0, None
    except FaultError as error:
        return held, 0, error.fault


def _show(devices: "Sequence[Device]", found: "Sequence[tuple[Garbage | None, int, Fault | None]]", yes: bool) -> None:
    from controller.errors import printable, render

    rows = [
        [device.name, kind, f"{size_bytes:,}"]
        for device, (held, _, _) in zip(devices, found, strict=True)
        for kind, size_bytes in (held.size_bytes if held else {}).items()
    ]
    if rows:
        stdout_table(["device", "kind", "bytes"], rows, right=["bytes"])
    for device, (held, freed, fault) in zip(devices, found, strict=True):
        if fault:
            stderr_text(render(fault), "red")
        elif yes:
            stderr_text(f"{device.name}: freed {freed:,} bytes")
        elif held:
            total = sum(held.size_bytes.values())
            how = f"not now: {printable(held.busy)}" if held.busy else f"fleetmark gc --remote {device.name} --yes deletes them"
            stderr_text(f"{device.name}: {total:,} bytes may go; {how}")
