"""Which database holds the results, and how it is read and written: SQLite beside the reports, or a team's PostgreSQL."""

import re
import sqlite3
import weakref
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from controller.errors import FleetmarkError
from controller.redaction import to_json

FILE_NAME = "fleetmark.db"
PATIENCE_S = 30.0  # how long a write is tried that may still succeed
SQLITE_LOCK_S, TEAM_LOCK_S = 0.1, 5.0  # how long one try waits for another writer
TEAM = "postgresql+psycopg"
EXAMPLE = f"{TEAM}://<user>@<host>/<database>"
DEFAULTS = {"connect_timeout": "10", "application_name": "fleetmark", "keepalives_idle": "30", "keepalives_interval": "10"}
PRIVATE: dict[str, Any] = {"json_serializer": to_json, "hide_parameters": True}
_SCHEME = re.compile(r"([a-z][a-z0-9+.]*)://")
_PASSWORD = re.compile(r"://[^@]*:[^@]*@|[?&][^=&]*password[^=&]*=", re.IGNORECASE)
_TEAM = re.compile(r"[^:]+://([^:/?#@\[\]]+@)?([^:/?#@\[\]]*|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?/[^/?#@]+(\?[^#@]*)?")
_FILE = re.compile(r"sqlite:///([^?#]+)")
_FULL = (sqlite3.SQLITE_FULL, "53100")
# What may pass: of SQLite locks, and whatever a full disk leads to; of PostgreSQL conflicts, locks, resources and restarts.
_PASSING = {
    *_FULL,
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL),
    *("40001", "40P01", "53200", "53300", "55P03", "57P01", "57P02", "57P03"),
}
_CUT = (None, "57P01", "57P02")  # a connection that was lost, or ended by the server
T = TypeVar("T")


def locate(folder: Path, url: str | None) -> sa.URL:
    """Give the database that a URL names, without one `fleetmark.db` in the folder.

    Raises FleetmarkError for anything but sqlite:///PATH and postgresql+psycopg://, and for a password in it; no message repeats that.
    """
    if url is None:
        return sa.URL.create("sqlite", database=str(folder / FILE_NAME))
    if _PASSWORD.search(url):
        raise FleetmarkError(
            "the store's URL holds a password",
            why="URLs end up in the history of shells, in process lists and in logs",
            next=f"leave it out ({EXAMPLE}) and put it into ~/.pgpass or PGPASSWORD\nand change it, if it was a real one",
        )
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1] not in ("sqlite", TEAM):
        named = f"results are not kept in {scheme[1]}" if scheme else "the store is not named by a URL"
        raise FleetmarkError(named, next=f"--store {EXAMPLE}, or --store sqlite:///PATH")
    file = _FILE.fullmatch(url)
    if file and file[1] != ":memory:":
        return sa.URL.create("sqlite", database=file[1])
    if scheme[1] != TEAM or not _TEAM.fullmatch(url):
        raise FleetmarkError("the store's URL cannot be read", next=f"--store {EXAMPLE}, or --store sqlite:///PATH")
    found = sa.make_url(url)
    return found.update_query_dict({key: value for key, value in DEFAULTS.items() if key not in found.query})


