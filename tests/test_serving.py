"""The agent as one process that answers request after request, some of which carry files."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from agents import PATIENCE_S, Agent, request

from agent import serving

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "agent")


def put(content: bytes = CONTENT, *, sha256: str = SHA256, offset: int = 0, size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return request("put", {"sha256": sha256, "offset": offset, "size_bytes": size}) + content


def test_one_process_answers_request_after_request(agent: Agent) -> None:
    """A refused request is answered too, and the next one after it."""
    answers = agent.served(request("lease"), request("nonsense"), request("cancel", {"launch": "../x"}), request("clock"))
    assert [answer.get("fault", {}).get("code", "ok") for answer in answers] == ["ok", "protocol", "protocol", "ok"]


def test_an_uploaded_file_is_there_whole(agent: Agent) -> None:
    """The answer says so, the blob has the content, its owner alone reads it, and the request after it is understood."""
    put_answer, verified = agent.served(put(), request("verify", {"blobs": [SHA256]}))
    assert put_answer["ok"] == verified["ok"]["blobs"][SHA256] == {"present": True, "partial_bytes": 0, "corrupt": False}
    blob = Path(agent.cache.blob(SHA256))
    assert blob.read_bytes() == CONTENT
    assert blob.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("arrived", [0, 1, 100_000, len(CONTENT) - 1])
def test_an_upload_goes_on_where_it_stopped(arrived: int, agent: Agent) -> None:
    """What arrived before the link was lost is told, and only the rest is sent."""
    assert agent.served(put(CONTENT[:arrived], size=len(CONTENT))) == [
        {"v": 1, "ok": {"present": False, "partial_bytes": arrived, "corrupt": False}}
    ]
    (answer,) = agent.served(put(CONTENT[arrived:], offset=arrived))
    assert answer["ok"]["present"] is True
    assert Path(agent.cache.blob(SHA256)).read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"\0" if CONTENT[-1:] != b"\0" else CONTENT[:-1] + b"\1", b"", CONTENT + b"\0"])
def test_a_corrupt_upload_is_told_and_leaves_nothing(wrong: bytes, agent: Agent) -> None:
    """A file whose content is not what its name says is deleted, and the next upload of it arrives."""
    first, second = agent.served(put(wrong), put())
    assert first["ok"] == {"present": False, "partial_bytes": 0, "corrupt": True}
    assert second["ok"]["present"] is True


@pytest.mark.parametrize(
    "asked",
    [
        {"sha256": "../x", "size_bytes": 1},
        {"sha256": SHA256, "size_bytes": -1},
        {"sha256": SHA256, "size_bytes": 1, "offset": -1},
        {"sha256": SHA256, "size_bytes": 1, "offset": 5},
        {"sha256": SHA256},
    ],
)
def test_a_refused_upload_ends_the_process(asked: dict[str, Any], agent: Agent) -> None:
    """What follows such a request are a file's bytes, which must not be taken for requests."""
    answers = agent.served(request("put", asked), request("gc", None, "--everything", "--yes"))
    assert [answer["fault"]["code"] for answer in answers] == ["protocol"]


def sample(agent: Agent, content: bytes = CONTENT) -> Path:
    path = Path(agent.cache.launch("launch", "files", hashlib.sha256(content).hexdigest()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_fetched_file_follows_its_size(agent: Agent) -> None:
    """The size comes as an answer, then the bytes, then the answer to the next request."""
    sample(agent)
    with agent.serving() as process:
        stdout, _ = process.communicate(request("fetch", {"launch": "launch", "sha256": SHA256}) + request("nonsense"), PATIENCE_S)
    head, rest = stdout.split(b"\n", 1)
    assert head == b'{"ok":{"size_bytes":300000},"v":1}'
    assert rest.startswith(CONTENT)
    assert rest[len(CONTENT) :].startswith(b'{"fault":')


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "missing"])
def test_only_plain_files_are_fetched(kind: str, agent: Agent, tmp_path: Path) -> None:
    """A link that somebody planted leads nowhere, a pipe keeps nobody waiting."""
    (tmp_path / "secret").write_bytes(b"secret")
    path = sample(agent)
    path.unlink()
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    (answer,) = agent.served(request("fetch", {"launch": "launch", "sha256": SHA256}))
    assert answer["fault"]["code"] == "protocol"


@pytest.mark.parametrize("asked", [{}, {"launch": "never"}, {"launch": "../launches", "from": 0}, {"launch": "never", "from": "0"}])
def test_following_what_is_not_there_is_refused(asked: dict[str, Any], agent: Agent) -> None:
    """The refusal is the answer, and the process goes on."""
    refused, lease = agent.served(request("follow", asked), request("lease"))
    assert refused["fault"]["code"] == "protocol"
    assert "ok" in lease


@pytest.mark.parametrize(
    "line", [b"[]\n", b"{\n", b"\xff\n", b'{"verb": 5}\n', b"{" * 100_000 + b"\n", b" " * (serving.MAX_REQUEST_BYTES + 2)]
)
def test_what_is_no_request_ends_the_process(line: bytes, agent: Agent) -> None:
    """One answer says so; what follows is not read."""
    answers = agent.served(line, request("lease"))
    assert [answer["fault"]["code"] for answer in answers] == ["protocol"]


def test_an_agent_that_nobody_asks_ends(agent: Agent) -> None:
    """A link that is dead without either side being told keeps no process on the device."""
    with agent.serving("--idle", "0.2") as process:
        assert process.wait(PATIENCE_S) == 0
        process.communicate()


def test_an_upload_that_stalls_ends_the_process(agent: Agent) -> None:
    """Half a file and then silence is an upload that was cut short."""
    with agent.serving("--idle", "0.2") as process:
        assert process.stdin
        process.stdin.write(put(CONTENT[:1000], size=len(CONTENT)))
        process.stdin.flush()
        assert process.wait(PATIENCE_S) == 0
        process.communicate()
    assert os.path.getsize(agent.cache.partial(SHA256)) == 1000
