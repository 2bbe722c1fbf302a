"""`fleetmark device add` against real SSH servers."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from device_commands import PYTHON, Command, added, at_terminal
from sshd import Sshd, free_port, make_key, public_file

from agent.description import Accelerator, Probe
from controller import inventory as inventories
from controller import kinds, remote


def test_devices_are_added_and_every_other_line_stays(fleetmark: Command, shared_sshd: Sshd, tmp_path: Path) -> None:
    """Two devices added by script are probed and pinned, with tags and groups; the file's own lines keep each byte and their order."""
    path = tmp_path / "inventory.yaml"
    before = path.read_text()
    words = ("--yes", "--host-key", shared_sshd.host_key)
    first = fleetmark(*added(shared_sshd, "pi4-a", *words, "--tag", "room=lab2", "--group", "pis"))
    second = fleetmark(*added(shared_sshd, "pi4-b", *words, "--group", "pis", "--kind", "raspberry-pi", "--backend", "tflite"))
    written = ["".join(f"  {line}\n" for line in done.out.splitlines()) for done in (first, second)]
    head, tail = before.split("\n# the end")
    assert path.read_text() == f"{head}\n{written[0]}\n{written[1]}\n# the end{tail}"
    listed = json.loads(fleetmark("device", "list", "pis", "--offline", "--json").out)["devices"]
    assert [one["name"] for one in listed] == ["pi4-a", "pi4-b"]
    assert listed[0]["ssh"]["host_key"] == shared_sshd.host_key
    assert (listed[0]["tags"], listed[1]["kind"], listed[1]["backends"]) == ({"room": "lab2"}, "raspberry-pi", ["tflite"])
    assert "found: " in first.err
    assert "next: fleetmark doctor pi4-a" in first.err


def test_a_device_behind_a_jump_host_has_both_keys_pinned(fleetmark: Command, sshd: Sshd, other_sshd: Sshd, tmp_path: Path) -> None:
    """Both keys are shown and pinned; without the jump host's, or with a wrong one, nothing is written."""
    (other_sshd.folder / "authorized_keys").write_bytes(public_file(sshd.client_key).read_bytes())
    path = tmp_path / "inventory.yaml"
    before = path.read_bytes()
    words = added(sshd, "ncs2-1", "--yes", "--jump", f"127.0.0.1:{other_sshd.port}", "--host-key", sshd.host_key)
    refused = fleetmark(*words, code=2)
    assert f'--jump-host-key "{other_sshd.host_key}"' in refused.err
    assert "the jump host" in fleetmark(*words, "--jump-host-key", sshd.host_key, code=4).err
    assert path.read_bytes() == before
    fleetmark(*words, "--jump-host-key", other_sshd.host_key)
    ssh = inventories.load(path).devices["ncs2-1"].ssh
    assert ssh
    assert (ssh.host_key, ssh.jump_host_key) == (sshd.host_key, other_sshd.host_key)
    fleetmark("device", "probe", "ncs2-1", "--quick")


def test_what_cannot_be_added_is_one_error_and_leaves_the_file(fleetmark: Command, shared_sshd: Sshd, tmp_path: Path) -> None:
    """A name that exists or is none, wrong options, a closed port, a wrong or unknown key, a refused login: the file stays as it is."""
    path = tmp_path / "inventory.yaml"
    before = path.read_bytes()
    wrong = "ssh-ed25519 SHA256:" + "A" * 43
    given = ("--yes", "--host-key", shared_sshd.host_key)
    stranger = tmp_path / "stranger"
    stranger.write_text(f"IdentityFile {make_key(tmp_path / 'key')}\nIdentitiesOnly yes\n")
    for code, said, words in (
        (2, "has a device called laptop already", added(shared_sshd, "laptop", *given)),
        (2, "is not a name", added(shared_sshd, "pi 4", *given)),
        (2, "has a meaning in selectors", added(shared_sshd, "all", *given)),
        (2, "KEY=VALUE expected", added(shared_sshd, "pi", *given, "--tag", "lab2")),
        (2, "raspberry-pi", added(shared_sshd, "pi", *given, "--kind", "rasberry-pi")),
        (2, "onnxruntime", added(shared_sshd, "pi", *given, "--backend", "onnx")),
        (2, "holds a secret", added(shared_sshd, "pi", *given, "--tag", "password=abc")),
        (2, "is not a host key", added(shared_sshd, "pi", "--host-key", "SHA256:abc")),
        (2, "--kind local is this machine", added(shared_sshd, "pi", "--kind", "local")),
        (2, "no terminal to ask at", added(shared_sshd, "pi")),
        (2, "--yes alone trusts no key", added(shared_sshd, "pi", "--yes")),
        (2, "no terminal to ask at", added(shared_sshd, "pi", "--host-key", shared_sshd.host_key)),
        (4, f"it presented {shared_sshd.host_key}, not {wrong}", added(shared_sshd, "pi", "--yes", "--host-key", wrong)),
        (4, "Connection refused", ["device", "add", "pi", f"127.0.0.1:{free_port()}", "--yes"]),
        (4, "does not let", added(shared_sshd, "pi", *given, config=stranger)),
        (3, "cannot be run there", [*added(shared_sshd, "pi", *given), "--python", "/nowhere/python3"]),
        (2, "No such file", [*added(shared_sshd, "pi", *given), "--inventory", "nowhere/inventory.yaml"]),
    ):
        done = fleetmark(*words, code=code)
        assert said in done.err, done
        assert done.err.count("error[") == 1
        assert done.out == ""
        assert path.read_bytes() == before
    assert not list(tmp_path.glob(".inventory*"))


