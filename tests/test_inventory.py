"""inventory.yaml is read strictly: every key of the format is taken, and whatever is wrong is said with its place, all at once."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from yaml_samples import INVENTORY, KEY

from controller import inventory, yamlfile
from controller.errors import ConfigError, ExitCode, Problem, exit_code, render

Load = Callable[[str], inventory.Inventory]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    path = tmp_path / "inventory.yaml"

    def from_text(text: str) -> inventory.Inventory:
        path.write_text(text, encoding="utf-8")
        return inventory.load(path)

    return from_text


def problems(load: Load, text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert exit_code(caught.value) == ExitCode.USAGE == 2
    return list(caught.value.problems)


def device(entry: str) -> str:
    return f"version: 1\nmeters:\n  plug: {{driver: shelly, url: http://h}}\ndevices:\n  d: {entry}\n"


def test_every_key_of_the_format_is_taken(load: Load) -> None:
    """The inventory of the interface document loads, typed, with the defaults filled in."""
    read = load(INVENTORY)
    pi, coral, builder = read.devices["pi4-a"], read.devices["coral-1"], read.devices["builder"]
    assert list(read.devices) == ["laptop", "pi4-a", "nano-a", "ncs2-1", "coral-1", "builder"]
    assert (pi.name, pi.kind, pi.backends, pi.groups, pi.tags["room"]) == (
        "pi4-a",
        "raspberry-pi",
        ("tflite", "onnxruntime"),
        ("pis",),
        "lab2",
    )
    assert pi.ssh is not None
    assert (pi.ssh.host, pi.ssh.user, pi.ssh.host_key, pi.ssh.connect_timeout_s) == ("192.0.2.11", "bench", KEY, 10.0)
    assert (pi.agent.python, pi.agent.env) == ("/usr/bin/python3", {"OMP_NUM_THREADS": "4"})
    assert (pi.settle.max_temp_c, pi.settle.timeout_s) == (50.0, 600.0)
    assert coral.usb is not None
    assert (coral.usb.path, coral.usb.min_speed_mbps, coral.meter) == ("2-1.4", 5000.0, "plug-3")
    assert coral.price is not None
    assert (coral.price.amount, coral.price.currency) == (60.0, "USD")
    assert read.meters["plug-3"].boundary == "wall"
    assert (builder.compile_host, builder.enabled, pi.enabled) == (True, False, True)


def test_this_machine_takes_no_ssh_from_the_defaults(load: Load) -> None:
    """Defaults for SSH reach devices that have SSH, and no others."""
    read = load(INVENTORY)
    assert read.devices["laptop"].ssh is None
    assert read.devices["laptop"].settle.max_temp_c == 50.0


def test_a_device_overrides_a_default_key_by_key(load: Load) -> None:
    """Mappings are merged, what the device says wins, and a default that it does not mention stays."""
    text = "version: 1\ndefaults: {ssh: {user: a, port: 7}, tags: {x: '1', y: '2'}, groups: [g]}\n"
    read = load(text + "devices:\n  d: {kind: generic, ssh: {host: h, user: b}, tags: {y: '3'}, groups: [k]}\n").devices["d"]
    assert read.ssh is not None
    assert (read.ssh.user, read.ssh.port, dict(read.tags), read.groups) == ("b", 7, {"x": "1", "y": "3"}, ("k",))


def test_nothing_can_be_changed_after_reading(load: Load) -> None:
    """Records are frozen."""
    with pytest.raises(ValueError, match="frozen"):
        load(INVENTORY).devices["laptop"].kind = "generic"  # type: ignore[misc]


def test_an_empty_mapping_may_be_left_blank(load: Load) -> None:
    """A known key whose entries are all commented out counts as absent; that is how a first inventory begins."""
    assert load("version: 1\nmeters:\n  # none\ndevices:\n  # none yet\n").devices == {}


MISTAKES = [
    ("ssh: {hots: h, host: h}, kind: generic", "hots", "unknown key `hots`: did you mean `host`?"),
    (
        "ssh: {host: h, connect_timeout_ms: 5}, kind: generic",
        "connect_timeout_ms",
        "did you mean `connect_timeout_s`? it is given in seconds",
    ),
    ("ssh: {host: h, connect_timeout: 5}, kind: generic", "connect_timeout", "did you mean `connect_timeout_s`? it is given in seconds"),
    ("kind: local, settle: {max_temp_f: 120}", "max_temp_f", "did you mean `max_temp_c`? it is given in degrees Celsius"),
    ("kind: local, usb: {path: 2-1, min_speed_gbps: 5}", "min_speed_gbps", "did you mean `min_speed_mbps`?"),
    ("kind: local, hosst: x", "hosst", "unknown key `hosst`"),
    ("kind: generic, host: x", "host", "it belongs under `ssh`"),
    ("kind: generic, name: x, ssh: {host: h}", "name", "unknown key `name`"),
    (
        "kind: generic, ssh: {host: h, connect_timeout_s: 10s}",
        "10s",
        "`connect_timeout_s`: a number expected, not text; write the bare number, in seconds",
    ),
    ("kind: generic, ssh: {host: h, connect_timeout_s: -1}", "-1", "must be greater than 0"),
    ("kind: generic, ssh: {host: h, port: 65536}", "65536", "must be less than or equal to 65535"),
    ("kind: generic, ssh: {host: h, port: 22.5}", "22.5", "a whole number expected, not a decimal number"),
    ("kind: generic, ssh: {host: h, port: true}", "true", "a whole number expected, not true or false"),
    ("kind: generic, ssh: {host: 'h:22'}", "'h:22'", "write `port: NUMBER` beside it"),
    ("kind: generic, ssh: {host: u@h}", "u@h", "write `user: NAME` beside it"),
    ("kind: generic, ssh: {host: -oProxyCommand=x}", "-oProxy", "is not a host name"),
    ("kind: generic, ssh: {host: h, user: -x}", "-x", "`user`"),
    ("kind: generic, ssh: {host: h, jump: 'a b'}", "'a b'", "[user@]host[:port] expected"),
    ("kind: generic, ssh: {host: h, host_key: SHA256:abc}", "SHA256:abc", "is not a host key"),
    (f"kind: generic, ssh: {{host: h, host_key: {KEY[:-1]}}}", KEY[:-1], "is not a host key"),
    (f"kind: generic, ssh: {{host: h, host_key: {KEY.replace('25519', '25518')}}}", "ssh-ed25518", "did you mean `ssh-ed25519`?"),
    ("kind: generic", "d:", "`ssh` is missing"),
    ("kind: local, ssh: {host: h}", "d:", "has no `ssh`"),
    ("kind: rasberry-pi, ssh: {host: h}", "rasberry-pi", "did you mean `raspberry-pi`?"),
    ("kind: 5", "5}", "one of local, generic"),
    ("kind: local, backends: [tflit]", "tflit", "no backend is called `tflit`; did you mean `tflite`?"),
    ("kind: local, backends: [tflite, tflite]", "[tflite", "`tflite` stands here twice"),
    ("kind: local, backends: tflite", "tflite", "a list expected, not text; write it in [brackets]"),
    ("kind: local, meter: plgu", "plgu", "no meter is called `plgu` under `meters`; did you mean `plug`?"),
    ("kind: local, power: {driver: rapl, boundary: wal}", "wal", "did you mean `wall`?"),
    ("kind: local, usb: {path: two}", "two", "`path`"),
    ("kind: local, price: {amount: 3}", "price", "`currency` is missing in `price`"),
    ("kind: local, price: {amount: -3, currency: EUR}", "-3", "must be greater than or equal to 0"),
    ("kind: local, settle: {max_temp_c: 400}", "400", "must be less than or equal to 125"),
    ("kind: local, agent: {env: {OMP_NUM_THREADS: 4}}", "4", "text expected, not a whole number; write it in quotes"),
    ("kind: local, agent: {env: {'A B': x}}", "'A B'", "`A B`"),
    ("kind: local, tags: {kind: x}", "kind: x", "has a meaning in selectors"),
    ("kind: local, tags: {room: }", "room", "text expected, not nothing"),
    ("kind: local, groups: [d]", "d]", "is a device's name"),
    ("kind: local, enabled: maybe", "maybe", "true or false expected, not text"),
    ("kind: local, kind: local", "kind: local}", "`kind` stands here twice, first in line 5"),
    ("kind: local, expect: {power_mode: !!binary aGk=}", "!!binary", "a YAML tag"),
    ("kind: local, expect: !foo {}", "!foo", "a YAML tag"),
    ('kind: local, expect: {power_mode: "a\\eb"}', '"a', "another character that is not printed"),
    ("kind: local, price: {amount: .nan, currency: EUR}", ".nan", "not a finite number"),
    ("kind: local, 5: x", "5", "`5` is not read as text: write it in quotes"),
    ("kind: local, [a]: x", "[a]", "a name expected, not a list or a mapping"),
    ("kind: local, <<: {enabled: false}", "<<", "`<<` is not taken here"),
]


@pytest.mark.parametrize(("entry", "at", "said"), MISTAKES, ids=[entry for entry, _, _ in MISTAKES])
def test_a_mistake_is_said_with_its_place(load: Load, entry: str, at: str, said: str) -> None:
    """One mistake gives one problem, at the line and column where it stands, with the way out."""
    text = device("{" + entry + "}")
    found = problems(load, text)
    line = text.splitlines()[4]
    assert [(one.line, said in one.message) for one in found] == [(5, True)], found
    assert line[found[0].column - 1 :].startswith(at)


@pytest.mark.parametrize(
    "entry",
    [
        "kind: generic, ssh: {host: h, password: hunter2}",
        "kind: generic, ssh: {host: h, passphrase: hunter2}",
        "kind: generic, ssh: {host: h, password: [hunter2]}",
        "kind: generic, ssh: {host: h, key_passphrase: {a: hunter2}}",
        "kind: generic, ssh: {host: 'root:hunter2@h'}",
        "kind: generic, ssh: {host: h, jump: 'root:hunter2@h'}",
        "kind: local, agent: {env: {HF_TOKEN: hunter2}}",
        "kind: local, agent: {env: {PROXY: 'http://me:hunter2@proxy:3128'}}",
        "kind: local, agent: {env: {PROXY: 'http://me:hun:ter2@x@proxy:3128'}}",
        "kind: local, tags: {api_key: hunter2}",
        "kind: local, tags: {clientSecret: hunter2}",
        "kind: local, tags: {a: 'http://h/?token=hunter2'}",
        "kind: local, tags: {'http://me:hunter2@h': x}",
        "kind: local, token: hunter2",
        "kind: local, token: 'env:'",
    ],
)
def test_a_secret_is_refused_and_not_repeated(load: Load, entry: str) -> None:
    """A password, passphrase, token or user:password@ is one problem with its place; the message does not show the secret."""
    found = problems(load, device("{" + entry + "}"))
    assert [one.line for one in found] == [5]
    assert "secret" in found[0].message
    assert not any(word in found[0].message for word in ("hunter2", "hun:ter2", "ter2"))


def test_a_token_may_be_referred_to(load: Load) -> None:
    """env:NAME and file:PATH say where a token is; that is not the token."""
    meters = "meters:\n  a: {driver: shelly, url: http://a, token: env:A}\n  b: {driver: shelly, url: http://b, token: file:~/b}\n"
    read = load("version: 1\n" + meters)
    assert [meter.token for meter in read.meters.values()] == ["env:A", f"file:{Path('~/b').expanduser()}"]


def test_even_a_referred_password_logs_nobody_in(load: Load) -> None:
    """There is no key for a password at all."""
    (found,) = problems(load, device("{kind: generic, ssh: {host: h, password: env:P}}"))
    assert found.message == "unknown key `password`: keys and the SSH agent log in, no file holds a secret"


def test_all_mistakes_are_told_at_once_in_order(load: Load) -> None:
    """Syntax aside, a person sees every mistake in the file's order: those of the reading and those of the records."""
    text = "version: 2\nmeters:\n  m: {driver: x, boundary: wal, url: 'http://a:b@c'}\n"
    text += "devices:\n  a: {kind: local, meter: n}\n  a: {kind: local}\n  b: {kid: local}\n"
    found = problems(load, text)
    assert [one.line for one in found] == [1, 3, 3, 3, 5, 6, 7, 7]
    assert found == sorted(found)


