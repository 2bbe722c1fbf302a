"""An emulated board of tests/lab that faults can befall: real SSH, real aarch64 runtimes, a link that can be pulled, a power switch."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from faults.machine import WORKER_PATH, Machine, mount, unmount

LAB = Path(os.environ.get("FLEETMARK_LAB", "/var/lib/fleetmark-lab"))
SWITCH = Path(__file__).parents[1] / "lab" / "lab"
ADDRESSES = {"pi4": "192.0.2.11", "nano": "192.0.2.13"}
PACKAGES = ("onnxruntime==1.16.3", "numpy==1.26.4")  # that qemu runs
HOME = "home/bench/faults"  # below the board's root
CONNECT_TIMEOUT_S = 20
START_S = 60.0


class Board(Machine):
    """The board called `name`, which `make lab` has started."""

    def __init__(self, name: str) -> None:
        tree = LAB / name / "tree"
        if not tree.is_dir():
            sys.exit(f"no board {name} in {LAB}: make lab")
        self._home = tree / HOME
        disk = self._home / "disk"
        owner = (tree / "home/bench").stat().st_uid
        disk.mkdir(parents=True, exist_ok=True)
        super().__init__(name, disk, (ADDRESSES[name], 22))
        site = self._home / "site"
        if not site.exists():
            install(site, os.readlink(tree / "usr/bin/python3").removeprefix("python"))
        shutil.copytree(WORKER_PATH, self._home / "worker_path", ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        python = self._home / "python"
        python.write_text(f'#!/bin/sh\nexec env FAULTS_DEVICE={self.tag} python3 "$@"\n')
        python.chmod(0o755)
        self._switch("off")
        mount(disk, owner)  # seen by a board that starts afterwards
        self.power_on()
        self._wait()

    def entry(self) -> dict[str, Any]:
        pin = (LAB / self.name / "host_key").read_text().strip()
        ssh = {"host": "127.0.0.1", "port": self.proxy.port, "user": "bench", "host_key": pin, "config": str(LAB / "ssh_config")}
        path = ":".join(f"/{HOME}/{folder}" for folder in ("worker_path", "site"))
        agent = {"python": f"/{HOME}/python", "cache_dir": f"/{HOME}/disk/agent", "env": {"PYTHONPATH": path}}
        return {"kind": "generic", "ssh": {**ssh, "connect_timeout_s": CONNECT_TIMEOUT_S}, "agent": agent, "backends": ["onnxruntime"]}

    def power_off(self) -> None:
        self._switch("off")

    def power_on(self) -> None:
        self._switch("on")

    def pull_cable(self) -> None:
        """Take the board's network card down, at this machine's end."""
        self._link("down")

    def plug_cable(self) -> None:
        """Put it up again."""
        self._link("up")

    def close(self) -> None:
        self.proxy.close()
        self._switch("off")
        unmount(self.disk)
        self._switch("on")

    def _switch(self, to: str) -> None:
        subprocess.run([str(SWITCH), to, self.name], check=True, stdin=subprocess.DEVNULL)

    def _wait(self) -> None:
        """Until its SSH server answers."""
        end = time.monotonic() + START_S
        while True:
            try:
                with socket.create_connection((ADDRESSES[self.name], 22), START_S) as link:
                    if link.recv(4) == b"SSH-":
                        return
            except OSError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def _link(self, to: str) -> None:
        subprocess.run(["ip", "link", "set", f"fm-{self.name}", to], check=True)


def install(site: Path, python: str) -> None:
    """Put the runtime for a board's Python into a folder, whole or not at all."""
    part = site.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    kinds = [word for kind in ("2014", "_2_17", "_2_28") for word in ("--platform", f"manylinux{kind}_aarch64")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, *kinds, "--python-version", python, "--target", str(part), *PACKAGES], check=True)
    part.replace(site)
