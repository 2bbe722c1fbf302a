"""The results database: what is written is what is read, over several threads and processes."""

import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sqlalchemy.exc import IntegrityError

from agent.schema import STATUSES, Cell, Fault, Workload, cell_id
from controller.collect import Samples
from controller.errors import FleetmarkError
from controller.store import Store
from controller.stored import SEVERITY, cell_status, status_of
from reports.records import LaunchRecord

CELL = Cell("laptop", "lenet", "fp32", "onnx", "a" * 64, "onnxruntime", {"threads": 2}, Workload("single_stream", {}))
CRASH = Fault("crash", "measure", "it died", "see the log")
DOCUMENT: dict[str, Any] = {"fleetmark": "0", "profile": "quick", "suite": "suite.yaml", "launches": 3, "request": {}, "provenance": {}}


def launch(name: str, round_: int = 0, status: str = "valid", **more: Any) -> LaunchRecord:
    return LaunchRecord(id=name, round=round_, status=status, started_at="", values={}, **more)


def begun(folder: Path, *launches: str) -> Store:
    """A store with a run that has begun these launches."""
    store = Store(folder)
    store.create_run("run", "2026-01-01T00:00:00.000+00:00", DOCUMENT)
    store.add_cells("run", [(cell_id(CELL), CELL, None)], [])
    for at, name in enumerate(launches):
        store.begin_launch("run", cell_id(CELL), 0, name, f"2026-01-01T00:00:0{at}.000+00:00")
    return store


def test_launches_keep_their_order_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """The last try of a round decides what a resumed run does: it stays the last although it began an hour earlier by the clock."""
    store = begun(tmp_path)
    for number, (name, hour) in enumerate([("first", 3), ("second", 2), ("third", 1)], 1):
        store.begin_launch("run", cell_id(CELL), 0, name, f"2026-01-01T0{hour}:00:00.000+00:00", number)
        store.finish_launch(launch(name, status="failed", fault=CRASH), [])
    (cell,) = store.load_run("run").cells
    assert [one.id for one in cell.launches] == ["first", "second", "third"]
    assert [one.names["launch"] for one in store.raw("run")] == ["first", "second", "third"]


@settings(max_examples=12, deadline=None)
@given(
    latencies=npst.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, 2**53)),
    values=npst.arrays(np.float64, st.integers(1, 5), elements=st.floats(allow_nan=False, allow_infinity=False)),
    text=st.text(max_size=50),
    fault=st.none() | st.just(CRASH),
)
def test_a_launch_is_read_as_it_was_written(
    latencies: np.ndarray, values: np.ndarray, text: str, fault: Fault | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Samples come back bit by bit, latencies in seconds; text, details and faults as they were."""
    store = begun(tmp_path_factory.mktemp("results"), "one")
    record = launch("one", log_tail=text, details={"text": text}, fault=fault, notes=(text,))
    outputs = Samples("output_0", "1", np.zeros((2, 3), np.float32))
    store.finish_launch(record, [Samples("latency_ns", "ns", latencies), Samples("rate", "1", values), outputs])
    (cell,) = store.load_run("run").cells
    (found,) = cell.launches
    store.close()
    assert found.values["latency_s"].tolist() == (latencies / 1e9).tolist()
    assert found.values["rate"].tolist() == values.tolist()
    assert set(found.values) == {"latency_s", "rate"}
    assert (found.log_tail, found.details, found.fault, found.notes) == (text, {"text": text}, fault, (text,))
    assert cell.cell == CELL


def test_a_launch_is_written_once(tmp_path: Path) -> None:
    """Of several that finish the same launch at once one succeeds, and its samples are there once."""
    store = begun(tmp_path, "one")
    ready = threading.Barrier(4)

    def finish(at: int) -> bool:
        other = Store(tmp_path)
        ready.wait()
        try:
            other.finish_launch(launch("one"), [Samples("rate", "1", np.array([float(at)]))])
        except FleetmarkError:
            return False
        finally:
            other.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(finish, range(4)))
    (cell,) = store.load_run("run").cells
    store.close()
    assert written.count(True) == 1
    assert cell.launches[0].values["rate"].tolist() == [written.index(True)]


def test_what_was_begun_and_not_finished_is_open(tmp_path: Path) -> None:
    """A launch without its outcome is no part of the run that is read, but one to collect."""
    store = begun(tmp_path, "one", "two")
    store.finish_launch(launch("one"), [])
    found = store.load_run("run").cells[0].launches
    left = store.open_launches("run")
    store.close()
    assert [one.id for one in found] == ["one"]
    assert left == [("two", cell_id(CELL), 0)]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A launch whose samples cannot be stored stays open as a whole, to be collected again."""
    store = begun(tmp_path, "one")
    twice = [Samples("rate", "1", np.ones(1)), Samples("rate", "1", np.ones(1))]
    with pytest.raises(IntegrityError):
        store.finish_launch(launch("one"), twice)
    left = store.open_launches("run")
    store.close()
    assert [name for name, _, _ in left] == ["one"]


def test_stores_that_begin_at_once_share_one_database(tmp_path: Path) -> None:
    """Several controllers may start in an empty results folder at the same moment."""
    ready = threading.Barrier(6)

    def begin(at: int) -> None:
        ready.wait()
        store = Store(tmp_path / "results")
        store.create_run(f"run-{at}", "2026", DOCUMENT)
        store.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(begin, range(6)))
    store = Store.open(tmp_path / "results")
    assert len(store.list_runs()) == 6
    store.close()


