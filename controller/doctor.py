"""What keeps a device from being measured, or from being measured well, and the command that mends it, judged from its probe."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.description import Accelerator, Probe
from agent.schema import Fault
from backends import myriad
from controller import kinds, targets
from controller.inventory import Device
from controller.remote import LeaseState

Level = Literal["required", "recommended", "info"]

NEEDED_BYTES = 200_000_000  # a runtime's environment, unpacked
COMFORTABLE_BYTES = 1_000_000_000
CLOCK_OFF_S = 60.0
RELOAD = "sudo udevadm control --reload-rules && sudo udevadm trigger"
CALLED = {"coral-usb": "Coral USB", "ncs2": "Neural Compute Stick 2", "coral-pcie": "Coral PCIe", "coral-dev-board": "Coral Dev Board"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and where it is not `ok` the commands or steps that mend it, a line each."""

    level: Level
    name: str
    ok: bool
    message: str
    mend: str = ""


def refused(fault: Fault) -> list[Check]:
    """The checks of a device whose agent could not be asked: that one failed, and why."""
    name = {"no_python": "python", "env_missing": "cache", "disk_full": "disk"}.get(fault.code, "reachable")
    return [Check("required", name, False, f"{fault.code}: {fault.message}", fault.next)]


def meter(name: str, watts: float) -> Check:
    """The check of a meter outside of the devices that was read."""
    return Check("recommended", "meter", True, f"{name} shows {watts:g} W")


def unread_meter(name: str, fault: Fault) -> Check:
    """The check of one that was not: launches are measured all the same, without energy."""
    return Check("recommended", "meter", False, f"{name}: {fault.message}", fault.next)


def store(name: str, problems: Sequence[str], mend: str = "") -> Check:
    """The check of the results, which are of that name and have these problems."""
    mend = mend or "restore it from a copy (docs/TEAM.md); what can be read of it, fleetmark export --raw still writes"
    return Check("required", "store", not problems, "; ".join(problems) or f"{name}: all that it holds is whole", mend)


def checks(device: Device, probe: Probe, lease: LeaseState, now_s: float, refusals: Mapping[str, Fault]) -> list[Check]:
    """All checks of a device by what it says of itself; `now_s` is this machine's wall clock when it was asked, `refusals` as in Survey."""
    runtimes = _runtimes(device, probe, refusals)
    return [*_basics(device, probe), *_accelerators(device, probe), *runtimes, *_steadiness(device, probe, lease, now_s)]


def _basics(device: Device, probe: Probe) -> Iterator[Check]:
    yield Check("required", "reachable", True, f"{probe.hostname}, {probe.board or probe.cpu_model or probe.machine}, {probe.os}")
    yield Check("required", "python", True, f"{probe.python} ({probe.python_path})")
    message = f"{probe.bits}-bit userland on {probe.machine}"
    yield Check("required", "userland", probe.bits == 64, message, "install a 64-bit operating system: no runtime has 32-bit wheels")
    if probe.cache_problem:
        yield Check("required", "cache", False, f"{probe.cache_dir}: {probe.cache_problem}", "set agent.cache_dir in inventory.yaml")
    else:
        yield Check("required", "cache", True, probe.cache_dir)
    yield _disk(device, probe)


def _disk(device: Device, probe: Probe) -> Check:
    free = f"{probe.disk_free_bytes / 1e6:,.0f} MB free in {probe.cache_dir}"
    mend = f"fleetmark gc --remote {device.name}\nor free some space there by hand, or set agent.cache_dir in inventory.yaml"
    if probe.disk_free_bytes < NEEDED_BYTES:
        return Check("required", "disk", False, f"{free}: a runtime needs some {NEEDED_BYTES / 1e6:.0f} MB", mend)
    return Check("recommended", "disk", probe.disk_free_bytes >= COMFORTABLE_BYTES, free, mend)


