"""What this device is and what it offers; reads below a configurable root, needs no privileges."""

import os
import signal
import struct
import sys
import time
from typing import Dict, Optional

import backends
from agent import VERSION
from agent.cache import Cache, boot_id, first_line
from agent.conditions import memory_bytes
from agent.description import Probe
from agent.schema import Availability, SchemaError, decode, load

RUNTIME_TIMEOUT_S = 60
X86_VENDORS = ("GenuineIntel", "AuthenticAMD")


def probe(cache: Cache, root: str, environments: Optional[Dict[str, str]]) -> Probe:
    """Return the device's description; `environments` names the one to try for each backend, None leaves runtimes alone."""
    system, cpuinfo = os.uname(), _cpuinfo(root)
    return Probe(
        agent=VERSION,
        hostname=system.nodename,
        board=first_line(os.path.join(root, "proc/device-tree/model"))
        or first_line(os.path.join(root, "sys/class/dmi/id/product_name"))
        or "",
        soc="",
        machine=system.machine,
        bits=struct.calcsize("P") * 8,
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        kernel=system.release,
        os=_os_name(root),
        glibc=_glibc(),
        python="{}.{}.{}".format(*sys.version_info[:3]),
        python_path=sys.executable,
        cpu_model=cpuinfo.get("model name") or cpuinfo.get("Model") or "",
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(root, "MemTotal") or 0,
        disk_free_bytes=_free_bytes(cache.root),
        cache_dir=cache.root,
        boot_id=boot_id(root),
        emulated=_emulator(cpuinfo, system.machine),
        container="",
        user="",
        groups=[],
        wall_time_s=time.time(),
        monotonic_s=time.monotonic(),
        thermal_zones_c={},
        governors=[],
        accelerators=[],
        power_sources=[],
        cache_problem="",
        environments=cache.names("envs"),
        interpreters=[],
        power_mode="",
        versions={},
        tools={},
        backends=[_try(cache, name, environments.get(name, "")) for name in backends.NAMES] if environments is not None else [],
    )


def _cpuinfo(root: str) -> Dict[str, str]:
    """The last value of each field of /proc/cpuinfo."""
    try:
        with open(os.path.join(root, "proc/cpuinfo"), errors="replace") as file:
            pairs = [line.split(":", 1) for line in file.read(1 << 20).splitlines() if ":" in line]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, value in pairs}


def _emulator(cpuinfo: Dict[str, str], machine: str) -> str:
    """User-mode qemu changes what uname says, but /proc/cpuinfo still names the host's processor."""
    foreign = cpuinfo.get("vendor_id") in X86_VENDORS and machine not in ("x86_64", "i686", "i386")
    return "qemu-user" if foreign else ""


def _os_name(root: str) -> str:
    try:
        with open(os.path.join(root, "etc/os-release"), errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return os.uname().sysname
    return next((line.split("=", 1)[1].strip("\"' ") for line in lines if line.startswith("PRETTY_NAME=")), os.uname().sysname)


def _glibc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION").split()[-1]  # type: ignore[union-attr]
    except (ValueError, OSError, AttributeError):
        return ""


def _free_bytes(path: str) -> int:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def _try(cache: Cache, backend: str, environment: str) -> Availability:
    """A backend's own probe, in a process of its own: a library that crashes on import is a finding."""
    import subprocess

    from agent import worker

    process = subprocess.Popen(
        [sys.executable, os.path.abspath(sys.argv[0]), "try", backend],
        env=worker.environ(cache, environment, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            return load(Availability, decode(process.communicate(timeout=RUNTIME_TIMEOUT_S)[0]))  # type: ignore[no-any-return]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            reason = "its import took longer than {} s".format(RUNTIME_TIMEOUT_S)
        except SchemaError:
            reason = "its import ended without an answer, {}".format(worker.ending(process.returncode))
    return Availability(backend, False, "", "", [], reason)


def try_backend(name: str) -> Availability:
    """Return what the backend's own probe says."""
    return backends.get(name).probe()
