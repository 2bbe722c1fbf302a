"""Starts a launch as the agent's verb `start` does: `python -I starter.py on|off AGENT.pyz start --cache DIR --root DIR`.

It does not wait to see the device idle, for that is no part of the window; with `off` its supervisor reads no telemetry.
"""

import math
import sys
from contextlib import nullcontext
from unittest.mock import patch


def main() -> int:
    """Run the verb and give its exit status; the supervisor, forked from here, is what is changed."""
    _, sensors, *sys.argv = sys.argv
    sys.path.insert(0, sys.argv[0])
    from agent import power, telemetry
    from agent.__main__ import main as run

    class Silent(telemetry.Recorder):
        """Never due."""

        def due_s(self) -> float:
            return math.inf

        def read_if_due(self) -> None:
            pass

    power.REST_S = power.IDLE_S = 0.0
    with patch.object(telemetry, "Recorder", Silent) if sensors == "off" else nullcontext():
        return run()


if __name__ == "__main__":
    sys.exit(main())
