"""The agent's own reading of a spool: a start number, supervisor.json and events.jsonl, a line each for the first two."""

import json
from collections.abc import Iterator
from pathlib import Path

from agent import spool
from agent.cache import Cache, boot_id
from fuzz import folder

DECLARED: tuple[type[Exception], ...] = ()
WORDS = ("seq", "type", "data", "end", "lost", "log", "boot_id", "\n")
CACHE = Cache(str(folder()))
CACHE.create()
FOLDER = Path(CACHE.launch("launch"))
FOLDER.mkdir()


def seeds() -> Iterator[bytes]:
    """A whole spool from its begin and its middle, and one that was cut."""
    events = [{"v": 1, "seq": at, "t": 1.0 + at, "type": kind, "data": {}} for at, kind in enumerate(("hello", "phase", "log", "end"))]
    whole = "".join(json.dumps(event) + "\n" for event in events)
    for start, lines in ((0, whole), (2, whole), (0, whole[:100])):
        yield f"{start}\n{json.dumps({'boot_id': boot_id(), 'pid': 1})}\n{lines}".encode()


def one(data: bytes) -> None:
    """Whole lines come in their order, then the end or one event that says that it is lost."""
    start, _, rest = data.partition(b"\n")
    supervisor, _, events = rest.partition(b"\n")
    (FOLDER / "supervisor.json").write_bytes(supervisor)
    (FOLDER / "events.jsonl").write_bytes(events)
    told = list(spool.follow(CACHE, "launch", int(start[:4]) if start[:4].isdigit() else 0))
    assert all(line.endswith(b"\n") for line in told)
    assert b"".join(told[:-1]) in events or all(line in events for line in told[:-1])
    assert json.loads(told[-1])["type"] in ("end", "lost")
