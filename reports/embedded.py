"""What the page embeds as JSON, in a quarter of the bytes: rows of equal columns say every text and every column's name once."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.metrics import PERCENTILES, headline

_DIGITS = 6  # of a number that is only drawn


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of equal keys, smaller: `same` has what is so in every row, `columns` the keys of the rest, and each row is a list.

    In the columns of `textual` stands a text's place in `texts`.
    """
    columns = list(rows[0]) if rows else []
    same = {name: rows[0][name] for name in columns if all(row[name] == rows[0][name] for row in rows)}
    columns = [name for name in columns if name not in same]
    textual = [name for name in columns if all(isinstance(row[name], str) for row in rows)]
    texts = {text: at for at, text in enumerate(dict.fromkeys(row[name] for row in rows for name in textual))}
    return {
        "same": same,
        "columns": columns,
        "textual": textual,
        "texts": list(texts),
        "rows": [[texts[row[name]] if name in textual else row[name] for name in columns] for row in rows],
    }


def compact(document: Mapping[str, Any]) -> dict[str, Any]:
    """The table's JSON document with packed rows.

    `per_launch` is kept where cells are compared by it: in the metric that a workload is ranked by and in the percentiles.
    """
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    return {**document, **packed([row if _compared(row) else {**row, "per_launch": ()} for row in rows])}


def _compared(row: Mapping[str, Any]) -> bool:
    return row["metric"] in PERCENTILES or row["metric"] == headline(row["workload"])


def compact_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A chart's specification with packed datasets, whose numbers have six digits; those with data of unequal keys stay lists."""
    return {**spec, "datasets": {name: _dataset(data) for name, data in spec["datasets"].items()}}


def _dataset(data: Sequence[Mapping[str, Any]]) -> dict[str, Any] | list[dict[str, Any]]:
    rounded = [{name: _rounded(value) for name, value in datum.items()} for datum in data]
    return packed(rounded) if len({tuple(datum) for datum in rounded}) == 1 else rounded


def _rounded(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