def test_a_new_store_waits_for_one_that_switches_its_journal(tmp_path: Path) -> None:
    """SQLite refuses the switch at once, whatever its time-out, while another holds the file reserved."""
    with closing(sqlite3.connect(tmp_path / "fleetmark.db", check_same_thread=False, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.2, other.execute, ["COMMIT"])
        end.start()
        store = Store(tmp_path)
        end.join()
    assert store.list_runs() == []
    store.close()


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be taken for one", None])
def test_a_database_that_is_none_of_ours_is_told(content: bytes | None, tmp_path: Path) -> None:
    """A file that is no database, and one of a later schema, are refused and left as they are."""
    path = tmp_path / "fleetmark.db"
    if content is None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version=99")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(FleetmarkError, match=r"fleetmark\.db"):
        Store.open(tmp_path)
    assert path.read_bytes() == before


def test_a_run_is_named_by_id_prefix_and_latest(tmp_path: Path) -> None:
    """An id, a unique prefix and `latest` name a run; what names none or several is told."""
    store = Store(tmp_path)
    for name in ("aa-1", "aa-2"):
        store.create_run(name, name, DOCUMENT)
    store.create_run("bb-1", "aa-3", DOCUMENT)
    names = [store.find_run(name).id for name in ("aa-1", "b", "latest")]
    for name, said in (("aa", "2 runs"), ("c", "no run"), ("", "no run")):
        with pytest.raises(FleetmarkError, match=said):
            store.find_run(name)
    store.close()
    assert names == ["aa-1", "bb-1", "bb-1"]


@pytest.mark.parametrize(
    ("rounds", "fault", "status"),
    [
        ([], None, "cancelled"),
        ([], Fault("unreachable", "", "", ""), "unreachable"),
        ([(0, "valid"), (1, "valid")], None, "valid"),
        ([(0, "failed"), (0, "valid")], None, "valid"),
        ([(0, "valid"), (1, "failed")], None, "failed"),
        ([(0, "valid")], Fault("host_key", "", "", ""), "unreachable"),
        ([(0, "valid"), (1, "cancelled")], None, "cancelled"),
        ([(0, "valid"), (1, "unsteady"), (2, "valid")], None, "valid"),
        ([(0, "valid"), (1, "unsteady")], None, "unsteady"),
        ([(0, "valid"), (1, "unsteady"), (2, "throttled")], None, "throttled"),
        ([(0, "valid"), (1, "throttled"), (2, "failed")], None, "failed"),
    ],
)
def test_a_cell_is_as_good_as_the_last_try_of_its_worst_round(rounds: Sequence[tuple[int, str]], fault: Fault | None, status: str) -> None:
    """Tries that were repeated do not count; a cell that could not go on has its own fault's status."""
    assert cell_status([launch(str(at), *one) for at, one in enumerate(rounds)], fault) == status


@given(st.text())
def test_every_fault_has_a_status(code: str) -> None:
    """Whatever the code, its status is one that cells may have."""
    assert status_of(CRASH._replace(code=code)) in STATUSES
    assert sorted(SEVERITY) == sorted(STATUSES)
