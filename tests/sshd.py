"""A real OpenSSH server on a free loopback port, for tests."""

import base64
import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil
import pytest

from controller.transport import SshSettings

START_S = 20.0
OPTIONS = """
ListenAddress 127.0.0.1
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PidFile none
MaxStartups 500:30:1000
MaxSessions 100
"""
NO_BASHRC = "SetEnv SHLVL=1"  # bash then takes itself for a shell within a shell and reads no ~/.bashrc of the person who runs the tests


class Sshd:
    """An OpenSSH server run by the current user; `client_key` logs in as any user that the server can become.

    Its folder is readable by all, for sshd reads the authorized keys as the user who logs in.
    """

    def __init__(self, options: str = "", key_type: str = "ed25519", prefix: Sequence[str] = ()) -> None:
        self._prefix = prefix  # words before the server's own, such as those of unshare
        self.folder = Path(mkdtemp(prefix="fleetmark-sshd-"))
        self.folder.chmod(0o755)
        self.user = getpass.getuser()
        self.port = free_port()
        self.client_key = make_key(self.folder / "client_key")
        self.new_host_key(key_type)
        (self.folder / "known_hosts").write_text(self.known_hosts_line)
        (self.folder / "authorized_keys").write_bytes(public_file(self.client_key).read_bytes())
        files = f"HostKey {self.folder}/host_key\nAuthorizedKeysFile {self.folder}/authorized_keys\n"
        (self.folder / "sshd_config").write_text(f"Port {self.port}\n{files}{OPTIONS}{options}\nMatch User {self.user}\n{NO_BASHRC}\n")
        self.write_config("")
        self.log: list[str] = []
        self._server: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def host_key(self) -> str:
        """The server's key as the inventory pins it."""
        kind, blob = public_file(self.folder / "host_key").read_text().split()[:2]
        digest = hashlib.sha256(base64.b64decode(blob)).digest()
        return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    @property
    def known_hosts_line(self) -> str:
        key = " ".join(public_file(self.folder / "host_key").read_text().split()[:2])
        return f"[127.0.0.1]:{self.port} {key}\n"

    @property
    def config(self) -> Path:
        """An ssh_config that uses nothing of the real user's."""
        return self.folder / "ssh_config"

    def write_config(self, entries: str) -> Path:
        """Put `entries` before the ones that keep the real user's files out; return the file."""
        files = f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        self.config.write_text(f"{entries}\nHost *\nIdentityFile {self.client_key}\nIdentitiesOnly yes\n{files}")
        return self.config

    def settings(self, **changes: Any) -> SshSettings:
        """The inventory's `ssh` entry for this server: pinned, nothing of the real user's configuration."""
        given = {"host": "127.0.0.1", "port": self.port, "user": self.user, "host_key": self.host_key, "config": self.config}
        return SshSettings(**{**given, **changes})

    def new_host_key(self, key_type: str = "ed25519") -> None:
        """Change the host key, as a reinstallation does; a running server keeps its own until it is started again."""
        make_key(self.folder / "host_key", key_type)

    def start(self) -> "Sshd":
        """Start the server; returns when it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [*self._prefix, sshd_binary(), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        listens = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(self._server, listens), daemon=True)
        self._reader.start()
        if not listens.wait(START_S) or self._server.poll() is not None:
            raise RuntimeError(f"sshd did not start: {self.log}")
        return self

    def cut(self) -> None:
        """Cut every link at once; the server goes on listening, and what the links carried goes on running."""
        for session in self._sessions():
            kill(session)

    def freeze(self) -> None:
        """Stop the server and its sessions from answering, links intact, as a hung device does."""
        for session in self._sessions():
            session.suspend()

    def thaw(self) -> None:
        """Let frozen sessions go on."""
        for session in self._sessions():
            session.resume()

    def kill(self) -> None:
        """Kill the server and cut every link, as a power cut does; `start` starts it again on the same port."""
        if self._server:
            links = self._descendants()
            self._server.kill()
            for process in links:
                kill(process)
            self._server.wait()
            self._end()

    def stop(self) -> None:
        """End the server and all that runs below it, and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sessions(self) -> Iterator[psutil.Process]:
        for process in self._descendants():
            with suppress(psutil.NoSuchProcess):  # it may end while we look
                if process.name().startswith("sshd"):
                    yield process

    def _descendants(self) -> list[psutil.Process]:
        return psutil.Process(self._server.pid).children(recursive=True) if self._server and self._server.poll() is None else []

    def _end(self) -> None:
        assert self._server
        assert self._server.stderr
        if self._reader:
            self._reader.join(START_S)
        self._server.stderr.close()
        self._server = None

    def _read_log(self, server: "subprocess.Popen[str]", listens: threading.Event) -> None:
        assert server.stderr
        for line in server.stderr:
            self.log.append(line)
            if "Server listening" in line:
                listens.set()
        listens.set()


def require_sshd() -> None:
    """Skip where there is no OpenSSH server; fail there in CI, which installs one."""
    if not Path(sshd_binary()).exists():
        unavailable("no sshd: install openssh-server")


def require_root() -> None:
    """Skip where accounts cannot be made; fail there in CI, which runs as root."""
    if os.geteuid() != 0:
        unavailable("needs root to make accounts")


def unavailable(why: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def account(shell: str, files: dict[str, str] | None = None) -> Iterator[str]:
    """The name of a fresh account with this login shell and these files in its home folder; gone after the block."""
    binary = shutil.which(shell)
    if binary is None:
        unavailable(f"no {shell}: install it")
    name = f"fm-{os.getpid()}-{Path(shell).name}"
    subprocess.run(["useradd", "-m", "-s", str(binary), name], check=True)
    try:
        subprocess.run(["usermod", "-p", "*", name], check=True)  # sshd refuses a locked account
        home = Path(f"~{name}").expanduser()
        for path, text in (files or {}).items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text)
        subprocess.run(["chown", "-R", name, str(home)], check=True)
        yield name
    finally:
        subprocess.run(["userdel", "-rf", name], check=True, stderr=subprocess.DEVNULL)


def left_since(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads that were not there `before` and do not end."""
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(5)
    return [thread for thread in new if thread.is_alive()]


def make_key(path: Path, key_type: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair, replacing what is there; return the private half's path."""
    for half in (path, public_file(path)):
        half.unlink(missing_ok=True)
    bits = ["-b", "2048"] if key_type == "rsa" else []  # a longer one takes seconds to find
    subprocess.run(["ssh-keygen", "-q", "-t", key_type, *bits, "-N", passphrase, "-C", path.name, "-f", str(path)], check=True)
    return path


def public_file(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sshd_binary() -> str:
    return shutil.which("sshd") or "/usr/sbin/sshd"


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
