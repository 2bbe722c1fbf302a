"""Databases of every schema there ever was: opened, brought up to date, read and written on."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres import OWNER, Postgres

from agent.description import Probe
from agent.schema import Fault, SchemaError, load
from controller import migrations
from controller.collect import Samples
from controller.database import Database, locate
from controller.errors import FleetmarkError
from controller.store import Store
from controller.stored import record
from controller.tables import SCHEMA, metadata
from reports.records import LaunchRecord

FIXTURES = Path(__file__).with_name("stores")
FIRST_OF_POSTGRES = 3
RUN = "20260101-000000-abcd"


def made(folder: Path, schema: int) -> Path:
    """The database that fleetmark wrote when that was its schema."""
    path = folder / "fleetmark.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((FIXTURES / f"sqlite-{schema}.sql").read_text())
        database.execute("PRAGMA journal_mode=WAL")
    return path


def content(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


def write_on(store: Store) -> None:
    """Finish the launch that was open, and begin another."""
    store.finish_launch(LaunchRecord(f"{RUN}-open", 2, "valid", "", {}), [Samples("rate", "1", np.ones(1))])
    (cell, *_) = store.load_run(RUN).cells
    store.begin_launch(RUN, cell.id, 3, f"{RUN}-next", "2026-01-02T00:00:00.000+00:00")


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_database_of_each_schema_is_read_and_written_on(schema: int, tmp_path: Path) -> None:
    """Its run has its device, launches and samples; an open launch can be finished; a copy of an older one stays as it was."""
    before = content(made(tmp_path, schema))
    said: list[str] = []
    with closing(Store.open(tmp_path, say=said.append)) as store:
        read_and_write_on(store)
    copies = list(tmp_path.glob("fleetmark-schema-*.db"))
    assert [content(copy) for copy in copies] == ([before] if schema < SCHEMA else [])
    assert [str(copy) in text for copy, text in zip(copies, said, strict=True)] == [True] * len(copies)


@pytest.mark.parametrize("schema", range(FIRST_OF_POSTGRES, SCHEMA + 1))
def test_a_teams_database_of_each_schema_is_read_and_written_on(
    schema: int, shared_postgres: Postgres, team_url: str, tmp_path: Path
) -> None:
    """The same of PostgreSQL's, as pg_dump wrote them; its owner migrates them."""
    database = team_url.rpartition("/")[2]
    shared_postgres.sql((FIXTURES / f"postgresql-{schema}.sql").read_text(), database, OWNER)
    with closing(Store.open(tmp_path, team_url)) as store:
        read_and_write_on(store)


def read_and_write_on(store: Store) -> None:
    run = store.load_run(RUN)
    first, second = run.cells
    assert run.devices["board"].probe is not None
    assert run.devices["board"].probe.hostname == "board"
    assert (run.variants[0].size_bytes, second.fault and second.fault.code) == (1234, "convert_fail")
    valid, failed = first.launches
    assert valid.values["latency_s"].tolist() == [(20_000 + 1000 * at % 7) / 1e9 for at in range(50)]
    assert valid.before is not None
    assert valid.before.wall_time_s == 1767225610.5
    assert (failed.fault and failed.fault.code, failed.after, valid.notes) == ("crash", None, ("a note",))
    assert [name for name, _, _ in store.open_launches(RUN)] == [f"{RUN}-open"]
    write_on(store)
    assert store.check() == []
    assert [launch.round for launch in store.load_run(RUN).cells[0].launches] == [0, 1, 2]


def test_there_is_a_fixture_and_a_revision_for_each_schema() -> None:
    """Whoever makes a new schema has to add both."""
    revisions = [one.revision for one in ScriptDirectory(Path(migrations.__file__).parent).walk_revisions()]
    assert sorted(revisions) == [str(number) for number in range(1, SCHEMA + 1)]
    expected = {f"sqlite-{number}.sql" for number in range(1, SCHEMA + 1)}
    assert {path.name for path in FIXTURES.iterdir()} == expected | {
        f"postgresql-{number}.sql" for number in range(FIRST_OF_POSTGRES, SCHEMA + 1)
    }


