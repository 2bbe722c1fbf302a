"""Which devices may work at the same time: those of one host share the agent's folder, those on one meter its readings."""

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


def each(devices: Sequence[Device], ask: Callable[[Device], T], at_once: int = AT_ONCE) -> list[T]:
    """Give what `ask` gives for each device, in their order. Interrupted, it waits for those that are being asked and asks no more."""
    lanes = by_host(devices)
    stopping = threading.Event()

    def work(lane: Sequence[Device]) -> dict[str, T]:
        return {device.name: ask(device) for device in lane if not stopping.is_set()}

    with ThreadPoolExecutor(min(at_once, len(lanes))) as pool:
        try:
            found = {name: answer for lane in pool.map(work, lanes) for name, answer in lane.items()}
        finally:
            stopping.set()
    return [found[device.name] for device in devices]


def group(devices: Sequence[Device]) -> list[list[Device]]:
    """Give the lanes: devices of the same host and port, or on the same meter, never run at the same time."""
    lanes: list[tuple[set[str], list[Device]]] = []
    for device in devices:
        keys = {f"host {address(device)}", *([f"meter {device.meter}"] if device.meter else [])}
        shared = [lane for lane in lanes if lane[0] & keys]
        lanes = [lane for lane in lanes if not lane[0] & keys]
        merged = [member for _, members in shared for member in members]
        lanes.append((keys.union(*(other for other, _ in shared)), [*merged, device]))
    return [members for _, members in lanes]


def address(device: Device) -> str:
    """Give the host and port that a device's launches run on, or its own name where nobody knows."""
    try:
        return lane_address(device)
    except FaultError:  # it cannot be reached, which its own lane will tell
        return device.name
