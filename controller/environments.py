"""Which wheels a device needs for a backend, and the archive of them that is shipped: a data file and uv, no resolver of ours.

An environment is a folder of unpacked wheels that goes first on PYTHONPATH: the runtime, what it imports, and psutil.
"""

import functools
import gzip
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path

import uv

from agent.schema import FaultError, fingerprint

DATA = Path(__file__).with_name("environments.toml")
INSTALLER_RECORDS = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"}
BORROWED = {"edgetpu": ("tflite-runtime", "ai-edge-litert")}  # nobody has told yet of libedgetpu in the second
NUMPY = "numpy"  # the name of an environment whose runtime is the device's own, as TensorRT is
_FETCHING = threading.Lock()  # two devices may want the same environment


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel; sha256 (hex) and size of the file."""

    name: str
    version: str
    sha256: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """The wheels of one runtime for one kind of device, the runtime's own first."""

    name: str  # the runtime's distribution
    backend: str
    wheels: tuple[Wheel, ...]
    python: str  # "3.11"
    machine: str  # x86_64 | aarch64
    libc_floor: str  # the oldest glibc it runs on: "2.28"
    alternate: bool = False  # older than another one for the same devices: taken only where name==version is asked for

    @property
    def hash(self) -> str:
        """16 hex digits that name the wheels together."""
        return fingerprint(sorted([wheel.name, wheel.version, wheel.sha256] for wheel in self.wheels))[:16]

    @property
    def runtime(self) -> str:
        """The runtime as name==version."""
        return f"{self.name}=={self.wheels[0].version}"


@functools.cache
def read() -> tuple[Environment, ...]:
    """The environments of the data file, preferred runtimes first."""
    entries = tomllib.loads(DATA.read_text(encoding="utf-8"))["environment"]
    return tuple(Environment(wheels=tuple(map(_wheel, entry.pop("wheels"))), **entry) for entry in entries)


def _wheel(text: str) -> Wheel:
    requirement, size_bytes, sha256 = text.split()
    name, version = requirement.split("==")
    return Wheel(name, version, sha256.removeprefix("sha256:"), int(size_bytes))


def candidates(backend: str, runtime: str | None = None) -> list[Environment]:
    """The environments of a backend for all devices, preferred runtimes first.

    `runtime` is a distribution, name or name==version; alternates are among them only where it names their version.
    """
    names = BORROWED.get(backend)
    if names:
        found = sorted((one for one in read() if one.name in names), key=lambda one: names.index(one.name))
    else:
        found = [one for one in read() if one.backend == backend]
    return [one for one in found if runtime == one.runtime or (not one.alternate and runtime in (None, one.name)) or one.name == NUMPY]


def choose(backend: str, runtime: str | None, python: str, machine: str, glibc: str, bits: int) -> Environment:
    """The environment for a device: the preferred runtime's, made for the newest glibc that is not newer than the device's.

    `runtime` as for `candidates`; `python` and `glibc` are versions as the device tells them ("3.11.2", "2.36"; glibc is empty on
    musl). Raises FaultError env_missing, which says what there is.
    """
    if bits != 64:
        message = f"the device has a {bits}-bit userland ({machine}), for which no runtime has wheels"
        raise FaultError("env_missing", message, "install a 64-bit operating system on it", "install")
    offered = [one for one in candidates(backend, runtime) if one.machine == machine]
    fitting = [one for one in offered if numbers(one.python) == numbers(python)[:2] and numbers(one.libc_floor) <= numbers(glibc)]
    if not fitting:
        message = f"no wheels of {runtime or backend} for Python {python} on {machine} with {f'glibc {glibc}' if glibc else 'no glibc'}"
        floors = {one.python: one.libc_floor for one in reversed(offered)}
        there = ", ".join(f"{version} (glibc {floors[version]})" for version in sorted(floors, key=numbers))
        remedy = f"set agent.python of the device: there are wheels for Python {there}" if there else "use another backend or runtime"
        raise FaultError("env_missing", message, remedy, "install")
    return max((one for one in fitting if one.name == fitting[0].name), key=lambda one: numbers(one.libc_floor))


def numbers(version: str) -> tuple[int, ...]:
    """A version's numbers, to compare by."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def size_bytes(environment: Environment, cache: Path) -> int:
    """How large the archive is; until it is fetched, how large its wheels are, from which it differs by some percent."""
    archive = _archive(environment, cache)
    return archive.stat().st_size if archive.exists() else sum(wheel.size_bytes for wheel in environment.wheels)


def unpacked_bytes(archive: Path) -> int:
    """How much room an archive's files take on a device."""
    with tarfile.open(archive) as tar:
        return sum(member.size for member in tar)


def fetch(environment: Environment, cache: Path, *, wheelhouse: Path | None = None, offline: bool = False) -> Path:
    """The environment's archive in `cache`, built if it is not there: a .tar.gz of regular files, relative to the environment's folder.

    Wheels come from the index that uv is set up for, from the folder `wheelhouse` alone, or, `offline`, from what uv fetched before;
    their hashes are checked. The same wheels give the same bytes. The file's time is that of its last use. Raises FaultError env_missing
    where uv fails.
    """
    archive = _archive(environment, cache)
    with _FETCHING:
        if archive.exists():
            os.utime(archive)
            return archive
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            site, packed = Path(folder, "site"), Path(folder, archive.name)
            _install(environment, site, wheelhouse, offline)
            _pack(site, packed)
            packed.replace(archive)
    return archive


def _archive(environment: Environment, cache: Path) -> Path:
    return cache / f"{environment.hash}.tar.gz"


def _install(environment: Environment, site: Path, wheelhouse: Path | None, offline: bool) -> None:
    requirements = site.with_name("requirements.txt")
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in environment.wheels]
    requirements.write_text("".join(lines), encoding="utf-8")
    platform = f"{environment.machine}-manylinux_{environment.libc_floor.replace('.', '_')}"
    target = ["--target", str(site), "--python", sys.executable, "--python-platform", platform, "--python-version", environment.python]
    source = ["--no-index", "--find-links", str(wheelhouse)] if wheelhouse else ["--offline"] if offline else []
    wheels = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    command = [uv.find_uv_bin(), "pip", "install", *target, *source, *wheels]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.rpartition("error:")[2].split())
        message = f"{environment.runtime} for Python {environment.python} on {environment.machine} cannot be fetched: {reason[:300]}"
        remedy = "check the laptop's network, or give --wheelhouse DIR with the wheels of " + ", ".join(
            f"{wheel.name}=={wheel.version}" for wheel in environment.wheels
        )
        raise FaultError("env_missing", message, remedy, "install")


def _pack(site: Path, archive: Path) -> None:
    """Write the wheels' own files in order of their names, without owners and times."""
    with archive.open("wb") as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted((path for path in site.rglob("*") if path.is_file() and _belongs(path.relative_to(site))), key=Path.as_posix):
            member = tarfile.TarInfo(path.relative_to(site).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(member, content)


def _belongs(path: Path) -> bool:
    """Whether a file is a wheel's own: uv adds records, and scripts that name the laptop's interpreter."""
    record = path.parent.suffix == ".dist-info" and path.name in INSTALLER_RECORDS
    return not (record or path.parts[0] in ("bin", ".lock") or "__pycache__" in path.parts)
