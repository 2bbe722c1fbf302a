"""The schema of a results database: made where there is none, brought up by Alembic from an earlier one, never from a later one.

A new schema is the next SCHEMA in controller/tables.py, a revision in versions/ that leads to it, and what a database of it looks like in
tests/stores: the statements of sqlite3's `.dump`, and of `pg_dump --inserts --no-owner`, of a small one.
"""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from controller.database import Database
from controller.errors import FleetmarkError
from controller.tables import SCHEMA, metadata, revision

LOCK = 0x666C656574  # PostgreSQL's advisory lock of whoever changes the schema: "fleet"


def prepare(database: Database, say: Callable[[str], None], *, create: bool) -> bool:
    """Bring the database to this schema, one of several that begin at once; False where there is none and `create` is not set.

    `say` hears of a migration and where the copy from before it is. Raises FleetmarkError, also for a later schema.
    """
    with database.read() as connection:
        found = _found(connection, database.name)
    if found == SCHEMA or (found is None and not create):
        return found is not None
    if found is None and database.path:
        database.write_ahead()
    database.write(lambda connection: _bring_up(connection, database, say))
    return True


def _found(connection: sa.Connection, name: str) -> int | None:
    """The schema's number; None where there is no table of ours. SQLite's databases had theirs in user_version before Alembic."""
    tables = sa.inspect(connection)
    if tables.has_table(revision.name):
        told = connection.execute(sa.select(revision.c.version_num)).scalar_one_or_none() or ""
    elif connection.dialect.name == "sqlite":
        told = str(connection.exec_driver_sql("PRAGMA user_version").scalar_one() or "")
    else:
        told = ""
    if not told:
        return None
    if not told.isdecimal():
        raise FleetmarkError(f"{name} is a database of another program (its revision is {told[:40]!r})", next="choose another store")
    if int(told) > SCHEMA:
        why = f"the database has schema {told}, this fleetmark reads up to {SCHEMA}"
        raise FleetmarkError(f"{name} was made by a later fleetmark", why, "upgrade fleetmark, or choose another store")
    return int(told)


def _bring_up(connection: sa.Connection, database: Database, say: Callable[[str], None]) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    found = _found(connection, database.name)
    if found is None:
        metadata.create_all(connection)
    elif found < SCHEMA:
        with _kept(database.path, found) as copy:
            upgrade(connection, found)
        say(f"{database.name} was brought from schema {found} to {SCHEMA}" + (f"; as it was before: {copy}" if copy else ""))
    else:
        return
    stamp(connection, SCHEMA)


def stamp(connection: sa.Connection, number: int) -> None:
    """Write the schema's number; SQLite's user_version too, which earlier fleetmarks look at."""
    revision.create(connection, checkfirst=True)
    connection.execute(revision.delete())
    connection.execute(revision.insert().values(version_num=str(number)))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version={number}")


def upgrade(connection: sa.Connection, found: int) -> None:
    """Run the revisions after `found`, 0 for none, in the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    if found:
        stamp(connection, found)
    command.upgrade(config, "head")


@contextmanager
def _kept(path: Path | None, found: int) -> Generator[Path | None]:
    """Keep a copy of SQLite's file as it is, beside it; none where the block fails, for then the file itself is as it was."""
    if path is None:
        yield None
        return
    copy = path.with_name(f"{path.stem}-schema-{found}-{datetime.now(UTC):%Y%m%d-%H%M%S}{path.suffix}")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        yield copy
    except BaseException:
        copy.unlink(missing_ok=True)
        raise
