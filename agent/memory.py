"""What a worker's memory came to, from /proc: VmHWM, reset at the start of a phase; who was killed for want of it; what is cached.

getrusage's ru_maxrss will not do: it survives exec, so a child of a large parent starts with the parent's peak.
"""

import os
from typing import Optional


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
