"""A store that several share, as SQLite's file and as a real PostgreSQL: nothing lost, doubled, half-written or told away."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from begun_stores import DOCUMENT, begun, finish
from postgres import ADMIN, ADMIN_PASSWORD, Postgres, require_postgres
from sqlalchemy import exc
from store_writer import CELL, METRICS, values

from agent.schema import cell_id
from controller.collect import Samples
from controller.errors import FleetmarkError
from controller.store import Store
from reports.records import LaunchRecord

WRITER = Path(__file__).with_name("store_writer.py")
SOON_S = 0.2


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Where the store is: below the results, or in an empty database of a running server."""
    return request.getfixturevalue("team_url") if request.param == "postgresql" else None


@contextmanager
def writer(folder: Path, url: str | None, run: str, launches: int) -> "Iterator[subprocess.Popen[str]]":
    """A controller in a process of its own that has opened the store, and writes once it gets a line."""
    command = [sys.executable, str(WRITER), str(folder), url or "", run, str(launches)]
    environ = {**os.environ, "PYTHONPATH": str(WRITER.parent.parent)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def test_what_no_device_should_send_comes_back(url: str | None, tmp_path: Path) -> None:
    """NUL and lone surrogates in texts and names, numbers of 63 bits: in documents as they were, in a unit escaped."""
    hostile = "a\0b\ud800\u2028"
    with closing(begun(tmp_path, url, "one")) as store:
        record = LaunchRecord("one", 0, "valid", "", {}, log_tail=hostile, details={hostile: 2**200, "share": 1e300}, notes=(hostile,))
        raw = [Samples("latency_ns", "ns", np.array([2**63 - 1])), Samples("rate", hostile, np.ones(1), stride=2**63 - 1)]
        store.finish_launch(record, raw)
        (found,) = store.load_run("run").cells[0].launches
        assert (found.log_tail, found.details, found.notes) == (hostile, {hostile: 2**200, "share": 1e300}, (hostile,))
        assert found.values["latency_s"].tolist() == [(2**63 - 1) / 1e9]
        rate = {one.metric: one for one in next(iter(store.raw("run"))).series}["rate"]
        assert (rate.unit, rate.stride) == ("a\\x00b\\ud800\\u2028", 2**63 - 1)
        assert store.check() == []


def test_a_name_that_cannot_be_stored_is_an_error_of_its_own(team_url: str, tmp_path: Path) -> None:
    """PostgreSQL's refusal of NUL in a name is told, and nothing of the run is there."""
    with closing(Store(tmp_path, team_url)) as store:
        with pytest.raises(FleetmarkError, match="cannot hold that"):
            store.create_run("a\0b", "2026", DOCUMENT)
        assert store.list_runs() == []


def test_two_controllers_write_at_once(url: str | None, tmp_path: Path) -> None:
    """Of two processes that write into one store at the same time, both have all of their launches there, whole and once."""
    with writer(tmp_path, url, "first", 40) as first, writer(tmp_path, url, "second", 40) as second:
        for process in (first, second):
            go(process)
        told = [process.communicate()[0].split() for process in (first, second)]
        assert (first.returncode, second.returncode) == (0, 0)
    with closing(Store.open(tmp_path, url)) as store:
        assert store.check() == []
        for run, names in zip(("first", "second"), told, strict=True):
            found = {launch.id: launch for launch in store.load_run(run).cells[0].launches}
            assert sorted(found) == sorted(names)
            for number in range(40):
                latencies = found[f"{run}-{number}"].values["latency_s"]
                assert np.array_equal(latencies, values(run, number) / 1e9)


@pytest.mark.parametrize("told", [1, 7])
def test_a_controller_that_is_killed_leaves_whole_launches(url: str | None, told: int, tmp_path: Path) -> None:
    """After SIGKILL at any moment each launch is there with all samples or open without any, and the run can be held again."""
    with writer(tmp_path, url, "killed", 1000) as process:
        go(process)
        assert process.stdout
        names = [process.stdout.readline().strip() for _ in range(told)]
        process.kill()
    with closing(Store.open(tmp_path, url)) as store:
        assert store.check() == []
        launches = store.load_run("killed").cells[0].launches
        assert {launch.id for launch in launches} >= set(names)
        assert {len(launch.values) for launch in launches} == {len(METRICS)}
        assert len(store.open_launches("killed")) <= 1
        while not can_hold(store, "killed"):  # the server takes a moment to see that the process is gone
            pass


def can_hold(store: Store, run: str) -> bool:
    try:
        with store.exclusive(run):
            return True
    except FleetmarkError:
        return False


def test_a_run_has_one_controller(url: str | None, tmp_path: Path) -> None:
    """Another process is refused while the run is held, other runs are free, and it can be had when the holder is done."""
    with closing(begun(tmp_path, url)) as store, closing(Store(tmp_path, url)) as other:
        with store.exclusive("run"):
            with pytest.raises(FleetmarkError, match="run run is still going on"), other.exclusive("run"):
                raise AssertionError("held twice")
            with other.exclusive("another"):
                pass
        with other.exclusive("run"):
            pass


def test_stores_that_begin_at_once_share_one_database(team_url: str, tmp_path: Path) -> None:
    """Several controllers may begin in an empty database at the same moment."""
    ready = threading.Barrier(5)

    def begin(at: int) -> None:
        ready.wait()
        with closing(Store(tmp_path, team_url)) as store:
            store.create_run(f"run-{at}", "2026", DOCUMENT)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(begin, range(5)))
    with closing(Store.open(tmp_path, team_url)) as store:
        assert len(store.list_runs()) == 5


