"""A loopback device that faults can befall: its own sshd, boot id, wall clock, link and small disk."""

import sys
import uuid
from pathlib import Path
from typing import Any

from sshd import Sshd

from faults.machine import WORKER_PATH, Machine, mount, unmount

BOOT_ID = "/proc/sys/kernel/random/boot_id"
PRIVATE = ("unshare", "--mount", "sh", "-c", f'mount --bind "$1" {BOOT_ID} && shift && exec "$@"', "sh")
KEY = ("host_key", "host_key.pub")


class Device(Machine):
    """`folder` holds all that it has."""

    def __init__(self, folder: Path, name: str, clock_library: Path) -> None:
        disk = folder / "disk"
        disk.mkdir(mode=0o700, parents=True)
        self.clock, self._boot_id, self._python = folder / "clock", folder / "boot_id", folder / "python"
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        mount(disk)
        self.sshd = Sshd(prefix=(*PRIVATE, str(self._boot_id))).start()
        self._key = [(self.sshd.folder / name).read_bytes() for name in KEY]
        super().__init__(name, disk, ("127.0.0.1", self.sshd.port))
        self.clock.write_text("0")
        environ = f"FAULTS_DEVICE={self.tag} FAULTS_CLOCK={self.clock} LD_PRELOAD={clock_library}"
        self._python.write_text(f'#!/bin/sh\nexec env {environ} {sys.executable} "$@"\n')
        self._python.chmod(0o755)
        self.power: dict[str, Any] | None = None

    def entry(self) -> dict[str, Any]:
        server = self.sshd
        ssh = {"host": "127.0.0.1", "port": self.proxy.port, "user": server.user, "host_key": server.host_key, "config": str(server.config)}
        agent = {"python": str(self._python), "cache_dir": self.cache.root, "env": {"PYTHONPATH": str(WORKER_PATH)}}
        power = {"power": self.power} if self.power else {}
        return {"kind": "generic", "ssh": {**ssh, "connect_timeout_s": 3}, "agent": agent, "backends": ["onnxruntime"], **power}

    def power_off(self) -> None:
        self.sshd.kill()
        self.kill_all()
        self._boot_id.write_text(f"{uuid.uuid4()}\n")

    def power_on(self) -> None:
        self.sshd.start()

    def other_key(self) -> None:
        """Have the SSH server present another host key."""
        self.sshd.kill()
        self.sshd.new_host_key()
        self.sshd.start()

    def own_key(self) -> None:
        """Have it present its own again."""
        self.sshd.kill()
        for name, content in zip(KEY, self._key, strict=True):
            (self.sshd.folder / name).write_bytes(content)
        self.sshd.start()

    def close(self) -> None:
        self.proxy.close()
        self.sshd.stop()
        self.kill_all()
        unmount(self.disk)
