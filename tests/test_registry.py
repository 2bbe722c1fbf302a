"""Edits of inventory.yaml: only the lines of one device change, whatever the file looks like."""

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import inventory as inventories
from controller import registry
from controller.errors import FleetmarkError

COMMENTS = st.sampled_from(["", "\n", "  # about it\n", "# at the margin\n", "      # deep\n", "\n  # after a gap\n\n", "  # ü ☂ \u2028\n"])
ENTRIES = st.sampled_from(
    [
        "  {}:\n    kind: local\n",
        "  {}: {{kind: local}}  # here\n",
        '  "{}":\n      kind: generic\n      ssh:\n        host: a.lab\n\n      enabled: false\n',
        "  {}:\n    kind: generic\n    groups:\n    - pis\n    ssh: {{host: a.lab,\n      port: 22}}\n",
    ]
)
TAILS = st.sampled_from(["", "\n\n", "# the end\n", "meters: {}\n", "\n# meters\nmeters:\n  plug: {driver: tasmota, url: http://h}\n"])


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
    path.write_text("version: 1\n...\n")
    with pytest.raises(FleetmarkError):
        registry.add(path, {"a": {"kind": "local"}})
    assert path.read_text() == "version: 1\n...\n"
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
