"""The fake TensorRT module has nothing that NVIDIA's bindings do not have."""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKE = Path(__file__).parent / "fake_tensorrt" / "tensorrt.py"
STUBS = Path(sys.prefix) / "stubs" / "tensorrt_bindings" / "tensorrt.pyi"  # `make test` puts them there
PARAMETER = re.compile(r"(?:^|, )(\w+)(?=[:,) ])")
# Of the wheels tensorrt-bindings and tensorrt-cu12-bindings, imported over libraries that had nothing but the symbols they want.
RECORDED: dict[str, dict[str, str]] = json.loads((FAKE.parent / "members.json").read_text())
OWN = {"Enumerator"}  # stands for pybind11's

Members = dict[str, list[list[str]]]  # by name the parameters of each overload


def published() -> dict[str, Members]:
    """The classes, with their members, of the published type stubs, made from the bindings of TensorRT 10.13.

    They are read line by line: the generator's output is no Python throughout, it has parameters called `in`.
    """
    found: dict[str, Members] = {}
    owners: list[tuple[int, str]] = []
    for line in STUBS.read_text().splitlines():
        if not (match := re.match(r"( *)(class |def )?(\w+)(\(|:)(.*)", line)):
            continue
        indent, kind, name = len(match[1]), match[2], match[3]
        owners = [owner for owner in owners if owner[0] < indent]
        if owners and (kind or match[4] == ":"):
            found[owners[-1][1]].setdefault(name, []).append(PARAMETER.findall(match[5]))
        if kind == "class ":
            owners.append((indent, name))
            found[name] = {}
    assert len(found) > 100
    return found


def simulated(monkeypatch: pytest.MonkeyPatch, release: str) -> ModuleType:
    monkeypatch.setenv("FAKE_TENSORRT_VERSION", release)
    spec = importlib.util.spec_from_file_location("fake_tensorrt", FAKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def classes(module: ModuleType) -> Iterator[tuple[str, type]]:
    own = ((name, value) for name, value in vars(module).items() if isinstance(value, type) and name not in OWN)
    yield from ((name, value) for name, value in own if value.__module__ in ("fake_tensorrt", "tensorrt"))


def members(kind: type) -> dict[str, Any]:
    slots: Any = getattr(kind, "__slots__", ())
    return {name: value for name, value in vars(kind).items() if not name.startswith("_") and name not in slots}


def test_every_class_and_member_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """As release 10.13, for which there are stubs, the fake is a part of them: classes, methods, properties, enumerators."""
    stubs = published()
    compared = 0
    for name, kind in classes(simulated(monkeypatch, "10.13.0.35")):
        assert name in stubs, name
        assert members(kind).keys() <= stubs[name].keys(), (name, members(kind).keys() - stubs[name].keys())
        compared += len(members(kind))
    assert compared > 60


def test_every_parameter_has_its_published_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods take the parameters that the stubs name, in that order."""
    stubs = published()
    compared = 0
    for name, kind in classes(simulated(monkeypatch, "10.13.0.35")):
        for member, method in members(kind).items():
            if hasattr(method, "__code__"):
                ours = list(method.__code__.co_varnames[: method.__code__.co_argcount])
                assert ours in [theirs[: len(ours)] for theirs in stubs[name][member]], (name, member, stubs[name][member])
                compared += len(ours) > 1
    assert compared > 20


@pytest.mark.parametrize("release", RECORDED)
def test_a_release_has_what_the_real_one_has(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dir() told of the real bindings' classes: nothing is made up, and what is said to be absent was absent."""
    real = {name: told.split() for name, told in RECORDED[release].items()}
    module = simulated(monkeypatch, release)
    for name, kind in classes(module):
        assert members(kind).keys() <= set(real[name]), (name, members(kind).keys() - set(real[name]))
    for path in module.ABSENT:
        owner, _, member = path.partition(".")
        assert member not in real[owner], path


@pytest.mark.parametrize("release", ["8.2.1.8", "8.5.2.2", "8.6.2.3", "10.3.0.30", "11.0.0.1"])
def test_a_release_lacks_what_it_lacks(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came later or went before raises AttributeError."""
    module = simulated(monkeypatch, release)
    assert module.ABSENT
    for path in module.ABSENT:
        owner, _, member = path.partition(".")
        with pytest.raises(AttributeError):
            getattr(getattr(module, owner), member)
