"""The lease on a host: one owner at a time, void after its expiry or a reboot, never taken while somebody else's launch runs."""

import time
from typing import Any, Dict, NamedTuple, Optional

from agent.cache import Cache, Lock, boot_id, is_held, read_json, unlink, write_json
from agent.schema import FaultError, SchemaError, dump, load

MAX_TTL_S = 7 * 86400.0
MAX_OWNER_CHARACTERS = 200


class Lease(NamedTuple):
    """Who may start launches here, until when on this boot's monotonic clock (seconds)."""

    owner: str
    boot_id: str
    expires_s: float


def acquire(cache: Cache, owner: str, ttl_s: float) -> Lease:
    """Take or renew the lease for `ttl_s` seconds; raises FaultError `busy` naming the holder."""
    if not 0 < len(owner) <= MAX_OWNER_CHARACTERS or not 0 < ttl_s <= MAX_TTL_S:
        raise FaultError("protocol", "a lease has an owner and lasts at most {:g} s".format(MAX_TTL_S), "", "lease")
    with Lock(cache.path("lease.lock")):
        _refuse_other(cache, owner)
        lease = Lease(owner, boot_id(), time.monotonic() + ttl_s)
        write_json(cache.path("lease.json"), dump(lease))
        return lease


def extend(cache: Cache, owner: str, ttl_s: float) -> None:
    """Let the lease of `owner` last `ttl_s` seconds from now, if not longer; raises FaultError `busy` if it has another by now, or none.

    One that has expired but that nobody took still is the owner's.
    """
    with Lock(cache.path("lease.lock")):
        lease = _last(cache)
        if lease is None or lease.owner != owner:
            raise FaultError("busy", "the lease of {} is gone".format(owner), "run again with --resume", "start")
        expires_s = max(lease.expires_s, time.monotonic() + min(ttl_s, MAX_TTL_S))
        write_json(cache.path("lease.json"), dump(lease._replace(expires_s=expires_s)))


def release(cache: Cache, owner: str) -> None:
    """Give the lease back, if `owner` has it."""
    with Lock(cache.path("lease.lock")):
        lease = _last(cache)
        if lease is not None and lease.owner == owner:
            unlink(cache.path("lease.json"))


def current(cache: Cache) -> Optional[Lease]:
    """Return the lease in force, or None."""
    lease = _last(cache)
    return lease if lease is not None and lease.expires_s > time.monotonic() else None


def state(cache: Cache) -> Dict[str, Any]:
    """Return who holds the host and for how long (seconds), and whether a launch runs."""
    lease = current(cache)
    left_s = round(lease.expires_s - time.monotonic(), 1) if lease else 0.0
    return {"owner": lease.owner if lease else "", "left_s": left_s, "running": is_held(cache.path("busy.lock"))}


def _last(cache: Cache) -> Optional[Lease]:
    """The last lease of this boot, in force or expired."""
    try:
        lease: Lease = load(Lease, read_json(cache.path("lease.json")))
    except SchemaError:
        return None
    return lease if lease.boot_id == boot_id() else None


def _refuse_other(cache: Cache, owner: str) -> None:
    last = _last(cache)
    if last is not None and last.owner == owner:
        return
    left_s = last.expires_s - time.monotonic() if last else 0.0
    if last is not None and left_s > 0:
        raise FaultError("busy", "{} has this host for {:.0f} s more".format(last.owner, left_s), "wait, or ask them", "lease")
    if is_held(cache.path("busy.lock")):
        whose = last.owner if last else "somebody else"
        raise FaultError("busy", "a launch of {} is still running here".format(whose), "wait until it is done", "lease")
