"""The device's state before and after a launch. psutil where the environment has it, /proc and /sys where not."""

import glob
import math
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from agent.cache import first_line
from agent.schema import Conditions

CPU_FREQUENCY = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/"


BACKGROUND_S = 0.1  # ten ticks of each processor


def _psutil() -> Any:
    try:
        import psutil
    except Exception:  # noqa: BLE001 - built for another Python or system, it may fail in other ways than by being absent
        return None
    return psutil


class Watch:
    """Reads conditions; `cpu_busy_share` is the share of all processors' time in use since the reading before.

    The first reading looks at the background load for BACKGROUND_S.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._times: Optional[Tuple[float, float]] = None

    def read(self, when: str) -> Conditions:
        """Return the conditions now; what cannot be read is None or empty."""
        if self._times is None:
            self._times = cpu_times(self.root)
            time.sleep(BACKGROUND_S)
        before, self._times = self._times, cpu_times(self.root)
        return Conditions(
            when=when,
            wall_time_s=time.time(),
            monotonic_s=time.monotonic(),
            load_1m=_load_1m(self.root),
            memory_available_bytes=memory_bytes(self.root, "MemAvailable"),
            cpu_busy_share=_busy_share(before, self._times),
            temps_c=temperatures(self.root),
            clocks_hz=_clocks(self.root),
            governors=governors(self.root),
        )


def cpu_times(root: str = "/") -> Optional[Tuple[float, float]]:
    """Return (busy, total) processor time in ticks since boot, over all processors."""
    fields = (first_line(os.path.join(root, "proc/stat")) or "").split()[1:9]
    try:
        ticks = [float(field) for field in fields]
    except ValueError:
        return None
    return (sum(ticks) - sum(ticks[3:5]), sum(ticks)) if len(ticks) >= 5 else None


def _busy_share(before: Optional[Tuple[float, float]], after: Optional[Tuple[float, float]]) -> Optional[float]:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(1.0, max(0.0, (after[0] - before[0]) / (after[1] - before[1])))


def _load_1m(root: str) -> Optional[float]:
    try:
        return float((first_line(os.path.join(root, "proc/loadavg")) or "").split()[0])
    except (ValueError, IndexError):
        return None


def memory_bytes(root: str, name: str) -> Optional[int]:
    """Return an entry of /proc/meminfo in bytes."""
    try:
        with open(os.path.join(root, "proc/meminfo")) as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":")), None)
    except (OSError, ValueError, IndexError):
        return None


def temperatures(root: str = "/") -> Dict[str, float]:
    """Return degrees Celsius by sensor: psutil's sensors, else the thermal zones; implausible readings are left out."""
    return _plausible((_sensors() if root == "/" else []) or _zones(root))


def thermal_zones(root: str = "/") -> Dict[str, float]:
    """Return degrees Celsius by the kernel's thermal zone; implausible readings are left out."""
    return _plausible(_zones(root))


def _plausible(found: List[Tuple[str, float]]) -> Dict[str, float]:
    unique: Dict[str, float] = {}
    for name, value in found:
        placeholder = name.startswith("PMIC") and value == 100.0  # what a Jetson's PMIC always says
        if -50 < value < 150 and not placeholder:
            unique[name if name not in unique else "{} {}".format(name, len(unique))] = value
    return unique


def _sensors() -> List[Tuple[str, float]]:
    psutil = _psutil()
    try:
        chips = psutil.sensors_temperatures().items()
        return [
            ("{}/{}".format(chip, entry.label or at), float(entry.current)) for chip, entries in chips for at, entry in enumerate(entries)
        ]
    except Exception:  # noqa: BLE001 - no psutil, or a sensor that fails it: missing data, not an error
        return []


def _zones(root: str) -> List[Tuple[str, float]]:
    found: List[Tuple[str, float]] = []
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        milli = _number(os.path.join(zone, "temp"))
        if milli is not None:
            found.append((first_line(os.path.join(zone, "type")) or os.path.basename(zone), milli / 1000))
    return found


def _clocks(root: str) -> Dict[str, float]:
    """Current frequency by processor, in Hz."""
    found: Dict[str, float] = {}
    for path in sorted(glob.glob(os.path.join(root, CPU_FREQUENCY + "scaling_cur_freq"))):
        kilo = _number(path)
        if kilo is not None:
            found[path.split("/")[-3]] = kilo * 1000
    return found


def governors(root: str) -> List[str]:
    """Return the names of the frequency governors in use, each once."""
    lines = {first_line(path) for path in glob.glob(os.path.join(root, CPU_FREQUENCY + "scaling_governor"))}
    return sorted(line for line in lines if line)


def _number(path: str) -> Optional[float]:
    try:
        value = float(first_line(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
