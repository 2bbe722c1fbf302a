"""The one table of a run: report, terminal, export and gates read these rows and nothing else.

Every cell has its rows whatever became of it: one without numbers has its headline metric with no value, its status and the reason.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from weakref import WeakKeyDictionary

from agent.schema import Cell, Fault
from reports import text
from reports.energy_figures import energy_figures
from reports.figures import REFERENCE, Figure, Quality, figures, quality_of, usb_mbps
from reports.foreign import REASON, foreign_figures, protocol_of
from reports.memory_figures import memory_figures
from reports.metrics import METRICS, headline
from reports.operations import operation_figures
from reports.records import CellRecord, RunRecord
from reports.statistics import Interval
from reports.workload_figures import workload_figures

COLUMNS = (
    "run",
    "device",
    "model",
    "variant",
    "backend",
    "workload",
    "metric",
    "value",
    "unit",
    "low",
    "high",
    "n",
    "status",
    "reason",
    "protocol",
)

JSON_SCHEMA = "fleetmark.table"
JSON_VERSION = 1

_NAME_LIMIT = 80


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one cell, in SI units.

    `value` is None where there is no number, and `low` and `high` where there is no interval; `status` is the cell's.
    `reason` is a code of agent.schema.REASONS or a few words such as "n too small", and "emulated" on numbers of an emulated device;
    `message` says it in a sentence. `per_launch` holds (round, statistic) of each launch that the value rests on. `usb_mbps` is the speed
    of the accelerator's USB link where the backend tells, and `boundary` what a power or energy value covers: rows in which these
    differ are not compared. `protocol` names the program that measured it where that is another one: never compared with ours.
    """

    run: str
    device: str
    model: str
    variant: str
    backend: str
    workload: str
    metric: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    n: int
    status: str
    reason: str
    message: str
    emulated: str
    cell: str
    per_launch: tuple[tuple[int, float], ...]
    usb_mbps: float | None = None
    boundary: str = ""
    protocol: str = ""


def rows(run: RunRecord) -> list[Row]:
    """The table of a run, cells in the run's order, at least one row each; worked out once for a record."""
    if run not in _tables:
        _tables[run] = tuple(_rows(run))
    return list(_tables[run])


_tables: WeakKeyDictionary[RunRecord, tuple[Row, ...]] = WeakKeyDictionary()


def _rows(run: RunRecord) -> Iterator[Row]:
    references = {_sample_key(record): quality_of(record) for record in run.cells if record.cell.variant == REFERENCE}
    for record in run.cells:
        yield from _cell_rows(run, record, references.get(_sample_key(record)))


