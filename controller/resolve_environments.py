"""Writes environments.toml anew: for each runtime, machine, Python and glibc the newest wheels, none newer than in constraints.txt.

Run as ``python -m controller.resolve_environments`` from a checkout; it asks the package index some thousand times.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import uv

from controller.environments import DATA, NUMPY, Environment, Wheel

RUNTIMES = {"ai-edge-litert": "tflite", "tflite-runtime": "tflite", "onnxruntime": "onnxruntime", "openvino": "openvino", NUMPY: "tensorrt"}
ALTERNATES = {  # what boards and suites ask for by name==version: HARDWARE.md, section 2; LAB.md
    "ai-edge-litert": ("1.4.0",),
    "tflite-runtime": ("2.14.0", "2.13.0"),
    "onnxruntime": ("1.22.1", "1.19.2", "1.16.3"),
    "openvino": ("2025.2.0", "2022.3.1", "2021.4.2"),
    NUMPY: (),
}
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
GLIBCS = ("2.17", "2.28", "2.31", "2.34", "2.35", "2.39")
AT_ONCE = 4
NUMPY_2 = datetime(2024, 6, 16, tzinfo=UTC)  # its release, with a new binary interface: older runtimes need numpy 1, but few say so
CONSTRAINTS = DATA.parent.parent / "constraints.txt"
HEAD = "# Written by controller/resolve_environments.py: the runtime, numpy, psutil; none of the runtimes imports more.\n"


def main() -> None:
    """Resolve every target and write the data file."""
    DATA.write_text(written(resolve_all()), encoding="utf-8")


def written(environments: Iterable[Environment]) -> str:
    """The data file's text."""
    return HEAD + "".join(map(_entry, environments))


def resolve_all() -> Iterator[Environment]:
    """Every environment, preferred runtimes first, alternates after them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for found in pool.map(_resolve_target, product(RUNTIMES, MACHINES, PYTHONS)):
            yield from found


def _resolve_target(target: tuple[str, str, str]) -> list[Environment]:
    """A runtime's environments for one machine and Python, the alternates last; a newer glibc only where it gives newer wheels."""
    runtime, machine, python = target
    made: list[Environment] = []
    below: list[str] = []
    for glibc in GLIBCS if resolve(runtime, machine, python, GLIBCS[-1]) else ():
        wheels = resolve(runtime, machine, python, glibc)
        versions = [one.version for one in wheels]
        if versions != below:
            made.append(Environment(runtime, RUNTIMES[runtime], wheels, python, machine, glibc))
        below = versions
    for version in ALTERNATES[runtime]:
        pinned = f"{runtime}=={version}"
        if pinned not in [one.runtime for one in made] and resolve(pinned, machine, python, GLIBCS[-1]):
            glibc, wheels = next((glibc, wheels) for glibc in GLIBCS if (wheels := resolve(pinned, machine, python, glibc)))
            made.append(Environment(runtime, RUNTIMES[runtime], wheels, python, machine, glibc, alternate=True))
    return made


def resolve(runtime: str, machine: str, python: str, glibc: str) -> tuple[Wheel, ...]:
    """The wheels for one target, the runtime's first; none where the runtime, name or name==version, has no wheel for it."""
    target = ["--python-version", python, "--python-platform", f"{machine}-manylinux_{glibc.replace('.', '_')}"]
    # 1.19.5 dies of an illegal instruction on a Jetson (numpy issue 18131)
    limits = ["<1.19.5"] if (python, machine) == ("3.6", "aarch64") else []
    if runtime == NUMPY:  # TensorRT 8.5 wants numpy.bool, gone in 1.24; 8.6 is of before numpy 2
        tries = (_lock([NUMPY + ",".join([*limits, *more]), "psutil"], target) for more in (["<1.24"], ["<2"], []))
        return _wheels(next((found for found in tries if found), None), NUMPY)
    name = runtime.partition("==")[0]
    if runtime == "openvino==2021.4.2":
        limits.append("<1.20")  # as its metadata says
    packages = _lock([runtime, NUMPY + ",".join(limits), "psutil"], target)
    if packages and packages[name]["wheels"][0]["upload-time"] < NUMPY_2:
        packages = _lock([runtime, NUMPY + ",".join([*limits, "<2"]), "psutil"], target)
    return _wheels(packages, name)


def _lock(requirements: list[str], target: list[str]) -> dict[str, Any]:
    """The packages of uv's lock by name, empty where one has no wheels for the target."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, limits, lock = Path(folder, "wanted.txt"), Path(folder, "limits.txt"), Path(folder, "pylock.toml")
        wanted.write_text("\n".join(requirements), encoding="utf-8")
        limits.write_text(CONSTRAINTS.read_text(encoding="utf-8").replace("==", "<="), encoding="utf-8")
        files = ["--constraint", str(limits), "--output-file", str(lock), str(wanted)]
        choice = ["--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable, *target]
        command = [uv.find_uv_bin(), "pip", "compile", "--format", "pylock.toml", *choice, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return {package["name"]: package for package in tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]}
    if "No solution found" not in done.stderr:
        raise RuntimeError(f"uv cannot resolve {requirements} for {target}: {done.stderr}")
    return {}


def _wheels(packages: dict[str, Any] | None, runtime: str) -> tuple[Wheel, ...]:
    return tuple(_wheel(packages[name]) for name in dict.fromkeys((runtime, NUMPY, "psutil"))) if packages else ()


def _wheel(package: dict[str, Any]) -> Wheel:
    wheel = package["wheels"][-1]  # of several for one target the one of the newest tag, as uv installs
    return Wheel(package["name"], package["version"], wheel["hashes"]["sha256"], wheel["size"])


def _entry(environment: Environment) -> str:
    wheels = "".join(f'    "{one.name}=={one.version} {one.size_bytes} sha256:{one.sha256}",\n' for one in environment.wheels)
    fields = ("name", "backend", "python", "machine", "libc_floor")
    lines = "".join(f'{field} = "{getattr(environment, field)}"\n' for field in fields)
    alternate = "alternate = true\n" if environment.alternate else ""
    return f"\n[[environment]]\n{lines}{alternate}wheels = [\n{wheels}]\n"


if __name__ == "__main__":
    main()
