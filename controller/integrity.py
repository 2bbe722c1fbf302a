"""What can be wrong with a results database: its file, its rows among each other, and what they hold."""

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sqlalchemy as sa

from agent.schema import SchemaError
from controller.stored import MEASURED, cell_record, device_record, launch_record, variant_record
from controller.tables import cells, devices, launches, samples, variants

MOST = 20  # of each kind that are told one by one
ROWS = 50  # read at a time


def problems(connection: sa.Connection) -> Iterator[str]:
    """Give what is wrong, a line each; nothing for a sound database. Reads all of it, a few rows at a time."""
    if connection.dialect.name == "sqlite":
        for (line,) in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})"):
            if line != "ok":
                yield f"the file is damaged: {line}"
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(MOST):
            yield f"{table}: row {row} has no {parent}"
    yield from _orphans(connection)
    yield from _twice(connection)
    yield from _unreadable(connection)


def _orphans(connection: sa.Connection) -> Iterator[str]:
    of_cell = (cells.c.run_id == launches.c.run_id) & (cells.c.id == launches.c.cell_id)
    query = sa.select(launches.c.id, launches.c.cell_id).outerjoin(cells, of_cell).where(cells.c.id.is_(None))
    for row in connection.execute(query.limit(MOST)):
        yield f"launch {row.id} is of cell {row.cell_id}, which is not there"
    query = sa.select(samples.c.launch_id, samples.c.metric).outerjoin(launches, launches.c.id == samples.c.launch_id)
    for row in connection.execute(query.where(launches.c.id.is_(None)).limit(MOST)):
        yield f"samples {row.metric} are of launch {row.launch_id}, which is not there"
    query = sa.select(samples.c.launch_id).join(launches, launches.c.id == samples.c.launch_id).where(launches.c.status == "started")
    for row in connection.execute(query.distinct().limit(MOST)):
        yield f"launch {row.launch_id} has samples, and was never finished"


def _twice(connection: sa.Connection) -> Iterator[str]:
    key = (launches.c.run_id, launches.c.cell_id, launches.c.round)
    query = sa.select(*key, sa.func.count().label("times")).where(launches.c.status.in_(sorted(MEASURED))).group_by(*key)
    for row in connection.execute(query.having(sa.func.count() > 1).limit(MOST)):
        yield f"run {row.run_id}: cell {row.cell_id} was measured {row.times} times in round {row.round}"


def _unreadable(connection: sa.Connection) -> Iterator[str]:
    """What the readers of rows would raise for; what they hold may be anything, so anything may be raised."""
    readers: tuple[tuple[sa.Select[Any], Callable[[Any], object], str], ...] = (
        (sa.select(launches).where(launches.c.status != "started"), lambda row: launch_record(row, {}), "launch {0.id}"),
        (sa.select(devices), device_record, "run {0.run_id}: device {0.name}"),
        (sa.select(variants), variant_record, "run {0.run_id}: artifact {0.sha256}"),
        (sa.select(cells), lambda row: cell_record(row, (), {}), "run {0.run_id}: cell {0.id}"),
        (sa.select(samples), _check_values, "launch {0.launch_id}: samples {0.metric}"),
    )
    for query, read, named in readers:
        for row in connection.execution_options(yield_per=ROWS).execute(query):
            try:
                read(row)
            except (SchemaError, zlib.error, KeyError, TypeError, ValueError, AttributeError) as error:
                yield f"{named.format(row)} cannot be read: {type(error).__name__}: {error}"


def _check_values(row: Any) -> None:
    found, expected = len(zlib.decompress(row.values)), math.prod(row.shape) * np.dtype(row.dtype).itemsize
    if found != expected:
        raise ValueError(f"{found} bytes for shape {row.shape} of {row.dtype}")