def by_cell(table: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Each cell's rows by metric, cells in the table's order."""
    cells: dict[str, dict[str, Row]] = {}
    for row in table:
        cells.setdefault(row.cell, {})[row.metric] = row
    return cells


def heads(table: Sequence[Row]) -> list[Row]:
    """One row a cell: that of the metric it is ranked by."""
    return [row for row in table if row.metric == headline(row.workload)]


def fault_of(record: CellRecord) -> Fault | None:
    """Why a cell gave no number or fewer than planned: its own fault, else that of its last launch that has one."""
    faults = [launch.fault for launch in record.launches if launch.fault]
    return record.fault or (faults[-1] if faults else None)


def emulated(run: RunRecord, device: str) -> str:
    """What emulates a device, empty for real hardware and for one that never answered."""
    known = run.devices.get(device)
    return text.line(known.probe.emulated, _NAME_LIMIT) if known and known.probe else ""


def to_csv(table: Sequence[Row]) -> str:
    """The table in the columns of COLUMNS, RFC 4180; write it with newline="". Text that a spreadsheet would run as a formula gets a '."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows([csv_field(getattr(row, column)) for column in COLUMNS] for row in table)
    return out.getvalue()


def to_json(table: Sequence[Row], run: RunRecord) -> dict[str, object]:
    """The table and what run it is of, as one versioned JSON-ready document."""
    about = ("id", "started_at", "finished_at", "fleetmark", "profile", "suite", "launches_planned")
    return {
        "schema": JSON_SCHEMA,
        "version": JSON_VERSION,
        "run": {name: getattr(run, name) for name in about},
        "rows": [{field.name: getattr(row, field.name) for field in fields(Row)} for row in table],
    }


def _cell_rows(run: RunRecord, record: CellRecord, reference: Quality | None) -> Iterator[Row]:
    protocol = text.line(protocol_of(record.cell), _NAME_LIMIT)
    found = [_refused(figure) for figure in (foreign_figures(record) if protocol else _own_figures(run, record, reference))]
    metric = headline(record.cell.workload.name)
    if all(figure.metric != metric for figure in found):
        found.insert(0, Figure(metric, None))
    names = names_of(record.cell)
    virtual = emulated(run, record.cell.device)
    fault = fault_of(record)
    speed = usb_mbps(record)
    for figure in found:
        interval = figure.interval or Interval(0, 0)
        yield Row(
            run=run.id,
            **names,
            metric=figure.metric,
            value=figure.value,
            unit=METRICS[figure.metric].unit,
            low=figure.interval and interval.low,
            high=figure.interval and interval.high,
            n=figure.n,
            status=record.status,
            reason=_reason(figure, fault, REASON if protocol else "", virtual),
            message=_message(figure, fault),
            emulated=virtual,
            cell=record.id,
            per_launch=figure.per_launch,
            usb_mbps=speed,
            boundary=figure.boundary,
            protocol=protocol,
        )


def _own_figures(run: RunRecord, record: CellRecord, reference: Quality | None) -> Iterator[Figure]:
    yield from figures(record, reference)
    yield from workload_figures(record, strict=run.profile == "strict")
    yield from memory_figures(record)
    yield from energy_figures(record, run.rate_per_s)
    yield from operation_figures(record, run.variants)


def _refused(figure: Figure) -> Figure:
    """The figure without its number where that is none: JSON and charts have no NaN and no infinity."""
    if figure.value is None or math.isfinite(figure.value):
        return figure
    return Figure(figure.metric, None, n=figure.n, reason="not a number", message=f"the samples give {figure.value}")


def names_of(cell: Cell) -> dict[str, str]:
    """What a cell is called in the columns device, model, variant, backend and workload: safe to show, options behind their name."""
    names = {
        "device": cell.device,
        "model": cell.model,
        "variant": cell.variant,
        "backend": _with_options(cell.backend, cell.options),
        "workload": _with_options(cell.workload.name, cell.workload.options),
    }
    return {key: text.line(name, _NAME_LIMIT) for key, name in names.items()}


def _with_options(name: str, options: dict[str, object]) -> str:
    """The name and every option that was set, since cells may differ in nothing else."""
    return " ".join([name, *(f"{key}={_option(options[key])}" for key in sorted(options))])


def _option(option: object) -> str:
    return option if isinstance(option, str) else json.dumps(option, separators=(",", ":"), sort_keys=True)


def _reason(figure: Figure, fault: Fault | None, foreign: str, virtual: str) -> str:
    if figure.value is None:
        return figure.reason or (text.line(fault.code) if fault else "no data")
    return ", ".join(part for part in (figure.reason, foreign, "emulated" if virtual else "") if part)


def _message(figure: Figure, fault: Fault | None) -> str:
    return figure.message or (text.line(fault.message) if fault and figure.value is None else "")


def _sample_key(record: CellRecord) -> tuple[str, ...]:
    """What two cells must share for their accuracies to be compared: the same samples on the same device, backend and workload."""
    names = names_of(record.cell)
    return names["device"], names["model"], names["backend"], names["workload"]


def csv_field(value: object) -> object:
    """The value as a field of CSV: exact, and text that a spreadsheet would run as a formula gets a '."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