def by_revisions(database: Database) -> list[object]:
    """Make the tables by the revisions alone; give what Alembic finds other than in `metadata`."""

    def change(connection: sa.Connection) -> list[object]:
        migrations.upgrade(connection, 0)
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    return database.write(change)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_revisions_lead_to_the_tables(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A database made by all revisions in turn is one made at once."""
    url = request.getfixturevalue("team_url") if kind == "postgresql" else None
    assert by_revisions(Database(locate(tmp_path, url))) == []


@pytest.mark.parametrize("told", ["user_version", "alembic"])
def test_a_later_schema_is_refused_and_left_alone(told: str, tmp_path: Path) -> None:
    """The error names both schemas and says what to do; the file stays byte for byte."""
    path = made(tmp_path, SCHEMA)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
        if told == "alembic":
            database.executescript("CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('99');")
    before = path.read_bytes()
    with pytest.raises(FleetmarkError, match=r"fleetmark\.db was made by a later fleetmark") as raised:
        Store.open(tmp_path)
    assert ("99" in raised.value.why, str(SCHEMA) in raised.value.why, "upgrade fleetmark" in raised.value.next) == (True, True, True)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A revision that is none of ours belongs to somebody else."""
    with closing(sqlite3.connect(tmp_path / "fleetmark.db")) as database:
        database.executescript("CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('ae10');")
    with pytest.raises(FleetmarkError, match="another program"):
        Store(tmp_path)


def test_a_migration_that_fails_leaves_everything(tmp_path: Path) -> None:
    """Where a document cannot be migrated, the database is as it was, of its old schema, and no copy is left over."""
    path = made(tmp_path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE launches SET document = '[]' WHERE status = 'valid'")
        database.commit()
    before = content(path)
    with pytest.raises(AttributeError):
        Store.open(tmp_path)
    assert content(path) == before
    assert list(tmp_path.glob("*-schema-*")) == []


def test_those_who_open_an_old_database_at_once_migrate_it_once(tmp_path: Path) -> None:
    """One of them does it while the others wait; all of them read it then."""
    made(tmp_path, 1)
    ready = threading.Barrier(4)
    said: list[str] = []

    def read(_: int) -> int:
        ready.wait()
        with closing(Store.open(tmp_path, say=said.append)) as store:
            return len(store.load_run(RUN).cells)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [2] * 4
    assert (len(said), len(list(tmp_path.glob("*-schema-*.db")))) == (1, 1)


def test_the_command_line_tells_of_a_migration(tmp_path: Path) -> None:
    """It is narration, on stderr; the results are on stdout as ever."""
    made(tmp_path, 1)
    command = [str(Path(sys.executable).with_name("fleetmark")), "runs", "list", "--results", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"was brought from schema 1 to {SCHEMA}; as it was before: " in done.stderr
    assert RUN in done.stdout
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""


class Link(NamedTuple):
    """What a later fleetmark may tell of a fault's way."""

    hops: int
    name: str = "direct"


class LaterFault(NamedTuple):
    """Fault as a later fleetmark may have it: with more fields, which have defaults."""

    code: str
    phase: str
    message: str
    next: str
    device: str = "unknown"
    retries: Optional[int] = None  # noqa: UP045 - as the agent writes it, for Python 3.6
    link: Optional[Link] = None  # noqa: UP045


def test_stored_records_may_lack_what_came_later(tmp_path: Path) -> None:
    """A fault of the oldest database is read by a kind with more fields, within others too; the wire takes it no more."""
    with closing(Store.open(made(tmp_path, 1).parent)) as store:
        (_, failed) = store.load_run(RUN).cells[0].launches
    assert failed.fault is not None
    stored = failed.fault._asdict()
    assert record(LaterFault, stored) == LaterFault(**stored)
    assert record(LaterFault, {**stored, "link": {"hops": 2}}).link == Link(2, "direct")
    assert record(list[LaterFault], [stored]) == [LaterFault(**stored)]
    assert record(dict[str, LaterFault], {"a": stored}) == {"a": LaterFault(**stored)}
    assert record(Optional[LaterFault], stored) == LaterFault(**stored)  # noqa: UP045
    with pytest.raises(SchemaError, match="missing"):
        load(LaterFault, stored)


@pytest.mark.parametrize("value", [{}, {"code": "crash"}, {**Fault("a", "b", "c", "d")._asdict(), "later": 1}, [], "text"])
def test_stored_records_are_refused_where_they_are_wrong(value: object) -> None:
    """A field that has no default may not be missing, and none may be unknown."""
    with pytest.raises(SchemaError):
        record(LaterFault, value)


def test_records_of_a_later_fleetmark_are_told(tmp_path: Path) -> None:
    """A run that a later one wrote into the same database says so when it is read."""
    made(tmp_path, SCHEMA)
    with closing(sqlite3.connect(tmp_path / "fleetmark.db")) as database:
        database.execute("UPDATE devices SET document = json_set(document, '$.probe.later', 1)")
        database.commit()
    with closing(Store.open(tmp_path)) as store, pytest.raises(FleetmarkError, match="Probe") as raised:
        store.load_run(RUN)
    assert "upgrade fleetmark" in raised.value.next
    assert Probe._field_defaults == {}  # so far each of its fields is in every database, by a revision
