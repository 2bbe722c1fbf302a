"""The device commands on devices that are there: list, show, probe, trust, remove; and import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from device_commands import Command, added, at_terminal, unknown
from sshd import Sshd, free_port, public_file

from controller import inventory as inventories

# trust, remove


def test_a_reinstalled_device_is_trusted_again(fleetmark: Command, sshd: Sshd, tmp_path: Path) -> None:
    """`trust` says of the same key that it is the same, and of another than the given one that it is; a new one is pinned after both were
    shown, and no other byte changes."""
    path = tmp_path / "inventory.yaml"
    fleetmark(*added(sshd, "pi4-a", "--yes", "--host-key", sshd.host_key))
    before, old = path.read_text(), sshd.host_key
    assert "which the inventory pins" in fleetmark("device", "trust", "pi4-a").err
    other = old[:-4] + ("AAAA" if old[-4:] != "AAAA" else "BBBB")
    assert "not to be believed" in fleetmark("device", "trust", "pi4-a", "--yes", "--host-key", other, code=4).err
    assert "'' is not a host key" in fleetmark("device", "trust", "pi4-a", "--yes", "--host-key", "", code=2).err
    assert path.read_text() == before
    sshd.kill()
    sshd.new_host_key()
    sshd.start()
    new = sshd.host_key
    assert "fleetmark device trust pi4-a" in fleetmark("device", "probe", "pi4-a", code=4).err
    for words, said in (((), "no terminal"), (("--yes",), "--yes alone"), (("--host-key", new), "no terminal")):
        assert said in fleetmark("device", "trust", "pi4-a", *words, code=2).err
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
    listed = json.loads(fleetmark("device", "list", "-l", "!laptop", "--offline", "--json").out)["devices"]
    assert [one["name"] for one in listed] == ["far"]
    fleetmark("device", "list", "nobody", code=2)
    shown = json.loads(fleetmark("device", "show", "far", "--json").out)["device"]
    assert (shown["ssh"]["port"], shown["lane"]["address"]) == (2222, "192.0.2.7:2222")
    sources = shown["sources"]
    assert (sources["name"], sources["ssh.port"], sources["agent.cache_dir"]) == ("line 17", "line 19", "defaults, line 5")
    assert sources["settle.timeout_s"] == "built in"
    assert "defaults, line 5" in fleetmark("device", "show", "far").out


@pytest.mark.parametrize("words", [("doctor",), ("device", "probe", "--quick"), ("device", "setup", "--dry-run"), ("gc", "--remote")])
def test_a_disabled_device_is_asked_only_if_it_is_named(words: tuple[str, ...], fleetmark: Command, tmp_path: Path) -> None:
    """By its name, as an argument or behind -l, it is asked; with all devices it is not."""
    path = tmp_path / "inventory.yaml"
    path.write_text(path.read_text().replace("local      # no SSH", "local\n    enabled: false"))
    assert "disabled: laptop, far" in fleetmark(*words, code=5).err
    for named in (("laptop",), ("-l", "laptop")):
        done = fleetmark(*words, *named, "--json")
        assert "laptop" in done.out
        assert "far" not in done.out


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


def test_without_ssh_config_there_is_nothing_to_import(fleetmark: Command, tmp_path: Path) -> None:
    """It says which file is missing and how devices are added without."""
    done = fleetmark("device", "import", code=2)
    assert f"there is no {tmp_path}/.ssh/config" in done.err
    assert "fleetmark device add" in done.err


def test_the_device_commands_import_nothing_heavy() -> None:
    """What `--help` loads has no paramiko, pydantic, YAML or numpy in it."""
    code = "import sys, controller.cli.device; print([m for m in ('paramiko', 'pydantic', 'ruamel.yaml', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
