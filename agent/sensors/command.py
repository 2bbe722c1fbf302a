"""Any program that prints watts: a number, with or without W or mW behind it, on its first line."""

import os
import re
import time
from typing import Any, Dict, List

from agent.sensors import Found, PowerSensor, Reading, SensorError, missing, watts
from agent.system import System, clean, run

WATTS = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?) ?(W|mW)?")
TIMEOUT_S = 2.0
RAIL = "command"


class Command(PowerSensor):
    """The program in option `command`, a list of words; what it sees, only option `boundary` can tell."""

    name = "command"
    scope = "none"
    period_s = 0.25

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.argv = [str(word) for word in options.get("command") or ()]

    def probe(self) -> Found:
        """Return its only rail; it must print watts once."""
        if not self.argv or not self.options.get("boundary"):
            return missing(self.scope, "say `command: [PROGRAM, ...]` and what it measures as `boundary`")
        try:
            self.read()
        except SensorError as error:
            return missing(self.scope, str(error))
        return Found(self.scope, [RAIL], (RAIL,), "", {}, {"command": clean(" ".join(self.argv))})

    def read(self) -> List[Reading]:
        """Return the watts that it prints, as of the middle of the time it ran."""
        begin = time.monotonic()
        try:
            said, status = run(self.argv, TIMEOUT_S, os.environb, errors=False)
        except (OSError, ValueError) as error:
            raise SensorError("{}: {}".format(self.argv[0], clean(str(error)))) from None
        t, line = (begin + time.monotonic()) / 2, clean(said.decode("utf-8", "replace").split("\n")[0])
        found = WATTS.fullmatch(line)
        if found is None or status != 0:
            what = "prints {!r}, which is no power".format(line[:40]) if status == 0 else "failed" if status else "is not done in time"
            raise SensorError("{} {}".format(self.argv[0], what))
        return [Reading(RAIL, t, watts(float(found.group(1)) * (1e-3 if found.group(2) == "mW" else 1), self.argv[0]))]


SENSOR = Command
