"""The table as the page embeds it: the JSON export's rows in a quarter of its bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.metrics import PERCENTILES, headline


def compact(document: Mapping[str, Any]) -> dict[str, Any]:
    """The table's document, smaller: `same` has what is so in every row, `columns` the names of the rest, and each row is a list.

    In the columns of `textual` stands a text's place in `texts`. `per_launch` is kept where cells are compared by it: in the metric that
    a workload is ranked by and in the percentiles.
    """
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    columns = list(rows[0]) if rows else []
    same = {name: rows[0][name] for name in columns if all(row[name] == rows[0][name] for row in rows)}
    columns = [name for name in columns if name not in same]
    textual = {name for name in columns if isinstance(rows[0][name], str)}
    texts = {text: at for at, text in enumerate(dict.fromkeys(row[name] for row in rows for name in columns if name in textual))}

    def told(row: Mapping[str, Any], name: str) -> object:
        if name in textual:
            return texts[row[name]]
        compared = row["metric"] in PERCENTILES or row["metric"] == headline(row["workload"])
        return [] if name == "per_launch" and not compared else row[name]

    return {
        **document,
        "same": same,
        "columns": columns,
        "textual": [name for name in columns if name in textual],
        "texts": list(texts),
        "rows": [[told(row, name) for name in columns] for row in rows],
    }
