"""The device's state before and after a launch. psutil where the environment has it, /proc and /sys where not."""

import os
import time
from typing import Dict, List, Optional, Tuple

from agent import accelerators, boards, throttling
from agent.cache import first_line
from agent.schema import Conditions
from agent.system import System

CPU_FREQUENCY = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/"
BACKGROUND_S = 0.1  # ten ticks of each processor


class Watch:
    """Reads conditions; `cpu_busy_share` is the share of all processors' time in use since the reading before.

    The first reading looks at the background load for BACKGROUND_S.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._times: Optional[Tuple[float, float]] = None

    def read(self, when: str, peaks_c: Optional[Dict[str, float]] = None) -> Conditions:
        """Return the conditions now; what cannot be read is None or empty."""
        if self._times is None:
            self._times = cpu_times(self.root)
            time.sleep(BACKGROUND_S)
        before, self._times = self._times, cpu_times(self.root)
        system = System(self.root)
        heat = throttling.readings(system)
        return Conditions(
            when=when,
            wall_time_s=time.time(),
            monotonic_s=time.monotonic(),
            load_1m=_load_1m(self.root),
            memory_available_bytes=memory_bytes(self.root, "MemAvailable"),
            cpu_busy_share=busy_share(before, self._times),
            temps_c={reading.name: reading.temp_c for reading in heat},
            clocks_hz=clocks(system),
            governors=governors(self.root),
            limits_c={reading.name: reading.limit_c for reading in heat if reading.limit_c is not None},
            peaks_c=peaks_c or {},
            throttle=throttling.flags(system),
            usb_mbps=accelerators.usb_speeds(system),
            power_mode=boards.power_mode(system),
            shared_gpu_bytes=memory_bytes(self.root, "NvMapMemUsed"),
        )


def cpu_times(root: str = "/") -> Optional[Tuple[float, float]]:
    """Return (busy, total) processor time in ticks since boot, over all processors."""
    fields = (first_line(os.path.join(root, "proc/stat")) or "").split()[1:9]
    try:
        ticks = [float(field) for field in fields]
    except ValueError:
        return None
    return (sum(ticks) - sum(ticks[3:5]), sum(ticks)) if len(ticks) >= 5 else None


def busy_share(before: Optional[Tuple[float, float]], after: Optional[Tuple[float, float]]) -> Optional[float]:
    """Return the share of all processors' time in use between two readings of `cpu_times`; None if no time has passed."""
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
    """Return degrees Celsius by sensor; implausible readings are left out."""
    return {reading.name: reading.temp_c for reading in throttling.readings(System(root))}


def thermal_zones(root: str = "/") -> Dict[str, float]:
    """Return degrees Celsius by the kernel's thermal zone; implausible readings are left out."""
    return {reading.name: reading.temp_c for reading in throttling.unique(throttling.zones(System(root)))}


def clocks(system: System) -> Dict[str, float]:
    """Return the current frequencies in Hz: of each processor, and of what else scales its own, as a Jetson's GPU does (devfreq)."""
    found: Dict[str, float] = {}
    for name in system.names(CPU_FREQUENCY + "scaling_cur_freq"):
        _add(found, name.split("/")[-3], system.number(name), 1000)
    for name in system.names("sys/class/devfreq/*/cur_freq"):
        _add(found, name.split("/")[-2], system.number(name), 1)
    return found


def _add(found: Dict[str, float], name: str, value: Optional[float], unit: int) -> None:
    if value is not None:
        found[name] = value * unit


def governors(root: str) -> List[str]:
    """Return the names of the frequency governors in use, each once."""
    system = System(root)
    lines = {system.line(name) for name in system.names(CPU_FREQUENCY + "scaling_governor")}
    return sorted(line for line in lines if line)
