"""Whether the device slowed itself down: flags and counters since boot, to be compared before and after; temperatures and their limits."""

import re
from typing import Any, Dict, List, NamedTuple, Optional

from agent.system import System, clean

# What a passive trip slows down, and what a hot or critical one ends; an active one only starts a fan (Linux: thermal sysfs API).
LIMITING = ("passive", "hot", "critical")
THROTTLED = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})\b")


class Reading(NamedTuple):
    """A temperature, and that from which on the device slows itself down, in degrees Celsius."""

    name: str
    temp_c: float
    limit_c: Optional[float]


def flags(system: System) -> Dict[str, int]:
    """Return what is set or counted since boot, by name; empty where nothing is observable.

    A Pi's get_throttled (bits 16 to 19 are sticky), a Jetson's over-current events, x86's core_throttle_count summed over processors.
    """
    found: Dict[str, int] = {}
    told = THROTTLED.search(system.ask("vcgencmd", "get_throttled"))
    if told:
        found["get_throttled"] = int(told.group(1), 16)
    for name in system.names("sys/class/hwmon/hwmon*/name"):
        if system.line(name) == "soctherm_oc":
            for counter in system.names(name.rpartition("/")[0] + "/oc*_event_cnt"):
                _count(found, "soctherm_oc/" + clean(counter.rpartition("/")[2]), [system.number(counter)])
    counters = system.names("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    _count(found, "core_throttle_count", [system.number(counter) for counter in counters])
    return found


def _count(found: Dict[str, int], name: str, counts: List[Optional[float]]) -> None:
    known = [int(count) for count in counts if count is not None]
    if known:
        found[name] = sum(known)


def readings(system: System) -> List[Reading]:
    """Return all temperatures that are plausible: psutil's sensors on the running system, else the kernel's zones; Edge TPUs."""
    found = (_sensors() if system.root == "/" else []) or zones(system)
    return unique(found + _edge_tpus(system))


def unique(found: List[Reading]) -> List[Reading]:
    """Return the plausible ones, each under a name of its own."""
    kept: Dict[str, Reading] = {}
    for reading in found:
        placeholder = reading.name.startswith("PMIC") and reading.temp_c == 100.0  # what a Jetson's PMIC always says
        if -50 < reading.temp_c < 150 and not placeholder:
            name = reading.name if reading.name not in kept else "{} {}".format(reading.name, len(kept))
            kept[name] = reading._replace(name=name)
    return list(kept.values())


def psutil() -> Any:
    """Return the module, None where there is none that works."""
    try:
        import psutil as found
    except Exception:  # noqa: BLE001 - built for another Python or system, it may fail in other ways than by being absent
        return None
    return found


def _sensors() -> List[Reading]:
    try:
        chips = psutil().sensors_temperatures().items()
        return [
            Reading("{}/{}".format(chip, entry.label or at), float(entry.current), float(entry.critical) if entry.critical else None)
            for chip, entries in chips
            for at, entry in enumerate(entries)
        ]
    except Exception:  # noqa: BLE001 - no psutil, or a sensor that fails it: missing data, not an error
        return []


def zones(system: System) -> List[Reading]:
    """Return the kernel's thermal zones as they are."""
    found: List[Reading] = []
    for zone in system.names("sys/class/thermal/thermal_zone*"):
        milli = system.number(zone + "/temp")
        if milli is not None:
            found.append(Reading(system.line(zone + "/type") or zone.rpartition("/")[2], milli / 1000, _limit(system, zone)))
    return found


def _limit(system: System, zone: str) -> Optional[float]:
    """The lowest limiting trip point."""
    types = [name for name in system.names(zone + "/trip_point_*_type") if system.line(name) in LIMITING]
    trips = [system.number(name[: -len("type")] + "temp") for name in types]
    return min((milli / 1000 for milli in trips if milli is not None and milli > 0), default=None)


def _edge_tpus(system: System) -> List[Reading]:
    """Edge TPUs on PCIe, which step their clock down at three trip points (gasket driver); the USB Accelerator tells no temperature."""
    found: List[Reading] = []
    for folder in system.names("sys/class/apex/apex_*"):
        milli, trip = system.number(folder + "/temp"), system.number(folder + "/trip_point0_temp")
        if milli is not None:
            found.append(Reading(clean(folder.rpartition("/")[2]), milli / 1000, trip / 1000 if trip else None))
    return found
