"""Shelly plugs and relays that measure power, of the first generation and of those after it, which is found by asking.

Source: Shelly's API documentation. Gen1: GET /meter/0, with HTTP basic authentication. Gen2 and later: GET /rpc/Switch.GetStatus?id=0,
with digest authentication by SHA-256.
"""

from typing import Any, Dict, List

from agent.sensors import Found, Reading, SensorError, missing
from agent.sensors.http_meter import HttpMeter, NotThereError, below
from agent.system import System

GENERATIONS = {"2": ("/rpc/Switch.GetStatus?id={}", "apower"), "1": ("/meter/{}", "power")}


class Shelly(HttpMeter):
    """The switch that option `channel` gives the number of, 0 by default."""

    name = "shelly"

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.generation = ""

    def probe(self) -> Found:
        """Return its only rail; it must tell its power once."""
        for self.generation in GENERATIONS:
            try:
                self.read()
            except NotThereError:
                continue
            except SensorError as error:
                return missing(self.scope, str(error))
            return self.found({"generation": self.generation})
        return missing(self.scope, "{} is no Shelly that measures power, or has no channel {}".format(self.url.hostname, self.channel))

    def read(self) -> List[Reading]:
        """Return the power that it measured last, in W."""
        path, key = GENERATIONS[self.generation]
        answer, t = self.ask(path.format(self.channel))
        if below(answer, "is_valid") is False:
            raise SensorError("shelly at {}: it says that its reading is not valid".format(self.url.hostname))
        return self.reading(answer, t, key)


SENSOR = Shelly
