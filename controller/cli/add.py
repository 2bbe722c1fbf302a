"""fleetmark device add and fleetmark device import."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_table
from controller.cli.trust import HostKey, JumpHostKey, Yes, check_given, judge_newcomer

if TYPE_CHECKING:
    from agent.description import Probe
    from controller.inventory import Device, Inventory
    from controller.kinds import Candidate

Target = Annotated[
    str | None,
    typer.Argument(metavar="[USER@]HOST[:PORT]", help="Where it is: a name, an address, or an alias of ~/.ssh/config. Default: NAME."),
]
Kind = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="What it is; by default what its probe suggests. local: this machine.")
]
Config = Annotated[
    Path | None, typer.Option("--config", "-F", exists=True, dir_okay=False, help="A file to read in place of ~/.ssh/config.")
]


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it in the inventory.")],
    target: Target = None,
    jump: Annotated[str | None, typer.Option("--jump", "-J", metavar="HOST", help="The jump host, [user@]host[:port].")] = None,
    kind: Kind = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A word to select it by; repeatable.")] = None,
    group: Annotated[list[str] | None, typer.Option("--group", metavar="NAME", help="A group to select it by; repeatable.")] = None,
    backend: Annotated[list[str] | None, typer.Option("--backend", "-b", help="A runtime to measure; repeatable. Default: all.")] = None,
    python: Annotated[str | None, typer.Option("--python", help="The agent's interpreter there, Python 3.6 or later.")] = None,
    config: Config = None,
    host_key: HostKey = None,
    jump_host_key: JumpHostKey = None,
    yes: Yes = False,
    inventory: options.Inventory = options.INVENTORY,
) -> None:
    """Connect to a device, look what it is, and write it into the inventory.

    Shows the host key that the device presents, asks whether it is the right one, and pins it; jump hosts too. Keys and the SSH agent log
    in, never a password. Comments and order of the file stay. For scripts: --yes with --host-key.

    \b
    fleetmark device add pi4-a pi@192.0.2.11 --group pis --tag room=lab2
    fleetmark device add nano-a           # an alias of ~/.ssh/config
    fleetmark device add coral-1 nuc-1.lab --jump lab-gw --kind coral-usb
    fleetmark device add laptop --kind local
    """
    from controller import registry
    from controller import trust as trusting
    from controller.visit import ssh_settings, visiting

    given = check_given(host_key, jump_host_key)
    entry = _entry(
        kind, target or name, {"jump": jump, "config": str(config.absolute()) if config else None, **given}, local=target is None
    )
    entry |= {"agent": {"python": python}} if python else {}
    entry |= {"backends": backend} if backend else {}
    entry |= {"tags": _tags(tag)} if tag else {}
    entry |= {"groups": group} if group else {}
    device = registry.preview(inventory, {name: entry}).devices[name]
    settings = ssh_settings(device)
    if settings:
        meetings = trusting.meet(name, settings, lambda meeting: judge_newcomer(meeting, given, yes))
        entry["ssh"] |= {each.field: each.key.pin for each in meetings if each.field}
    planned = registry.preview(inventory, {name: entry})
    with visiting(planned.devices[name]) as remote:
        probe = remote.probe()
    _classify(entry, kind, probe, planned, planned.devices[name])
    written = registry.add(inventory, {name: entry})
    typer.echo(written, nl=False)
    stderr_text(f"wrote {name} to {inventory}; next: fleetmark doctor {name}")


def import_devices(
    patterns: Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Which aliases to take: names, or 'lab-*'.")] = None,
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
    inventory: options.Inventory = options.INVENTORY,
) -> None:
    """List the hosts of ~/.ssh/config, and add those that match a PATTERN to the inventory, disabled.

    Nothing is connected. The aliases stay aliases: what ~/.ssh/config says of them is not copied.
    """
    from fnmatch import fnmatchcase

    from controller import registry, sshconfig
    from controller.errors import FleetmarkError

    try:
        aliases = _named(sshconfig.aliases(config))
    except FileNotFoundError as error:
        raise FleetmarkError(f"there is no {error.filename}", next="add devices one by one: fleetmark device add NAME HOST") from None
    there = registry.preview(inventory, {}).devices.values()
    known = {name: each.name for each in there for name in (each.name, each.ssh.host if each.ssh else each.name)}
    chosen = [alias for alias in aliases if any(fnmatchcase(alias, pattern) for pattern in patterns or ())]
    if patterns and not chosen:
        raise FleetmarkError(
            f"no host of {config or '~/.ssh/config'} matches {' '.join(patterns)}", next="see them: fleetmark device import"
        )
    where = {"config": str(config.absolute())} if config else {}
    new = {alias: {"kind": "generic", "ssh": {"host": alias, **where}, "enabled": False} for alias in chosen if alias not in known}
    if new and not dry_run:
        registry.add(inventory, new)
    done = "would be added" if dry_run else "added, disabled"
    rows = [[alias, f"there already: {known[alias]}" if alias in known else done if alias in new else ""] for alias in aliases]
    stdout_table(["host", "inventory"], rows)
    if new and not dry_run:
        stderr_text(
            f"added {len(new)} to {inventory}; for each say its `kind` and `enabled: true` there, then: fleetmark doctor {next(iter(new))}"
        )
    elif not patterns:
        stderr_text("nothing was added; name those to add: fleetmark device import HOST...")


def _named(aliases: tuple[str, ...]) -> list[str]:
    """Those that a device may be called after."""
    import re

    from controller.strict import NAME

    return [alias for alias in aliases if re.fullmatch(NAME, alias) and alias not in ("all", "kind")]


def _entry(kind: str | None, target: str, ssh: dict[str, str | None], *, local: bool) -> dict[str, Any]:
    """The entry by the words of the command line; of no kind, it is `generic` until the device was asked."""
    from controller.errors import FleetmarkError
    from controller.sshconfig import parse_target

    given = {key: value for key, value in ssh.items() if value is not None}
    if kind == "local":
        if given or not local:
            raise FleetmarkError("--kind local is this machine: it has no host, no jump host and no host key")
        return {"kind": "local"}
    try:
        host = parse_target(target)
    except ValueError as error:
        raise FleetmarkError(str(error), next="an IPv6 address goes into brackets: [2001:db8::1]:22") from None
    where = {"host": host.host, "user": host.user, "port": host.port}
    return {"kind": kind or "generic", "ssh": {key: value for key, value in where.items() if value is not None} | given}


def _tags(words: list[str]) -> dict[str, str]:
    from controller.errors import FleetmarkError

    for word in words:
        if "=" not in word:
            raise FleetmarkError(f"--tag {word}: KEY=VALUE expected")
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _classify(entry: dict[str, Any], kind: str | None, probe: "Probe", inventory: "Inventory", device: "Device") -> None:
    """Put kind and USB port into the entry, and tell what else the device could be entered as."""
    from controller import kinds

    found = kinds.candidates(probe)
    choice = kinds.choose(found, kind or "", _taken(inventory, device))
    entry["kind"] = choice.kind
    if choice.port:
        entry["usb"] = {"path": choice.port, "min_speed_mbps": kinds.USB3_MBPS}
    for line in (*_summary(probe), *_remarks(choice, found)):
        stderr_text(line)


def _taken(inventory: "Inventory", device: "Device") -> set[str]:
    """The USB ports of other devices on the same host."""
    from agent.schema import FaultError
    from controller.visit import lane_address

    def address(each: "Device") -> str:
        try:
            return lane_address(each)
        except FaultError:
            return ""

    others = [each for each in inventory.devices.values() if each.usb and each.name != device.name]
    here = address(device) if others else ""
    return {each.usb.path for each in others if each.usb and address(each) == here}


def _summary(probe: "Probe") -> list[str]:
    from controller.errors import printable

    sizes = f"{probe.cpu_count} cores, {probe.memory_bytes / 1e9:.1f} GB of memory, {probe.disk_free_bytes / 1e9:.1f} GB free"
    words = [probe.board, probe.os, f"{probe.machine}, Python {probe.python}", sizes]
    emulated = [f"emulated by {probe.emulated}"] if probe.emulated else []
    return [printable(f"found: {'; '.join(word[:100] for word in (*words, *emulated) if word)}")]


def _remarks(choice: "Candidate", found: "tuple[Candidate, ...]") -> list[str]:
    from controller import kinds

    others = [str(each) for each in found if each != choice and each.kind != "generic"]
    remarks = [f"entered as {choice}"]
    remarks += [f"it could also be, under a name of its own: {'; '.join(others)}"] if others else []
    if choice.kind in kinds.STICKS and not choice.port:
        remarks.append(f"no {choice.kind} that is not entered yet was found there: say `usb: {{path: ...}}` once it is plugged in")
    if choice.speed_mbps and choice.speed_mbps < kinds.USB3_MBPS:
        remarks.append(f"the stick runs at {choice.speed_mbps:g} Mbit/s: plug it into a USB 3 port")
    return remarks
