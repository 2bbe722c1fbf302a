"""fleetmark device trust, and how a person is asked."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text

if TYPE_CHECKING:
    from controller.hostkeys import Known, Pinned
    from controller.trust import Meeting

Name = Annotated[str, typer.Argument(metavar="NAME", help="The device's name in the inventory.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing. A host key that is not in known_hosts then needs --host-key.")]
HostKey = Annotated[
    str | None,
    typer.Option(
        "--host-key", metavar="KEY", help='The key that the device must present: "ssh-ed25519 SHA256:...", as ssh-keygen -l prints it.'
    ),
]
JumpHostKey = Annotated[str | None, typer.Option("--jump-host-key", metavar="KEY", help="The key that the last jump host must present.")]


def trust(
    name: Name,
    host_key: HostKey = None,
    jump_host_key: JumpHostKey = None,
    yes: Yes = False,
    inventory: options.Inventory = options.INVENTORY,
) -> None:
    """Pin a device's new host key, after showing the old and the new one.

    For a device that was reinstalled. Nothing is logged in to but jump hosts; a jump host with a new key is asked about the same way.
    """
    from dataclasses import replace

    from controller import inventory as inventories
    from controller import registry
    from controller import trust as trusting
    from controller.errors import FleetmarkError
    from controller.visit import ssh_settings

    loaded = inventories.load(inventory)
    device = registry.device(loaded, name)
    settings = ssh_settings(device)
    if device.ssh is None or settings is None:
        raise FleetmarkError(f"{name} is this machine: it has no host key")
    old = {"host_key": settings.host_key, "jump_host_key": settings.jump_host_key}
    given = check_given(host_key, jump_host_key)
    meetings = trusting.meet(name, replace(settings, **given), lambda meeting: _judge(meeting, old, given, yes))
    pins = {each.field: each.key.pin for each in meetings if each.field and _before(each, old).refusal(each.key)}
    if not pins:
        return
    registry.pin(inventory, name, pins)
    stderr_text(f"{inventory} now pins {' and '.join(pins.values())} for {name}")
    stale = {pin for field, pin in old.items() if pin and field in pins}
    others = [
        each.name
        for each in loaded.devices.values()
        if each.ssh and each.name != name and {each.ssh.host_key, each.ssh.jump_host_key} & stale
    ]
    if others:
        stderr_text(f"the old key is still pinned by: {', '.join(others)}")


def check_given(host_key: str | None, jump_host_key: str | None) -> dict[str, str]:
    """Give the keys of the command line by their field; raises FleetmarkError for one that is none."""
    from controller.errors import FleetmarkError
    from controller.hostkeys import parse_pin

    given = {field: pin for field, pin in (("host_key", host_key), ("jump_host_key", jump_host_key)) if pin is not None}
    for pin in given.values():
        try:
            parse_pin(pin)
        except ValueError as error:
            raise FleetmarkError(str(error), next="ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub   on the device prints it") from None
    return given


def judge_newcomer(meeting: "Meeting", given: Mapping[str, str], yes: bool) -> None:
    """Take the key of a host that is met for the first time, or raise: it is given, known, or a person says so."""
    from agent.schema import FaultError

    stderr_text(f"{meeting.label} presents {meeting.key.pin}")
    _check(meeting, is_fixed=True)
    if meeting.pinned or not meeting.refusal:
        _accept(meeting, given, yes)
    elif not meeting.known.is_new:
        advice = "find out why it changed; if you reinstalled it, give the new key by --host-key"
        raise FaultError("host_key", f"{meeting.label} is not to be believed: {meeting.refusal}", advice, "connect")
    else:
        _confirm(meeting, "Do you trust this key?", yes)


def consent(question: str, without: str) -> None:
    """Ask on the terminal; raises FleetmarkError for a no, and where there is no terminal, `without` saying what to do then."""
    from controller.errors import FleetmarkError

    if not is_terminal():
        raise FleetmarkError("there is no terminal to ask at; nothing was written", next=without)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise FleetmarkError("you did not say yes; nothing was written")


def is_terminal() -> bool:
    """Tell whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _judge(meeting: "Meeting", old: Mapping[str, str | None], given: Mapping[str, str], yes: bool) -> None:
    pinned = old.get(meeting.field)
    if not _before(meeting, old).refusal(meeting.key):
        _check(meeting, is_fixed=meeting.field in given)
        stderr_text(f"{meeting.label} presents {meeting.key.pin}, which {'the inventory pins' if pinned else 'known_hosts has'}")
        return
    held = ", ".join(key.pin for key in meeting.known.keys) or "nothing"
    stderr_text(f"{meeting.label}")
    stderr_text(f"  pinned:    {pinned}" if pinned else f"  pinned:    nothing; known_hosts has {held}")
    stderr_text(f"  presented: {meeting.key.pin}")
    _check(meeting, is_fixed=meeting.field in given)
    if meeting.field in given:
        _accept(meeting, given, yes)
    else:
        _confirm(meeting, "Do you trust the presented key from now on?", yes)


def _before(meeting: "Meeting", old: Mapping[str, str | None]) -> "Pinned | Known":
    """What was believed of the host so far."""
    from controller.hostkeys import parse_pin

    pin = old.get(meeting.field)
    return parse_pin(pin) if pin else meeting.known


def _check(meeting: "Meeting", *, is_fixed: bool) -> None:
    """Raise for a key that no consent makes good: a revoked one, or another one than is fixed."""
    from agent.schema import FaultError

    why = ""
    if meeting.key in meeting.known.revoked:
        why = f"it presented {meeting.key.fingerprint}, which known_hosts marks @revoked"
    elif meeting.pinned and is_fixed and meeting.refusal:
        why = f"it presented {meeting.key.pin}, not {meeting.pinned.kind} {meeting.pinned.fingerprint}"
    if why:
        advice = "look for what is between here and there: a possible interception"
        raise FaultError("host_key", f"{meeting.label} is not to be believed: {why}", advice, "connect")


def _accept(meeting: "Meeting", given: Mapping[str, str], yes: bool) -> None:
    """A key that is given, pinned or known; a given one takes --yes where nobody can be asked."""
    from controller.errors import FleetmarkError

    if meeting.field in given and not yes and not is_terminal():
        raise FleetmarkError("there is no terminal to ask at; nothing was written", next="say --yes to trust the key given by --host-key")
    if meeting.field not in given:
        stderr_text(f"  {'the inventory pins it' if meeting.pinned else 'known_hosts has it'}")


def _confirm(meeting: "Meeting", question: str, yes: bool) -> None:
    from agent.schema import FaultError
    from controller.errors import FleetmarkError

    if not meeting.field:
        why = f"{meeting.label} has a key that known_hosts does not have, and only the last jump host's can be pinned"
        raise FaultError("host_key", why, "compare its key, then log in there once by ssh", "connect")
    option = "--" + meeting.field.replace("_", "-")
    stderr_text("  compare it with what this says there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    without = f'compare the key, then: --yes {option} "{meeting.key.pin}"'
    if yes:
        raise FleetmarkError("--yes alone trusts no key that nobody knows; nothing was written", next=without)
    consent(question, without)
