"""The way to a device: this machine, or SSH. All that the rest of the house needs of both is here."""
# paramiko has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false

import logging
import shutil
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.packet import Packetizer
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer

from agent.schema import FaultError
from controller import hostkeys, limits, sshconfig
from controller.base_transport import Completed, Transport
from controller.hostkeys import HostKey
from controller.local import LocalTransport
from controller.process import RECONNECT, Process
from controller.sshconfig import Resolved, SshSettings
from controller.timeouts import DEFAULT, Timeouts

__all__ = [
    "Completed",
    "LocalTransport",
    "Process",
    "SshSettings",
    "SshTransport",
    "Transport",
    "connect",
    "presented_host_key",
    "presented_key",
    "resolve",
]

_TROUBLE = (paramiko.SSHException, EOFError, OSError)
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
FASTEST = "gcm@openssh.com"  # of paramiko's ciphers: half of the processor's time that the default takes
_ENCRYPTED = "is encrypted"

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its errors reach people as FaultErrors


def connect(name: str, ssh: SshSettings | None, timeouts: Timeouts = DEFAULT) -> Transport:
    """The way to the device `name`: by SSH, or this machine where `ssh` is None. Raises FaultError `unreachable`, `host_key`, `auth`."""
    return SshTransport(name, ssh, timeouts) if ssh else LocalTransport(name, timeouts)


def resolve(settings: SshSettings) -> Resolved:
    """Where `settings` lead, ~/.ssh/config considered; nothing is connected. Raises FaultError `unreachable`."""
    return sshconfig.resolve(settings, sshconfig.ask_ssh if shutil.which("ssh") else _read_config)


def presented_host_key(name: str, settings: SshSettings) -> str:
    """The key that the device presents, as the inventory writes it, for a person to compare; only its jump hosts are verified.

    Raises FaultError `unreachable`, and `host_key` or `auth` for a jump host.
    """
    return presented_key(name, resolve(settings), settings.connect_timeout_s).pin


def presented_key(name: str, hop: Resolved, timeout_s: float, kinds: Sequence[str] = ()) -> HostKey:
    """The key that `hop` presents, of one of `kinds` if any are given; raises as `presented_host_key`."""
    with closing(_Way(name, hop, timeout_s, DEFAULT.close_s)) as way:
        return way.greet(kinds)


class SshTransport(Transport):
    """A device by SSH, through its jump hosts; `host_key` is the key it presented, as the inventory writes it.

    Raises FaultError `unreachable`, `host_key`, `auth`. A link that gives no sign of life for `keepalive_s + reply_s` is closed.
    """

    def __init__(self, name: str, settings: SshSettings, timeouts: Timeouts = DEFAULT) -> None:
        resolved = resolve(settings)
        super().__init__(name, resolved.address, timeouts)
        self._way = _Way(name, resolved, settings.connect_timeout_s, timeouts.close_s)
        try:
            self.host_key = self._way.go().pin
        except BaseException:
            self._way.close()
            raise
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """Close the link. What runs on the device and was not closed goes on."""
        self._closing.set()
        self._way.close()
        self._keeper.join(self.timeouts.close_s)

    def _start(self, line: str) -> "_SshStreams":
        try:
            return _SshStreams(self._way.end, line, self.timeouts)
        except _TROUBLE as error:
            if self._way.end.is_active():
                raise FaultError(
                    "protocol", f"{self.description} refuses to run a command: {_reason(error)}", "check its sshd_config"
                ) from error
            raise FaultError("link_lost", f"{self.description}: the link was lost: {_reason(error)}", RECONNECT) from error

    def _keep_alive(self) -> None:
        client = self._way.end
        while not self._closing.wait(self.timeouts.keepalive_s) and client.is_active():
            with suppress(*_TROUBLE), _limit(self.timeouts.reply_s, client.close):
                client.global_request("keepalive@openssh.com", wait=True)


