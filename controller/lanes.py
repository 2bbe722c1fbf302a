"""Devices asked at once, those of one host one after the other: they share the agent's folder."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.schema import FaultError
from controller.inventory import Device
from controller.visit import lane_address

AT_ONCE = 16
T = TypeVar("T")


def by_host(devices: Sequence[Device]) -> list[list[Device]]:
    """Give the devices by host and port, in their order; one that cannot be told apart stands alone."""
    lanes: dict[str, list[Device]] = {}
    for device in devices:
        try:
            lanes.setdefault(lane_address(device), []).append(device)
        except FaultError:  # which connecting to it tells
            lanes[f"{device.name} alone"] = [device]
    return list(lanes.values())


def each(devices: Sequence[Device], ask: Callable[[Device], T]) -> list[T]:
    """Give what `ask` gives for each device, in their order. Interrupted, it waits for those that are being asked and asks no more."""
    lanes = by_host(devices)
    stopping = threading.Event()

    def work(lane: Sequence[Device]) -> dict[str, T]:
        return {device.name: ask(device) for device in lane if not stopping.is_set()}

    with ThreadPoolExecutor(min(AT_ONCE, len(lanes))) as pool:
        try:
            found = {name: answer for lane in pool.map(work, lanes) for name, answer in lane.items()}
        finally:
            stopping.set()
    return [found[device.name] for device in devices]
