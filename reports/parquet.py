"""The table and raw samples as Parquet, by pyarrow; units are in the metadata of fields, and what the run was in that of the file."""
# pyarrow has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import IO, Any

from reports.metrics import METRICS
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


def _field(pa: Any, name: str, kind: Any) -> Any:
    return pa.field(name, kind, metadata={"unit": _UNITS[name]} if name in _UNITS else None)


def _value(row: Row, name: str) -> object:
    if name == "per_launch":
        return [{"round": at, "value": value} for at, value in row.per_launch]
    return getattr(row, name)
