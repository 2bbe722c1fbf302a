"""The lease on a host."""

import time
from pathlib import Path

import pytest

from agent import lease
from agent.cache import Cache, Lock, boot_id, write_json
from agent.lease import Lease
from agent.schema import FaultError, dump


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(str(tmp_path))
    made.create()
    return made


def busy(cache: Cache, owner: str) -> str:
    """Why `owner` cannot have the host."""
    with pytest.raises(FaultError) as error:
        lease.acquire(cache, owner, 10)
    assert error.value.fault.code == "busy"
    return error.value.fault.message


def left_over(cache: Cache, owner: str, boot: str = "", expires_s: float = 0.0) -> None:
    """A lease written at another time."""
    write_json(cache.path("lease.json"), dump(Lease(owner, boot or boot_id(), expires_s, time.monotonic())))


def test_one_owner_at_a_time(cache: Cache) -> None:
    """Who has the host may renew, nobody else may take it until it is given back; giving back what is another's does nothing."""
    lease.acquire(cache, "ann", 100)
    lease.acquire(cache, "ann", 200)
    lease.release(cache, "bob")
    assert "ann has this host" in busy(cache, "bob")
    assert lease.state(cache)["owner"] == "ann"
    assert 190 < lease.state(cache)["left_s"] <= 200
    lease.release(cache, "ann")
    lease.acquire(cache, "bob", 100)
    assert "bob has this host" in busy(cache, "ann")


def test_an_expired_lease_and_one_of_another_boot_are_void(cache: Cache) -> None:
    """After its expiry, or a reboot, anybody may take the host."""
    left_over(cache, "ann", expires_s=time.monotonic() - 1)
    assert lease.current(cache) is None
    lease.acquire(cache, "bob", 100)
    left_over(cache, "bob", boot="another boot", expires_s=time.monotonic() + 1000)
    lease.acquire(cache, "ann", 100)


def test_the_lease_tells_since_when(cache: Cache) -> None:
    """Renewing keeps the age, taking the host anew begins it anew; whose launch runs is told after the lease has expired, too."""
    write_json(cache.path("lease.json"), dump(Lease("ann", boot_id(), time.monotonic() + 9, time.monotonic() - 700)))
    lease.acquire(cache, "ann", 100)
    lease.extend(cache, "ann", 200)
    assert 700 <= lease.state(cache)["age_s"] < 760
    assert "ann has this host, for 7" in busy(cache, "bob")
    lease.release(cache, "ann")
    lease.acquire(cache, "bob", 100)
    assert lease.state(cache)["age_s"] < 60
    left_over(cache, "ann")
    assert lease.state(cache)["owner"] == ""
    running = Lock(cache.path("busy.lock"))
    running.acquire()
    assert {"owner": "ann", "left_s": 0.0, "running": True}.items() <= lease.state(cache).items()
    running.close()


def test_the_lease_of_an_older_agent_counts(cache: Cache) -> None:
    """One that was written without since when keeps others out and may be renewed."""
    written = dump(Lease("ann", boot_id(), time.monotonic() + 100, 0.0))
    del written["since_s"]
    write_json(cache.path("lease.json"), written)
    assert "ann has this host" in busy(cache, "bob")
    lease.acquire(cache, "ann", 100)
    assert lease.state(cache)["owner"] == "ann"


def test_a_running_launch_keeps_others_out_but_not_its_owner(cache: Cache) -> None:
    """While a launch runs, an expired lease can be taken up again by its owner only; afterwards by anybody."""
    running = Lock(cache.path("busy.lock"))
    running.acquire()
    left_over(cache, "ann")
    assert "a launch of ann is still running" in busy(cache, "bob")
    lease.acquire(cache, "ann", 100)
    left_over(cache, "ann")
    running.close()
    lease.acquire(cache, "bob", 100)


def test_a_launch_extends_its_owners_lease(cache: Cache) -> None:
    """It lasts to the launch's deadline if that is later, also after it expired unnoticed; a lease that another took is gone."""
    lease.acquire(cache, "ann", 100)
    lease.extend(cache, "ann", 50)
    assert lease.state(cache)["left_s"] > 90
    lease.extend(cache, "ann", 500)
    assert lease.state(cache)["left_s"] > 490
    left_over(cache, "ann")
    lease.extend(cache, "ann", 50)
    assert lease.state(cache)["owner"] == "ann"
    lease.release(cache, "ann")
    for taken_by in ("", "bob"):
        if taken_by:
            lease.acquire(cache, taken_by, 100)
        with pytest.raises(FaultError) as error:
            lease.extend(cache, "ann", 50)
        assert error.value.fault.code == "busy"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff\xfe", b'{"owner":"ann"}', b'{"owner":1,"boot_id":"","expires_s":9e9}', b"[" * 9999]
)
def test_a_damaged_lease_is_none(cache: Cache, text: bytes) -> None:
    """Whatever lies where the lease should, the host can be taken."""
    Path(cache.path("lease.json")).write_bytes(text)
    assert lease.state(cache) == {"owner": "", "age_s": 0.0, "left_s": 0.0, "running": False}
    lease.acquire(cache, "bob", 100)


@pytest.mark.parametrize(
    ("owner", "ttl_s"), [("", 10.0), ("a" * 201, 10.0), ("ann", 0.0), ("ann", -1.0), ("ann", 1e300), ("ann", float("nan"))]
)
def test_a_lease_without_owner_or_end_is_refused(cache: Cache, owner: str, ttl_s: float) -> None:
    """A lease has an owner's name and lasts a week at most."""
    with pytest.raises(FaultError) as error:
        lease.acquire(cache, owner, ttl_s)
    assert error.value.fault.code == "protocol"
    assert lease.current(cache) is None
