"""Whether a run keeps its gates: each valid cell of the devices that a gate's selector means, by the same table that the report shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports import format as fmt
from reports.records import Gate
from reports.table import Row


@dataclass(frozen=True, slots=True)
class Breach:
    """A cell over a gate's bound, or without the number that the gate asks for."""

    gate: Gate
    row: Row

    def __str__(self) -> str:
        """Give it in one line."""
        row = self.row
        found = "is not there" if row.value is None else f"is {fmt.value(row.metric, row.value)}"
        return f"{row.variant} on {row.device} with {row.backend} breaks {self.gate.written} ({self.gate.selector}): {row.metric} {found}"


def breaches(gates: Sequence[Gate], table: Sequence[Row]) -> list[Breach]:
    """Give every breach, by gate and then in the table's order; cells that are not valid are told elsewhere and judged by no gate."""
    cells = {row.cell: row for row in table if row.status == "valid"}
    rows = {(row.cell, row.metric): row for row in table}
    found: list[Breach] = []
    for gate in gates:
        for cell, head in cells.items():
            if head.device in gate.devices:
                row = rows.get((cell, gate.metric))
                if row is None or row.value is None or not _keeps(gate, row.value):
                    found.append(Breach(gate, row or _missing(head, gate.metric)))
    return found


def _keeps(gate: Gate, value: float) -> bool:
    return (gate.at_most is None or value <= gate.at_most) and (gate.at_least is None or value >= gate.at_least)


def _missing(head: Row, metric: str) -> Row:
    return replace(head, metric=metric, value=None, low=None, high=None)
