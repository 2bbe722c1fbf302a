"""The results: runs, cells, launches and raw samples, by SQLAlchemy; a transaction for each launch.

Samples are one zlib-compressed blob a launch and metric, no row for each. A launch that has been written is never edited.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from agent.schema import Cell, Fault, SchemaError, dump
from controller.alone import alone
from controller.collect import Samples
from controller.database import PATIENCE_S, Database, locate
from controller.errors import FleetmarkError
from controller.integrity import problems
from controller.migrations import prepare
from controller.stored import (
    cell_record,
    device_document,
    device_record,
    in_order,
    launch_document,
    launch_record,
    pack,
    raw_launch,
    unpack,
    variant_document,
    variant_record,
)
from controller.tables import PROFILED, cells, devices, launches, runs, samples, variants
from reports.raw import RawLaunch
from reports.records import DeviceRecord, Gate, LaunchRecord, RunRecord, VariantRecord

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it names a folder

OUTPUTS = "output_"  # how the metrics begin that are output tensors


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as `runs list` shows it."""

    id: str
    started_at: str
    finished_at: str | None
    tag: str | None
    document: Mapping[str, Any]
    cells: int
    launches: int


def _ignore(*_: object) -> None:
    pass


class Store:
    """All results of one database: the SQLite file in a folder, or what a URL names. `name` is what people call it."""

    def __init__(
        self,
        folder: Path,
        url: str | None = None,
        *,
        create: bool = True,
        patience_s: float = PATIENCE_S,
        say: Callable[[str], None] = _ignore,
    ) -> None:
        """Open it, made or migrated first where that is due, of which `say` hears.

        A write is tried again for `patience_s` while the database is locked, full or away. Raises FleetmarkError.
        """
        self._database = Database(locate(folder, url), patience_s)
        self.name, path = self._database.name, self._database.path
        self._still_alone: Callable[[], None] = _ignore
        if path and create:
            path.parent.mkdir(parents=True, exist_ok=True)
        if (path and not create and not path.exists()) or not prepare(self._database, say, create=create):
            where = f"in {folder}" if url is None else f"in {self.name}"
            raise FleetmarkError(
                f"there are no results {where}", next="fleetmark run SUITE makes some; --results DIR or --store URL looks elsewhere"
            )

    @classmethod
    def open(cls, folder: Path, url: str | None = None, *, say: Callable[[str], None] = _ignore) -> Self:
        """Give the store that is there; raises FleetmarkError where there is none."""
        return cls(folder, url, create=False, say=say)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @contextmanager
    def exclusive(self, run_id: str) -> Generator[None]:
        """Keep everybody else from this run for the block. Raises FleetmarkError if somebody is at it."""
        try:
            with alone(self._database, run_id) as self._still_alone:
                yield
        finally:
            self._still_alone = _ignore

    def check(self) -> list[str]:
        """Give what is wrong with the database itself and what it holds, a line each; nothing is changed. It reads all of it."""
        found: list[str] = []
        try:
            with self._database.read() as connection:
                found.extend(problems(connection))
        except FleetmarkError as error:  # so damaged that it cannot be read on
            found.append(error.message)
        return found

    def create_run(self, run_id: str, started_at: str, document: Mapping[str, Any]) -> None:
        """Write a new run; `document` holds profile, suite, request, provenance."""
        row = {"id": run_id, "started_at": started_at, "document": dict(document)}
        self._database.write(lambda connection: connection.execute(runs.insert().values(row)))

    def add_cells(
        self, run_id: str, planned: Sequence[tuple[str, Cell, Fault | None]], artifacts: Sequence[VariantRecord], *, first: int = 0
    ) -> None:
        """Write the run's cells, in order from place `first`, and its artifacts; those that are there already stay as they are."""
        found_cells = [
            {"run_id": run_id, "id": cell_id, "position": position, "document": dump(cell), "fault": dump(fault)}
            for position, (cell_id, cell, fault) in enumerate(planned, first)
        ]
        found_variants = [
            {"run_id": run_id, "sha256": one.sha256, "variant": one.variant, "document": variant_document(one)} for one in artifacts
        ]

        def change(connection: sa.Connection) -> None:
            _add_missing(connection, cells, found_cells)
            _add_missing(connection, variants, found_variants)

        self._database.write(change)

    def cell_faults(self, run_id: str, faults: Mapping[str, Fault | None]) -> None:
        """Set or clear why cells could not be started; a resumed run starts them after all."""

        def change(connection: sa.Connection) -> None:
            for cell_id, fault in faults.items():
                where = (cells.c.run_id == run_id) & (cells.c.id == cell_id)
                connection.execute(cells.update().where(where).values(fault=dump(fault) if fault else sa.null()))

        self._database.write(change)

    def set_device(self, run_id: str, device: DeviceRecord) -> None:
        """Write what a device said of itself."""
        row = {"run_id": run_id, "name": device.name, "document": device_document(device)}

        def change(connection: sa.Connection) -> None:
            connection.execute(devices.delete().where((devices.c.run_id == run_id) & (devices.c.name == device.name)))
            connection.execute(devices.insert().values(row))

        self._database.write(change)

    def begin_launch(self, run_id: str, cell_id: str, round_: int, launch_id: str, started_at: str, number: int = 0) -> None:
        """Note that a launch is about to start, so that a controller that dies can be resumed.

        `number` says which of its cell's launches it is, for a clock may be set back between two. Raises FleetmarkError where the run is
        held by `exclusive` and somebody else has it by now.
        """
        self._still_alone()
        row = {
            "id": launch_id,
            "run_id": run_id,
            "cell_id": cell_id,
            "round": round_,
            "status": "started",
            "document": {"started_at": started_at, "number": number},
        }
        self._database.write(lambda connection: connection.execute(launches.insert().values(row)))

    def finish_launch(self, launch: LaunchRecord, raw: Sequence[Samples]) -> None:
        """Write a launch's outcome and its raw samples in one transaction; only a `started` one can be finished."""
        document = launch_document(launch)
        packed = [{"launch_id": launch.id, **pack(sample)} for sample in raw]

        def change(connection: sa.Connection) -> None:
            where = (launches.c.id == launch.id) & (launches.c.status == "started")
            begun = connection.execute(sa.select(launches.c.document).where(where)).scalar_one_or_none()
            written = connection.execute(launches.update().where(where).values(status=launch.status, document=(begun or {}) | document))
            if written.rowcount != 1:
                raise FleetmarkError(f"launch {launch.id} has been written before", next="this is a bug: please report it")
            if packed:
                connection.execute(samples.insert(), packed)

        self._database.write(change)

    def begun(self, run_id: str) -> Counter[str]:
        """Give how many launches of each cell of a run have been begun, whatever became of them."""
        with self._database.read() as connection:
            query = sa.select(launches.c.cell_id, sa.func.count().label("times")).where(launches.c.run_id == run_id)
            return Counter({row.cell_id: row.times for row in connection.execute(query.group_by(launches.c.cell_id))})

    def open_launches(self, run_id: str) -> list[tuple[str, str, int]]:
        """Give (launch, cell, round) of those that were started and never collected."""
        with self._database.read() as connection:
            query = sa.select(launches.c.id, launches.c.cell_id, launches.c.round)
            found = connection.execute(query.where((launches.c.run_id == run_id) & (launches.c.status == "started")))
            return [(row.id, row.cell_id, row.round) for row in found]

    def finish_run(self, run_id: str, finished_at: str) -> None:
        """Note that nothing is left to do."""
        update = runs.update().where(runs.c.id == run_id).values(finished_at=finished_at)
        self._database.write(lambda connection: connection.execute(update))

    def tag_run(self, run_id: str, tag: str | None, *, force: bool = False) -> None:
        """Give the run this tag, which no other run has from then on, or none.

        Raises FleetmarkError, unless forced, where another run has it or this one has another.
        """

        def change(connection: sa.Connection) -> None:
            tags = {row.id: row.tag for row in connection.execute(sa.select(runs.c.id, runs.c.tag).with_for_update())}
            owner = next((one for one, its in tags.items() if tag and its == tag and one != run_id), None)
            current = tags.get(run_id)
            if owner and not force:
                raise FleetmarkError(f"run {owner} is tagged {tag} already", next="choose another tag, or move this one with --force")
            if tag and current not in (None, tag) and not force:
                raise FleetmarkError(f"run {run_id} is tagged {current} already", next="replace its tag with --force")
            connection.execute(runs.update().where(runs.c.id == owner).values(tag=sa.null()))
            connection.execute(runs.update().where(runs.c.id == run_id).values(tag=tag))

        self._database.write(change)

    def list_runs(self) -> list[RunRow]:
        """Give all runs, the latest first."""
        count_cells = sa.select(sa.func.count()).where(cells.c.run_id == runs.c.id).scalar_subquery()
        done = (launches.c.run_id == runs.c.id) & (launches.c.status != "started") & (launches.c.round != PROFILED)
        count_launches = sa.select(sa.func.count()).where(done).scalar_subquery()
        query = sa.select(runs, count_cells.label("cells"), count_launches.label("launches")).order_by(
            runs.c.started_at.desc(), runs.c.id.desc()
        )
        with self._database.read() as connection:
            return [RunRow(**row._mapping) for row in connection.execute(query)]  # pyright: ignore[reportPrivateUsage] - its public name

    def artifacts(self) -> frozenset[str]:
        """Give the sha256 of every run's artifacts."""
        with self._database.read() as connection:
            return frozenset(connection.execute(sa.select(variants.c.sha256)).scalars())

    def find_run(self, name: str) -> RunRow:
        """Give the run that an id, a unique prefix of one, a tag or `latest` names."""
        known = self.list_runs()
        found = known[:1] if name == "latest" else [run for run in known if name in (run.id, run.tag)]
        found = found or [run for run in known if name and run.id.startswith(name)]
        if len(found) == 1:
            if not _RUN_ID.fullmatch(found[0].id):
                raise FleetmarkError(
                    f"a run in {self.name} is called {found[0].id[:80]!a}: no folder may be", next="ask who keeps the store"
                )
            return found[0]
        if found:
            raise FleetmarkError(f"{name!r} names {len(found)} runs", next=f"say more of it, such as {found[0].id}")
        raise FleetmarkError(f"there is no run {name!r} in {self.name}", next="fleetmark runs list shows those there are")

    def load_run(self, run_id: str) -> RunRecord:
        """Give a whole run with its raw values (nanoseconds become seconds)."""
        run = self.find_run(run_id)
        with self._database.read() as connection, _readable(run_id):
            raw = _load_samples(connection, run_id)
            by_cell: dict[str, list[LaunchRecord]] = {}
            done = (launches.c.run_id == run_id) & (launches.c.status != "started")
            rows = connection.execute(sa.select(launches).where(done)).all()
            for row in sorted(rows, key=in_order):
                by_cell.setdefault(row.cell_id, []).append(launch_record(row, raw.get(row.id, {})))
            found_devices = {
                row.name: device_record(row) for row in connection.execute(sa.select(devices).where(devices.c.run_id == run_id))
            }
            found_variants = tuple(
                variant_record(row) for row in connection.execute(sa.select(variants).where(variants.c.run_id == run_id))
            )
            sizes = {variant.sha256: variant.size_bytes for variant in found_variants}
            query = sa.select(cells).where(cells.c.run_id == run_id).order_by(cells.c.position)
            found_cells = tuple(cell_record(row, tuple(by_cell.get(row.id, ())), sizes) for row in connection.execute(query))
        document = run.document
        return RunRecord(
            id=run.id,
            started_at=run.started_at,
            finished_at=run.finished_at,
            fleetmark=document["fleetmark"],
            profile=document["profile"],
            suite=document["suite"],
            launches_planned=document["launches"],
            devices=found_devices,
            variants=found_variants,
            cells=found_cells,
            conditions=document["provenance"],
            rate_per_s=document.get("rate_per_s", 1.0),
            gates=tuple(Gate(**gate) for gate in document.get("gates", ())),
            tag=run.tag,
        )

    def raw(self, run_id: str) -> Iterator[RawLaunch]:
        """Give each launch of a run with its raw values but for output tensors, cell by cell, with one launch in memory at a time."""
        with self._database.read() as connection, _readable(run_id):
            query = sa.select(launches, cells.c.document.label("cell"), cells.c.position).join(
                cells, (cells.c.run_id == launches.c.run_id) & (cells.c.id == launches.c.cell_id)
            )
            rows = connection.execute(query.where((launches.c.run_id == run_id) & (launches.c.status != "started"))).all()
            for row in sorted(rows, key=lambda row: (row.position, row.cell_id, *in_order(row))):
                stored = sa.select(samples).where((samples.c.launch_id == row.id) & ~samples.c.metric.startswith(OUTPUTS))
                yield raw_launch(run_id, row, connection.execute(stored.order_by(samples.c.metric)))


@contextmanager
def _readable(run_id: str) -> Generator[None]:
    try:
        yield
    except SchemaError as error:
        following = "upgrade fleetmark, if a later one wrote it; fleetmark doctor --store looks what else is wrong"
        raise FleetmarkError(f"run {run_id} holds what this fleetmark cannot read: {error}", next=following) from error


def _add_missing(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    from sqlalchemy.dialects import postgresql, sqlite  # with all drivers that they know: reading a store needs one of them

    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    if rows:
        connection.execute(insert(table).on_conflict_do_nothing(), rows)


def _load_samples(connection: sa.Connection, run_id: str) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The 1-D metrics by launch; output tensors stay in the database."""
    query = sa.select(samples).join(launches, launches.c.id == samples.c.launch_id).where(launches.c.run_id == run_id)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for row in connection.execute(query.where(~samples.c.metric.startswith(OUTPUTS))):
        sample = unpack(row)
        found.setdefault(row.launch_id, {})[sample.metric] = sample.array
    return found
