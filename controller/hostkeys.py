"""Which host keys are believed: the one that the inventory pins, or those that OpenSSH's known_hosts files hold."""

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.schema import FaultError

_PIN = re.compile(r"([a-z0-9@.-]+) (SHA256:[A-Za-z0-9+/]{43})")


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key: `kind` as SSH names it (ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, ...), `blob` as it travels."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it: SHA256 and unpadded base64."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def pin(self) -> str:
        """As the inventory writes it: kind and fingerprint."""
        return f"{self.kind} {self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Believes one key, by its kind and fingerprint."""

    kind: str
    fingerprint: str

    is_new = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of key to ask the server for."""
        return (self.kind,)

    def refusal(self, key: HostKey) -> str:
        """Why `key` is not believed; empty if it is."""
        is_same = key.kind == self.kind and hmac.compare_digest(key.fingerprint, self.fingerprint)
        return "" if is_same else f"it presented {key.fingerprint}, the inventory pins {self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Known:
    """Believes what known_hosts files hold for `host`."""

    host: str
    keys: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]

    @property
    def is_new(self) -> bool:
        """Whether nothing is known of the host yet."""
        return not self.keys and not self.revoked

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of key to ask the server for; none: any, for nothing is known."""
        return tuple(dict.fromkeys(key.kind for key in self.keys))

    def refusal(self, key: HostKey) -> str:
        """Why `key` is not believed; empty if it is."""
        if key in self.revoked:
            return f"it presented {key.fingerprint}, which known_hosts marks @revoked"
        if key in self.keys:
            return ""
        if not self.keys:
            return f"it presented {key.pin}, but known_hosts has no key of {self.host} and the inventory pins none"
        held = ", ".join(known.fingerprint for known in self.keys if known.kind == key.kind) or f"only {', '.join(self.kinds)}"
        return f"it presented {key.fingerprint}, known_hosts has {held}"


def parse_pin(text: str) -> Pinned:
    """The pin written as "ssh-ed25519 SHA256:..."; raises ValueError."""
    match = _PIN.fullmatch(text)
    if not match:
        raise ValueError(f'{text!r} is not a host key like "ssh-ed25519 SHA256:" and 43 characters, as ssh-keygen -l prints it')
    return Pinned(match[1], match[2])


def known(files: Sequence[Path], host: str) -> Known:
    """What `files` hold for `host`, written [host]:port where the port is not 22: plain, hashed and wildcard entries, no authorities."""
    entries = [entry for file in files if file.is_file() for entry in _entries(file.read_text("utf-8", "replace"), host.lower())]
    revoked = tuple(key for marker, key in entries if marker == "@revoked")
    return Known(host, tuple(key for marker, key in entries if not marker), revoked)


def refused(device: str, label: str, why: str, *, is_new: bool) -> FaultError:
    """The error for a host key of `device`, or of a jump host on the way, that is not believed; `label` names it with its address."""
    trust = f"fleetmark device trust {device}"
    changed = f"if you reinstalled it: {trust}\notherwise treat it as a possible interception"
    advice = f"compare it with what `ssh-keygen -lf` says on the device, then: {trust}" if is_new else changed
    return FaultError("host_key", f"refusing to connect to {label}: {why}", advice, "connect")


def public_blob(private: Path) -> bytes:
    """The public key in the .pub file beside a private one; empty if there is none."""
    with suppress(OSError, ValueError, IndexError):
        return base64.b64decode(Path(f"{private}.pub").read_bytes().split()[1], validate=True)
    return b""


def _entries(text: str, name: str) -> Iterator[tuple[str, HostKey]]:
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or not _matches(fields[0], name):
            continue
        try:
            yield marker, HostKey(fields[1], base64.b64decode(fields[2], validate=True))
        except binascii.Error:
            continue


def _matches(patterns: str, name: str) -> bool:
    """Whether a first field of known_hosts, a hash or patterns with `*`, `?` and leading `!`, names the host."""
    if patterns.startswith("|1|"):
        return _matches_hash(patterns, name)
    hits = [pattern for pattern in patterns.lower().split(",") if _fits(pattern.removeprefix("!"), name)]
    return bool(hits) and not any(pattern.startswith("!") for pattern in hits)


def _fits(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))  # no set of characters here: [host]:port


def _matches_hash(field: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in field[3:].split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), digest)
