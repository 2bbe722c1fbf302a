"""What faults need of any device, loopback or emulated: what of the agent runs and lies there, its link, its disk and its power."""

import json
import os
import signal
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.cache import Cache, is_held
from faults.proxy import Proxy

DISK_BYTES = 16 << 20
WORKER_PATH = Path(__file__).with_name("worker_path")


class Machine(ABC):
    """`name` is what the inventory calls it, `tag` marks its processes; `disk` is a file system of its own with the agent's folder."""

    def __init__(self, name: str, disk: Path, address: tuple[str, int]) -> None:
        self.name = name
        self.tag = f"{name}-{uuid.uuid4().hex}"
        self.disk = disk
        self.cache = Cache(str(disk / "agent"))
        self.proxy = Proxy(address)

    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """Its entry in the inventory."""

    @abstractmethod
    def power_off(self) -> None:
        """End all that runs, at once."""

    @abstractmethod
    def power_on(self) -> None:
        """Start again after that."""

    @abstractmethod
    def close(self) -> None:
        """End everything and take away what was mounted."""

    @property
    def filler(self) -> Path:
        """A file that fills the disk."""
        return self.disk / "filler"

    def processes(self) -> dict[int, list[str]]:
        """The words of every process that the agent is or has started, by its id."""
        found: dict[int, list[str]] = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and f"FAULTS_DEVICE={self.tag}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return {pid: words for pid, words in found.items() if any(words)}  # one that has ended has none

    def supervisors(self) -> list[int]:
        """The supervisors of running launches."""
        told = {_supervisor(launch).get("pid") for launch in self.running()}
        return [pid for pid in self.processes() if _own_id(pid) in told]

    def workers(self) -> list[int]:
        """The processes that measure."""
        return [pid for pid, words in self.processes().items() if "worker" in words]

    def servers(self) -> list[int]:
        """The processes that answer controllers."""
        supervisors = self.supervisors()
        return [pid for pid, words in self.processes().items() if "worker" not in words and pid not in supervisors]

    def launches(self) -> Iterator[Path]:
        """The folders of all launches."""
        yield from (Path(self.cache.launch(name)) for name in self.cache.names("launches"))

    def running(self) -> list[Path]:
        """The folders of launches whose supervisor lives."""
        return [folder for folder in self.launches() if is_held(str(folder / "alive.lock"))]

    def lease_left_s(self) -> float:
        """For how long nobody else may use the device, as far as its lease says: 0 for none."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return max(0.0, json.loads(Path(self.cache.path("lease.json")).read_bytes())["expires_s"] - time.monotonic())
        return 0.0

    def kill_all(self) -> None:
        """Kill whatever the agent is or has started."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _supervisor(launch: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return json.loads((launch / "supervisor.json").read_bytes())
    return {}


def _own_id(pid: int) -> int:
    """The id that a process has for itself, in its own namespace."""
    with suppress(OSError):
        (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("NSpid:"))
        return int(line.split()[-1])
    return 0


def mount(folder: Path, owner: int = 0) -> None:
    """Put a small file system of its own into a folder."""
    options = f"size={DISK_BYTES},mode=700,uid={owner},gid={owner}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """Take it away, even if somebody is in it still."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Fill the file system of `file` to the last byte."""
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    filler.write(b"\0" * size)
