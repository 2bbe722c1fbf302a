"""Host keys and hosts: a host, a pin, a target as a person types it, a line each; then known_hosts, an empty line, ssh's configuration."""

import os
from collections.abc import Iterator
from unittest import mock

from test_transport import ED25519, OTHER, hashed
from yaml_samples import KEY

from controller import hostkeys, sshconfig
from controller.hostkeys import HostKey
from fuzz import folder

DECLARED = (ValueError,)
WORDS = (
    "ssh-ed25519",
    "SHA256:",
    "@revoked",
    "@cert-authority",
    "|1|",
    "[pi]:2222",
    "*",
    "!",
    ",",
    "Host ",
    "Include ",
    "=",
    '"',
    "*a" * 30,
)
FOLDER = folder()
KNOWN = FOLDER / "known_hosts"
CONFIG = FOLDER / ".ssh" / "config"
CONFIG.parent.mkdir()


def seeds() -> Iterator[bytes]:
    """Each form of an entry, of a pin and of a target."""
    keys = f"pi,*.lab ssh-ed25519 {ED25519} me\n{hashed('pi')} ssh-ed25519 {OTHER}\n@revoked * ssh-rsa {OTHER}\n*,!pi ssh-rsa {ED25519}\n"
    config = "Host pi p? *.lab !x\n  User=me\nHost nano\nInclude c*\n"
    for host, pin, target in (("pi", KEY, "me@pi:22"), ("[pi]:2222", "ssh-rsa SHA256:x", "[fe80::1]:2222"), ("a" * 40, "", "ssh://me@pi/")):
        yield f"{host}\n{pin}\n{target}\n{keys}\n{config}".encode()


@mock.patch.dict(os.environ, HOME=str(FOLDER))  # what ~/.ssh is: no Include leads to anybody's
def one(data: bytes) -> None:
    """known_hosts and configurations never fail, a pin and a target say that they are none; no key is believed that no entry has."""
    host, pin, target, rest = ([*data.decode("utf-8", "replace").split("\n", 3), "", "", ""])[:4]
    keys, _, config = rest.partition("\n\n")
    KNOWN.write_text(keys, encoding="utf-8")
    CONFIG.write_text(config.replace("/", "").replace("..", ""), encoding="utf-8")
    found = hostkeys.known([KNOWN], host)
    assert found.refusal(HostKey("ssh-ed25519", b"nobody's"))
    assert not set(found.revoked) & {key for key in found.keys if not found.refusal(key)}
    assert all(not set(alias) & set("*?!") for alias in sshconfig.aliases(CONFIG))
    wanted = sshconfig.parse_target(target)
    assert wanted.host
    assert wanted.port is None or 0 < wanted.port < 65536
    parsed = hostkeys.parse_pin(pin)
    assert f"{parsed.kind} {parsed.fingerprint}" == pin
