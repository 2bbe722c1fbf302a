"""The fleet's benchmark: every tool does the same on a simulated device, and what has to hold is judged by what was measured."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import require_sshd

from benchmarks.fleet import bare, bed, openssh, ours, stage
from benchmarks.fleet.__main__ import verdicts
from benchmarks.fleet.bed import Bed
from benchmarks.fleet.order import Cost, Order
from benchmarks.fleet.rounds import ANSIBLE, BARE, OURS, Taken, whole
from benchmarks.fleet.shipping import OURS as UPLOAD
from benchmarks.fleet.shipping import SCP

COST = Cost(wall_s=10.0, own_cpu_s=4.0, children_cpu_s=0.9, peak_bytes=100_000_000, shipped_bytes=0)
SLOWER = Cost(wall_s=101.0, own_cpu_s=9.0, children_cpu_s=0.0, peak_bytes=500_000_000, shipped_bytes=0)


@pytest.fixture(scope="module")
def there() -> Iterator[Bed]:
    require_sshd()
    with bed.devices(2) as made:
        stage.write(made.folder / "model")
        yield made


@pytest.mark.parametrize("tool", [ours.run, bare.run, openssh.run])
def test_every_tool_leaves_the_same_files_and_a_running_launch(there: Bed, tool: Callable[[Order], int]) -> None:
    """fleetmark, the bare script and OpenSSH's programs ship the same number of bytes, the blobs whole, and a supervisor lives after."""
    order = stage.order(there, stage.written(there.folder / "model"), 2, 2, 1)
    try:
        assert tool(order) >= 2 * sum(path.stat().st_size for path in order.files().values())
        assert there.started(order.sites) == 2
        for site in order.sites:
            blobs = {path.name: path.read_bytes() for path in Path(site.root, "blobs").iterdir()}
            assert blobs == {path.name: path.read_bytes() for path in Path(order.stage, "blobs").iterdir()}
    finally:
        there.clear()
    assert there.started(order.sites) == 0


def taken(tool: str, devices: int, *costs: Cost, opened: int = 64) -> Taken:
    return Taken(tool, devices, list(costs), opened)


def judged(ours_at_100: Cost, ours_at_500: Cost, ansible: Cost, scp: Cost, opened: int = 64) -> list[str]:
    """The last column of the verdicts, by row."""
    found = [taken(OURS, 100, ours_at_100, opened=opened), taken(BARE, 100, COST), taken(OURS, 500, ours_at_500)]
    found += [taken(OURS, 20, COST), taken(ANSIBLE, 20, ansible)]
    run = {"cost": {"peak_bytes": 300_000_000}}
    lines = verdicts(found, [(500, run, 64)], {UPLOAD: [COST], SCP: [scp]}).splitlines()[2:]
    return [line.split("|")[-2].strip() for line in lines]


def test_what_holds_is_met() -> None:
    """49 ms of processor a device, as slow as bare, 10.1 x faster than Ansible, as fast as scp, 300 MB, 64 connections: all met."""
    assert judged(COST, COST, SLOWER, COST) == ["met"] * 6


def test_what_does_not_hold_is_missed() -> None:
    """90 ms, 10.1 x bare, as slow as Ansible, slower than scp, 500 MB, 65 connections: each is missed."""
    faster = Cost(wall_s=9.9, own_cpu_s=0, children_cpu_s=0, peak_bytes=0, shipped_bytes=0)
    assert judged(SLOWER, SLOWER, COST, faster, opened=65) == ["**missed**"] * 6


def test_a_whole_run_measures_every_device(there: Bed) -> None:
    """Two simulated devices are measured by the stub runtime, and each launch's own time is at least its inferences' sleep."""
    told, opened = whole(there, 2, 0.2)
    assert told["valid"] == 2
    assert len(told["own_s"]) == 2
    assert min(told["own_s"]) >= 0.2
    assert 1 <= opened <= 2