class _SshStreams:
    """`line` run by the login shell on a channel of `client` (controller.process.Streams)."""

    def __init__(self, client: paramiko.Transport, line: str, timeouts: Timeouts) -> None:
        self._client = client
        self._timeouts = timeouts
        self._channel = client.open_session(timeout=timeouts.begin_s)
        with _limit(timeouts.begin_s, self._channel.close):
            self._channel.exec_command(line)

    def receive(self, size: int) -> bytes:
        with suppress(*_TROUBLE):
            return self._channel.recv(size)
        return b""

    def receive_stderr(self, size: int) -> bytes:
        with suppress(*_TROUBLE):
            return self._channel.recv_stderr(size)
        return b""

    def send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except (EOFError, paramiko.SSHException) as error:
            raise BrokenPipeError(str(error)) from error

    def end_input(self) -> None:
        with suppress(*_TROUBLE):
            self._channel.shutdown_write()

    def exit_status(self) -> int | None:
        status = self._channel.recv_exit_status()
        return status if status >= 0 else None

    def is_lost(self) -> bool:
        return not self._channel.eof_received

    def abort(self, group: int) -> None:
        has_ended = self._channel.exit_status_ready()
        self._channel.close()
        if group and not has_ended and self._client.is_active():
            with suppress(*_TROUBLE):
                brief = replace(self._timeouts, begin_s=self._timeouts.kill_s)
                killer = _SshStreams(self._client, f"/bin/sh -c 'kill -9 -{group}'", brief)
                with _limit(brief.begin_s, killer.close):
                    killer.exit_status()
                killer.close()

    def close(self) -> None:
        self._channel.close()