def test_the_error_reads_as_the_interface_says(tmp_path: Path) -> None:
    """What failed, why with file, line, column and nearest key, and what to do next."""
    path = tmp_path / "inventory.yaml"
    path.write_text("version: 1\nmeter: {}\n")
    with pytest.raises(ConfigError) as caught:
        inventory.load(path)
    lines = render(caught.value).splitlines()
    assert lines[0] == f"error[config]: cannot use {path}"
    assert lines[1] == f"  why:  {path}:2:1: unknown key `meter`: did you mean `meters`?"
    assert lines[2].startswith("  next: ")


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"", 1, "empty"),
        (b"# only a comment\n", 1, "empty"),
        (b"- a\n", 1, "a mapping"),
        (b"just text", 1, "a mapping"),
        (b"version: 1\ndevices:\n\td: {}\n", 3, "not tabs"),
        (b"version: 1\ndevices: [\n", 3, "not YAML"),
        (b"version: 1\n\xff\xfe: 2\n", 2, "not UTF-8"),
        ("version: 1\nä: ö\n".encode("latin-1"), 2, "not UTF-8"),
        (b"version: 1\na: \x00\n", 2, "control character"),
        (b"version: 1\n---\nversion: 1\n", 2, "second document"),
        (b"version: *nothing\n", 1, "undefined alias"),
        (b"a: &a [x, *a]\n", 1, "nested deeper"),
        (b"a: &a [*a, *a, *a]\n", 1, "nested deeper"),
        (b"a: " + b"[\n" * 500, 0, "nested deeper"),
        (
            b"a: &a {x: 1}\nb: &b {" + b", ".join(b"k%d: *a" % at for at in range(500)) + b"}\nc: [" + b", ".join([b"*b"] * 500) + b"]\n",
            1,
            "more than 100,000 values",
        ),
        (b"#" * 1_000_001, 0, "larger than"),
        (b"version: " + b"9" * 5000, 1, "not a finite number"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_clear_problem(tmp_path: Path, content: bytes, line: int, said: str) -> None:
    """Broken, hostile or foreign content is a ConfigError with the line where it can be told, and nothing is expanded without bound."""
    path = tmp_path / "inventory.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        inventory.load(path)
    assert [(one.line, said in one.message) for one in caught.value.problems] == [(line, True)], caught.value


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    """A missing file and a folder in its place are configuration errors too."""
    with pytest.raises(ConfigError, match="`fleetmark init`"):
        inventory.load(tmp_path / "inventory.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        inventory.load(tmp_path)


def test_a_byte_order_mark_and_aliases_of_values_are_taken(load: Load) -> None:
    """What editors and people do without harm is no mistake."""
    text = "version: 1\ndevices:\n  a: {kind: generic, ssh: &there {host: h}}\n  b: {kind: generic, ssh: *there}\n"
    assert load("\ufeff" + text).devices["b"].ssh == load(text).devices["a"].ssh


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_renamed_key_is_a_problem_with_its_place(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whichever key of a right file is renamed, ConfigError tells line and column of the new name, and nothing else is ever raised."""
    path = tmp_path_factory.getbasetemp() / "renamed.yaml"
    path.write_text(INVENTORY)
    text, at, name = data.draw(yaml_samples.renamed(path, inventory.json_schema()))
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        inventory.load(path)
    assert at in [(one.line, one.column) for one in caught.value.problems if f"`{name}`" in one.message]


@given(content=st.one_of(st.binary(max_size=60), st.text("ab:-?[]{},#&*!|>'\"%@ \n\t0~<=\\", max_size=60).map(str.encode)))
@settings(max_examples=150, deadline=None)
def test_random_content_never_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No content, however odd, gets another exception than ConfigError out of the loader."""
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        inventory.load(path)


@given(cut=st.integers(0, len(INVENTORY) - 1), junk=st.binary(max_size=4))
@settings(max_examples=80, deadline=None)
def test_damaged_content_never_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    """A right file with bytes written over any place loads or gives ConfigError."""
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    content = INVENTORY.encode()
    path.write_bytes(content[:cut] + junk + content[cut + len(junk) :])
    with contextlib.suppress(ConfigError):
        assert inventory.load(path).version == 1


def test_what_loads_can_be_written_back(load: Load, tmp_path: Path) -> None:
    """The round-trip loader reads the same text and keeps its comments, so entries can be added later."""
    load(INVENTORY)
    with (tmp_path / "again.yaml").open("w") as file:
        YAML().dump(YAML().load(INVENTORY), file)
    assert "# this machine, no SSH" in (tmp_path / "again.yaml").read_text()
    assert yamlfile.read(tmp_path / "again.yaml").data == yamlfile.read(tmp_path / "inventory.yaml").data
