"""The threads of one process write to SQLite one after the other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import sqlalchemy as sa

from controller.database import Database

LANES, WRITES = 16, 5


def test_lanes_take_turns(tmp_path: Path) -> None:
    """With no patience at all, which one failed attempt exhausts, 16 threads that begin at once write all they have to."""
    database = Database(sa.URL.create("sqlite", database=str(tmp_path / "some.db")), patience_s=0.0)
    database.write(lambda connection: connection.exec_driver_sql("CREATE TABLE numbers (number INTEGER)"))
    start = Barrier(LANES)

    def write(lane: int) -> None:
        start.wait()
        for at in range(WRITES):
            database.write(lambda connection: connection.exec_driver_sql(f"INSERT INTO numbers VALUES ({lane * WRITES + at})"))  # noqa: B023, S608

    with ThreadPoolExecutor(LANES) as pool:
        list(pool.map(write, range(LANES)))
    with database.read() as connection:
        assert sorted(connection.exec_driver_sql("SELECT number FROM numbers").scalars()) == list(range(LANES * WRITES))
