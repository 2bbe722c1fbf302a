"""What this device is and what it offers; reads below a configurable root, needs no privileges."""

import os
import struct
import sys
import time
from typing import Dict, Optional

import backends
from agent import VERSION, boards, conditions, host, software, storage
from agent.accelerators import accelerators
from agent.cache import Cache
from agent.description import Probe
from agent.power_sources import power_sources
from agent.schema import Availability, SchemaError, decode, load
from agent.system import MAX_ENTRIES, System, clean, run, user_name

RUNTIME_TIMEOUT_S = 60


def probe(cache: Cache, root: str, environments: Optional[Dict[str, str]], environ: Optional[Dict[str, str]] = None) -> Probe:
    """Return the device's description; `environments` names the one to try for each backend, with the variables `environ`.

    None gives a quick one: what the system's files tell, in well under a second. It starts no program and leaves runtimes alone.
    """
    uname, system = os.uname(), System(root, programs=environments is not None)
    board = boards.identify(system)
    found = Probe(
        agent=VERSION,
        hostname=clean(uname.nodename),
        board=board.name,
        soc=board.soc,
        machine=uname.machine,
        bits=struct.calcsize("P") * 8,
        page_bytes=os.sysconf("SC_PAGE_SIZE"),
        kernel=clean(uname.release),
        os=host.os_name(system),
        glibc=host.glibc(),
        python="{}.{}.{}".format(*sys.version_info[:3]),
        python_path=sys.executable,
        cpu_model=host.processor(system),
        cpu_count=len(os.sched_getaffinity(0)),
        memory_bytes=conditions.memory_bytes(root, "MemTotal") or 0,
        disk_free_bytes=storage.free_bytes(cache.root),
        cache_dir=cache.root,
        boot_id=system.line("proc/sys/kernel/random/boot_id"),
        emulated=host.emulator(system, uname.machine),
        container=host.container(system),
        user=user_name(),
        groups=host.groups(),
        wall_time_s=time.time(),
        monotonic_s=time.monotonic(),
        thermal_zones_c=_cleaned(conditions.thermal_zones(root)),
        governors=[clean(name) for name in conditions.governors(root)[:MAX_ENTRIES]],
        accelerators=accelerators(system, board),
        power_sources=power_sources(system, board),
        cache_problem=storage.problem(cache.root),
        environments=cache.names("envs"),
        interpreters=[],
        power_mode=boards.power_mode(system),
        versions={},
        tools={},
        backends=[],
    )
    if environments is None:
        return found
    tried = [_try(cache, name, environments.get(name, ""), environ or {}) for name in backends.NAMES]
    return _ask(found, system, board)._replace(backends=tried)


def _cleaned(values: Dict[str, float]) -> Dict[str, float]:
    return {clean(name): values[name] for name in sorted(values)[:MAX_ENTRIES]}


def _ask(found: Probe, system: System, board: boards.Board) -> Probe:
    """The description with what programs say."""
    return found._replace(
        interpreters=software.interpreters(system),
        versions=software.versions(system, board),
        tools=software.tools(system),
    )


def _try(cache: Cache, backend: str, environment: str, environ: Dict[str, str]) -> Availability:
    """A backend's own probe, in a process of its own: a library that crashes on import is a finding."""
    from agent import worker

    argv = [sys.executable, os.path.abspath(sys.argv[0]), "try", backend]
    answer, status = run(argv, RUNTIME_TIMEOUT_S, worker.environ(cache, environment, environ), errors=False)
    try:
        return load(Availability, decode(answer))  # type: ignore[no-any-return]
    except SchemaError:
        late = "its import took longer than {} s".format(RUNTIME_TIMEOUT_S)
        reason = late if status is None else "its import ended without an answer, {}".format(worker.ending(status))
    return Availability(backend, False, "", "", [], reason)


def try_backend(name: str) -> Availability:
    """Return what the backend's own probe says."""
    return backends.get(name).probe()
