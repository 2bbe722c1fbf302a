"""How cells and statuses are called, in the terminal and on the page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from reports.metrics import METRICS
from reports.table import Row, by_cell, heads

ICONS = {
    "valid": "✓",
    "unsteady": "≈",
    "throttled": "▼",
    "failed": "✕",
    "unsupported": "∅",
    "unreachable": "?",
    "skipped": "-",
    "cancelled": "■",
}

OUTCOME_ICONS = {"held": "✓", "broken": "✕", "not measured": "?", "not judged": "-"}
"""Of a gate on a cell, see reports.gates."""

_PARTS = ("model", "workload", "device", "variant", "backend")


def sentence_name(row: Row) -> str:
    """A cell as a sentence names it: int8 on pi4-a with tflite."""
    return f"{row.variant} on {device_name(row)} with {row.backend}"


def device_name(row: Row) -> str:
    """The device, and that it is emulated wherever it is."""
    return f"{row.device} (emulated)" if row.emulated else row.device


def ordered_cells(table: Sequence[Row]) -> list[Mapping[str, Row]]:
    """The cells' rows by metric: by model, workload and device, the best of each first, those without a number last."""
    devices = {name: at for at, name in enumerate(dict.fromkeys(row.device for row in table))}
    cells = by_cell(table)

    def key(row: Row) -> tuple[object, ...]:
        value = math.inf if row.value is None else row.value
        return row.model, row.workload, devices[row.device], value if METRICS[row.metric].better == "lower" else -value

    return [cells[row.cell] for row in sorted(heads(table), key=key)]


def cell_names(table: Sequence[Row], *, statuses: bool = False) -> Mapping[str, str]:
    """Cell id to a short name, unlike any other's: the parts in which the cells differ; with `statuses`, also what is not valid."""
    rows = heads(table)
    varying = [part for part in _PARTS if len({getattr(row, part) for row in rows}) > 1] or ["variant", "backend"]
    names = {row.cell: _name(row, varying) + (f" ({row.status})" if statuses and row.status != "valid" else "") for row in rows}
    taken = Counter(names.values())
    return {cell: name if taken[name] == 1 else f"{name} · {cell[:6]}" for cell, name in names.items()}


def _name(row: Row, parts: Sequence[str]) -> str:
    shown = dict.fromkeys(device_name(row) if part == "device" else str(getattr(row, part)) for part in parts)
    emulated = " (emulated)" if row.emulated and "device" not in parts else ""
    return " · ".join(shown) + emulated
