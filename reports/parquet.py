"""The table and raw samples as Parquet, by pyarrow; units are in the metadata of fields, and what the run was in that of the file."""
# pyarrow has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import IO, Any

import numpy as np

from reports.metrics import METRICS
from reports.raw import ABOUT, COLUMNS, WHOLE, RawLaunch
from reports.records import RunRecord
from reports.table import Row, to_json

_UNITS = {"n": "1", "usb_mbps": "Mbit/s", "value": "see column unit", "low": "see column unit", "high": "see column unit"}


def write_table(run: RunRecord, table: Sequence[Row], file: IO[bytes]) -> None:
    """Write the table, one row group; raises ImportError without pyarrow.

    The file's metadata has `fleetmark`, a JSON object: the document of `to_json` without its rows, and each metric with its unit and label.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds: dict[str, Any] = {"n": pa.int64(), "per_launch": pa.list_(pa.struct([("round", pa.int32()), ("value", pa.float64())]))}
    numbers = dict.fromkeys(("value", "low", "high", "usb_mbps"), pa.float64())
    names = [field.name for field in fields(Row)]
    schema = pa.schema([_field(pa, name, {**numbers, **kinds}.get(name, pa.string())) for name in names])
    about = {key: part for key, part in to_json((), run).items() if key != "rows"}
    metrics = {name: asdict(METRICS[name]) for name in dict.fromkeys(row.metric for row in table)}
    columns = {name: [_value(row, name) for row in table] for name in names}
    metadata = {"fleetmark": json.dumps({**about, "metrics": metrics})}
    parquet.write_table(pa.table(columns, schema=schema.with_metadata(metadata)), file)


def write_raw(launches: Iterable[RawLaunch], file: IO[bytes]) -> None:
    """Write raw values in the columns of reports.raw, a row group for each launch; raises ImportError without pyarrow."""
    import pyarrow as pa
    from pyarrow import parquet

    words = pa.dictionary(pa.int32(), pa.string())
    kinds = {**dict.fromkeys(WHOLE, pa.int64()), "value": pa.float64()}
    schema = pa.schema([_field(pa, name, kinds.get(name, words)) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema) as writer:
        for launch in launches:
            if launch.series:
                writer.write_table(pa.table(_raw_columns(pa, launch), schema=schema))


def _raw_columns(pa: Any, launch: RawLaunch) -> dict[str, Any]:
    lengths = [len(series.values) for series in launch.series]
    at = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    columns: dict[str, Any] = {}
    for name in ABOUT:
        each = [launch.about(series)[name] for series in launch.series]
        known = pa.array(each).dictionary_encode() if name not in WHOLE else pa.array(each)
        columns[name] = known.take(pa.array(at))
    columns["index"] = np.concatenate([series.index for series in launch.series])
    columns["value"] = np.concatenate([series.values for series in launch.series])
    return columns


def _field(pa: Any, name: str, kind: Any) -> Any:
    return pa.field(name, kind, metadata={"unit": _UNITS[name]} if name in _UNITS else None)


def _value(row: Row, name: str) -> object:
    if name == "per_launch":
        return [{"round": at, "value": value} for at, value in row.per_launch]
    return getattr(row, name)
