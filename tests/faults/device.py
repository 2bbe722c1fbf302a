"""A loopback device that faults can befall: its own sshd, boot id, wall clock, link and small disk."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sshd import Sshd

from agent.cache import Cache, is_held
from faults.proxy import Proxy

DISK_BYTES = 16 << 20
BOOT_ID = "/proc/sys/kernel/random/boot_id"
PRIVATE = ("unshare", "--mount", "sh", "-c", f'mount --bind "$1" {BOOT_ID} && shift && exec "$@"', "sh")
WORKER_PATH = Path(__file__).with_name("worker_path")


class Device:
    """`name` is what the inventory calls it; `folder` holds its agent's folder, a file system of its own."""

    def __init__(self, folder: Path, name: str, clock_library: Path) -> None:
        folder.mkdir()
        self.name = name
        self.tag = f"{name}-{uuid.uuid4().hex}"
        self.clock, self._boot_id, self._python = folder / "clock", folder / "boot_id", folder / "python"
        self._disk = folder / "disk"
        self._disk.mkdir(mode=0o700)
        self.clock.write_text("0")
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        environ = f"FAULTS_DEVICE={self.tag} FAULTS_CLOCK={self.clock} LD_PRELOAD={clock_library}"
        self._python.write_text(f'#!/bin/sh\nexec env {environ} {sys.executable} "$@"\n')
        self._python.chmod(0o755)
        mount(self._disk)
        self.cache = Cache(str(self._disk / "agent"))
        self.sshd = Sshd(prefix=(*PRIVATE, str(self._boot_id))).start()
        self.key = [(self.sshd.folder / name).read_bytes() for name in KEY]
        self.proxy = Proxy(self.sshd.port)
        self.power: dict[str, Any] | None = None

    def entry(self) -> dict[str, Any]:
        """Its entry in the inventory."""
        server = self.sshd
        ssh = {"host": "127.0.0.1", "port": self.proxy.port, "user": server.user, "host_key": server.host_key, "config": str(server.config)}
        agent = {"python": str(self._python), "cache_dir": self.cache.root, "env": {"PYTHONPATH": str(WORKER_PATH)}}
        power = {"power": self.power} if self.power else {}
        return {"kind": "generic", "ssh": {**ssh, "connect_timeout_s": 3}, "agent": agent, "backends": ["onnxruntime"], **power}

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
        return [int(self._supervisor(launch)["pid"]) for launch in self.running() if "pid" in self._supervisor(launch)]

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

    def _supervisor(self, launch: Path) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return json.loads((launch / "supervisor.json").read_bytes())
        return {}

    def reboot(self) -> None:
        """End all that runs, at once, and begin anew with another boot id."""
        self.sshd.kill()
        self.kill_all()
        self._boot_id.write_text(f"{uuid.uuid4()}\n")

    def kill_all(self) -> None:
        """Kill whatever the agent is or has started."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def other_key(self) -> None:
        """Have the SSH server present another host key."""
        self.sshd.kill()
        self.sshd.new_host_key()
        self.sshd.start()

    def own_key(self) -> None:
        """Have it present its own again."""
        self.sshd.kill()
        for name, content in zip(KEY, self.key, strict=True):
            (self.sshd.folder / name).write_bytes(content)
        self.sshd.start()

    @property
    def filler(self) -> Path:
        """A file that fills the disk."""
        return self._disk / "filler"

    def close(self) -> None:
        """End everything."""
        self.proxy.close()
        self.sshd.stop()
        self.kill_all()
        unmount(self._disk)


KEY = ("host_key", "host_key.pub")


def mount(folder: Path) -> None:
    """Put a small file system of its own into a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(folder)], check=True)


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
