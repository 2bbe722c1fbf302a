"""What a worker's memory came to, from /proc: VmHWM, reset at the start of a phase; who was killed for want of it; what is cached.

getrusage's ru_maxrss will not do: it survives exec, so a child of a large parent starts with the parent's peak.
"""

import os
from typing import Dict, List, Optional

from agent.system import System


def trim() -> None:
    """Have the C library give unused memory back, so that what is allocated from now on shows in the resident set."""
    import ctypes

    trimming = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trimming is not None:
        trimming(0)


def reset_peak() -> bool:
    """Set VmHWM back to the present resident set; False where the kernel refuses (before 4.0)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def peak_bytes() -> Optional[int]:
    """Return the largest resident set since the last reset, in bytes."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:")), None)
    except (OSError, ValueError, IndexError):
        return None


def pss_bytes(process: str = "/proc/self") -> Optional[int]:
    """Return the proportional set size: memory of its own, and its share of what it shares, in bytes.

    From smaps_rollup (kernel 4.14), else the sum over smaps, as on a Jetson Nano's 4.9.
    """
    for name in ("smaps_rollup", "smaps"):
        try:
            with open(os.path.join(process, name), "rb") as file:
                sizes = [int(line.split()[1]) for line in file if line.startswith(b"Pss:")]
        except (OSError, ValueError, IndexError):
            continue
        if sizes:
            return 1024 * sum(sizes)
    return None


def shared_gpu_bytes(root: str = "/") -> Optional[int]:
    """Return what a Jetson's GPU has taken of the common memory, None on any other device.

    NvMapMemUsed of /proc/meminfo, else, as a value of which only changes mean anything, what is not available of the memory.
    """
    entries = _meminfo(root)
    if "NvMapMemUsed" in entries:
        return entries["NvMapMemUsed"]
    if not any(name.startswith("tegra") or "jetson" in name.lower() for name in _board(root)):
        return None
    total, available = entries.get("MemTotal"), entries.get("MemAvailable")
    return None if total is None or available is None else total - available


def _meminfo(root: str) -> Dict[str, int]:
    try:
        with open(os.path.join(root, "proc/meminfo")) as file:
            fields = [line.split() for line in file]
        return {words[0].rstrip(":"): 1024 * int(words[1]) for words in fields if len(words) >= 2}
    except (OSError, ValueError):
        return {}


def _board(root: str) -> List[str]:
    """What the device tree calls the board and its SoC."""
    system = System(root, programs=False)
    compatible = system.items("proc/device-tree/compatible")
    return [system.line("proc/device-tree/model"), *(item.rpartition(",")[2] for item in compatible[-1:])]


def cached_share(path: str) -> Optional[float]:
    """Return which share of a file lies in the page cache (mincore), None for an empty file or where the kernel does not tell."""
    import ctypes
    import mmap

    with open(path, "rb") as file:
        try:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # ctypes wants it writable
        except (OSError, ValueError):
            return None
    resident = (ctypes.c_ubyte * -(-len(pages) // mmap.PAGESIZE))()
    start = ctypes.c_char.from_buffer(pages)
    refused = ctypes.CDLL(None).mincore(ctypes.byref(start), ctypes.c_size_t(len(pages)), resident)
    del start
    pages.close()
    return None if refused else sum(page & 1 for page in resident) / len(resident)


def oom_kills(root: str = "/") -> Optional[int]:
    """Return how many processes the kernel has killed for want of memory since boot, None where it does not count (before 4.13)."""
    try:
        with open(os.path.join(root, "proc/vmstat")) as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), None)
    except (OSError, ValueError, IndexError):
        return None