def _accelerators(device: Device, probe: Probe) -> Iterator[Check]:
    if device.kind not in CALLED:
        return
    found = [one for one in probe.accelerators if one.kind == device.kind]
    wanted = [one for one in found if device.usb is None or _is_port(one, device.usb.path)]
    if not wanted:
        yield Check("required", "accelerator", False, _nothing_found(device, found), _plug(device, found))
        return
    (one, *_) = wanted
    yield Check("required", "accelerator", True, f"{one.name} at {one.path or 'the board'}")
    yield Check("required", "permission", not one.problem, one.problem or f"{probe.user} may open it", _permission(one, probe.user))
    if one.kind == "ncs2":
        libusb = probe.versions.get("libusb-1.0-0", "")
        yield Check("required", "libusb", bool(libusb), libusb or "libusb-1.0.so.0 is missing", "sudo apt-get install libusb-1.0-0")
    if one.speed_mbps is not None:
        least = (device.usb and device.usb.min_speed_mbps) or kinds.USB3_MBPS
        message = f"the link runs at {one.speed_mbps:,.0f} Mbit/s, {least:,.0f} expected"
        yield Check("recommended", "usb-speed", one.speed_mbps >= least, message, "use a USB 3 port (blue) and a short USB 3 cable")


def _is_port(one: Accelerator, port: str) -> bool:
    """Whether it is plugged in there: an NCS2 moves from the USB 2 bus to the USB 3 bus of its port once its firmware is loaded."""
    return one.path == port or (one.kind == "ncs2" and myriad.same_port(one.path, port))


def _nothing_found(device: Device, found: list[Accelerator]) -> str:
    elsewhere = f"; there is one at {', '.join(one.path for one in found)}" if found else ""
    return f"no {CALLED[device.kind]}{f' at {device.usb.path}' if device.usb else ''}{elsewhere}"


def _plug(device: Device, found: list[Accelerator]) -> str:
    if found and device.usb:
        return f"set usb.path of {device.name} to {found[0].path} in inventory.yaml, or plug it into {device.usb.path}"
    return "plug it in, try another port or cable, and see whether lsusb (for PCIe: lspci) shows it"


def _permission(one: Accelerator, user: str) -> str:
    """The rules for every id that the stick shows: both change once its firmware is loaded."""
    if one.kind == "coral-pcie":
        rule = 'SUBSYSTEM=="apex", MODE="0660", GROUP="apex"'
        return f"sudo groupadd -f apex && {_rule([rule], '65-apex')} && {_join('apex', user)}"
    products = {"coral-usb": ("1a6e:089a", "18d1:9302"), "ncs2": ("03e7:2485", "03e7:f63b")}.get(one.kind, ())
    rules = [_usb_rule(*product.split(":")) for product in products]
    name = {"coral-usb": "60-coral", "ncs2": "97-ncs2"}.get(one.kind, "60-accelerator")
    return f"sudo groupadd -f plugdev && {_rule(rules, name)} && {_join('plugdev', user)} and plug it in again"


def _join(group: str, user: str) -> str:
    """How a user gets into a group; the device names the user, so nothing of the name is left for a shell to do."""
    return f"sudo usermod -aG {group} {shlex.quote(user)}\nthen log in anew"


def _usb_rule(vendor: str, product: str) -> str:
    return f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}", MODE="0660", GROUP="plugdev"'


def _rule(rules: list[str], name: str) -> str:
    text = "".join(f"{rule}\\n" for rule in rules)
    return f"printf '{text}' | sudo tee /etc/udev/rules.d/{name}.rules && {RELOAD}"


def _runtimes(device: Device, probe: Probe, refusals: Mapping[str, Fault]) -> Iterator[Check]:
    tried = {one.backend: one for one in probe.backends}
    is_usable = all(check.ok for check in _accelerators(device, probe) if check.level == "required")
    for name in targets.offered(device):
        found = tried.get(name)
        if found and found.ok:
            yield Check("required", name, True, f"{found.runtime} {found.version} on {', '.join(found.devices) or 'the device'}")
        elif name == "tensorrt":
            yield _tensorrt(probe, found.reason if found else "")
        elif name == "edgetpu" and not _edgetpu_library(probe):
            yield Check(
                "required", name, False, "libedgetpu is not installed", "install Debian package libedgetpu1-std from Coral's archive"
            )
        elif name in refusals:
            yield Check("recommended", name, False, refusals[name].message, refusals[name].next)
        else:
            message = (found.reason if found else "") or "it was not tried"
            first = "" if is_usable else "mend the accelerator first, then:\n"
            yield Check("recommended", name, False, message, f"{first}fleetmark device setup {device.name}")
    if device.compile_host:
        path = probe.tools.get("edgetpu_compiler", "")
        mend = "install Debian package edgetpu-compiler from Coral's archive (x86-64 only), or take compile_host out of the inventory"
        yield Check("required", "edgetpu_compiler", bool(path), path or "edgetpu_compiler is not on the PATH", mend)


