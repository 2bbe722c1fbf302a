"""Two controllers, one board: the second waits, told of whom it waits for, or gives up at once."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import holder
import pytest
from agents import PATIENCE_S, until
from sshd import Sshd

from agent import lease
from agent.cache import Cache
from agent.schema import FaultError
from controller import queueing, turns
from controller.link import Link
from controller.links import Links
from controller.queueing import Patience
from controller.remote import LeaseState
from controller.timeouts import Timeouts

HOLDER = Path(holder.__file__)
ANN, BOB = "ann@desk run 1", "bob@hall run 2"


class Controller:
    """A process that holds the device, or waits for it; `lines` are what it told."""

    def __init__(self, where: Sequence[str], owner: str, lease_s: float) -> None:
        argv = [sys.executable, str(HOLDER), owner, str(lease_s), *where]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def says(self, text: str) -> str:
        """The first line with this text, once it has come."""
        return until(lambda: next((line for line in self.lines if text in line), ""), f"{text} of {self.lines}")

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        elif self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def controller(where: Sequence[str], owner: str, lease_s: float = 300.0) -> Iterator[Controller]:
    made = Controller(where, owner, lease_s)
    try:
        yield made
    finally:
        made.end(kill=True)


@pytest.fixture
def where(shared_sshd: Sshd, tmp_path: Path) -> list[str]:
    """What `holder.board` takes to be this machine by SSH."""
    server = shared_sshd
    return [str(server.port), server.user, server.host_key, str(server.config), str(tmp_path / "agent")]


def test_the_second_controller_waits_for_the_first(where: list[str]) -> None:
    """It tells for whom and since when, and has the board once the first gives it back."""
    with controller(where, ANN) as first:
        first.says("held")
        with controller(where, BOB) as second:
            assert f"board: waiting for {ANN}, who has had it for" in second.says("waiting")
            first.end()
            second.says("held")
            assert [line for line in second.lines if "waiting" in line] == second.lines[:1]


def test_the_lease_of_a_killed_controller_expires(where: list[str]) -> None:
    """Nobody gives it back; the second has the board when it is over, and the killed run's own controller has it at once."""
    with controller(where, ANN, lease_s=3.0) as first:
        first.says("held")
        first.end(kill=True)
        with controller(where, BOB) as second:
            second.says("held")
            second.end(kill=True)
        with controller(where, BOB) as resumed:
            resumed.says("held")
            assert resumed.lines == ["held"]


def test_who_does_not_wait_is_told_who_has_it(where: list[str]) -> None:
    """`busy` names the holder and since when."""
    with controller(where, ANN) as first:
        first.says("held")
        link = Link(holder.board(*where), BOB, Timeouts(), print, Patience(waits=False))
        link.open()
        with pytest.raises(FaultError, match=f"board: {ANN} has this host, for [0-9]+ s so far") as refused:
            link.hold()
        assert refused.value.fault.code == "busy"
        link.close()


def test_a_lease_is_renewed_before_it_ends_and_not_for_nothing(where: list[str]) -> None:
    """It is extended for what is to come, brought back afterwards, and else left alone."""
    link = Link(holder.board(*where), ANN, Timeouts(lease_s=100.0), print)
    link.open()
    link.hold()
    cache = Cache(where[-1])
    link.keep(0.0)
    before = lease.current(cache)
    link.keep(1000.0)
    assert lease.state(cache)["left_s"] > 1000
    link.keep(0.0)
    assert 90 < lease.state(cache)["left_s"] <= 100
    after = lease.current(cache)
    assert before is not None
    assert after is not None
    assert before.since_s == after.since_s
    link.close()
    assert lease.current(cache) is None


def test_waiting_ends_with_the_run() -> None:
    """A deadline and an end are told apart, both name the holder; no link and no lease is asked for again."""
    held = LeaseState(ANN, 100.0, running=False, age_s=720.0)
    news: list[str] = []
    over = Patience()
    over.stopped.set()
    for patience, code in ((Patience(until_s=0.0), "deadline"), (over, "cancelled")):
        with pytest.raises(FaultError, match=f"board: .* while it waited for {ANN}") as ended:
            queueing.wait("board", lambda: held, patience, news.append)
        assert ended.value.fault.code == code


def test_every_holder_is_told_once() -> None:
    """The news is who has it, not that they still do."""
    ann, bob = LeaseState(ANN, 100.0, running=False, age_s=720.0), LeaseState(BOB, 100.0, running=False, age_s=3.0)
    holders: Iterator[LeaseState | None] = iter([ann, ann, bob, None])
    news: list[str] = []
    queueing.wait("board", lambda: next(holders), Patience(), news.append, 0.0)
    assert news == [
        f"board: waiting for {ANN}, who has had it for 12 min",
        f"board: waiting for {BOB}, who has had it for 3 s",
    ]


def test_a_meter_is_one_runs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs on one machine the second waits, told for whom, or gives up; then the meter is free again."""
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path))
    news: list[str] = []
    with turns.turn(["meter plug"], ANN, Patience(), news.append):
        with (
            pytest.raises(FaultError, match=f"meter plug: {ANN} has it, for"),
            turns.turn(["meter plug"], BOB, Patience(False), news.append),
        ):
            pass
        with pytest.raises(FaultError, match="deadline"), turns.turn(["meter plug"], BOB, Patience(until_s=0.0), news.append):
            pass
        with turns.turn(["meter other"], BOB, Patience(False), news.append):
            pass
    with turns.turn(["meter plug"], BOB, Patience(False), news.append):
        pass


def test_links_are_counted_and_who_waits_is_seen() -> None:
    """The one beyond the limit waits until one is given back."""
    links = Links(1)
    links.take()
    assert not links.are_wanted
    waiting = threading.Thread(target=links.take)
    waiting.start()
    until(lambda: links.are_wanted, "somebody waits")
    links.give_back()
    waiting.join(PATIENCE_S)
    assert not links.are_wanted