def test_a_key_in_known_hosts_needs_no_question_and_another_one_is_refused(fleetmark: Command, sshd: Sshd, tmp_path: Path) -> None:
    """A key that known_hosts has is pinned without a terminal; one that contradicts it, or is revoked, is not believed."""
    fleetmark(*added(sshd, "known", config=sshd.config))
    assert inventories.load(tmp_path / "inventory.yaml").devices["known"].ssh.host_key == sshd.host_key  # pyright: ignore[reportOptionalMemberAccess]
    before = (tmp_path / "inventory.yaml").read_bytes()
    (sshd.folder / "known_hosts").write_text(f"@revoked {sshd.known_hosts_line}")
    assert "@revoked" in fleetmark(*added(sshd, "revoked", "--yes", "--host-key", sshd.host_key, config=sshd.config), code=4).err
    another = public_file(make_key(tmp_path / "another")).read_text()
    (sshd.folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {another}")
    assert "known_hosts has SHA256:" in fleetmark(*added(sshd, "changed", config=sshd.config), code=4).err
    assert (tmp_path / "inventory.yaml").read_bytes() == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\x04", 2), (signal.SIGINT, 130)])
def test_a_person_decides_at_the_terminal(
    answer: str | signal.Signals, code: int, fleetmark: Command, shared_sshd: Sshd, tmp_path: Path
) -> None:
    """Kind and fingerprint are shown before the question; only a yes writes, and a Ctrl-C leaves the file untouched."""
    path = tmp_path / "inventory.yaml"
    before = path.read_bytes()
    ended, shown = at_terminal(*added(shared_sshd, "pi4-a"), answer=answer)
    assert ended == code, shown
    assert shared_sshd.host_key in shown.partition("[y/N]")[0]
    assert (path.read_bytes() == before) == (code != 0)
    assert not list(tmp_path.glob(".inventory*"))


def test_the_first_device_makes_the_file(fleetmark: Command, tmp_path: Path) -> None:
    """Without an inventory.yaml one is made, headed like that of `init`; this machine needs no host. A second device follows."""
    (tmp_path / "inventory.yaml").unlink()
    fleetmark("device", "add", "laptop", "--kind", "local", "--python", PYTHON)
    fleetmark("device", "add", "again", "--kind", "local", "--python", PYTHON)
    text = (tmp_path / "inventory.yaml").read_text()
    fleetmark("init", "elsewhere", code=2)
    (tmp_path / "elsewhere").mkdir()
    fleetmark("init", "elsewhere")
    assert text.splitlines()[:3] == (tmp_path / "elsewhere/inventory.yaml").read_text().splitlines()[:3]
    assert list(inventories.load(tmp_path / "inventory.yaml").devices) == ["laptop", "again"]


def test_an_alias_stays_an_alias(fleetmark: Command, shared_sshd: Sshd, tmp_path: Path) -> None:
    """What ~/.ssh/config says of an alias is used and not copied; NAME itself is the alias where no host is given."""
    entry = f"Host board\n HostName 127.0.0.1\n Port {shared_sshd.port}\n User {shared_sshd.user}\n IdentityFile {shared_sshd.client_key}\n"
    config = tmp_path / "config"
    config.write_text(f"{entry} UserKnownHostsFile {shared_sshd.folder}/known_hosts\n")
    fleetmark("device", "add", "board", "--config", "config", "--python", PYTHON)
    ssh = inventories.load(tmp_path / "inventory.yaml").devices["board"].ssh
    assert ssh
    assert (ssh.host, ssh.user, ssh.port, ssh.config) == ("board", None, None, config)
    shown = json.loads(fleetmark("device", "show", "board", "--json").out)["device"]
    assert shown["lane"] == {"address": f"127.0.0.1:{shared_sshd.port}", "user": shared_sshd.user}


def test_a_chain_of_jump_hosts_is_met_one_by_one(fleetmark: Command, sshd: Sshd, shared_sshd: Sshd, other_sshd: Sshd) -> None:
    """Only the last jump host can be pinned: one before it has to be in known_hosts, which the refusal says."""
    sshd.write_config(f"IdentityFile {shared_sshd.client_key}\nIdentityFile {other_sshd.client_key}")
    (sshd.folder / "known_hosts").write_text("")
    chain = f"127.0.0.1:{shared_sshd.port},127.0.0.1:{other_sshd.port}"
    words = ("--yes", "--jump", chain, "--host-key", sshd.host_key, "--jump-host-key", other_sshd.host_key)
    refused = fleetmark(*added(sshd, "far-away", *words, config=sshd.config), code=4)
    assert f"the jump host 127.0.0.1:{shared_sshd.port} of far-away has a key that known_hosts does not have" in refused.err
    (sshd.folder / "known_hosts").write_text(shared_sshd.known_hosts_line)
    fleetmark(*added(sshd, "far-away", *words, config=sshd.config))
    assert "through" in fleetmark("device", "show", "far-away").out


def fake_probe(board: str, *accelerators: Accelerator) -> Probe:
    """What a board of HARDWARE.md that is not here would say of itself."""
    empty = {float: 0.0, int: 0, str: ""}
    fields: dict[str, Any] = {name: empty.get(kind, []) for name, kind in Probe.__annotations__.items()}
    return Probe(**{**fields, "board": board, "accelerators": list(accelerators)})


def fake_stick(kind: str, path: str, speed_mbps: float | None = 5000.0) -> Accelerator:
    return Accelerator(kind, kind, path, speed_mbps, "", {})


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (fake_probe("Raspberry Pi 4 Model B Rev 1.4"), ["raspberry-pi"]),
        (fake_probe("NVIDIA Jetson Nano Developer Kit", fake_stick("jetson-gpu", "")), ["jetson-nano"]),
        (fake_probe("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"), ["jetson"]),
        (fake_probe("A carrier board", fake_stick("jetson-gpu", "")), ["jetson"]),
        (fake_probe("Freescale i.MX8MQ Phanbell", fake_stick("coral-dev-board", "/dev/apex_0", None)), ["coral-dev-board"]),
        (fake_probe("", fake_stick("coral-pcie", "/dev/apex_0", None)), ["coral-pcie"]),
        (fake_probe("Raspberry Pi 5 Model B Rev 1.0", fake_stick("coral-usb", "2-1.4")), ["raspberry-pi", "coral-usb"]),
        (fake_probe("", fake_stick("ncs2", "2-1.3"), fake_stick("ncs2", "2-1.4")), ["ncs2", "ncs2"]),
        (fake_probe("NUC", fake_stick("nvidia-gpu", "0000:01:00.0"), fake_stick("ncs1", "1-1")), ["generic"]),
    ],
)
def test_the_kind_follows_from_what_the_device_says_it_is(probe: Probe, expected: list[str]) -> None:
    """The board before what is plugged into it; several sticks are several candidates; `generic` for all else."""
    assert [each.kind for each in kinds.candidates(probe)] == expected


