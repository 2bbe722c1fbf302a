"""The device commands, against real SSH servers: add, list, show, probe, trust, remove, import."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sshd import Sshd, free_port, make_key, public_file

from controller import inventory as inventories
from controller import registry
from controller.cli.__main__ import main
from controller.errors import FleetmarkError

FLEETMARK = Path(sys.executable).with_name("fleetmark")
PYTHON = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
BASE = """\
# The lab.
version: 1   # of the format

defaults:
  agent: {{cache_dir: {cache}}}   # for the tests

devices:

  # this machine
  laptop:
    kind:   local      # no SSH
    # groups: [none]

  # --- rack 2 ---

  # over there
  far:
    kind: generic
    ssh: {{ host: 192.0.2.7,   port: 2222 }}
    enabled: false

# the end
"""


class Ended(NamedTuple):
    """What a command printed and ended with."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def fleetmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in a folder with the inventory BASE, without a terminal; nothing of the real user's is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(BASE.format(cache=tmp_path / "cache"))

    def run(*words: object, code: int = 0) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fleetmark", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        done = Ended(int(ended.value.code or 0), *capsys.readouterr())
        assert done.code == code, done
        assert "Traceback" not in done.err
        return done

    return run


@pytest.fixture
def other_sshd() -> Iterator[Sshd]:
    """A second server, as a jump host that lets the first one's key in."""
    server = Sshd()
    try:
        yield server.start()
    finally:
        server.stop()


def unknown(server: Sshd) -> Path:
    """A configuration in which known_hosts knows nobody."""
    config = server.folder / "config_of_a_stranger"
    config.write_text(
        f"IdentityFile {server.client_key}\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n"
    )
    return config


def added(server: Sshd, name: str, *words: object, config: Path | None = None) -> list[object]:
    """The words of a `device add`."""
    return [
        "device",
        "add",
        name,
        f"{server.user}@127.0.0.1:{server.port}",
        "--config",
        config or unknown(server),
        "--python",
        PYTHON,
        *words,
    ]