def test_one_tag_has_one_run(url: str | None, tmp_path: Path) -> None:
    """Of several that give different runs the same tag at once one succeeds."""
    with closing(begun(tmp_path, url)) as store:
        for at in range(4):
            store.create_run(f"run-{at}", "2026", DOCUMENT)
    ready = threading.Barrier(4)

    def tag(at: int) -> bool:
        with closing(Store(tmp_path, url)) as own:
            ready.wait()
            try:
                own.tag_run(f"run-{at}", "baseline")
            except FleetmarkError:
                return False
            return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(tag, range(4))) == [False, False, False, True]


@contextmanager
def locked(store: Store, url: str | None, server: Postgres | None) -> Iterator[Callable[[], None]]:
    """Somebody else holds what every write needs; give what lets it go."""
    if url is None:
        connection = store._database._engine.connect().execution_options(lock_s=1.0)
    else:
        assert server
        engine = sa.create_engine(
            server.url(url.rpartition("/")[2], f"{ADMIN}:{ADMIN_PASSWORD.replace(' ', '%20')}"), poolclass=sa.pool.NullPool
        )
        connection = engine.connect()
    connection.execute(sa.text("SELECT 1" if url is None else "LOCK TABLE launches IN ACCESS EXCLUSIVE MODE"))
    try:
        yield connection.rollback
    finally:
        connection.close()


def server_of(url: str | None, request: pytest.FixtureRequest) -> Postgres | None:
    return request.getfixturevalue("shared_postgres") if url else None


def test_a_locked_store_is_waited_for(url: str | None, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A write that finds the store locked is tried until it is free, and then done once."""
    with closing(begun(tmp_path, url, "one")) as store:
        with locked(store, url, server_of(url, request)) as free:
            timer = threading.Timer(SOON_S, free)
            timer.start()
            finish(store, "one")
            timer.join()
        assert [launch.status for launch in store.load_run("run").cells[0].launches] == ["valid"]


def test_a_store_that_stays_locked_is_told(url: str | None, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The error comes after as long as asked for, says what to do, and the launch is still open as a whole."""
    with closing(begun(tmp_path, url, "one", patience_s=SOON_S)) as store:
        with locked(store, url, server_of(url, request)), pytest.raises(FleetmarkError, match="lock") as raised:
            finish(store, "one")
        assert "--resume" in raised.value.next
        assert [name for name, _, _ in store.open_launches("run")] == ["one"]
        finish(store, "one")
        assert store.check() == []


@pytest.mark.parametrize(("pages", "done"), [(10_000, True), (0, False)])
def test_a_full_disk_is_waited_for_or_told(pages: int, done: bool, tmp_path: Path) -> None:
    """SQLite's own refusal of more pages is tried again, and told as a full disk if it stays; nothing is half-written."""
    with closing(begun(tmp_path, None, "one", patience_s=30.0 if done else SOON_S)) as store:
        limits = iter([1, 1, 1])
        noise = Samples("rate", "1", np.random.default_rng(0).random(50_000))

        @sa.event.listens_for(store._database._engine, "connect")
        def limit(connection: Any, _: object) -> None:
            connection.execute(f"PRAGMA max_page_count={next(limits, pages or 1)}")

        record = LaunchRecord("one", 0, "valid", "", {})
        if done:
            store.finish_launch(record, [noise])
            assert store.load_run("run").cells[0].launches[0].values["rate"].tolist() == noise.array.tolist()
        else:
            with pytest.raises(FleetmarkError, match=r"the disk of .*fleetmark\.db is full") as raised:
                store.finish_launch(record, [noise])
            assert "free some space" in raised.value.next
            assert [name for name, _, _ in store.open_launches("run")] == ["one"]
        assert store.check() == []


@pytest.fixture
def own_postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A running server of the test's own, to be stopped."""
    require_postgres()
    server = Postgres()
    try:
        monkeypatch.setenv("PGPASSFILE", str(server.pgpass))
        yield server.start()
    finally:
        server.remove()


def test_a_server_that_restarts_costs_nothing(own_postgres: Postgres, tmp_path: Path) -> None:
    """A run goes on when its server was away for a moment, and still holds it; one that stays away is told, and others may take the run."""
    url = own_postgres.database()
    with closing(begun(tmp_path, url, "one", "two")) as store, closing(Store(tmp_path, url)) as other:
        with store.exclusive("run"):
            own_postgres.stop()
            again = threading.Timer(SOON_S, own_postgres.start)
            again.start()
            finish(store, "one")
            again.join()
            store.begin_launch("run", cell_id(CELL), 1, "three", "2026-01-01T00:00:00.000+00:00")
            with pytest.raises(FleetmarkError, match="still going on"), other.exclusive("run"):
                raise AssertionError("held twice")
        assert store.check() == []
    with closing(Store(tmp_path, url, patience_s=SOON_S)) as store, store.exclusive("run"):
        own_postgres.stop()
        with pytest.raises(FleetmarkError, match="cannot connect to"):
            finish(store, "two")
        own_postgres.start()
        with closing(Store(tmp_path, url)) as other, other.exclusive("run"), pytest.raises(FleetmarkError, match="still going on"):
            store.begin_launch("run", cell_id(CELL), 1, "four", "2026-01-01T00:00:00.000+00:00")
        assert sorted(name for name, _, _ in store.open_launches("run")) == ["three", "two"]


def test_a_row_that_is_there_is_no_passing_error(url: str | None, tmp_path: Path) -> None:
    """A bug such as the same run made twice is raised at once, not tried again."""
    with closing(begun(tmp_path, url)) as store, pytest.raises(exc.IntegrityError):
        store.create_run("run", "2026", DOCUMENT)
