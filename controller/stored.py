"""What the rows of the tables hold, as the records that reports read; and the status that a cell's launches amount to."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Union, cast, get_args, get_origin

import numpy as np
from numpy.typing import NDArray

from agent.description import Probe
from agent.schema import Cell, Conditions, Fault, dump, load
from controller.collect import DTYPES, Samples
from controller.errors import printable
from controller.tables import PROFILED
from reports.foreign import protocol_of
from reports.raw import RawLaunch, Series
from reports.records import CellRecord, DeviceRecord, LaunchRecord, Price, VariantRecord
from reports.table import names_of

LONGEST_UNIT = 64
MEASURED = frozenset({"valid", "unsteady", "throttled"})  # of STATUSES: the launch gave numbers


def pack(sample: Samples) -> dict[str, Any]:
    """Give raw values as the columns of a row of `samples`."""
    array = np.ascontiguousarray(sample.array)
    packed = zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(), 6)
    return {
        "metric": sample.metric,
        "unit": printable(sample.unit)[:LONGEST_UNIT],  # a device's own text, and PostgreSQL has no NUL in a text
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "stride": sample.stride,
        "values": packed,
    }


def unpack(row: Any) -> Samples:
    """Give the raw values of a row of `samples` as float64, flat; nanoseconds become seconds."""
    values = np.frombuffer(zlib.decompress(row.values), dtype=DTYPES.get(row.dtype, np.dtype("<f8"))).astype(np.float64)
    if row.metric.endswith("_ns"):
        return Samples(row.metric[:-3] + "_s", "s", values / 1e9, row.stride)
    return Samples(row.metric, row.unit, values, row.stride)


def record(kind: Any, value: Any) -> Any:
    """Give a stored record, None for None; fields that its kind has got since then have their defaults, where the wire would refuse it.

    Raises SchemaError for anything else that is not as the kind has it, such as the fields of a later fleetmark.
    """
    return None if value is None else load(kind, _filled(kind, value))


def _filled(kind: Any, value: Any) -> Any:
    inner = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Union:  # Optional
        return _filled(inner[0], value)
    match value:
        case dict() if hasattr(kind, "_fields"):
            defaults = {name: dump(default) for name, default in kind._field_defaults.items()}
            told = cast("dict[str, Any]", value).items()
            return defaults | {name: _filled(kind.__annotations__.get(name), item) for name, item in told}
        case dict() if inner:
            return {name: _filled(inner[-1], item) for name, item in cast("dict[str, Any]", value).items()}
        case list() if inner:
            return [_filled(inner[0], item) for item in cast("list[Any]", value)]
        case _:
            return value


def launch_document(launch: LaunchRecord) -> dict[str, Any]:
    """Give what a launch's row has in its document, but for when it was begun."""
    return {
        "before": dump(launch.before),
        "after": dump(launch.after),
        "fault": dump(launch.fault),
        "log_tail": launch.log_tail,
        "details": dict(launch.details),
        "notes": list(launch.notes),
    }


def in_order(row: Any) -> tuple[int, int, str]:
    """Give what a cell's launches are sorted by: as they were begun, those of a round together; older stores have the clock alone."""
    return row.round, row.document.get("number", 0), row.document["started_at"]


def launch_record(row: Any, values: Mapping[str, NDArray[np.float64]]) -> LaunchRecord:
    """Give a launch from its row and its raw values by metric."""
    document = row.document
    return LaunchRecord(
        id=row.id,
        round=row.round,
        status=row.status,
        started_at=document["started_at"],
        values=values,
        before=record(Conditions, document["before"]),
        after=record(Conditions, document["after"]),
        fault=record(Fault, document["fault"]),
        log_tail=document["log_tail"],
        details=document["details"],
        notes=tuple(document["notes"]),
    )


def device_document(device: DeviceRecord) -> dict[str, Any]:
    """Give what a device's row has in its document."""
    return {
        "kind": device.kind,
        "tags": dict(device.tags),
        "probe": dump(device.probe),
        "groups": list(device.groups),
        "price": asdict(device.price) if device.price else None,
    }


def device_record(row: Any) -> DeviceRecord:
    """Give a device from its row."""
    document = row.document
    price = document.get("price")
    return DeviceRecord(
        row.name,
        document["kind"],
        document["tags"],
        record(Probe, document["probe"]),
        tuple(document.get("groups", ())),
        Price(**price) if price else None,
    )


def variant_document(variant: VariantRecord) -> dict[str, Any]:
    """Give what an artifact's row has in its document."""
    return {"model": variant.model, "format": variant.format, "size_bytes": variant.size_bytes, "manifest": dict(variant.manifest)}


def variant_record(row: Any) -> VariantRecord:
    """Give an artifact from its row."""
    document = row.document
    return VariantRecord(document["model"], row.variant, document["format"], row.sha256, document["size_bytes"], document["manifest"])


def raw_launch(run_id: str, row: Any, stored: Iterable[Any]) -> RawLaunch:
    """Give a launch from its row, joined with its cell's document as `cell`, and its rows of `samples`."""
    cell: Cell = record(Cell, row.cell)
    names = {"run": run_id, "launch": row.id, "round": row.round, "started_at": row.document["started_at"], "status": row.status}
    found = [unpack(one) for one in stored]
    series = tuple(Series(one.metric, one.unit, one.stride, one.array) for one in found)
    return RawLaunch({**names, "cell": row.cell_id, **names_of(cell), "protocol": protocol_of(cell)}, series)


def cell_record(row: Any, found: tuple[LaunchRecord, ...], sizes: Mapping[str, int]) -> CellRecord:
    """Give a cell from its row and all its launches; `sizes` are of artifacts by sha256."""
    cell: Cell = record(Cell, row.document)
    fault: Fault | None = record(Fault, row.fault)
    measured = tuple(launch for launch in found if launch.round != PROFILED)
    profiled = [launch for launch in found if launch.round == PROFILED]
    return CellRecord(
        id=row.id,
        cell=cell,
        status=cell_status(measured, fault),
        size_bytes=sizes.get(cell.artifact),
        launches=measured,
        fault=fault,
        profiled=profiled[-1] if profiled else None,
    )


SEVERITY = ("valid", "unsteady", "throttled", "skipped", "cancelled", "unsupported", "unreachable", "failed")
STATUS_OF_REASON = {
    "unreachable": "unreachable",
    "auth": "unreachable",
    "host_key": "unreachable",
    "no_python": "unreachable",
    "unsupported_op": "unsupported",
    "convert_fail": "unsupported",
    "compile_fail": "unsupported",
    "cancelled": "cancelled",
}


def status_of(fault: Fault) -> str:
    """Give the status that a fault's reason code amounts to."""
    return STATUS_OF_REASON.get(fault.code, "failed")


def cell_status(found: Sequence[LaunchRecord], fault: Fault | None) -> str:
    """Give a cell's status: the worst over its rounds, of which the last try counts; without launches what its own fault amounts to.

    A minority of unsteady or throttled launches, which its figures leave out, does not change what a cell is.
    """
    last = {launch.round: launch.status for launch in found}
    if fault is not None or not last:
        return status_of(fault) if fault is not None else "cancelled"
    worst = max(last.values(), key=SEVERITY.index)
    most_are_valid = 2 * sum(status == "valid" for status in last.values()) > len(last)
    return "valid" if worst in ("unsteady", "throttled") and most_are_valid else worst
