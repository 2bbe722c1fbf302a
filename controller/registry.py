"""Edits inventory.yaml as a person would: the lines of one device change, every other byte stays.

What an edit would give is read by the strict loader, and compared with what was asked for, before it replaces the file.
"""

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from controller import inventory as inventories
from controller import layout, scaffold, strict, yamlfile
from controller.errors import ConfigError, FleetmarkError
from controller.inventory import Device, Inventory
from controller.layout import BOM, Entry, Layout

EMPTY = scaffold.INVENTORY.partition("version:")[0] + "version: 1\n\ndevices:\n"


@dataclass(frozen=True, slots=True)
class Mention:
    """A line of the inventory that names a device which is gone."""

    line: int
    text: str


def preview(path: Path, entries: Mapping[str, Entry]) -> Inventory:
    """Give the inventory with these devices added, nothing written.

    A file that is not there counts as one without devices. Raises ConfigError for the file, FleetmarkError for the devices.
    """
    return _added(path, entries)[1]


def add(path: Path, entries: Mapping[str, Entry]) -> str:
    """Write devices behind those that are there, with what is not there yet of the file; give the lines. Raises as `preview`."""
    with _locked(path):
        text, _ = _added(path, entries)
        _write(path, text)
    return layout.dump(entries)


def remove(path: Path, name: str) -> list[Mention]:
    """Take a device out with its own comments; give the lines that still name it. Raises ConfigError, FleetmarkError."""
    with _locked(path):
        before = inventories.load(path)
        device(before, name)
        text = Layout.of(_raw(path)).without(name)
        devices = {key: each for key, each in before.devices.items() if key != name}
        _check(path, text, replace(before, devices=devices))
        _write(path, text)
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
    return [Mention(at, line.strip()) for at, line in enumerate(text.splitlines(), 1) if word.search(line)]


def pin(path: Path, name: str, pins: Mapping[str, str]) -> None:
    """Set `host_key` or `jump_host_key` of a device's `ssh`, or both. Raises ConfigError, FleetmarkError."""
    with _locked(path):
        before, text = inventories.load(path), _raw(path)
        pinned = device(before, name)
        if pinned.ssh is None:
            raise FleetmarkError(f"{name} is this machine: it has no host key")
        for key, value in pins.items():
            text = layout.with_pin(text, name, key, value)
        changed = pinned.model_copy(update={"ssh": pinned.ssh.model_copy(update=dict(pins))})
        _check(path, text, replace(before, devices={**before.devices, name: changed}))
        _write(path, text)


def device(inventory: Inventory, name: str) -> Device:
    """Give a device by its name, disabled or not; raises FleetmarkError with the nearest name."""
    if name not in inventory.devices:
        near = strict.nearest(name, inventory.devices)
        raise FleetmarkError(f"{inventory.path} has no device called {strict.quoted(name)}", next=near)
    return inventory.devices[name]


def _added(path: Path, entries: Mapping[str, Entry]) -> tuple[str, Inventory]:
    text = _raw(path) if path.exists() else EMPTY
    before = inventories.parse(path, text.removeprefix(BOM))
    if not entries:
        return text, before
    for name in entries:
        _check_name(path, before, name)
    after = Layout.of(text).with_entries(entries)
    try:
        inventory = inventories.parse(path, after.removeprefix(BOM))
    except ConfigError as error:
        why = "\n".join(problem.message for problem in error.problems)
        raise FleetmarkError(
            f"{path} takes no such device as {', '.join(entries)}", why, "mend what you asked for; nothing was written"
        ) from None
    new = {name: inventory.devices[name] for name in entries if name in inventory.devices}
    _check(path, after, replace(before, devices={**before.devices, **new}))
    return after, inventory


def _check_name(path: Path, before: Inventory, name: str) -> None:
    try:
        strict.check_name(name)
    except ValueError as error:
        raise FleetmarkError(str(error), next="choose another name") from None
    if name in before.devices:
        raise FleetmarkError(f"{path} has a device called {name} already", next=f"choose another name, or: fleetmark device remove {name}")


def _check(path: Path, text: str, wanted: Inventory) -> None:
    """Refuse an edit that gives anything else than what is wanted, as one does in a file of anchors or other rare YAML."""
    try:
        found = inventories.parse(path, text.removeprefix(BOM))
    except ConfigError:
        found = None
    if found is None or found != wanted or list(found.devices) != list(wanted.devices):
        raise FleetmarkError(f"{path} is laid out so that this cannot be changed safely; nothing was written", next="edit it by hand")


def _raw(path: Path) -> str:
    """The file's text as it is, byte order mark and line ends kept."""
    yamlfile.text(path)
    return path.read_bytes().decode()


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keep other fleetmarks from editing files of this folder meanwhile. Raises FleetmarkError where there is no such folder."""
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise FleetmarkError(f"cannot write {path}: {error.strerror}", next="make the folder, or give another --inventory") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, text: str) -> None:
    """Replace the file, whole or not at all; its mode and, if we may, its owner stay."""
    target = path.resolve()
    old = target.stat() if target.exists() else None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) if old else 0o644)
                if old and os.geteuid() == 0:
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FleetmarkError(f"cannot write {path}: {error.strerror}", next="check its folder's permissions and the free space") from error
