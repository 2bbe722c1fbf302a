"""Files on their way to the agent: exactly as many bytes as were announced, and nothing is read of a file once they are on their way."""

import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.schema import FaultError
from controller.conversation import Conversation
from controller.deploy import build_zipapp
from controller.local import LocalTransport


class Closed(io.BytesIO):
    """A file that is closed by whoever had it opened as soon as all of it was read."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() == len(self.getbuffer()):
            self.close()
        return data


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Conversation]:
    transport = LocalTransport("here")
    made = Conversation(transport, "here", sys.executable, str(tmp_path / "agent"), build_zipapp())
    yield made
    made.close()
    transport.close()


def put(talk: Conversation, content: bytes, file: io.BytesIO) -> dict[str, Any]:
    """What the agent answers to an upload of `content` as `file` gives it."""
    request = {"sha256": hashlib.sha256(content).hexdigest(), "offset": 0, "size_bytes": len(content)}
    talk.send("put", request, content=file, size=len(content))
    return talk.answer("put", 60)


@pytest.mark.parametrize("content", [b"", b"x", bytes(200_000)])
def test_a_file_may_be_closed_once_it_is_read(talk: Conversation, content: bytes) -> None:
    """The agent answers when it has all bytes; whoever opened the file closes it then, and the next question is answered."""
    assert put(talk, content, Closed(content))["present"] is True
    assert "monotonic_s" in talk.ask("clock", {}, timeout_s=60)


def test_what_a_file_has_grown_by_is_not_sent(talk: Conversation) -> None:
    """It would be taken for the next request."""
    assert put(talk, b"before", io.BytesIO(b'before{"verb": "nonsense"}\n'))["present"] is True
    assert "monotonic_s" in talk.ask("clock", {}, timeout_s=60)


def test_a_file_that_became_shorter_is_told(talk: Conversation) -> None:
    """The agent waits for bytes that will not come: the conversation ends with what happened."""
    with pytest.raises(FaultError, match="became shorter"):
        put(talk, b"as it was", io.BytesIO(b"as"))
