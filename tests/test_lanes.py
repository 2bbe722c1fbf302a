"""Devices are asked at once, those of one host one after the other."""

import threading

from controller import lanes
from controller.inventory import Device

WAIT_S = 20.0


def device(name: str, host: str) -> Device:
    return Device.model_validate({"name": name, "kind": "generic", "ssh": {"host": host}})


def test_hosts_are_asked_at_once_and_a_host_once_at_a_time() -> None:
    """Two hosts meet at a barrier for each of their devices, no host is asked twice at once, and the answers are in the devices' order."""
    devices = [device("a-1", "192.0.2.1"), device("b-1", "192.0.2.2"), device("a-2", "192.0.2.1"), device("b-2", "192.0.2.2")]
    hosts = {"a": threading.Lock(), "b": threading.Lock()}
    meeting = threading.Barrier(2)

    def ask(one: Device) -> str:
        host = hosts[one.name[0]]
        assert host.acquire(blocking=False)
        meeting.wait(WAIT_S)
        host.release()
        return one.name

    assert lanes.each(devices, ask) == [one.name for one in devices]


def test_a_device_whose_address_nobody_knows_stands_alone() -> None:
    """It keeps no other device waiting: ssh cannot read its configuration."""
    lost = [Device.model_validate({"name": name, "kind": "generic", "ssh": {"host": "c", "config": "/nonexistent"}}) for name in "cd"]
    found = lanes.by_host([lost[0], device("a", "192.0.2.1"), lost[1], device("b", "192.0.2.1")])
    assert [[one.name for one in lane] for lane in found] == [["c"], ["a", "b"], ["d"]]