class Database:
    """One database: `name` is what people call it, `path` its file if it is SQLite's."""

    def __init__(self, url: sa.URL, patience_s: float = PATIENCE_S) -> None:
        self.path = Path(url.database or "") if url.drivername == "sqlite" else None
        shown = sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database)
        self.name = str(self.path or shown)
        told = {"host": url.host, "port": url.port, "username": url.username, "dbname": url.database}
        self._login = " ".join(["psql", *(f"--{key}={value}" for key, value in told.items() if value)])
        self.patience_s = patience_s
        try:
            self._engine = _sqlite(url, patience_s) if self.path else sa.create_engine(url, pool_pre_ping=True, **PRIVATE)
        except ImportError as error:
            raise FleetmarkError(f"psycopg cannot be imported: {error}", next="pip install 'fleetmark[postgres]'") from error
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ") if self.path is None else self._engine
        self._writing = self._engine.execution_options(lock_s=min(patience_s, SQLITE_LOCK_S if self.path else TEAM_LOCK_S))
        self._turn = Lock() if self.path else nullcontext()  # SQLite's own waiting is no queue: of 64 lanes, some never got in
        event.listen(self._engine, "begin", _begin)
        self.close = weakref.finalize(self, self._engine.dispose)

    @contextmanager
    def read(self) -> Generator[sa.Connection]:
        """Give a connection that sees the database as it is at one moment. Raises FleetmarkError."""
        with self.telling("read"), self._reading.connect() as connection:
            yield connection

    def write(self, change: Callable[[sa.Connection], T]) -> T:
        """Give what `change` gives, done in one transaction, whole or not at all.

        What is locked, full or restarting is tried again for `patience_s`, so `change` may run several times. Raises FleetmarkError.
        """
        with self.telling("written"):
            return self.retrying()(lambda: self._change(change))

    def write_ahead(self) -> None:
        """Switch SQLite's journal. Raises FleetmarkError."""
        try:
            with closing(self._engine.raw_connection()) as connection:  # a transaction could not do it
                self.retrying()(connection.cursor().execute, "PRAGMA journal_mode=WAL")  # SQLite's own time-out does not cover it
        except sqlite3.OperationalError as error:
            raise FleetmarkError(f"{self.name} cannot be written: {error}", next="end what locks it, or choose another store") from error

    def session(self) -> sa.Connection:
        """Give a connection of its own, on which every statement is a transaction; raises what the driver does."""
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        return connection

    def retrying(self, *also: type[Exception]) -> Retrying:
        """Give how often and for how long what may pass, or is one of `also`, is tried again, with jitter between writers."""
        return Retrying(
            stop=stop_after_delay(self.patience_s),
            wait=wait_random_exponential(multiplier=0.02, max=1.0),
            retry=retry_if_exception(lambda error: _can_pass(error) or isinstance(error, also)),
            reraise=True,
        )

    def _change(self, change: Callable[[sa.Connection], T]) -> T:
        is_committing = False
        try:
            with self._turn, self._writing.begin() as connection:
                result = change(connection)
                is_committing = True
        except exc.DBAPIError as error:
            if is_committing and self.path is None and _code(error) in _CUT:
                raise FleetmarkError(
                    f"the connection to {self.name} was lost while it was written",
                    why="what was being written is there as a whole or not at all",
                    next="fleetmark run --resume goes on from what is there",
                ) from error
            raise
        return result

    @contextmanager
    def telling(self, done: str) -> Generator[None]:
        """Tell errors that people can do something about as FleetmarkErrors; those of a bug stay as they are."""
        try:
            yield
        except exc.DBAPIError as error:
            told = self._told(error, done)
            if told is None:
                raise
            raise told from error
        except UnicodeEncodeError as error:
            raise FleetmarkError(f"a text cannot be {done}: {error}", next="this is a bug: please report it") from error

    def _told(self, error: exc.DBAPIError, done: str) -> FleetmarkError | None:
        code, why = _code(error), str(error.orig).strip().replace("\t", "  ")
        if code in _FULL:
            return FleetmarkError(f"the disk of {self.name} is full", why, "free some space there, then fleetmark run --resume")
        if code == "42501":
            return FleetmarkError(f"{self.name} may not be {done} by you", why, "ask who owns it (docs/TEAM.md: roles)")
        if self.path is None and isinstance(error, exc.OperationalError) and code is None:
            return self._unreachable(error.orig, why)
        if isinstance(error, exc.DataError):
            return FleetmarkError(f"{self.name} cannot hold that", why, "this is a bug: please report it")
        if isinstance(error, exc.IntegrityError | exc.ProgrammingError):
            return None
        following = "end what locks it, then fleetmark run --resume" if code in _PASSING else "move it away, or choose another store"
        return FleetmarkError(f"{self.name} cannot be {done}: {why}", next=following)

    def _unreachable(self, error: Any, why: str) -> FleetmarkError:
        link = getattr(error, "pgconn", None)
        following = f"see that the server runs and lets you in: {self._login}"
        if link is not None and link.needs_password:
            following = "put the password into ~/.pgpass (mode 600) or PGPASSWORD"
        elif link is not None and link.used_password:
            following = "see that the password in PGPASSWORD, else in ~/.pgpass, is right, and that the database and the user exist"
        return FleetmarkError(f"cannot connect to {self.name}", why, following)


def _begin(connection: sa.Connection) -> None:
    """Writers wait for each other where they begin, so that none of them finds the database locked halfway."""
    lock_s: float | None = connection.get_execution_options().get("lock_s")  # of writers
    if connection.dialect.name == "sqlite":
        if lock_s is not None:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * lock_s)}")
        connection.exec_driver_sql("BEGIN" if lock_s is None else "BEGIN IMMEDIATE")
    elif lock_s is not None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout={max(1, round(1000 * lock_s))}")


def _sqlite(url: sa.URL, timeout_s: float) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": timeout_s}, poolclass=sa.pool.NullPool, **PRIVATE)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: object) -> None:  # pyright: ignore[reportUnusedFunction] - SQLAlchemy calls it
        connection.isolation_level = None  # transactions begin where we say, also those that change tables
        connection.execute("PRAGMA foreign_keys=ON")

    return engine


def _code(error: BaseException | None) -> int | str | None:
    """SQLite's primary result code or PostgreSQL's SQLSTATE; None for a connection that could not be made or was lost."""
    told = error.orig if isinstance(error, exc.DBAPIError) else error
    code: int | None = getattr(told, "sqlite_errorcode", None)
    return getattr(told, "sqlstate", None) if code is None else code & 0xFF


def _can_pass(error: BaseException) -> bool:
    code = _code(error)
    return code in _PASSING or (code is None and isinstance(error, exc.OperationalError))
