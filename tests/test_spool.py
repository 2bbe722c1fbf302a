"""The spool: written by a supervisor, followed from any point."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from agents import sleeps_on_a_lock, until

from agent import spool
from agent.cache import Cache, Lock, boot_id, write_json
from agent.schema import FaultError
from agent.spool import Spool

LAUNCH = "launch"


class Launch:
    """A launch's folder with its spool, and the lock that says its supervisor lives."""

    def __init__(self, root: Path, boot: str) -> None:
        self.cache = Cache(str(root))
        self.cache.create()
        self.folder = Path(self.cache.launch(LAUNCH))
        self.folder.mkdir()
        self.file = self.folder / "events.jsonl"
        write_json(str(self.folder / "supervisor.json"), {"boot_id": boot, "pid": 1})
        self.alive = Lock(str(self.folder / "alive.lock"))
        self.alive.acquire()
        self.spool = Spool(str(self.folder))

    def follow(self, start: int = 0) -> Iterator[dict[str, Any]]:
        return map(json.loads, spool.follow(self.cache, LAUNCH, start))


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(tmp_path, boot_id())


def numbers(events: Iterator[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events]


def test_a_spool_is_followed_from_any_event_to_its_end(launch: Launch) -> None:
    """Every starting point gives the events from there on, once each and in order; the end always comes."""
    for at in range(5):
        launch.spool.write("log", {"text": str(at)})
    launch.spool.write("end", {})
    launch.spool.close()
    launch.alive.close()
    for start in range(7):
        assert numbers(launch.follow(start)) == (list(range(start, 6)) or [5])


def test_events_come_while_they_are_written(launch: Launch) -> None:
    """A follower sees each event as soon as it is there, and the end once the supervisor is gone."""
    events = launch.follow()
    for at in range(3):
        launch.spool.write("log", {"text": "\u2028 \n \u00e9"})
        event = next(events)
        assert (event["v"], event["seq"], event["type"], event["data"]) == (1, at, "log", {"text": "\u2028 \n \u00e9"})
    launch.spool.write("end", {})
    launch.spool.close()
    launch.alive.close()
    assert [event["type"] for event in events] == ["end"]


def test_a_held_spool_stays_in_memory(launch: Launch) -> None:
    """While held, nothing reaches the file; afterwards all of it does, in order."""
    launch.spool.write("phase", {"name": "warmup"})
    before = launch.file.read_bytes()
    launch.spool.hold(True)
    for _ in range(100):
        launch.spool.write("measure", {})
    assert launch.file.read_bytes() == before
    launch.spool.hold(False)
    lines = launch.file.read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(101))


def test_a_spool_cut_at_any_byte_gives_its_whole_events_and_says_it_is_lost(launch: Launch) -> None:
    """Wherever a dead supervisor's file ends, a follower gets the whole lines, then one event of type `lost` with code `crash`."""
    for at in range(3):
        launch.spool.write("log", {"text": str(at)})
    launch.alive.close()
    whole = launch.file.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole)):
        launch.file.write_bytes(whole[:cut])
        events = list(launch.follow())
        assert numbers(iter(events)) == [*range(sum(end <= cut for end in ends)), -1]
        assert (events[-1]["type"], events[-1]["data"]) == ("lost", {"code": "crash"})


def test_a_supervisor_that_dies_between_two_reads_loses_no_event(launch: Launch) -> None:
    """What it had written before it died is told, also over a second connection, and then that it is lost."""
    launch.spool.write("log", {})
    events = launch.follow()
    assert next(events)["seq"] == 0
    launch.spool.write("log", {})
    launch.alive.close()
    assert numbers(events) == [1, -1]
    assert numbers(launch.follow(1)) == [1, -1]


def test_a_spool_of_another_boot_says_so(tmp_path: Path) -> None:
    """The end of an incomplete spool tells a reboot from a crash by the kernel's boot id."""
    launch = Launch(tmp_path, "another boot")
    launch.alive.close()
    assert [event["data"] for event in launch.follow()] == [{"code": "rebooted"}]


FOLLOW = """
import sys
from agent import cache, spool
for line in spool.follow(cache.Cache(sys.argv[1]), "launch", 0):
    print(line.decode(), flush=True)
"""


@contextmanager
def following(launch: Launch) -> Iterator[IO[str]]:
    """What a follower in a process of its own tells, once it sleeps."""
    with subprocess.Popen([sys.executable, "-c", FOLLOW, launch.cache.root], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert '"first"' in follower.stdout.readline()
        until(lambda: sleeps_on_a_lock(follower.pid), "a follower that sleeps")
        yield follower.stdout


def test_a_follower_sleeps_on_the_quiet_lock(launch: Launch) -> None:
    """While the supervisor holds the quiet lock, a follower sleeps in the kernel; afterwards it goes on."""
    quiet = Lock(str(launch.folder / "quiet.lock"))
    quiet.acquire()
    launch.spool.write("first", {})
    with following(launch) as told:
        launch.spool.write("end", {})
        launch.spool.close()
        launch.alive.close()
        quiet.close()
        assert '"end"' in told.read()


def test_the_end_is_told_once_the_supervisor_is_gone(launch: Launch) -> None:
    """With its end written but its supervisor alive, which may be busy making it last, a spool is not told to its end."""
    launch.spool.write("first", {})
    launch.spool.write("end", {})
    with following(launch) as told:
        launch.alive.close()
        assert '"end"' in told.read()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\0\0",
        b"{",
        b"[]",
        b"7",
        b'{"type": "end"}',
        b'{"type": [], "seq": {}}',
        b'{"type": "log", "seq": "1"}',
        b'{"type": "log", "seq": 1}\r{',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_left_out(launch: Launch, garbage: bytes) -> None:
    """What a disk made of a line neither ends a follower nor is told: the number that is missing shows it."""
    launch.spool.write("log", {})
    with launch.file.open("ab") as file:
        file.write(garbage + b"\n")
    launch.spool.write("log", {})
    launch.spool.write("end", {})
    launch.spool.close()
    launch.alive.close()
    assert numbers(launch.follow()) == [0, 1, 2]


def test_an_unknown_launch_is_refused_at_once(launch: Launch) -> None:
    """Following a launch that is not here, or whose name is a path, is a protocol fault."""
    for name in ("other", "../launches", "", "a" * 65):
        with pytest.raises(FaultError) as error:
            spool.follow(launch.cache, name, 0)
        assert error.value.fault.code == "protocol"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_leaves_room_for_the_last_words(small_disk: Path) -> None:
    """When the disk is full the spool says so, loses no event and garbles no line, and the reserve takes what is still to be said."""
    written = Spool(str(small_disk))
    text = "x" * 1000
    count = 0
    while written.error is None:
        written.write("log", {"text": text})
        count += 1
    for _ in range(20):
        written.write("log", {"text": text})
    written.write("end", {})
    written.close()
    lines = (small_disk / "events.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(count + 21))


def test_a_disk_without_room_for_the_reserve_is_refused_at_once(small_disk: Path) -> None:
    """No spool is begun that could not be ended."""
    (small_disk / "ballast").write_bytes(bytes(200 << 10))
    with pytest.raises(OSError, match="No space left"):
        Spool(str(small_disk))
