"""The computer around the accelerators: its processor, operating system and user, and whether all that is a container or emulated."""

import os
import re
from typing import Dict, List

from agent.system import System, clean, group_name

X86_VENDORS = ("GenuineIntel", "AuthenticAMD")
X86_MACHINES = ("x86_64", "i686", "i386")
# ARM's names for its processors ("CPU part" of /proc/cpuinfo, implementer 0x41); 64-bit kernels tell no other.
ARM_PARTS = {
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
    "0xd83": "Neoverse-V3AE",
}
QEMU_PART = ("0x00", "0x051")  # its processor `max`: implementer 0, part Q (target/arm/tcg/cpu64.c)
CONTAINERS = re.compile(r"docker|podman|libpod|lxc|kubepods|containerd|machine-nspawn")
MAX_GROUPS = 64


def processor(system: System) -> str:
    """Return the processor's name: ARM's own where its number is known, else what the kernel calls it."""
    fields = _cpuinfo(system)
    arm = ARM_PARTS.get(fields.get("CPU part", "")) if fields.get("CPU implementer") == "0x41" else None
    return arm or fields.get("model name") or fields.get("Model") or ""


def emulator(system: System, machine: str) -> str:
    """Return what emulates the processor: user-mode qemu changes what uname says, but /proc/cpuinfo names the host's processor.

    Its later releases make up that file for ARM too and name their own processor in it, as a virtual machine does that has it. The real
    /proc is asked too: a root folder that pretends to be a board does not make the processor real.
    """
    told = [_cpuinfo(where) for where in (system, System("/"))]
    if machine not in X86_MACHINES and any(fields.get("vendor_id") in X86_VENDORS for fields in told):
        return "qemu-user"
    return "qemu" if any((fields.get("CPU implementer"), fields.get("CPU part")) == QEMU_PART for fields in told) else ""


def _cpuinfo(system: System) -> Dict[str, str]:
    """The last value of each field of /proc/cpuinfo."""
    whole, _, _ = system.text("proc/cpuinfo").rpartition("\n")  # what is read of a computer with many processors ends within a line
    pairs = [line.split(":", 1) for line in whole.splitlines() if ":" in line]
    return {name.strip(): clean(value) for name, value in pairs}


def os_name(system: System) -> str:
    """Return the operating system as it calls itself."""
    lines = system.text("etc/os-release").splitlines()
    named = (clean(line.split("=", 1)[1]).strip("\"' ") for line in lines if line.startswith("PRETTY_NAME="))
    return next(named, os.uname().sysname)


def glibc() -> str:
    """Return the C library's version, empty where it is not glibc."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1]
    except (ValueError, OSError, IndexError):
        return ""


def container(system: System) -> str:
    """Return what kind of container this is, empty outside of one."""
    if system.exists(".dockerenv"):
        return "docker"
    if system.exists("run/.containerenv"):
        return "podman"
    told = system.line("run/systemd/container") or _environment_of_init(system)
    found = CONTAINERS.search(system.text("proc/1/cgroup"))
    return told or (found.group() if found else "")


def _environment_of_init(system: System) -> str:
    """The variable `container` of process 1, which only root may read."""
    return next((item.split("=", 1)[1] for item in system.items("proc/1/environ") if item.startswith("container=")), "")


def groups() -> List[str]:
    """Return the names of the groups that this process is in, at most MAX_GROUPS."""
    return sorted({group_name(group) for group in [os.getegid(), *os.getgroups()]})[:MAX_GROUPS]
