"""The worker's own memory, from /proc/self: VmHWM, reset at the start of a phase.

getrusage's ru_maxrss will not do: it survives exec, so a child of a large parent starts with the parent's peak.
"""

from typing import Optional


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
