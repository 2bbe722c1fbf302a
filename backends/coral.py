"""Edge TPUs as the system shows them: what is plugged in, who may open it, who has it open, and which libedgetpu is installed."""

import os
import re
import stat
import subprocess
from typing import Dict, List, NamedTuple, Optional

ROOT = "/"
USB_IDS = ("1a6e:089a", "18d1:9302")  # before its firmware is loaded, and after
PACKAGES = ("libedgetpu1-std", "libedgetpu1-max")
DPKG_TIMEOUT_S = 10
USB_PATH = re.compile(r"[0-9]{1,3}-[0-9]{1,3}(\.[0-9]{1,3}){0,6}")
APEX = re.compile("apex_[0-9]{1,3}")


class EdgeTpu(NamedTuple):
    """One Edge TPU as libedgetpu lists it: the value of option `device` that means it, and the path libedgetpu has for it."""

    device: str  # usb:0 | pci:0
    path: str  # /sys/bus/usb/devices/2-1.4 | /dev/apex_0

    def place(self) -> str:
        """Return its USB path (2-1.4) or the name of its node (apex_0); empty where the library's path is neither."""
        name = self.path.rpartition("/")[2]
        return name if USB_PATH.fullmatch(name) or APEX.fullmatch(name) else ""

    def node(self) -> str:
        """Return the path of its device node, empty where the system does not tell."""
        place = self.place()
        if APEX.fullmatch(place):
            return os.path.join(ROOT, "dev", place)
        bus, number = _attribute(place, "busnum"), _attribute(place, "devnum")
        if not (bus.isdigit() and number.isdigit()):
            return ""
        return os.path.join(ROOT, "dev/bus/usb", bus.zfill(3), number.zfill(3))

    def speed_mbps(self) -> Optional[float]:
        """Return the speed of its USB link, None on PCIe; 480 makes it about 4 times slower than 5000."""
        speed = _attribute(self.place(), "speed")
        return float(speed) if speed.isdigit() else None


def plugged_in() -> List[str]:
    """Return where the system shows Edge TPUs: USB paths with their ids, device nodes."""
    ids = {place: "{}:{}".format(_attribute(place, "idVendor"), _attribute(place, "idProduct")) for place in _listed("sys/bus/usb/devices")}
    sticks = ["USB {} ({})".format(place, ids[place]) for place in sorted(ids) if ids[place] in USB_IDS]
    return sticks + ["/dev/" + name for name in _listed("dev") if APEX.fullmatch(name)]


def forbidden(node: str) -> str:
    """Return why this user may not open a device node, empty if it may or the node is not there."""
    if not os.path.exists(node) or os.access(node, os.R_OK | os.W_OK):
        return ""
    state = os.stat(node)
    return "{} belongs to user {} and group {} with mode {}".format(node, state.st_uid, state.st_gid, stat.filemode(state.st_mode))


def holder(node: str) -> str:
    """Return which other process has the node open, as "python3 (1234)"; empty if none that this user may look into."""
    wanted = os.path.realpath(node)
    for pid in _listed("/proc") if node else []:
        files = os.path.join("/proc", pid, "fd")
        if pid.isdigit() and int(pid) != os.getpid() and any(_target(os.path.join(files, name)) == wanted for name in _listed(files)):
            return "{} ({})".format(_text(os.path.join("/proc", pid, "comm")), pid)
    return ""


def packages() -> Dict[str, str]:
    """Return the versions of the installed Debian packages of libedgetpu by name; empty where dpkg does not tell."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n", *PACKAGES]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DPKG_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = [line.split() for line in done.stdout.decode("utf-8", "replace").splitlines()]
    return {words[1]: words[2] for words in lines if words[:1] == ["installed"] and len(words) == 3}


def _attribute(place: str, name: str) -> str:
    """A USB device's attribute, empty where it has none."""
    return _text(os.path.join(ROOT, "sys/bus/usb/devices", place, name)) if USB_PATH.fullmatch(place) else ""


def _listed(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(os.path.join(ROOT, folder)))
    except OSError:
        return []


def _text(path: str) -> str:
    """A short file's text; empty where it cannot be read, as what belongs to a process that has ended."""
    try:
        with open(path, errors="replace") as file:
            return file.read(64).strip()
    except OSError:
        return ""


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
