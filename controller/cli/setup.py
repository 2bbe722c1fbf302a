"""fleetmark device setup."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_json, stdout_table

if TYPE_CHECKING:
    from controller.inventory import Device
    from controller.setup import Outcome, Report, Wanted

Backend = Annotated[list[str] | None, typer.Option("--backend", "-b", help="Which backends (default: those of the device).")]
Runtime = Annotated[list[str] | None, typer.Option("--runtime", metavar="NAME[==VERSION]", help="Which runtimes, such as tflite-runtime.")]
Wheelhouse = Annotated[Path | None, typer.Option("--wheelhouse", help="A folder of wheels, for a laptop that is offline.", exists=True)]


def setup(
    selectors: options.Selectors = None,
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    backend: Backend = None,
    runtime: Runtime = None,
    wheelhouse: Wheelhouse = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be shipped, and how large it is.")] = False,
    json: options.Json = False,
) -> int:
    """Put the runtimes that the devices' backends need on them, and try each one there.

    It needs no root and no network of the device's own, and writes to the agent's folder only; `run` does the same by itself. Exit code 3
    if a runtime is refused or does not work, 4 if a device cannot be reached.
    """
    from dataclasses import asdict

    from agent.schema import FaultError, dump
    from controller import setup as settings
    from controller.errors import exit_code, gravest

    devices = options.devices(inventory, selectors, select)
    _check(backend or [])
    asked = {device.name: settings.wanted(device, backend or [], runtime or []) for device in devices}
    reports = _all(devices, asked, wheelhouse, dry_run)
    if json:
        stdout_json("setup", {"dry_run": dry_run, "devices": [dump(asdict(report)) for report in reports]})
    else:
        _show(reports, dry_run)
    return gravest([exit_code(FaultError(fault.code, fault.message)) for report in reports for fault in settings.faults(report)])


def _check(backends: Sequence[str]) -> None:
    from controller.errors import FleetmarkError
    from controller.inventory import known_backends

    unknown = set(backends) - set(known_backends())
    if unknown:
        raise FleetmarkError(f"no backend is called {min(unknown)!r}", next=f"use {', '.join(known_backends())}")


def _all(devices: "Sequence[Device]", asked: "dict[str, list[Wanted]]", wheelhouse: Path | None, dry_run: bool) -> "list[Report]":
    import getpass
    import platform

    from controller import lanes
    from controller import setup as settings
    from controller.laptop import cache_folder

    owner = f"{getpass.getuser()}@{platform.node()} device setup"

    def one(device: "Device") -> "Report":
        if dry_run:
            return settings.foresee(device, asked[device.name], cache_folder())
        return settings.set_up(device, asked[device.name], owner, cache_folder(), wheelhouse, stderr_text)

    return lanes.each(devices, one)


def _show(reports: "Sequence[Report]", dry_run: bool) -> None:
    from controller.errors import render
    from controller.setup import faults

    rows = [_row(report.device, outcome) for report in reports for outcome in report.outcomes]
    if rows:
        stdout_table(["device", "backend", "runtime", "python", "size", "", "it works"], rows, right=["size"])
    for report in reports:
        for fault in faults(report):
            stderr_text(render(fault._replace(message=f"{report.device}: {fault.message.removeprefix(report.device + ': ')}")), "red")
        if dry_run:
            missing = {outcome.runtime: outcome.size_bytes for outcome in report.outcomes if outcome.state == "missing"}
            stderr_text(f"{report.device}: would ship about {sum(missing.values()):,} bytes")
        else:
            stderr_text(f"{report.device}: shipped {report.shipped_bytes:,} bytes")


def _row(device: str, outcome: "Outcome") -> list[str]:
    state = {"there": "is there", "missing": "would be shipped", "shipped": "shipped", "refused": "refused"}[outcome.state]
    works = {None: "", True: f"on {', '.join(outcome.devices)}" if outcome.devices else "yes", False: "NO"}
    size = f"{outcome.size_bytes / 1e6:.1f} MB" if outcome.size_bytes else ""
    return [device, outcome.backend, outcome.runtime, outcome.python, size, state, works[outcome.works]]
