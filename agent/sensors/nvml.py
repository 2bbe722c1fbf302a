"""NVIDIA GPUs by the driver's own library, their energy counters; a Jetson's library starts but answers NotSupported.

Source: NVIDIA's NVML API reference. nvmlDeviceGetTotalEnergyConsumption is in mJ since the driver was loaded, from Volta on; unlike
nvmlDeviceGetPowerUsage it is no average over the last second.
"""

import ctypes
import time
from typing import Any, Dict, List

from agent.sensors import ENERGY, Found, PowerSensor, Reading, SensorError, missing
from agent.system import System, clean

LIBRARY = "libnvidia-ml.so.1"


class Nvml(PowerSensor):
    """The GPU that option `gpu` gives the number of (0 by default), as the board of the card: its own rail."""

    name = "nvml"
    scope = "rail"
    kind = ENERGY
    period_s = 0.1

    def __init__(self, system: System, options: Dict[str, Any]) -> None:
        super().__init__(system, options)
        self.number = int(options.get("gpu", 0))
        self.rail = "gpu{}".format(self.number)
        self.library: Any = None
        self.gpu = ctypes.c_void_p()

    def probe(self) -> Found:
        """Return the GPU; a library or a counter that is not there is a problem."""
        try:
            self.library = ctypes.CDLL(str(self.options.get("library", LIBRARY)))
            self._call("nvmlInit_v2")
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(self.number), ctypes.byref(self.gpu))
            self.read()
        except (OSError, AttributeError, SensorError) as error:
            return missing(self.scope, clean(str(error)))
        return Found(self.scope, [self.rail], (self.rail,), "", {}, {})

    def read(self) -> List[Reading]:
        """Return the counter in joules."""
        milli, begin = ctypes.c_ulonglong(), time.monotonic()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self.gpu, ctypes.byref(milli))
        return [Reading(self.rail, (begin + time.monotonic()) / 2, milli.value / 1e3)]

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self.library, function)(*arguments)
        if status != 0:
            raise SensorError("{} answers {}".format(function, status))


SENSOR = Nvml
