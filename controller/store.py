"""The results: runs, cells, launches and raw samples, by SQLAlchemy; a transaction for each launch.

Samples are one zlib-compressed blob a launch and metric, no row for each. A launch that has been written is never edited.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import exc

from agent.schema import Cell, Fault, dump
from controller.collect import Samples
from controller.errors import FleetmarkError
from controller.redaction import to_json
from controller.stored import cell_record, device_record, launch_record, pack, raw_launch, unpack, variant_record
from controller.tables import PROFILED, SCHEMA, cells, devices, launches, metadata, runs, samples, variants
from reports.raw import RawLaunch
from reports.records import DeviceRecord, Gate, LaunchRecord, RunRecord, VariantRecord

FILE_NAME = "fleetmark.db"
BUSY_S = 30.0  # how long a writer waits for another
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


class Store:
    """All results below one folder, or at one database URL."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self._engine = sa.create_engine(
            f"sqlite:///{self.path}", connect_args={"timeout": BUSY_S}, poolclass=sa.pool.NullPool, json_serializer=to_json
        )
        try:
            with self._engine.begin() as connection:
                found = _schema(connection)
        except exc.DatabaseError as error:
            raise FleetmarkError(
                f"{self.path} cannot be opened: {error.orig}", next="move it away, or choose another --results DIR"
            ) from error

        if found != SCHEMA:
            raise FleetmarkError(
                f"{self.path} has schema {found}, this fleetmark reads {SCHEMA}",
                next="use the fleetmark that wrote it, or --results DIR",
            )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Give the store that is in `folder`; raises FleetmarkError where there is none."""
        if not (folder / FILE_NAME).exists():
            raise FleetmarkError(f"there are no results in {folder}", next="fleetmark run SUITE makes some; --results DIR looks elsewhere")
        return cls(folder)

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Generator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except exc.OperationalError as error:
            raise FleetmarkError(
                f"cannot write {self.path}: {error.orig}", next="free some space or end what locks it, then --resume"
            ) from error

    def create_run(self, run_id: str, started_at: str, document: Mapping[str, Any]) -> None:
        """Write a new run; `document` holds profile, suite, request, provenance."""
        with self._transaction() as connection:
            connection.execute(runs.insert().values(id=run_id, started_at=started_at, document=dict(document)))

    def add_cells(
        self, run_id: str, planned: Sequence[tuple[str, Cell, Fault | None]], artifacts: Sequence[VariantRecord], *, first: int = 0
    ) -> None:
        """Write the run's cells, in order from place `first`, and its artifacts; those that are there already stay as they are."""
        with self._transaction() as connection:
            for position, (cell_id, cell, fault) in enumerate(planned, first):
                row = {"run_id": run_id, "id": cell_id, "position": position, "document": dump(cell), "fault": dump(fault)}
                connection.execute(cells.insert().prefix_with("OR IGNORE").values(row))
            for artifact in artifacts:
                document = {
                    "model": artifact.model,
                    "format": artifact.format,
                    "size_bytes": artifact.size_bytes,
                    "manifest": dict(artifact.manifest),
                }
                row = {"run_id": run_id, "sha256": artifact.sha256, "variant": artifact.variant, "document": document}
                connection.execute(variants.insert().prefix_with("OR IGNORE").values(row))

    def cell_faults(self, run_id: str, faults: Mapping[str, Fault | None]) -> None:
        """Set or clear why cells could not be started; a resumed run starts them after all."""
        with self._transaction() as connection:
            for cell_id, fault in faults.items():
                where = (cells.c.run_id == run_id) & (cells.c.id == cell_id)
                connection.execute(cells.update().where(where).values(fault=dump(fault) if fault else sa.null()))

    def set_device(self, run_id: str, device: DeviceRecord) -> None:
        """Write what a device said of itself."""
        document = {
            "kind": device.kind,
            "tags": dict(device.tags),
            "probe": dump(device.probe),
            "groups": list(device.groups),
            "price": asdict(device.price) if device.price else None,
        }
        with self._transaction() as connection:
            where = (devices.c.run_id == run_id) & (devices.c.name == device.name)
            connection.execute(devices.delete().where(where))
            connection.execute(devices.insert().values(run_id=run_id, name=device.name, document=document))

    def begin_launch(self, run_id: str, cell_id: str, round_: int, launch_id: str, started_at: str) -> None:
        """Note that a launch is about to start, so that a controller that dies can be resumed."""
        row = {
            "id": launch_id,
            "run_id": run_id,
            "cell_id": cell_id,
            "round": round_,
            "status": "started",
            "document": {"started_at": started_at},
        }
        with self._transaction() as connection:
            connection.execute(launches.insert().values(row))

    def finish_launch(self, launch: LaunchRecord, raw: Sequence[Samples]) -> None:
        """Write a launch's outcome and its raw samples in one transaction; only a `started` one can be finished."""
        document = {
            "before": dump(launch.before),
            "after": dump(launch.after),
            "fault": dump(launch.fault),
            "log_tail": launch.log_tail,
            "details": dict(launch.details),
            "notes": list(launch.notes),
        }
        with self._transaction() as connection:
            where = (launches.c.id == launch.id) & (launches.c.status == "started")
            begun = connection.execute(sa.select(launches.c.document).where(where)).scalar_one_or_none()
            written = connection.execute(launches.update().where(where).values(status=launch.status, document=(begun or {}) | document))
            if written.rowcount != 1:
                raise FleetmarkError(f"launch {launch.id} has been written before", next="this is a bug: please report it")
            for sample in raw:
                connection.execute(samples.insert().values(launch_id=launch.id, **pack(sample)))

    def open_launches(self, run_id: str) -> list[tuple[str, str, int]]:
        """Give (launch, cell, round) of those that were started and never collected."""
        with self._engine.connect() as connection:
            query = sa.select(launches.c.id, launches.c.cell_id, launches.c.round)
            found = connection.execute(query.where((launches.c.run_id == run_id) & (launches.c.status == "started")))
            return [(row.id, row.cell_id, row.round) for row in found]

    def finish_run(self, run_id: str, finished_at: str) -> None:
        """Note that nothing is left to do."""
        with self._transaction() as connection:
            connection.execute(runs.update().where(runs.c.id == run_id).values(finished_at=finished_at))

    def tag_run(self, run_id: str, tag: str | None, *, force: bool = False) -> None:
        """Give the run this tag, which no other run has from then on, or none.

        Raises FleetmarkError, unless forced, where another run has it or this one has another.
        """
        with self._transaction() as connection:
            others = (runs.c.tag == tag) & (runs.c.id != run_id)
            owner = connection.execute(sa.select(runs.c.id).where(others)).scalar() if tag else None
            current = connection.execute(sa.select(runs.c.tag).where(runs.c.id == run_id)).scalar()
            if owner and not force:
                raise FleetmarkError(f"run {owner} is tagged {tag} already", next="choose another tag, or move this one with --force")
            if tag and current not in (None, tag) and not force:
                raise FleetmarkError(f"run {run_id} is tagged {current} already", next="replace its tag with --force")
            connection.execute(runs.update().where(runs.c.id == owner).values(tag=sa.null()))
            connection.execute(runs.update().where(runs.c.id == run_id).values(tag=tag))

    def list_runs(self) -> list[RunRow]:
        """Give all runs, the latest first."""
        count_cells = sa.select(sa.func.count()).where(cells.c.run_id == runs.c.id).scalar_subquery()
        done = (launches.c.run_id == runs.c.id) & (launches.c.status != "started") & (launches.c.round != PROFILED)
        count_launches = sa.select(sa.func.count()).where(done).scalar_subquery()
        query = sa.select(runs, count_cells.label("cells"), count_launches.label("launches")).order_by(
            runs.c.started_at.desc(), runs.c.id.desc()
        )
        with self._engine.connect() as connection:
            return [RunRow(**row._mapping) for row in connection.execute(query)]  # pyright: ignore[reportPrivateUsage] - its public name

    def artifacts(self) -> frozenset[str]:
        """Give the sha256 of every run's artifacts."""
        with self._engine.connect() as connection:
            return frozenset(connection.execute(sa.select(variants.c.sha256)).scalars())

    def find_run(self, name: str) -> RunRow:
        """Give the run that an id, a unique prefix of one, a tag or `latest` names."""
        known = self.list_runs()
        found = known[:1] if name == "latest" else [run for run in known if name in (run.id, run.tag)]
        found = found or [run for run in known if name and run.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise FleetmarkError(f"{name!r} names {len(found)} runs", next=f"say more of it, such as {found[0].id}")
        raise FleetmarkError(f"there is no run {name!r} in {self.path}", next="fleetmark runs list shows those there are")

    def load_run(self, run_id: str) -> RunRecord:
        """Give a whole run with its raw values (nanoseconds become seconds)."""
        run = self.find_run(run_id)
        with self._engine.connect() as connection:
            raw = _load_samples(connection, run_id)
            by_cell: dict[str, list[LaunchRecord]] = {}
            done = (launches.c.run_id == run_id) & (launches.c.status != "started")
            rows = connection.execute(sa.select(launches).where(done)).all()
            for row in sorted(rows, key=lambda row: (row.round, row.document["started_at"])):
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
        with self._engine.connect() as connection:
            query = sa.select(launches, cells.c.document.label("cell"), cells.c.position).join(
                cells, (cells.c.run_id == launches.c.run_id) & (cells.c.id == launches.c.cell_id)
            )
            rows = connection.execute(query.where((launches.c.run_id == run_id) & (launches.c.status != "started"))).all()
            for row in sorted(rows, key=lambda row: (row.position, row.cell_id, row.round, row.document["started_at"])):
                stored = sa.select(samples).where((samples.c.launch_id == row.id) & ~samples.c.metric.startswith(OUTPUTS))
                yield raw_launch(run_id, row, connection.execute(stored.order_by(samples.c.metric)))


def _schema(connection: sa.Connection) -> int:
    """The schema's version; tables are made where there are none, by one of several that begin at once."""
    version = sa.text("PRAGMA user_version")
    found = connection.execute(version).scalar_one()
    if found == 0:
        _write_ahead(connection)
        connection.execute(sa.text("BEGIN IMMEDIATE"))
        metadata.create_all(connection)
        connection.execute(sa.text(f"PRAGMA user_version={SCHEMA}"))
        found = connection.execute(version).scalar_one()
    return found


def _write_ahead(connection: sa.Connection) -> None:
    """Switch the journal; SQLite's own time-out does not cover this statement, so several that begin at once take turns here."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute(sa.text("PRAGMA journal_mode=WAL"))
        except exc.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _load_samples(connection: sa.Connection, run_id: str) -> dict[str, dict[str, NDArray[np.float64]]]:
    """The 1-D metrics by launch; output tensors stay in the database."""
    query = sa.select(samples).join(launches, launches.c.id == samples.c.launch_id).where(launches.c.run_id == run_id)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for row in connection.execute(query.where(~samples.c.metric.startswith(OUTPUTS))):
        sample = unpack(row)
        found.setdefault(row.launch_id, {})[sample.metric] = sample.array
    return found
