"""The lease on a host: one owner at a time, void after its expiry or a reboot, never taken while somebody's launch runs."""

import time
from typing import Any, Dict, NamedTuple, Optional

from agent.cache import Cache, Lock, boot_id, is_held, read_json, write_json
from agent.schema import FaultError, SchemaError, dump, load


class Lease(NamedTuple):
    """Who may start launches here, until when on this boot's monotonic clock (seconds)."""

    owner: str
    boot_id: str
    expires_s: float


def acquire(cache: Cache, owner: str, ttl_s: float) -> Lease:
    """Take or renew the lease for `ttl_s` seconds; raises FaultError `busy` naming the holder."""
    with Lock(cache.path("lease.lock")):
        _refuse_other(cache, owner)
        return _write(cache, Lease(owner, boot_id(), time.monotonic() + ttl_s))


def extend(cache: Cache, owner: str, ttl_s: float) -> None:
    """Let a lease that `owner` holds last at least `ttl_s` seconds more; raises FaultError `busy` if it does not hold it."""
    with Lock(cache.path("lease.lock")):
        lease = current(cache)
        if lease is None or lease.owner != owner:
            raise FaultError("busy", "the lease of {} is gone".format(owner), "run again with --resume", "start")
        _write(cache, lease._replace(expires_s=max(lease.expires_s, time.monotonic() + ttl_s)))


def release(cache: Cache, owner: str) -> None:
    """Give the lease back, if `owner` has it."""
    with Lock(cache.path("lease.lock")):
        lease = current(cache)
        if lease is not None and lease.owner == owner:
            _write(cache, lease._replace(expires_s=0.0))


def current(cache: Cache) -> Optional[Lease]:
    """Return the lease in force, or None."""
    try:
        lease: Lease = load(Lease, read_json(cache.path("lease.json")))
    except SchemaError:
        return None
    return lease if lease.boot_id == boot_id() and lease.expires_s > time.monotonic() else None


def state(cache: Cache) -> Dict[str, Any]:
    """Return who holds the host and for how long (seconds), and whether a launch runs."""
    lease = current(cache)
    left_s = round(lease.expires_s - time.monotonic(), 1) if lease else 0.0
    return {"owner": lease.owner if lease else "", "left_s": left_s, "running": is_held(cache.path("busy.lock"))}


def _refuse_other(cache: Cache, owner: str) -> None:
    lease = current(cache)
    if lease is not None and lease.owner != owner:
        left_s = lease.expires_s - time.monotonic()
        raise FaultError("busy", "{} has this host for {:.0f} s more".format(lease.owner, left_s), "wait, or ask them", "lease")
    if lease is None and is_held(cache.path("busy.lock")):
        raise FaultError("busy", "a launch of somebody else is still running here", "wait until it is done", "lease")


def _write(cache: Cache, lease: Lease) -> Lease:
    write_json(cache.path("lease.json"), dump(lease))
    return lease