def test_each_stick_of_a_host_gets_its_own_port(
    fleetmark: Command, shared_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two NCS2 and a Coral in one host become three devices with a port each; what else there is, and a slow port, are told."""
    sticks = (fake_stick("ncs2", "1-2", 480.0), fake_stick("ncs2", "2-1.4"), fake_stick("coral-usb", "2-1.3"))
    monkeypatch.setattr(remote.Remote, "probe", lambda *_: fake_probe("\x1b[31mNUC", *sticks))
    words = ("--yes", "--host-key", shared_sshd.host_key)
    first = fleetmark(*added(shared_sshd, "ncs2-a", *words))
    assert (
        "it could also be, under a name of its own: --kind ncs2 (USB port 2-1.4, 5000 Mbit/s); --kind coral-usb (USB port 2-1.3"
        in first.err
    )
    assert "480 Mbit/s: plug it into a USB 3 port" in first.err
    assert "\x1b" not in first.err
    fleetmark(*added(shared_sshd, "ncs2-b", *words, "--kind", "ncs2"))
    fleetmark(*added(shared_sshd, "coral", *words, "--kind", "coral-usb"))
    assert "no ncs2 that is not entered yet" in fleetmark(*added(shared_sshd, "ncs2-c", *words, "--kind", "ncs2")).err
    devices = inventories.load(tmp_path / "inventory.yaml").devices.values()
    found = {each.name: (each.kind, each.usb.path if each.usb else "") for each in devices}
    assert found["ncs2-a"] == ("ncs2", "1-2")
    assert found["ncs2-b"] == ("ncs2", "2-1.4")
    assert found["coral"] == ("coral-usb", "2-1.3")
    assert found["ncs2-c"] == ("ncs2", "")
