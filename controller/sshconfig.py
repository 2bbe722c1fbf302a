"""Where a device is and how to log in there: the inventory's words and ~/.ssh/config, as OpenSSH itself understands it."""

import getpass
import glob
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from agent.schema import FaultError

SSH_CONFIG_S = 10.0
MAX_JUMPS = 8
SHELLS_OWN = frozenset("'\"`;&<>|(){}$ ")
MAX_REMEMBERED = 4096
_USER_CONFIG, _SYSTEM_CONFIG = Path("~/.ssh/config"), Path("/etc/ssh/ssh_config")
_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts ~/.ssh/known_hosts2 /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"

Options = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class SshSettings:
    """A device's `ssh` entry in the inventory: None leaves the choice to ~/.ssh/config, or to the file `config` in its place."""

    host: str
    user: str | None = None
    port: int | None = None
    jump: str | None = None
    host_key: str | None = None
    jump_host_key: str | None = None
    connect_timeout_s: float = 10.0
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of ~/.ssh/config: a host as a person calls it."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """One host to log in to, with the jump hosts on the way, the nearest first.

    `known_as` is its name in known_hosts, `host_key` the inventory's pin.
    """

    host: str
    port: int
    user: str
    known_as: str
    identity_files: tuple[Path, ...]
    identities_only: bool
    known_hosts: tuple[Path, ...]
    host_key: str | None = None
    jumps: tuple["Resolved", ...] = ()

    @property
    def address(self) -> str:
        """The host, with the port where it is not 22."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Lookup = Callable[[Target, Path | None], Options]


def resolve(settings: SshSettings, lookup: Lookup) -> Resolved:
    """Where `settings` lead by the options that `lookup` finds; `jump_host_key` pins the last jump. Raises FaultError `unreachable`."""
    target = Target(settings.host, settings.user, settings.port)
    found = _resolve(target, settings.jump, settings.config, lookup, MAX_JUMPS)
    jumps = (*found.jumps[:-1], replace(found.jumps[-1], host_key=settings.jump_host_key)) if found.jumps else ()
    return replace(found, host_key=settings.host_key, jumps=jumps)


def way(resolved: Resolved) -> tuple[Resolved, ...]:
    """The hosts on the way and the device itself, each with those before it as its jump hosts."""
    return (*(replace(jump, jumps=resolved.jumps[:at]) for at, jump in enumerate(resolved.jumps)), resolved)


def parse_target(text: str) -> Target:
    """The host written as [user@]host[:port], an IPv6 address in brackets; raises ValueError."""
    match = re.fullmatch(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>.+)\]|(?P<host>[^:@]+))(?::(?P<port>\d{1,5}))?/?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not [user@]host[:port]")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text!r} has a port that no host has")
    return Target(match["v6"] or match["host"], match["user"], port)


def aliases(config: Path | None) -> tuple[str, ...]:
    """The hosts that ~/.ssh/config, or `config` in its place, names without wildcards, Include followed; raises OSError."""
    found: dict[str, None] = {}
    _read_aliases(config or Path("~/.ssh/config").expanduser(), found, set())
    return tuple(found)


def _read_aliases(path: Path, found: dict[str, None], seen: set[Path]) -> None:
    """Put the aliases of a file into `found`; a file that includes one which was read already gets nothing from it."""
    seen.add(path.resolve())
    for line in path.read_text("utf-8", "replace").splitlines():
        keyword, words = _words(line)
        if keyword == "host":
            found.update(dict.fromkeys(word for word in words if not set(word) & set("*?!")))
        for pattern in words if keyword == "include" else ():
            for included in _included(pattern):
                if included.resolve() not in seen:
                    _read_aliases(included, found, seen)


def _included(pattern: str) -> list[Path]:
    """The files that an Include names; a folder, a device or a user whom nobody knows is nothing to read."""
    names = glob.glob(os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(pattern)))
    return [Path(name) for name in sorted(names) if os.path.isfile(name)]


def _words(line: str) -> tuple[str, list[str]]:
    """A line's keyword in lower case and its arguments; none for a comment or what cannot be read."""
    try:
        keyword, *words = shlex.split(line.replace("=", " ", 1) if re.match(r"\s*\w+\s*=", line) else line, comments=True)
    except ValueError:
        return "", []
    return keyword.lower(), words


