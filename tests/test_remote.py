"""The typed client of the agent's verbs, against programs that answer what no agent answers."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import BEGINNING, liar

from agent.schema import PROTOCOL, FaultError
from controller import limits
from controller.remote import Remote
from controller.transport import connect

SHA256 = "0" * 64


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Remote]]:
    """Gives the client of a device whose interpreter is a program that prints the given text, whatever it is asked.

    Before it is asked it says that the agent is there, or the given beginning.
    """
    made: list[Remote] = []

    def make(answer: bytes, beginning: str = BEGINNING) -> Remote:
        program = str(liar(tmp_path, answer, beginning))
        made.append(Remote(connect("liar", None), "liar", program, str(tmp_path / "agent")))
        return made[-1]

    yield make
    for remote in made:
        remote.close()


def ok(**answer: Any) -> bytes:
    return json.dumps({"v": PROTOCOL, "ok": answer}).encode()


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"present": False},
        {"present": "no", "partial_bytes": 0, "corrupt": False},
        {"present": False, "partial_bytes": "0", "corrupt": False},
        {"present": False, "partial_bytes": None, "corrupt": False},
        {"present": False, "partial_bytes": 10**30, "corrupt": False},
    ],
)
def test_an_upload_is_not_led_astray(state: Any, device: Callable[..., Remote], tmp_path: Path) -> None:
    """A device that tells nonsense about the files it has is refused with `protocol`."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with pytest.raises(FaultError) as caught:
        device(ok(blobs={SHA256: state})).upload({SHA256: file})
    assert caught.value.fault.code == "protocol"


@pytest.mark.parametrize("blobs", [None, [], {"1" * 64: {"present": True, "partial_bytes": 0, "corrupt": False}}])
def test_an_answer_about_other_files_is_refused(blobs: Any, device: Callable[..., Remote], tmp_path: Path) -> None:
    """A device that answers for files that nobody asked for is refused with `protocol`."""
    with pytest.raises(FaultError) as caught:
        device(ok(blobs=blobs)).upload({SHA256: tmp_path})
    assert caught.value.fault.code == "protocol"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"v": 1, "ok": []}',
        b'{"v": 1, "fault": {"code": "made_up", "phase": "", "message": "", "next": ""}}',
        b'{"v": 1, "fault": "sorry"}',
        b'{"v": 1, "ok": {"text": "\\ud800"}}',
        b'{"v": 1, "ok": {"\\udfff": 1}}',
        b'{"v": 1, "ok": {"number": [9223372036854775808]}}',
        b'{"v": 2, "ok": {}}',
    ],
)
def test_an_answer_that_is_not_one_is_refused(answer: bytes, device: Callable[..., Remote]) -> None:
    """What is not an answer, has a code that no fault has, or could not be stored, is `protocol`."""
    with pytest.raises(FaultError) as caught:
        device(answer).release("somebody")
    assert caught.value.fault.code == "protocol"


@pytest.mark.parametrize("python", ["[]", '["3", "11"]', "3", "null", '[3, "x"]'])
def test_an_interpreter_that_tells_no_version_is_refused(python: str, device: Callable[..., Remote]) -> None:
    """An interpreter that does not say its version as Python does is `no_python`."""
    with pytest.raises(FaultError) as caught:
        device(b"", f'{{"root": "/", "python": {python}, "present": true, "error": ""}}').deploy()
    assert caught.value.fault.code == "no_python"


def _event(number: int) -> bytes:
    return json.dumps({"v": PROTOCOL, "seq": number, "t": 0.0, "type": "news", "data": {}}).encode() + b"\n"


def test_a_launch_that_never_stops_telling_is_refused(device: Callable[..., Remote], monkeypatch: pytest.MonkeyPatch) -> None:
    """Events beyond what is read of a launch are `protocol`, those before are given."""
    monkeypatch.setattr(limits, "MAX_SPOOL_BYTES", 10 * len(_event(0)))
    events = device(b"".join(map(_event, range(10))) + _event(9)[:-1]).follow("launch")
    assert len(list(itertools.islice(events, 10))) == 10
    with pytest.raises(FaultError) as caught:
        next(events)
    assert caught.value.fault.code == "protocol"


@pytest.mark.parametrize("numbers", [[0, 2], [0, 0], [1]])
def test_a_spool_with_a_gap_is_refused(device: Callable[..., Remote], numbers: list[int]) -> None:
    """An event that is missing, or told twice, is `protocol`: what it told would be missing from the launch without a word."""
    with pytest.raises(FaultError, match="its spool was damaged") as caught:
        list(device(b"".join(map(_event, numbers))[:-1]).follow("launch"))
    assert caught.value.fault.code == "protocol"
