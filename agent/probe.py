"""What this device is and what it offers; reads below a configurable root, needs no privileges."""

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import time
from typing import Any, Dict, Optional

import backends
from agent import VERSION
from agent.cache import Cache, boot_id, first_line
from agent.conditions import memory_bytes
from agent.schema import Availability, Probe, SchemaError, decode, load
from agent.supervisor import worker_environ

RUNTIME_TIMEOUT_S = 60
X86_VENDORS = ("GenuineIntel", "AuthenticAMD")


def probe(cache: Cache, root: str, environments: Optional[Dict[str, str]]) -> Probe:
    """Return the device's description; `environments` names the one to try for each backend, None leaves runtimes alone."""
    cpuinfo = _cpuinfo(root)
    return Probe(
        agent=VERSION,
        hostname=platform.node(),
        board=first_line(os.path.join(root, "proc/device-tree/model"))
        or first_line(os.path.join(root, "sys/class/dmi/id/product_name"))
        or "",
        machine=platform.machine(),
        bits=struct.calcsize("P") * 8,
        kernel=platform.release(),
        os=_os_name(root),
        glibc=_glibc(),
        python="{}.{}.{}".format(*sys.version_info[:3]),
        python_path=sys.executable,
        cpu_model=cpuinfo.get("model name") or cpuinfo.get("Model") or "",
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=memory_bytes(root, "MemTotal") or 0,
        disk_free_bytes=shutil.disk_usage(_existing(cache.root)).free,
        cache_dir=cache.root,
        boot_id=boot_id(root),
        emulated=_emulator(cpuinfo),
        wall_time_s=time.time(),
        monotonic_s=time.monotonic(),
        environments=cache.names("envs"),
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


def _emulator(cpuinfo: Dict[str, str]) -> str:
    """User-mode qemu changes what uname says, but /proc/cpuinfo still names the host's processor."""
    foreign = cpuinfo.get("vendor_id") in X86_VENDORS and platform.machine() not in ("x86_64", "i686", "i386")
    return "qemu-user" if foreign else ""


def _os_name(root: str) -> str:
    try:
        with open(os.path.join(root, "etc/os-release"), errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return platform.system()
    return next((line.split("=", 1)[1].strip("\"' ") for line in lines if line.startswith("PRETTY_NAME=")), platform.system())


def _glibc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION").split()[-1]  # type: ignore[union-attr]
    except (ValueError, OSError, AttributeError):
        return ""


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _try(cache: Cache, backend: str, environment: str) -> Availability:
    """A backend's own probe, in a process of its own: a library that crashes on import is a finding."""
    command = [sys.executable, os.path.abspath(sys.argv[0]), "try", backend]
    environ = worker_environ(cache, environment, {})
    try:
        done = subprocess.run(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=RUNTIME_TIMEOUT_S
        )
        return load(Availability, decode(done.stdout.splitlines()[-1]))  # type: ignore[no-any-return]
    except subprocess.TimeoutExpired:
        reason = "its import took longer than {} s".format(RUNTIME_TIMEOUT_S)
    except (SchemaError, IndexError):
        reason = "its import ended without an answer"
    return Availability(backend, False, "", "", [], reason)


def try_backend(name: str) -> Any:
    """Return what the backend's own probe says, JSON-ready."""
    return json.loads(json.dumps(backends.get(name).probe()._asdict()))