def at_terminal(*words: object, answer: str | signal.Signals) -> tuple[int, str]:
    """The exit code and what a terminal shows of a command whose question is answered by a text or a signal."""
    ours, theirs = pty.openpty()
    command = [str(FLEETMARK), *map(str, words)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"}) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
            if shown.endswith(b"[y/N] "):
                process.send_signal(answer) if isinstance(answer, signal.Signals) else os.write(ours, answer.encode())
        os.close(ours)
    return process.returncode, shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # everybody else has closed it
        return b""


# add


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
    listed = json.loads(fleetmark("device", "list", "pis", "--json").out)["devices"]
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
        (2, "no terminal to ask at", added(shared_sshd, "pi", "--yes")),
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


# trust, remove


def test_a_reinstalled_device_is_trusted_again(fleetmark: Command, sshd: Sshd, tmp_path: Path) -> None:
    """`trust` says of the same key that it is the same; a new one is pinned after both were shown, and no other byte changes."""
    path = tmp_path / "inventory.yaml"
    fleetmark(*added(sshd, "pi4-a", "--yes", "--host-key", sshd.host_key))
    before, old = path.read_text(), sshd.host_key
    assert "which the inventory pins" in fleetmark("device", "trust", "pi4-a").err
    assert path.read_text() == before
    sshd.kill()
    sshd.new_host_key()
    sshd.start()
    new = sshd.host_key
    assert "fleetmark device trust pi4-a" in fleetmark("device", "probe", "pi4-a", code=4).err
    for words in ((), ("--yes",), ("--host-key", new)):
        assert "no terminal" in fleetmark("device", "trust", "pi4-a", *words, code=2).err
    assert "not to be believed" in fleetmark("device", "trust", "pi4-a", "--yes", "--host-key", old, code=4).err
    assert path.read_text() == before
    done = fleetmark("device", "trust", "pi4-a", "--yes", "--host-key", new)
    assert (f"pinned:    {old}" in done.err, f"presented: {new}" in done.err) == (True, True)
    assert path.read_text() == before.replace(old, new)
    fleetmark("device", "probe", "pi4-a", "--quick")
    assert "this machine" in fleetmark("device", "trust", "laptop", code=2).err


@pytest.mark.parametrize(
    "entry",
    [
        "ssh: {{host: 127.0.0.1, port: {port}, config: {config}}}  # where",
        "ssh:\n      host: 127.0.0.1  # where\n      port: {port}\n      config: {config}",
    ],
)
def test_trust_pins_where_nothing_was_pinned(entry: str, fleetmark: Command, shared_sshd: Sshd, tmp_path: Path) -> None:
    """Without a pin and unknown to known_hosts, the presented key is pinned after a yes, whatever form the entry has."""
    path = tmp_path / "inventory.yaml"
    text = "version: 1\ndevices:\n  pi:\n    kind: generic\n    " + entry.format(port=shared_sshd.port, config=unknown(shared_sshd)) + "\n"
    path.write_text(text)
    code, shown = at_terminal("device", "trust", "pi", answer="y\n")
    assert (code, "pinned:    nothing" in shown) == (0, True), shown
    kept = path.read_text()
    assert kept.replace(f', host_key: "{shared_sshd.host_key}"', "").replace(f'      host_key: "{shared_sshd.host_key}"\n', "") == text
    assert inventories.load(path).devices["pi"].ssh.host_key == shared_sshd.host_key  # pyright: ignore[reportOptionalMemberAccess]


def test_a_jump_host_with_a_new_key_is_trusted_the_same_way(fleetmark: Command, sshd: Sshd, other_sshd: Sshd, tmp_path: Path) -> None:
    """The jump host's pin is replaced and the device's stays; another device that pins the old key is named."""
    (other_sshd.folder / "authorized_keys").write_bytes(public_file(sshd.client_key).read_bytes())
    old, path = other_sshd.host_key, tmp_path / "inventory.yaml"
    words = ("--yes", "--jump", f"127.0.0.1:{other_sshd.port}", "--host-key", sshd.host_key, "--jump-host-key", old)
    fleetmark(*added(sshd, "ncs2-1", *words))
    fleetmark(*added(sshd, "ncs2-2", *words))
    other_sshd.kill()
    other_sshd.new_host_key()
    other_sshd.start()
    before = path.read_text()
    done = fleetmark("device", "trust", "ncs2-1", "--yes", "--jump-host-key", other_sshd.host_key)
    assert "still pinned by: ncs2-2" in done.err
    assert path.read_text() == before.replace(old, other_sshd.host_key, 1)


def test_removing_takes_a_device_with_its_own_comments_only(fleetmark: Command, tmp_path: Path) -> None:
    """The entry, the comments in it and right above it go; the rest stays byte for byte, and lines that still name it are told."""
    path = tmp_path / "inventory.yaml"
    text = path.read_text() + "# laptop is where it runs\n"
    path.write_text(text)
    assert "no terminal" in fleetmark("device", "remove", "laptop", code=2).err
    assert "did you mean" in fleetmark("device", "remove", "lapdog", "--yes", code=2).err
    assert path.read_text() == text
    done = fleetmark("device", "remove", "laptop", "--yes")
    entry = "  # this machine\n  laptop:\n    kind:   local      # no SSH\n    # groups: [none]\n\n"
    assert entry in text
    assert path.read_text() == text.replace(entry, "")
    assert "still names it: # laptop is where it runs" in done.err
    fleetmark("device", "remove", "far", "--yes")
    assert path.read_text().endswith("devices:\n\n  # --- rack 2 ---\n\n# the end\n# laptop is where it runs\n")


# list, show, probe, import


def test_list_and_show_tell_what_the_file_means(fleetmark: Command) -> None:
    """`list` selects, disabled devices too; `show` fills the defaults in and says where each value stands."""
    assert [one["name"] for one in json.loads(fleetmark("device", "list", "-l", "!laptop", "--json").out)["devices"]] == ["far"]
    fleetmark("device", "list", "nobody", code=2)
    shown = json.loads(fleetmark("device", "show", "far", "--json").out)["device"]
    assert (shown["ssh"]["port"], shown["lane"]["address"]) == (2222, "192.0.2.7:2222")
    sources = shown["sources"]
    assert (sources["name"], sources["ssh.port"], sources["agent.cache_dir"]) == ("line 17", "line 19", "defaults, line 5")
    assert sources["settle.timeout_s"] == "built in"
    assert "defaults, line 5" in fleetmark("device", "show", "far").out


def test_a_probe_asks_every_device_and_tells_who_did_not_answer(fleetmark: Command, shared_sshd: Sshd, tmp_path: Path) -> None:
    """One that cannot be reached costs the others nothing; the JSON document has both, and the exit code is 4."""
    path = tmp_path / "inventory.yaml"
    path.write_text(
        path.read_text().replace("host: 192.0.2.7,   port: 2222", f"host: 127.0.0.1, port: {free_port()}").replace("enabled: false", "")
    )
    fleetmark(*added(shared_sshd, "pi4-a", "--yes", "--host-key", shared_sshd.host_key))
    probes = json.loads(fleetmark("device", "probe", "--json", "--quick", code=4).out)["probes"]
    assert list(probes) == ["laptop", "far", "pi4-a"]
    assert probes["far"]["fault"]["code"] == "unreachable"
    assert probes["pi4-a"]["probe"]["cache_dir"] == str(tmp_path / "cache")
    lines = fleetmark("device", "probe", "pi4-a", "--quick").out.splitlines()
    assert all(line.startswith("pi4-a: ") for line in lines)
    assert any("memory_bytes" in line and "GB" in line for line in lines)


def test_import_takes_named_aliases_as_they_are(fleetmark: Command, tmp_path: Path) -> None:
    """Concrete aliases are listed, included files' too; those that match are added disabled, once, and nothing else changes."""
    (tmp_path / "more").write_text('host = "lab-2" lab-3 *.wild !not\nInclude more\n')
    (tmp_path / "config").write_text(f"Include {tmp_path}/mo*\nHost lab-1 gw\n  User bench\nMatch host x\nHost *\n  Port 22\n")
    path = tmp_path / "inventory.yaml"
    before = path.read_bytes()
    listed = fleetmark("device", "import", "--config", "config")
    assert [line.split()[0] for line in listed.out.splitlines() if line.strip()][2:] == ["lab-2", "lab-3", "lab-1", "gw"]
    assert fleetmark("device", "import", "--config", "config", "--dry-run", "lab-*").out.count("would be added") == 3
    fleetmark("device", "import", "--config", "config", "web-*", code=2)
    assert path.read_bytes() == before
    for expected in (3, 0):
        assert fleetmark("device", "import", "--config", "config", "lab-*").out.count("added, disabled") == expected
    devices = inventories.load(path).devices
    assert list(devices) == ["laptop", "far", "lab-2", "lab-3", "lab-1"]
    device = devices["lab-2"]
    assert device.ssh
    assert (device.kind, device.enabled, device.ssh.host, device.ssh.user) == ("generic", False, "lab-2", None)


# The file


COMMENTS = st.sampled_from(["", "\n", "  # about it\n", "# at the margin\n", "      # deep\n", "\n  # after a gap\n\n", "  # ü ☂ \u2028\n"])
ENTRIES = st.sampled_from(
    [
        "  {}:\n    kind: local\n",
        "  {}: {{kind: local}}  # here\n",
        '  "{}":\n      kind: generic\n      ssh:\n        host: a.lab\n\n      enabled: false\n',
        "  {}:\n    kind: generic\n    groups:\n    - pis\n    ssh: {{host: a.lab,\n      port: 22}}\n",
    ]
)
TAILS = st.sampled_from(["", "\n\n", "# the end\n", "meters: {}\n", "\n# meters\nmeters:\n  plug: {driver: shelly, boundary: wall}\n"])


@given(
    entries=st.lists(st.tuples(COMMENTS, ENTRIES, COMMENTS), max_size=3),
    tail=TAILS,
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
    is_cut=st.booleans(),
)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_adding_and_removing_gives_the_file_as_it_was(
    entries: list[tuple[str, str, str]], tail: str, end: str, mark: str, is_cut: bool, tmp_path: Path
) -> None:
    """Whatever comments, gaps, line ends and forms of entry a file has; and what is added is what is read."""
    body = "".join(above + entry.format(f"d{at}") + below for at, (above, entry, below) in enumerate(entries))
    text = mark + f"# lab\nversion: 1\ndevices:   # all\n{body}{tail}".replace("\n", end)
    text = text.rstrip() if is_cut else text
    path = tmp_path / "inventory.yaml"
    path.write_bytes(text.encode())
    before = list(inventories.load(path).devices)
    registry.add(path, {"new": {"kind": "local", "tags": {"a": "yes", "b": "1"}}, "newer": {"kind": "generic", "ssh": {"host": "x"}}})
    devices = inventories.load(path).devices
    assert list(devices) == [*before, "new", "newer"]
    assert devices["new"].tags == {"a": "yes", "b": "1"}
    registry.remove(path, "newer")
    registry.remove(path, "new")
    assert path.read_bytes() == text.encode()


def test_an_edit_that_would_change_more_is_refused(tmp_path: Path) -> None:
    """A device that others take their values from, or one in braces, is left to a person; the file stays."""
    path = tmp_path / "inventory.yaml"
    for text in (
        "version: 1\ndevices:\n  a: &a\n    kind: local\n  b: *a\n",
        "version: 1\ndevices: {a: {kind: local}, b: {kind: local}}\n",
    ):
        path.write_text(text)
        with pytest.raises(FleetmarkError):
            registry.remove(path, "a")
        assert path.read_text() == text
    key = "ssh-ed25519 SHA256:" + "A" * 43
    text = f"version: 1\ndevices:\n  a: {{kind: generic, ssh: &s {{host: x, host_key: {key}}}}}\n  b: {{kind: generic, ssh: *s}}\n"
    path.write_text(text)
    with pytest.raises(FleetmarkError):
        registry.pin(path, "b", {"host_key": key.replace("A", "B")})
    assert path.read_text() == text


def test_edits_at_the_same_time_all_land_and_the_mode_stays(tmp_path: Path) -> None:
    """Many that add at once lose nothing of each other; the file keeps its mode, a link to it stays a link, no other file is left."""
    real = tmp_path / "real.yaml"
    real.write_text("version: 1\ndevices: {}\n")
    real.chmod(0o640)
    path = tmp_path / "inventory.yaml"
    path.symlink_to(real)
    threads = [threading.Thread(target=registry.add, args=(path, {f"d{at}": {"kind": "local"}})) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(inventories.load(path).devices) == [f"d{at}" for at in range(8)]
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["inventory.yaml", "real.yaml"]


def test_the_device_commands_import_nothing_heavy() -> None:
    """What `--help` loads has no paramiko, pydantic, YAML or numpy in it."""
    code = "import sys, controller.cli.device; print([m for m in ('paramiko', 'pydantic', 'ruamel.yaml', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
