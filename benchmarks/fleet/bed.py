"""Simulated devices: real OpenSSH servers on loopback, where every device is an address and a folder."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.order import Site

ADDRESSES = 16  # that one sshd listens on at most (MAX_LISTEN_SOCKS)
START_S = 20.0
END_S = 60.0
POLL_S = 0.1
ESTABLISHED = "01"
SFTP = Path("/usr/lib/openssh/sftp-server")  # as Debian configures it
CONFIG = """
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PidFile none
MaxStartups 1000
LogLevel ERROR
Subsystem sftp {sftp}
SetEnv SHLVL=1
"""
# SHLVL: bash then takes itself for a shell within a shell and reads no ~/.bashrc of the person who runs the benchmark


@dataclass(frozen=True, slots=True)
class Bed:
    """Devices that are reached at `port` with `key`; all present the same `host_key`, as the inventory pins it."""

    folder: Path
    sites: Sequence[Site]
    port: int
    user: str
    host_key: str

    @property
    def key(self) -> Path:
        """The private key that logs in."""
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> Path:
        """The host key for OpenSSH, under every address."""
        return self.folder / "known_hosts"

    def started(self, sites: Sequence[Site]) -> int:
        """Give how many of these devices have a launch whose supervisor lives."""
        return sum(any(map(_lives, _supervisors(site))) for site in sites)

    def clear(self) -> None:
        """End every launch and empty every device."""
        pids = [pid for site in self.sites for pid in _supervisors(site)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + END_S
        while any(map(_lives, pids)) and time.monotonic() < end:
            time.sleep(POLL_S)
        for site in self.sites:
            shutil.rmtree(site.root, ignore_errors=True)


@contextmanager
def devices(count: int) -> Generator[Bed]:
    """Give so many empty devices; their servers and folders are gone after the block. Raises RuntimeError where there is no sshd."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetmark-bed-")))
        for name in ("client_key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)  # noqa: S607 - the PATH's
        port = _free_port()
        hosts = [f"127.1.{at // 200}.{at % 200 + 1}" for at in range(count)]
        sites = [Site(f"simulated-{at}", host, str(folder / f"device-{at}")) for at, host in enumerate(hosts)]
        key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text("".join(f"[{host}]:{port} {key}\n" for host in hosts))
        bed = Bed(folder, sites, port, getpass.getuser(), f"ssh-ed25519 {_fingerprint(folder / 'host_key.pub')}")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where the Debian package has its own
        for at in range(0, count, ADDRESSES):
            stack.enter_context(_server(folder, port, hosts[at : at + ADDRESSES]))
        stack.callback(bed.clear)
        yield bed


@contextmanager
def counted(port: int) -> Generator[list[int]]:
    """Give a list that grows by the number of connections to `port` that are open at once, looked at every POLL_S.

    Those count that are there in two readings, for one reading takes a while, and were not there before the block.
    """
    counts, done, before = [0], threading.Event(), _open(port)

    def count() -> None:
        while not done.wait(POLL_S):
            counts.append(len(_open(port) & _open(port) - before))

    watcher = threading.Thread(target=count, daemon=True)
    watcher.start()
    try:
        yield counts
    finally:
        done.set()
        watcher.join()


def _open(port: int) -> set[str]:
    """The client's ends of connections to `port`."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return {local for _, local, remote, state, *_ in map(str.split, lines) if remote.endswith(wanted) and state == ESTABLISHED}


@contextmanager
def _server(folder: Path, port: int, hosts: Sequence[str]) -> Generator[None]:
    config = folder / f"sshd_config-{hosts[0]}"
    config.write_text(
        CONFIG.format(port=port, folder=folder, sftp=SFTP if SFTP.exists() else "internal-sftp")
        + "".join(f"ListenAddress {host}\n" for host in hosts)
    )
    command = [sshd(), "-D", "-e", "-f", str(config)]
    with (folder / "sshd.log").open("ab") as log, subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log) as server:
        try:
            _await(hosts[-1], port)
            yield
        finally:
            server.terminate()


def sshd() -> str:
    """Give the path of OpenSSH's server; raises RuntimeError without one."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError("simulated devices need OpenSSH's sshd: sudo apt-get install openssh-server")
    return found


def _await(host: str, port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((host, port), START_S).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fingerprint(public: Path) -> str:
    command = ["ssh-keygen", "-l", "-E", "sha256", "-f", str(public)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


def _supervisors(site: Site) -> list[int]:
    files = Path(site.root, "launches").glob("*/supervisor.json")
    return [int(json.loads(file.read_bytes())["pid"]) for file in files]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