class _Way:
    """The links to the jump hosts and to the device itself, each through the one before."""

    def __init__(self, name: str, target: Resolved, timeout_s: float, close_s: float) -> None:
        self._name = name
        self._target = target
        self._timeout_s = timeout_s
        self._close_s = close_s
        self._links: list[paramiko.Transport] = []

    @property
    def end(self) -> paramiko.Transport:
        """The link to the device, once `go` has made it."""
        return self._links[-1]

    def close(self) -> None:
        """Close every link."""
        for link in reversed(self._links):
            link.packetizer.complete_handshake()  # paramiko leaves its timer running when a handshake fails
            with suppress(OSError):
                link.sock.shutdown(socket.SHUT_RD)  # its thread would notice the closing a tenth of a second later
            link.close()
            link.sock.close()
            if link.is_alive():
                link.join(self._close_s)

    def go(self) -> HostKey:
        """Make all links; return the device's host key."""
        for jump in self._target.jumps:
            self._log_in(jump)
        return self._log_in(self._target)

    def greet(self, kinds: Sequence[str]) -> HostKey:
        """Make the links to the jump hosts; return the device's host key, not verified."""
        for jump in self._target.jumps:
            self._log_in(jump)
        return self._shake_hands(self._target, kinds)

    def _log_in(self, hop: Resolved) -> HostKey:
        believed = hostkeys.known(hop.known_hosts, hop.known_as) if hop.host_key is None else self._pinned(hop, hop.host_key)
        key = self._shake_hands(hop, believed.kinds)
        if why := believed.refusal(key):
            raise hostkeys.refused(self._name, self._label(hop), why, is_new=believed.is_new)
        self._authenticate(hop)
        return key

    def _pinned(self, hop: Resolved, pin: str) -> hostkeys.Pinned:
        try:
            return hostkeys.parse_pin(pin)
        except ValueError as error:
            raise hostkeys.refused(self._name, self._label(hop), str(error), is_new=True) from error

    def _shake_hands(self, hop: Resolved, kinds: Sequence[str]) -> HostKey:
        """Agree on encryption with `hop`, which has to present a host key of one of `kinds`, if any are given."""
        try:
            link = paramiko.Transport(self._dial(hop), packetizer_class=_Packets)
            link.set_log_channel(f"paramiko.{self._name}")  # whose thread knows of no device
            self._links.append(link)
            link.banner_timeout = link.handshake_timeout = link.auth_timeout = self._timeout_s
            options = link.get_security_options()
            wanted = [name for kind in kinds for name in _ALGORITHMS.get(kind, (kind,)) if name in options.key_types]
            options.key_types = wanted or options.key_types
            options.ciphers = sorted(options.ciphers, key=lambda name: not name.endswith(FASTEST))
            link.start_client(timeout=self._timeout_s)
            if not link.initial_kex_done:
                raise TimeoutError(f"no SSH handshake within {self._timeout_s:g} s")
            key = link.get_remote_server_key()
        except IncompatiblePeer as error:
            if "host key" not in str(error):
                raise self._unreachable(hop, error) from error
            why = f"it offers no host key of the kind {' or '.join(kinds)}"
            raise hostkeys.refused(self._name, self._label(hop), why, is_new=False) from error
        except _TROUBLE as error:
            raise self._unreachable(hop, error) from error
        return HostKey(key.get_name(), key.asbytes())

    def _dial(self, hop: Resolved) -> socket.socket | paramiko.Channel:
        if self._links:
            return self.end.open_channel("direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=self._timeout_s)
        wire = socket.create_connection((hop.host, hop.port), self._timeout_s)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def _authenticate(self, hop: Resolved) -> None:
        refused: list[str] = []
        useless: dict[str, str] = {}
        try:
            if self._offer_keys(hop, refused, useless):
                return
        except _TROUBLE as error:
            useless["the SSH agent"] = _reason(error)
        keys = [*(f"it refused {name}" for name in refused), *(f"{name} {why}" for name, why in useless.items())]
        why = "; ".join(keys) or "there is no key for it, neither in the SSH agent nor in a file"
        advice = f"append your public key to ~/.ssh/authorized_keys of {hop.user} there (ssh-copy-id), or set IdentityFile in ~/.ssh/config"
        for name in (name for name, trouble in useless.items() if trouble == _ENCRYPTED):
            advice = f"add it to the SSH agent: ssh-add {name}"
        raise FaultError("auth", f"{self._label(hop)} does not let {hop.user} in: {why}", advice, "connect")

    def _offer_keys(self, hop: Resolved, refused: list[str], useless: dict[str, str]) -> bool:
        """Whether one of our keys opens `hop`."""
        with closing(paramiko.Agent()) as agent:
            for name, key in _keys(hop, agent.get_keys(), useless):
                with suppress(*_TROUBLE):
                    if not self.end.auth_publickey(hop.user, key):
                        return True
                refused.append(name)
                if not self.end.is_active():
                    break
        return False

    def _label(self, hop: Resolved) -> str:
        return f"{self._name} ({hop.address})" if hop is self._target else f"{self._name} (jump host {hop.address})"

    def _unreachable(self, hop: Resolved, error: Exception) -> FaultError:
        message = f"cannot reach {self._label(hop)}: {_reason(error)}"
        return FaultError("unreachable", message, "check its power, its network and its `ssh` entry in the inventory", "connect")


class _Packets(Packetizer):
    """Reads no larger packets than OpenSSH does: a server need not be believed, nor even known, for paramiko to read 4 GiB."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        if n > limits.MAX_PACKET_BYTES:
            raise paramiko.SSHException(f"it sent a packet of {n} bytes")
        return super().read_all(n, check_rekey)


def _keys(hop: Resolved, held: Sequence[paramiko.AgentKey], useless: dict[str, str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """The keys to offer, with their names, in OpenSSH's order; why a file gives none goes to `useless`."""
    files = {path: hostkeys.public_blob(path) for path in hop.identity_files}
    for key in sorted(held, key=lambda key: key.asbytes() not in files.values()):
        if key.asbytes() in files.values() or not hop.identities_only:
            yield f"the SSH agent's {key.comment or key.get_name()}", key
    for path in (path for path, blob in files.items() if path.is_file() and blob not in {key.asbytes() for key in held}):
        try:
            yield str(path), paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):
            useless[str(path)] = _ENCRYPTED
        except (ValueError, OSError, paramiko.SSHException, UnknownKeyType, UnsupportedAlgorithm) as error:
            useless[str(path)] = f"is no usable key ({_reason(error)})"


def _read_config(target: sshconfig.Target, config: Path | None) -> sshconfig.Options:
    """The options for `target` on a machine without ssh, by paramiko's reader, which ignores Include."""
    path = config or Path("~/.ssh/config").expanduser()
    found = paramiko.SSHConfig.from_path(str(path)).lookup(target.host) if path.is_file() else {}
    given = {"user": target.user, "port": target.port}
    merged = {**found, **{name: value for name, value in given.items() if value is not None}}
    return {name: value if isinstance(value, list) else [str(value)] for name, value in merged.items()}


@contextmanager
def _limit(seconds: float, close: Callable[[], None]) -> Generator[None]:
    """Call `close` if the block takes longer, which has to end it: paramiko waits for some answers without a limit."""
    timer = threading.Timer(seconds, close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join(DEFAULT.close_s)


def _reason(error: Exception) -> str:
    if isinstance(error, paramiko.ChannelException):
        return str(error.text)
    return str(getattr(error, "strerror", None) or error) or "the connection was closed"
