"""CUDA's runtime library (libcudart) through ctypes: device and pinned memory, a stream, events. Needs no package on the device.

Names, enumerators and error numbers are those of driver_types.h and cuda_runtime_api.h, the same from CUDA 10.2 to 13.
"""

import ctypes
import functools
import glob
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_void_p
from typing import Any, Callable, Dict, List, Tuple

from agent.schema import FaultError

NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2")
FOLDER = "/usr/local/cuda/lib64"
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
ERROR_MEMORY_ALLOCATION = 2
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # cudaDevAttrComputeCapability...
SIGNATURES = {
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaMallocHost": (POINTER(c_void_p), c_size_t),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreate": (POINTER(c_void_p),),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaEventCreate": (POINTER(c_void_p),),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
    "cudaEventDestroy": (c_void_p,),
    "cudaMemGetInfo": (POINTER(c_size_t), POINTER(c_size_t)),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaRuntimeGetVersion": (POINTER(c_int),),
    "cudaDriverGetVersion": (POINTER(c_int),),
}  # type: Dict[str, Tuple[Any, ...]]


class Cuda:
    """The GPUs that libcudart finds, the first one in use; raises FaultError env_missing without the library, no_device without a GPU.

    Every method raises FaultError `oom` where memory runs out, and `crash` for any other error of CUDA.
    """

    def __init__(self) -> None:
        self.library, self.devices = _open()
        for name, types in SIGNATURES.items():
            getattr(self.library, name).argtypes = types

    def prepared(self, name: str, *arguments: Any) -> Callable[[], int]:
        """Return a call that is ready to be made, and made again; it returns CUDA's status, 0 for success.

        The arguments are ctypes instances: a function without declared types takes them as they are, which spares a tenth of the call.
        """
        return functools.partial(self.library[name], *arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library and check its status."""
        self.check(name, getattr(self.library, name)(*arguments))

    def check(self, what: str, status: int) -> None:
        """Raise FaultError unless the status is 0."""
        if status == ERROR_MEMORY_ALLOCATION:
            raise FaultError("oom", "{}: out of GPU memory".format(what), "use a smaller model or batch, or free memory on the device")
        if status:
            message = "{}: CUDA error {}, {}".format(what, status, error_text(self.library, status))
            raise FaultError("crash", message, "see the log; the kernel's log (dmesg) may name the GPU's fault")

    def malloc(self, size_bytes: int) -> c_void_p:
        """Return the address of new device memory, of at least one byte."""
        return self._new("cudaMalloc", c_size_t(max(1, size_bytes)))

    def malloc_host(self, size_bytes: int) -> c_void_p:
        """Return the address of new pinned host memory, of at least one byte: copies from and to it need no staging."""
        return self._new("cudaMallocHost", c_size_t(max(1, size_bytes)))

    def stream(self) -> c_void_p:
        """Return a new stream."""
        return self._new("cudaStreamCreate")

    def event(self) -> c_void_p:
        """Return a new event that takes the time."""
        return self._new("cudaEventCreate")

    def _new(self, name: str, *arguments: Any) -> c_void_p:
        made = c_void_p()
        self.call(name, byref(made), *arguments)
        return made

    def elapsed_ns(self, begin: c_void_p, end: c_void_p) -> int:
        """Return the time between two recorded events in ns; CUDA gives it in ms with a resolution of about half a microsecond."""
        elapsed_ms = c_float()
        self.call("cudaEventElapsedTime", byref(elapsed_ms), begin, end)
        return round(elapsed_ms.value * 1e6)

    def memory_bytes(self) -> Tuple[int, int]:
        """Return free and total memory of the GPU; on a Jetson the system's own."""
        free, total = c_size_t(), c_size_t()
        self.call("cudaMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def sm(self) -> str:
        """Return the first GPU's compute capability, such as 5.3."""
        return "{}.{}".format(*(self._number("cudaDeviceGetAttribute", at, 0) for at in (CAPABILITY_MAJOR, CAPABILITY_MINOR)))

    def versions(self) -> Dict[str, str]:
        """Return the CUDA versions of the runtime and of the driver."""
        names = {"cuda_runtime": "cudaRuntimeGetVersion", "cuda_driver": "cudaDriverGetVersion"}
        numbers = {key: self._number(name) for key, name in names.items()}
        return {key: "{}.{}".format(number // 1000, number % 1000 // 10) for key, number in numbers.items()}

    def _number(self, name: str, *arguments: int) -> int:
        found = c_int()
        self.call(name, byref(found), *arguments)
        return found.value


def error_text(library: Any, status: int) -> str:
    """Return CUDA's own words for a status."""
    library.cudaGetErrorString.restype = c_char_p
    return (library.cudaGetErrorString(c_int(status)) or b"").decode("ascii", "replace")


def _open() -> Tuple[Any, int]:
    """Return the first library that finds a GPU, and how many it finds: of several some may be too new for the driver."""
    refused = ""
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        count = c_int()
        status = library.cudaGetDeviceCount(byref(count))
        if status == 0 and count.value > 0:
            return library, count.value
        refused = refused or "{} finds no GPU: {}".format(path, error_text(library, status))
    if refused:
        remedy = "check NVIDIA's driver with nvidia-smi; on a Jetson the user must be in the group video"
        raise FaultError("no_device", refused, remedy, "load")
    remedy = "install CUDA's runtime (JetPack's cuda-cudart), or name its folder in LD_LIBRARY_PATH under agent.env"
    raise FaultError("env_missing", "CUDA's libcudart cannot be loaded under any of its names", remedy, "load")


def _candidates() -> List[str]:
    """Return where the library may be: where the loader looks, CUDA's own folder, the wheels that pip's TensorRT comes with."""
    wheels = [path for folder in sys.path for path in sorted(glob.glob(os.path.join(folder, "nvidia", "*", "lib", "libcudart.so*")))]
    return [*NAMES, *(os.path.join(FOLDER, name) for name in NAMES), *wheels]
