"""Plugs with the firmware Tasmota.

Source: Tasmota's documentation of commands: GET /cm?cmnd=Status%208, user and password in the query, as only there they are taken.
"""

from typing import List
from urllib.parse import urlencode

from agent.sensors import Found, Reading, SensorError, missing
from agent.sensors.http_meter import HttpMeter


class Tasmota(HttpMeter):
    """A plug with one meter."""

    name = "tasmota"

    def probe(self) -> Found:
        """Return its only rail; it must tell its power once."""
        try:
            self.read()
        except SensorError as error:
            return missing(self.scope, str(error))
        return self.found({})

    def read(self) -> List[Reading]:
        """Return the power that it measured last, in W."""
        login = "&" + urlencode({"user": self.user, "password": self.password}) if self.password else ""
        answer, t = self.ask("/cm?cmnd=Status%208" + login)
        return self.reading(answer, t, "StatusSNS", "ENERGY", "Power")


SENSOR = Tasmota
