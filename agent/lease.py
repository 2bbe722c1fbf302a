"""The lease on a host: one owner at a time, void after its expiry or a reboot, never taken while somebody else's launch runs."""

import time
from typing import Any, Dict, NamedTuple, Optional

from agent.cache import Cache, Lock, boot_id, is_held, read_object, unlink, write_json
from agent.schema import FaultError, SchemaError, dump, load

MAX_TTL_S = 7 * 86400.0
MAX_OWNER_CHARACTERS = 200


class Lease(NamedTuple):
    """Who may start launches here, until when and since when on this boot's monotonic clock (seconds)."""

    owner: str
    boot_id: str
    expires_s: float
    since_s: float


def acquire(cache: Cache, owner: str, ttl_s: float) -> Lease:
    """Take or renew the lease for `ttl_s` seconds; raises FaultError `busy` naming the holder."""
    if not 0 < len(owner) <= MAX_OWNER_CHARACTERS or not 0 < ttl_s <= MAX_TTL_S:
        raise FaultError("protocol", "a lease has an owner and lasts at most {:g} s".format(MAX_TTL_S), "", "lease")
    with Lock(cache.path("lease.lock")):
        last, now = _last(cache), time.monotonic()
        _refuse_other(cache, last, owner)
        since_s = last.since_s if last is not None and last.owner == owner else now
        lease = Lease(owner, boot_id(), now + ttl_s, since_s)
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
    """Return who holds the host, since when and for how long still (seconds), and whether a launch runs.

    While a launch runs that is whoever had the lease last, with nothing left of it: nobody else can take the host.
    """
    running = is_held(cache.path("busy.lock"))
    lease, now = _last(cache) if running else current(cache), time.monotonic()
    if lease is None:
        return {"owner": "", "age_s": 0.0, "left_s": 0.0, "running": running}
    age_s, left_s = max(0.0, now - lease.since_s), max(0.0, lease.expires_s - now)
    return {"owner": lease.owner, "age_s": round(age_s, 1), "left_s": round(left_s, 1), "running": running}


def _last(cache: Cache) -> Optional[Lease]:
    """The last lease of this boot, in force or expired; one of an older agent, which did not note since when, counts from now."""
    written = read_object(cache.path("lease.json"))
    try:
        lease: Lease = load(Lease, {"since_s": time.monotonic(), **written})
    except SchemaError:
        return None
    return lease if lease.boot_id == boot_id() else None


def _refuse_other(cache: Cache, last: Optional[Lease], owner: str) -> None:
    if last is not None and last.owner == owner:
        return
    left_s = last.expires_s - time.monotonic() if last else 0.0
    if last is not None and left_s > 0:
        held = "{} has this host, for {:.0f} s so far".format(last.owner, time.monotonic() - last.since_s)
        raise FaultError("busy", "{} and {:.0f} s more at least".format(held, left_s), "wait, or ask them", "lease")
    if is_held(cache.path("busy.lock")):
        whose = last.owner if last else "somebody else"
        raise FaultError("busy", "a launch of {} is still running here".format(whose), "wait until it is done", "lease")