def _edgetpu_library(probe: Probe) -> str:
    return next((probe.versions[name] for name in ("libedgetpu1-std", "libedgetpu1-max", "libedgetpu") if probe.versions.get(name)), "")


def _tensorrt(probe: Probe, reason: str) -> Check:
    there = probe.versions.get("tensorrt", "")
    if there:
        message = f"TensorRT {there} is installed without its Python bindings{f' ({reason})' if reason else ''}"
        return Check(
            "required", "tensorrt", False, message, "sudo apt-get install python3-libnvinfer\nand use the system's own /usr/bin/python3"
        )
    return Check("required", "tensorrt", False, reason or "TensorRT is not installed", "install TensorRT: on a Jetson by JetPack")


def _steadiness(device: Device, probe: Probe, lease: LeaseState, now_s: float) -> Iterator[Check]:
    slow = [governor for governor in probe.governors if governor != "performance"]
    if probe.governors:
        mend = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Check("recommended", "governor", not slow, ", ".join(probe.governors), mend)
    if device.expect.power_mode or probe.power_mode:
        yield _power_mode(device, probe)
    if "raspberry" in probe.board.lower() and probe.groups:
        mend = _join("video", probe.user)
        message = f"{probe.user} is {'' if 'video' in probe.groups else 'not '}in group video, which vcgencmd needs to tell of throttling"
        yield Check("recommended", "video-group", "video" in probe.groups, message, mend)
    yield _power(device, probe)
    off_s = probe.wall_time_s - now_s
    agrees = abs(off_s) < CLOCK_OFF_S
    message = "the device's clock agrees" if agrees else f"the device's clock is {abs(off_s):,.0f} s {'ahead' if off_s > 0 else 'behind'}"
    yield Check("recommended", "clock", agrees, message, "sudo timedatectl set-ntp true")
    whose = f"{lease.owner or 'nobody'} holds it{f', for {lease.left_s:.0f} s more' if lease.left_s > 0 else ''}"
    message = f"{whose}; a launch is running" if lease.running else whose
    yield Check("recommended", "lease", not lease.owner and not lease.running, message, "wait until they are done, or ask them")
    if probe.emulated:
        yield Check("info", "emulated", True, f"{probe.emulated} emulates this device: its numbers are never ranked against real hardware")
    if probe.container:
        yield Check("info", "container", True, f"it runs in {probe.container}: limits of the container hold for what is measured")


def _power_mode(device: Device, probe: Probe) -> Check:
    expected, found = device.expect.power_mode, probe.power_mode
    if expected is None:
        return Check("info", "power-mode", True, found)
    message = f"{found or 'the device does not tell its power mode'}, {expected} expected"
    return Check(
        "recommended", "power-mode", found == expected, message, f"sudo nvpmodel -m ID, with the ID of {expected} in /etc/nvpmodel.conf"
    )


def _power(device: Device, probe: Probe) -> Check:
    readable = [source.driver for source in probe.power_sources if not source.problem]
    outside = [f"meter {device.meter}"] if device.meter else []
    broken = [f"{source.driver}: {source.problem}" for source in probe.power_sources if source.problem]
    message = ", ".join([*outside, *readable]) or "; ".join(broken) or "nothing here measures power"
    mend = "name a meter of the device in inventory.yaml (meters: ..., meter: NAME), or add a sensor: there is no energy without"
    return Check("recommended", "power", bool(outside or readable), message, mend)
