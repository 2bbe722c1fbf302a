"""One controller a run: two of them would have the same leases, and take each other's launches away."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from controller.database import Database
from controller.errors import FleetmarkError

# A laptop that vanished gives its run back within half a minute, where the system's own settings keep its session for two hours.
KEEPALIVES = ("tcp_keepalives_idle=10", "tcp_keepalives_interval=5", "tcp_keepalives_count=3")


@contextmanager
def alone(database: Database, run_id: str) -> Generator[Callable[[], None]]:
    """Hold a run for the block, and give what sees that it is still held; both raise FleetmarkError where somebody else has it.

    SQLite's runs are held by a folder beside the file, those of PostgreSQL by a session: for every machine, and no longer than we live.
    """
    if database.path:
        with _folder(database.path.parent / run_id):
            yield _held
        return
    session = _Session(database, run_id)
    session.take()
    try:
        yield session.keep
    finally:
        session.end()


def _held() -> None:
    pass


@contextmanager
def _folder(folder: Path) -> Generator[None]:
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(folder.name) from error
        yield
    finally:
        os.close(descriptor)


class _Session:
    """An advisory lock, which ends with the session that took it."""

    def __init__(self, database: Database, run_id: str) -> None:
        self.database, self.run_id = database, run_id
        self.key = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:8], "big", signed=True)
        self._connection: sa.Connection | None = None
        self._mutex = threading.Lock()

    def take(self) -> None:
        with self.database.telling("written"):
            self._take()

    def keep(self) -> None:
        """See that the session lives; one that was lost, as when the server restarts, is replaced while nobody else has the run."""
        with self._mutex, self.database.telling("written"):
            self.database.retrying(FleetmarkError)(self._look)  # the server may take a while to see that the old session is dead

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self) -> None:
        if self._connection is None:
            self._take()
            return
        try:
            self._connection.execute(sa.select(1))
        except exc.DBAPIError:
            self.end()
            raise

    def _take(self) -> None:
        connection = self.database.session()
        try:
            for setting in KEEPALIVES:
                connection.exec_driver_sql(f"SET {setting}")
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(self.key))).scalar_one():
                raise _taken(self.run_id)
        except BaseException:
            connection.close()
            raise
        self._connection = connection


def _taken(run_id: str) -> FleetmarkError:
    return FleetmarkError(f"run {run_id} is still going on", next="wait until it ends, or interrupt it")