def ask_ssh(target: Target, config: Path | None) -> Options:
    """The options that `ssh -G` gives for `target`, by lower-case name; Include and Match count. Raises FaultError `unreachable`.

    It is asked once for each target, and again when the configuration's own file has changed: a fleet asks often, a process takes 10 ms.
    Host and user come into a shell's hands where `Match exec` asks for them: only from release 9.6 on it refuses those that are commands.
    """
    for word in (target.host, target.user or ""):
        if word.startswith("-") or not word.isprintable() or SHELLS_OWN & set(word):
            raise _unreachable(target, f"{word[:80]!a} has invalid characters: a shell could take them for a command")
    return _asked(target, config, shutil.which("ssh"), tuple(_stamp(path) for path in (config or _USER_CONFIG, _SYSTEM_CONFIG)))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.expanduser().stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=MAX_REMEMBERED)
def _asked(target: Target, config: Path | None, ssh: str | None, stamps: tuple[tuple[int, int], ...]) -> Options:
    """What `ask_ssh` gives; the last two arguments only tell one time from another."""
    del ssh, stamps
    words = ["ssh", "-G"]
    for flag, value in (("-F", config), ("-l", target.user), ("-p", target.port)):
        words += [flag, str(value)] if value is not None else []
    try:
        done = subprocess.run([*words, "--", target.host], stdin=subprocess.DEVNULL, capture_output=True, timeout=SSH_CONFIG_S, check=False)
    except subprocess.TimeoutExpired:
        raise _unreachable(target, f"`ssh -G` gave no answer within {SSH_CONFIG_S:g} s") from None
    if done.returncode:
        complaint = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _unreachable(target, f"`ssh -G` says: {complaint[-1] if complaint else done.returncode}")
    options: dict[str, list[str]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        name, _, value = line.partition(" ")
        options.setdefault(name.lower(), []).append(value)
    return options


def _resolve(target: Target, jump: str | None, config: Path | None, lookup: Lookup, left: int) -> Resolved:
    if not left:
        raise _unreachable(target, f"its ProxyJump leads through more than {MAX_JUMPS} hosts")
    options = lookup(target, config)
    if _one(options, "proxycommand", "none") != "none":
        raise _unreachable(target, "its ProxyCommand is not supported", "reach it by ProxyJump in ~/.ssh/config or `jump` in the inventory")
    host, port = _one(options, "hostname", target.host), int(_one(options, "port", "22"))
    user = _one(options, "user", "") or getpass.getuser()
    tokens = {"h": host, "p": str(port), "r": user, "n": target.host, "u": getpass.getuser(), "d": str(Path.home()), "%": "%"}
    files = f"{_one(options, 'userknownhostsfile', _DEFAULT_KNOWN_HOSTS)} {_one(options, 'globalknownhostsfile', '')}"
    return Resolved(
        host=host,
        port=port,
        user=user,
        known_as=_one(options, "hostkeyalias", "") or (host if port == 22 else f"[{host}]:{port}"),
        identity_files=tuple(_path(text, tokens) for text in options.get("identityfile", _DEFAULT_KEYS)),
        identities_only=_one(options, "identitiesonly", "no") == "yes",
        known_hosts=tuple(_path(text, tokens) for text in files.split()),
        jumps=_jumps(_one(options, "proxyjump", "none") if jump is None else jump, config, lookup, left),
    )


def _jumps(chain: str, config: Path | None, lookup: Lookup, left: int) -> tuple[Resolved, ...]:
    """The hosts of a ProxyJump; as with ssh, only the first one's own ProxyJump counts."""
    hops: list[Resolved] = []
    for at, hop in enumerate([] if chain == "none" else chain.split(",")):
        found = _resolve(_jump(hop), "none" if at else None, config, lookup, left - 1)
        hops += [*found.jumps, replace(found, jumps=())]
    return tuple(hops)


def _jump(hop: str) -> Target:
    try:
        return parse_target(hop)
    except ValueError as error:
        raise FaultError("unreachable", f"the jump host {error}", "mend `jump` or ProxyJump", "connect") from None


def _one(options: Options, name: str, default: str) -> str:
    return next(iter(options.get(name, ())), default)


def _path(text: str, tokens: Mapping[str, str]) -> Path:
    return Path(re.sub(r"%(.)", lambda token: tokens.get(token[1], token[0]), text)).expanduser()


def _unreachable(target: Target, why: str, next_step: str = "mend its entry in the inventory or in ~/.ssh/config") -> FaultError:
    return FaultError("unreachable", f"cannot tell how to reach {target.host}: {why}", next_step, "connect")
