"""Neural Compute Sticks on USB: which of OpenVINO's MYRIAD devices is in a port, and what keeps one from being opened."""

import os
from typing import List, NamedTuple, Optional, Sequence

from agent.schema import FaultError
from backends import checks

NAME = "MYRIAD"
RUNTIME = "openvino==2021.4.2"  # the last wheel that holds the plugin
VENDOR, BOOTED = "03e7", "f63b"  # 2485 before its firmware runs; Luxonis cameras have the same ids
MUTEX = "/tmp/mvnc.mutex"  # noqa: S108 - the plugin's own; it ends the process where it may not open it
NOT_OPENED = ("Can not init Myriad device", "MYRIAD device is not opened", "Failed to find booted device", "Myriad device: ")
NOT_THERE = ("is not registered", "Cannot load library", "libusb-1.0.so")


class Stick(NamedTuple):
    """A stick on USB: its port (2-1.3), whether its firmware runs, its device node, and whether this user may write to that."""

    port: str
    booted: bool
    node: str
    writable: bool


def sticks(root: str = "/") -> List[Stick]:
    """Return the sticks on USB, by port; none where the system does not show USB devices."""
    folder = os.path.join(root, "sys/bus/usb/devices")
    ports = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [_stick(root, folder, port) for port in ports if _attribute(folder, port, "idVendor") == VENDOR]


def _stick(root: str, folder: str, port: str) -> Stick:
    bus, device = (_attribute(folder, port, name).zfill(3) for name in ("busnum", "devnum"))
    node = os.path.join(root, "dev/bus/usb", bus, device)
    return Stick(port, _attribute(folder, port, "idProduct") == BOOTED, node, os.access(node, os.R_OK | os.W_OK))


def _attribute(folder: str, port: str, name: str) -> str:
    try:
        with open(os.path.join(folder, port, name), errors="replace") as file:
            return file.read(64).strip()
    except OSError:
        return ""


def device(ids: Sequence[str], port: str, seen: Sequence[Stick]) -> str:
    """Return the name to load a model on: MYRIAD, or with a USB port (2-1.3) the stick there, as MYRIAD.2.1.3-ma2480.

    `ids` are the plugin's: ports with or without the bus in front, as it was built, then the chip. A port is the same on a hub's USB 2
    and USB 3 side, which are different buses, and a stick moves from one to the other as its firmware starts. Raises FaultError.
    """
    if not ids:
        raise fault("", seen, port)
    if not port:
        return NAME
    places = [stick.port for stick in seen if same_port(stick.port, port)]
    places = [port] if port in places else places
    names = {name for place in places for name in (place.replace("-", "."), place.partition("-")[2])}
    found = [one for one in ids if one.partition("-")[0] in names]
    found = [one for one in found if one.partition("-")[0] == port.replace("-", ".")] or found
    if len(found) != 1:
        raise _none_at(port, ids, seen)
    return "{}.{}".format(NAME, found[0])


def same_port(one: str, other: str) -> bool:
    """Return whether two USB paths are one port, on whichever bus."""
    return one.partition("-")[2] == other.partition("-")[2]


def _none_at(port: str, ids: Sequence[str], seen: Sequence[Stick]) -> FaultError:
    here = [stick for stick in seen if same_port(stick.port, port)]
    if len(here) == 1 and here[0].booted:
        return fault("", here, port)
    message = "{} Neural Compute Stick on USB port {}: OpenVINO offers {}, USB shows {}"
    shown = ", ".join(stick.port for stick in seen) or "none"
    how_many = "more than one" if len(here) > 1 else "no"
    return _no_device(message.format(how_many, port, ", ".join(ids), shown), "correct usb.path of the device in inventory.yaml")


def check_mutex() -> None:
    """Raise FaultError where the plugin's lock file is another user's, whereupon it would end this process."""
    try:
        os.close(os.open(MUTEX, os.O_CREAT, 0o660))
    except OSError as error:
        message = "{} cannot be opened, which the MYRIAD plugin must: {}".format(MUTEX, error.strerror)
        raise _no_device(message, "remove the file, or use the stick as one user only") from None


def fault(text: str, seen: Sequence[Stick], port: str = "") -> FaultError:
    """Return why no stick can be used, from the plugin's words and from what was on USB before it tried; source: XLink and HARDWARE.md."""
    here = [stick for stick in seen if not port or same_port(stick.port, port)]
    where = "the Neural Compute Stick on USB port {}".format(here[0].port) if here else ""
    said = " ({})".format(checks.one_line(text)) if text else ""
    if "libusb-1.0.so" in text:
        return _no_device("MYRIAD needs libusb-1.0.so.0, which is not there" + said, "sudo apt-get install libusb-1.0-0")
    if any(words in text for words in NOT_THERE):
        remedy = "use runtime {}, the last wheel with the plugin (Python 3.6 to 3.9, x86-64)".format(RUNTIME)
        return _no_device("this OpenVINO has no MYRIAD plugin" + said, remedy)
    if not here:
        message = "no Neural Compute Stick {}{}".format("on USB port {}".format(port) if port else "on USB", said)
        remedy = "look for 03e7:2485 in lsusb; plug the stick in, or pass /dev/bus/usb through to the container or virtual machine"
        return _no_device(message, remedy)
    if all(stick.booted for stick in here):
        remedy = "end the other process, for one stick serves one; if there is none, plug it in again"
        return FaultError("busy", "{} runs another process's firmware{}".format(where, said), remedy, "load")
    if not any(stick.writable for stick in here):
        remedy = "give 03e7:2485 and 03e7:f63b a udev rule and a group (fleetmark doctor has the command), and plug it in again"
        return _no_device("{}: no permission to write to {}{}".format(where, here[0].node, said), remedy)
    remedy = "plug it in again, directly or into a powered hub; a udev rule must name 03e7:f63b too, a container must see it come back"
    return _no_device("{} did not come back after its firmware was loaded{}".format(where, said), remedy)


def opening_fault(text: str, seen: Sequence[Stick], port: str) -> Optional[FaultError]:
    """Return why a stick was not opened, None for an error that is about something else."""
    return fault(text, seen, port) if any(words in text for words in NOT_OPENED + NOT_THERE) else None


def _no_device(message: str, remedy: str) -> FaultError:
    return FaultError("no_device", message, remedy, "load")
