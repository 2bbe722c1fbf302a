"""The log of a USB power meter, a CSV file to which another program adds lines while we read."""

import csv
import os
import re
import time
from typing import Any, Dict, List, Optional

from agent.sensors import Found, PowerSensor, Reading, SensorError, missing, watts
from agent.system import System, clean

POWER_COLUMN = re.compile(r"power|watt|(^|[^a-z])m?w([^a-z]|$)", re.IGNORECASE)
MILLI = re.compile(r"mW|milli", re.ASCII)
MAX_HEAD_BYTES = 4096
MAX_TAIL_BYTES = 4096


class CsvLog(PowerSensor):
    """The newest whole line of the file in option `path`; `column` names the one with the power if the header does not show which.

    A line's time is that at which it was seen first; lines are looked for ten times a second. What is measured, only option `boundary`
    can tell.
    """

    name = "csv_log"
    scope = "none"
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.file = system.path(str(options.get("path") or "").lstrip("/"))
        self.column = -1
        self.scale = 1.0
        self.rail = ""
        self.size = -1

    def probe(self) -> Found:
        """Return its only rail, the column's name."""
        if not self.options.get("path") or not self.options.get("boundary"):
            return missing(self.scope, "say `path: FILE` and what it measures as `boundary`")
        try:
            self._find_column()
            self._new_line()
        except (OSError, SensorError, csv.Error) as error:
            return missing(self.scope, "{}: {}".format(self.options["path"], clean(str(error))))
        return Found(self.scope, [self.rail], (self.rail,), "", {}, {"column": self.rail})

    def _find_column(self) -> None:
        with open(self.file, "rb") as file:
            first = file.read(MAX_HEAD_BYTES).split(b"\n")[0]
        header = first.decode("utf-8", "replace").lstrip("\ufeff")
        names = [clean(name) for row in csv.reader([header]) for name in row]
        wanted = self.options.get("column")
        found = [at for at, name in enumerate(names) if (name == wanted if wanted else POWER_COLUMN.search(name))]
        if len(found) != 1:
            raise SensorError("{} columns of power among {}: name one by `column`".format(len(found), ", ".join(names)[:80]))
        self.column, self.rail = found[0], names[found[0]]
        self.scale = 1e-3 if MILLI.search(self.rail) else 1.0

    def read(self) -> List[Reading]:
        """Return the newest line's power, nothing if none was added since."""
        t = time.monotonic()
        try:
            line = self._new_line()
        except OSError as error:
            raise SensorError(clean(str(error))) from None
        if line is None:
            return []
        try:
            fields = next(csv.reader([line]))
            power_w: Optional[float] = float(fields[self.column]) * self.scale
        except (ValueError, IndexError, StopIteration, csv.Error):
            power_w = None
        return [Reading(self.rail, t, watts(power_w, "the line {!r}".format(clean(line)[:40])))]

    def _new_line(self) -> Optional[str]:
        """The newest whole line; None if no line was ended since we looked last."""
        size = os.path.getsize(self.file)
        if size == self.size:
            return None
        with open(self.file, "rb") as file:
            file.seek(max(0, size - MAX_TAIL_BYTES))
            lines = file.read(MAX_TAIL_BYTES).split(b"\n")
        end = size - len(lines[-1])
        if len(lines) < 2 or end == self.size:
            return None
        self.size = end
        return lines[-2].decode("utf-8", "replace")


SENSOR = CsvLog
