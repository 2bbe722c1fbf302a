"""Selectors say which devices are meant, and a selector that means nothing is never passed over."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import inventory, selectors
from controller.errors import NothingSelectedError, SelectorError, exit_code

LAB = """\
version: 1
devices:
  laptop: {kind: local}
  pi4-a: {kind: raspberry-pi, ssh: {host: a}, tags: {room: lab2, cooling: passive}, groups: [pis, arm]}
  pi4-b: {kind: raspberry-pi, ssh: {host: b}, tags: {room: lab1}, groups: [pis, arm]}
  nano-a: {kind: jetson-nano, ssh: {host: c}, tags: {room: lab2}, groups: [arm]}
  builder: {kind: generic, ssh: {host: d}, enabled: false, groups: [hosts], tags: {os: debian}}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> inventory.Inventory:
    path: Path = tmp_path_factory.mktemp("lab") / "inventory.yaml"
    path.write_text(LAB)
    return inventory.load(path)


def names(lab: inventory.Inventory, *texts: str) -> list[str]:
    return [device.name for device in selectors.select(lab, texts)]


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        ([], ["laptop", "pi4-a", "pi4-b", "nano-a"]),
        (["all"], ["laptop", "pi4-a", "pi4-b", "nano-a"]),
        (["nano-a", "laptop"], ["laptop", "nano-a"]),
        (["pis"], ["pi4-a", "pi4-b"]),
        (["room=lab2"], ["pi4-a", "nano-a"]),
        (["kind=raspberry-pi", "laptop"], ["laptop", "pi4-a", "pi4-b"]),
        (["!pis"], ["laptop", "nano-a"]),
        (["arm", "!room=lab1"], ["pi4-a", "nano-a"]),
        (["!arm", "!builder"], ["laptop"]),
        (["pi4-a", "pi4-a", "pis"], ["pi4-a", "pi4-b"]),
    ],
)
def test_selectors_add_and_take_away(lab: inventory.Inventory, texts: list[str], meant: list[str]) -> None:
    """Names, groups and tags add up, `!` takes away, only `!` starts from all, and the inventory's order stays."""
    assert names(lab, *texts) == meant


def test_a_disabled_device_is_meant_by_its_name_where_that_is_asked_for(lab: inventory.Inventory) -> None:
    """Not by its group and not by `all`; it stays disabled."""
    meant = selectors.select(lab, ["builder", "pi4-a"], disabled_if_named=True)
    assert [(device.name, device.enabled) for device in meant] == [("pi4-a", True), ("builder", False)]
    assert "builder" not in [device.name for device in selectors.select(lab, ["hosts", "all"], disabled_if_named=True)]


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("pi4-c", "no device or group is called `pi4-c`", "did you mean `pi4-b`?"),
        ("!piz", "no device or group is called `piz`", "did you mean `pis`?"),
        ("rom=lab2", "no device has a tag called `rom`", "did you mean `room`?"),
        ("room=lab3", "no device has `room=lab3`", "did you mean `lab2`?"),
        ("kind=jetson", "no device has `kind=jetson`", "did you mean `jetson-nano`?"),
        ("a b", "`a b` is not a selector", ""),
        ("!", "`!` is not a selector", ""),
        ("", "`` is not a selector", ""),
        ("room=", "`room=` is not a selector", ""),
        ("builder", "builder is disabled", "enabled: true"),
    ],
)
def test_a_selector_that_means_nothing_is_an_error(lab: inventory.Inventory, text: str, what: str, hint: str) -> None:
    """A slip is told with the nearest name and ends with exit code 2, also beside selectors that are right."""
    with pytest.raises(SelectorError) as caught:
        names(lab, "laptop", text)
    assert caught.value.message.startswith(what)
    assert hint in caught.value.next
    assert exit_code(caught.value) == 2


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["laptop", "!laptop"], "nothing is left"),
        (["!all"], "nothing is left"),
        (["hosts"], "disabled: builder"),
        (["os=debian"], "disabled: builder"),
    ],
)
def test_nothing_selected_has_its_own_exit_code(lab: inventory.Inventory, texts: list[str], why: str) -> None:
    """Right selectors that leave no enabled device end with exit code 5 and say why."""
    with pytest.raises(NothingSelectedError) as caught:
        names(lab, *texts)
    assert (caught.value.why, exit_code(caught.value)) == (why, 5)


def test_an_empty_inventory_selects_nothing(tmp_path: Path) -> None:
    """Before the first device is added, all is nothing."""
    (tmp_path / "inventory.yaml").write_text("version: 1\n")
    with pytest.raises(NothingSelectedError):
        selectors.select(inventory.load(tmp_path / "inventory.yaml"), [])


@given(text=st.text(max_size=12))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    """The parser raises nothing else, and what it takes it takes apart without loss."""
    try:
        parsed = selectors.parse(text)
    except ValueError:
        return
    assert text == "!" * parsed.negated + (f"{parsed.key}=" if parsed.key else "") + parsed.value
