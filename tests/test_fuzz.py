"""The fuzzers: each starts from inputs that its target accepts, and what must not be is found, kept and told."""

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris has wheels for Linux and Python 3.11 to 3.13 only")
import fuzz
from fuzz import campaign, worker

PLANTED = '''
"""A target with faults."""
import time

DECLARED = (ValueError,)
WORDS = ("crash",)
def seeds():
    yield b"good"

def one(data):
    begin = time.process_time()
    if b"crash" in data:
        raise KeyError("not declared")
    if data.startswith(b"slow"):
        while time.process_time() - begin < 2.1:
            pass
    if data.startswith(b"large"):
        bytearray(b"x") * (600 << 20)
    if data.startswith(b"bad"):
        raise ValueError("declared")
'''
WORKER = """
import sys
from fuzz import targets
targets.__path__.append(sys.argv.pop(1))
from fuzz import worker
worker.main()
"""


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_target_accepts_some_of_its_seeds(name: str) -> None:
    """A fuzzer begins behind the first check of a format; no seed is a finding."""
    target = importlib.import_module(f"fuzz.targets.{name}")
    assert any(list(map(functools.partial(worker.run, target), target.seeds())))


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a target of its own, with faults."""
    (tmp_path / "planted.py").write_text(PLANTED)
    package = importlib.import_module("fuzz.targets")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("fuzz.targets.planted", None)


@pytest.mark.parametrize(
    ("data", "why"), [(b"crash", b"KeyError"), (b"slow", b"s of CPU time"), (b"large", b"MiB"), (b"bad", b""), (b"good", b"")]
)
def test_what_is_a_finding(planted: Path, data: bytes, why: bytes) -> None:
    """Errors that are not declared, too much time and too much memory are; a declared error is not."""
    (planted / "input").write_bytes(data)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    # A process starts with the peak of the one that it was forked from: a shell has none to speak of.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", WORKER, planted, "planted", planted / "input"]
    done = subprocess.run(command, cwd=planted, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert (done.returncode == 0) is (why == b"")
    assert why in done.stdout


def test_a_fuzzer_finds_what_is_wrong(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its seed it comes to the planted crash, keeps the input and counts as failed, then and until the input is taken away."""
    monkeypatch.setattr(campaign, "WORKER", (sys.executable, "-c", WORKER, str(planted)))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    outcome = campaign.fuzz("planted", 60, planted / "kept")
    (found,) = outcome.findings
    assert b"crash" in found.read_bytes()
    assert b"not declared" in outcome.log.read_bytes()
    assert outcome.executions > 0
    assert outcome.failed
    assert "| planted |" in campaign.table([outcome])
