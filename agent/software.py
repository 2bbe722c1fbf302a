"""What is installed: versions of the system's packages, vendors' tools, Python interpreters."""

import json
import os
import re
import sys
from typing import Dict, Iterator, List

from agent.boards import Board
from agent.description import Interpreter
from agent.system import System, clean, output_of

TOOLS = ("edgetpu_compiler", "trtexec", "vcgencmd", "nvpmodel", "nvidia-smi", "jetson_clocks")
PACKAGES = ("tensorrt", "nvidia-jetpack", "libedgetpu1-std", "libedgetpu1-max", "libusb-1.0-0")
PYTHONS = ("python3", *("python3.{}".format(minor) for minor in range(6, 15)))
MAX_INTERPRETERS = 32
ASK_VERSION = 'import sys; print("{}.{}.{}".format(*sys.version_info[:3]))'
VERSION = re.compile(r"3\.(?:[6-9]|[1-9]\d)\.\d+\Z")
HEADERS = ("usr/include/NvInferVersion.h", "usr/include/*/NvInferVersion.h", "usr/local/*/include/NvInferVersion.h")
LIBEDGETPU = "libedgetpu.so.1"
LIBUSB = "libusb-1.0.so.0"
LIBRARY_FOLDERS = ("lib", "usr/lib", "usr/local/lib", "lib64", "usr/lib64", "lib/*-linux-*", "usr/lib/*-linux-*")
MAX_CACHE_BYTES = 8 << 20


def versions(system: System, board: Board) -> Dict[str, str]:
    """Return the versions of what the system itself has, by name; libusb and libedgetpu that no package owns by their paths."""
    packages = _packages(system)
    tensorrt = packages.get("tensorrt", "")
    known = {
        "l4t": board.l4t,
        "jetpack": board.jetpack or _upstream(packages.get("nvidia-jetpack", "")),
        "tensorrt": _upstream(tensorrt) or tensorrt_of_header(system) or tensorrt_of_banner(system.ask("trtexec", "--help")),
        "cuda": _cuda(system) or tensorrt.partition("+cuda")[2],
        "libedgetpu1-std": packages.get("libedgetpu1-std", ""),
        "libedgetpu1-max": packages.get("libedgetpu1-max", ""),
        "libedgetpu": "" if {"libedgetpu1-std", "libedgetpu1-max"} & set(packages) else _library(system, LIBEDGETPU),
        "libusb-1.0-0": packages.get("libusb-1.0-0") or _library(system, LIBUSB),
    }
    return {name: version for name, version in known.items() if version}


def _packages(system: System) -> Dict[str, str]:
    """Debian's versions of those of PACKAGES that are installed, not of those whose settings alone are left."""
    lines = system.ask("dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\\n", *PACKAGES).splitlines()
    rows = [line.split() for line in lines]
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[0] in PACKAGES and row[2] == "installed"}


def _upstream(version: str) -> str:
    """A Debian version without its epoch and revision."""
    return re.sub(r"^\d+:", "", version).partition("-")[0].partition("+")[0]


def tensorrt_of_header(system: System) -> str:
    """Return TensorRT's version by its header, in which names may stand for others (TRT_MAJOR_ENTERPRISE from 10.13); empty without one."""
    header = next((system.text(name) for pattern in HEADERS for name in system.names(pattern)), "")
    defined = dict(re.findall(r"^#define (\w+) (\w+)", header, re.MULTILINE))
    parts = [defined.get("NV_TENSORRT_" + part, "") for part in ("MAJOR", "MINOR", "PATCH", "BUILD")]
    numbers = [clean(defined.get(part, part)) for part in parts]
    return ".".join(numbers) if all(number.isdigit() for number in numbers) else ""


def tensorrt_of_banner(text: str) -> str:
    """Return TensorRT's version by trtexec's banner: v8201 is 8.2.1, from version 10 on v100300 is 10.3.0; empty without one."""
    found = re.search(r"\[TensorRT v(\d{4}|\d{6})\]", text)
    if not found:
        return ""
    number, unit = int(found.group(1)), 100 if len(found.group(1)) == 6 else 10
    return "{}.{}.{}".format(number // (unit * 100), number // 100 % unit, number % 100)


def _cuda(system: System) -> str:
    """The toolkit's version by the file it leaves, which was plain text before CUDA 11."""
    try:
        told = json.loads(system.text("usr/local/cuda/version.json"))["cuda"]["version"]
        return clean(str(told))
    except (ValueError, LookupError, TypeError, RecursionError):
        found = re.match(r"CUDA Version ([\d.]+)", system.line("usr/local/cuda/version.txt"))
        return found.group(1) if found else ""


def _library(system: System, file: str) -> str:
    """Where a library is, by the linker's cache or in the folders of libraries."""
    before, found, _ = system.content("etc/ld.so.cache", MAX_CACHE_BYTES).partition("/{}\0".format(file).encode())
    _, slash, folder = before[before.rfind(b"\0") + 1 :].partition(b"/")
    if found and slash:
        return clean("/{}/{}".format(folder.decode("utf-8", "replace"), file))
    return next((clean("/" + name) for folder in LIBRARY_FOLDERS for name in system.names("{}/{}".format(folder, file))), "")


def tools(system: System) -> Dict[str, str]:
    """Return the paths of vendors' programs that are here, by name."""
    found = {name: clean(system.program(name)) for name in TOOLS}
    return {name: path for name, path in found.items() if path}


def interpreters(system: System) -> List[Interpreter]:
    """Return the Pythons from 3.6 on that start, each once by its real path, the agent's own first."""
    found = {os.path.realpath(sys.executable): "{}.{}.{}".format(*sys.version_info[:3])}
    for path in _candidates(system):
        if path not in found and len(found) < MAX_INTERPRETERS:
            found[path] = output_of([path, "-I", "-S", "-c", ASK_VERSION]).strip()
    return [Interpreter(path, version) for path, version in found.items() if VERSION.match(version)]


def _candidates(system: System) -> Iterator[str]:
    """The real paths of what is called python3 or python3.N; pyenv's shims are scripts that stand for one of its versions."""
    versions = system.names(os.path.expanduser("~/.pyenv/versions").lstrip("/") + "/*/bin")
    for folder in [*system.program_folders(), *map(system.path, versions)]:
        for name in PYTHONS:
            path = os.path.realpath(os.path.join(folder, name))
            if os.path.isfile(path) and os.access(path, os.X_OK) and os.path.basename(folder) != "shims" and path == clean(path):
                yield path
