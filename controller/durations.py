"""Times that people write and read: 90s, 15m, 2h, 1h30m; and now."""

import re
from datetime import UTC, datetime

_WRITTEN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_SECONDS = (3600.0, 60.0, 1.0)
LONGEST_S = 366 * 86400.0


def parse(text: str) -> float:
    """Give the seconds of a text such as 90s, 15m, 2h or 1h30m; raises ValueError for any other, none at all or more than a year."""
    found = _WRITTEN.fullmatch(text.strip().lower())
    parts = found.groups() if found else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, _SECONDS, strict=False) if part)
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"{text[:40]!r} is no duration: write 90s, 15m, 2h or 1h30m")
    return seconds


def shown(seconds: float) -> str:
    """Give a duration as people say it, to two figures or so: 45 s, 12 min, 2 h 05 min, 3 d 04 h."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


def now() -> str:
    """Give the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
