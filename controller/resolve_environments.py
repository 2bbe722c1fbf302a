"""Writes environments.toml anew: for each runtime, machine, Python and glibc the newest wheels, none newer than in constraints.txt.

Run as ``python -m controller.resolve_environments`` from a checkout; it asks the package index some 300 times.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import uv

from controller.environments import DATA, Environment, Wheel

RUNTIMES = {"ai-edge-litert": "tflite", "tflite-runtime": "tflite", "onnxruntime": "onnxruntime", "openvino": "openvino"}
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
GLIBCS = ("2.17", "2.28", "2.31", "2.34", "2.35", "2.39")
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
    """Every environment, preferred runtimes first; a newer glibc only where it gives newer wheels."""
    for runtime, machine, python in product(RUNTIMES, MACHINES, PYTHONS):
        below: tuple[Wheel, ...] = ()
        for glibc in GLIBCS:
            wheels = resolve(runtime, machine, python, glibc)
            if wheels != below:
                yield Environment(runtime, RUNTIMES[runtime], wheels, python, machine, glibc)
            below = wheels


def resolve(runtime: str, machine: str, python: str, glibc: str) -> tuple[Wheel, ...]:
    """The wheels for one target, the runtime's first; none where the runtime has no wheel for it."""
    target = ["--python-version", python, "--python-platform", f"{machine}-manylinux_{glibc.replace('.', '_')}"]
    packages = _lock([runtime, "numpy", "psutil"], target)
    if packages and packages[runtime]["wheels"][0]["upload-time"] < NUMPY_2:
        packages = _lock([runtime, "numpy<2", "psutil"], target)
    return tuple(_wheel(packages[name]) for name in (runtime, "numpy", "psutil") if packages)


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
    if "no wheels with a matching" not in done.stderr:
        raise RuntimeError(f"uv cannot resolve {requirements} for {target}: {done.stderr}")
    return {}


def _wheel(package: dict[str, Any]) -> Wheel:
    (wheel,) = package["wheels"]
    return Wheel(package["name"], package["version"], wheel["hashes"]["sha256"])


def _entry(environment: Environment) -> str:
    wheels = "".join(f'    "{wheel.name}=={wheel.version} sha256:{wheel.sha256}",\n' for wheel in environment.wheels)
    fields = ("name", "backend", "python", "machine", "libc_floor")
    lines = "".join(f'{field} = "{getattr(environment, field)}"\n' for field in fields)
    return f"\n[[environment]]\n{lines}wheels = [\n{wheels}]\n"


if __name__ == "__main__":
    main()
