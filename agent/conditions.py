"""The device's state before and after a launch. psutil where the environment has it, /proc and /sys where not."""

import glob
import os
import time
from typing import Any, Dict, List, Optional, Tuple

from agent.cache import first_line
from agent.schema import Conditions

CPU_FREQUENCY = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/"


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        return None
    return psutil


class Watch:
    """Reads conditions; `cpu_busy_share` is the share of all processors' time in use since the reading before."""

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._times = cpu_times(root)

    def read(self, when: str) -> Conditions:
        """Return the conditions now; what cannot be read is None or empty."""
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
            governors=_governors(self.root),
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
    psutil = _psutil() if root == "/" and name == "MemAvailable" else None
    if psutil is not None:
        return int(psutil.virtual_memory().available)
    try:
        with open(os.path.join(root, "proc/meminfo")) as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":")), None)
    except (OSError, ValueError, IndexError):
        return None


def temperatures(root: str = "/") -> Dict[str, float]:
    """Return degrees Celsius by sensor: psutil's sensors, else the thermal zones; implausible readings are left out."""
    found: Dict[str, float] = {}
    psutil = _psutil() if root == "/" else None
    if psutil is not None and hasattr(psutil, "sensors_temperatures"):
        for chip, entries in psutil.sensors_temperatures().items():
            found.update({"{}/{}".format(chip, entry.label or at): float(entry.current) for at, entry in enumerate(entries)})
    if not found:
        for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
            milli = _number(os.path.join(zone, "temp"))
            if milli is not None:
                found[first_line(os.path.join(zone, "type")) or os.path.basename(zone)] = milli / 1000
    return {name: value for name, value in found.items() if -50 < value < 150}


def _clocks(root: str) -> Dict[str, float]:
    """Current frequency by processor, in Hz."""
    found: Dict[str, float] = {}
    for path in sorted(glob.glob(os.path.join(root, CPU_FREQUENCY + "scaling_cur_freq"))):
        kilo = _number(path)
        if kilo is not None:
            found[path.split("/")[-3]] = kilo * 1000
    return found


def _governors(root: str) -> List[str]:
    lines = {first_line(path) for path in glob.glob(os.path.join(root, CPU_FREQUENCY + "scaling_governor"))}
    return sorted(line for line in lines if line)


def _number(path: str) -> Optional[float]:
    try:
        return float(first_line(path) or "")
    except ValueError:
        return None
