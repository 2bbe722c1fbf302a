"""Whether a run keeps its gates: each gate on each cell that it means, judged by the one table.

A gate asks something of every valid cell of its devices. Cells that are not valid are judged by none: what became of them is told by
their status.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from reports import format as fmt
from reports.comparison import is_twin
from reports.labels import sentence_name
from reports.metrics import METRICS
from reports.records import Gate, RunRecord
from reports.statistics import FEWEST_LAUNCHES
from reports.table import Row, by_cell, heads
from reports.text import line
from reports.workload_figures import LASTING

OUTCOMES = ("broken", "not measured", "held", "not judged")
"""Worst first; the first two fail a gate."""

NOT_TO_MEASURE = frozenset({"unsupported", "skipped"})
"""Statuses of cells that a complete run may have beside valid ones."""

SCOPES = ("models", "variants", "workloads")
"""Fields of a Gate that name what it is for; empty ones leave it to all."""

_WORKLOADS = {
    "server_rate_per_s": "server",
    "time_to_throttle_s": "sustained",
    **dict.fromkeys((metric for metric in METRICS if metric.startswith("sustained_")), "sustained"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A cell before a gate, by its row of the gate's metric; `outcome` is of OUTCOMES.

    `resolved`: the 95 % interval lies wholly on the side of the limit that the value is on; None where there is no interval.
    """

    gate: Gate
    row: Row
    outcome: str
    resolved: bool | None = None

    @property
    def fails(self) -> bool:
        """Whether it breaks the gate or lacks the number that the gate asks for."""
        return self.outcome in OUTCOMES[:2]

    @property
    def margin(self) -> float:
        """How far the value is within the limit, in the metric's unit; negative beyond it, infinite where there is no value."""
        value, gate = self.row.value, self.gate
        below = math.inf if value is None or gate.at_most is None else gate.at_most - value
        return below if value is None or gate.at_least is None else min(below, value - gate.at_least)

    def number(self) -> str:
        """The metric by its name, the value and its interval: p90 latency 5.10 ms (5.05 to 5.15 ms)."""
        row = self.row
        span = fmt.interval(row.metric, row.value, row.low, row.high)
        return f"{METRICS[row.metric].label} {fmt.value(row.metric, row.value)}" + (f" ({span})" if span else "")

    def note(self) -> str:
        """What is to be known of the outcome: how sure it is, or why there is none."""
        if self.outcome == "not judged":
            return self.row.reason if self.row.status == "valid" else f"the cell is {self.row.status}"
        if self.outcome == "not measured":
            return ": ".join(part for part in (self.row.reason, self.row.message) if part)
        if self.resolved is False:
            return "not resolved: its interval reaches over the limit"
        few = self.resolved is None and 0 < len(self.row.per_launch) < FEWEST_LAUNCHES
        return f"no interval: fewer than {FEWEST_LAUNCHES} launches" if few else ""

    def sentence(self) -> str:
        """The cell, its number and the note, in one line."""
        found = self.number() if self.row.value is not None else f"{METRICS[self.row.metric].label} {self.outcome}"
        note = self.note()
        return f"{sentence_name(self.row)}: {found}" + (f", {note}" if note else "")


@dataclass(frozen=True, slots=True)
class Ruling:
    """A gate on all cells that it means, in the table's order."""

    gate: Gate
    cells: tuple[Judged, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many cells have each outcome, all of OUTCOMES."""
        found = Counter(one.outcome for one in self.cells)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def outcome(self) -> str:
        """The worst that a cell has; not judged where there is none."""
        return next((outcome for outcome, count in self.counts.items() if count), OUTCOMES[-1])

    @property
    def failing(self) -> tuple[Judged, ...]:
        """The cells that fail it, the broken ones first, farthest over the limit first."""
        return tuple(sorted((one for one in self.cells if one.fails), key=lambda one: one.margin))

    @property
    def unresolved(self) -> tuple[Judged, ...]:
        """The cells that keep it with an interval that reaches over the limit."""
        return tuple(one for one in self.cells if one.outcome == "held" and one.resolved is False)

    @property
    def tightest(self) -> Judged | None:
        """The cell with the least margin, the farthest over the limit where it is broken."""
        judged = [one for one in self.cells if one.outcome in ("broken", "held")]
        return min(judged, key=lambda one: one.margin, default=None)

    @property
    def name(self) -> str:
        """What it asks and of what."""
        return line(f"{self.gate.written} ({self.scope})")

    @property
    def scope(self) -> str:
        """What it is asked of: the devices' selector, and the models, variants and workloads where it is not for all."""
        named = {name: getattr(self.gate, name) for name in SCOPES}
        return line("; ".join([self.gate.selector, *(f"{name} {', '.join(found)}" for name, found in named.items() if found)]))

    def told(self) -> str:
        """How many cells have each outcome: held by 11 of 12 cells, 1 broken, 2 not judged."""
        if not self.cells:
            return "this run has no cell that it means"
        counts = self.counts
        judged = len(self.cells) - counts["not judged"]
        others = [f"{count} {outcome}" for outcome, count in counts.items() if count and outcome != "held"]
        unresolved = [f"{len(self.unresolved)} held without being resolved"] if self.unresolved else []
        held = [f"held by {counts['held']} of {judged} cells"] if judged else []
        return ", ".join([*held, *others, *unresolved])

    def sentence(self) -> str:
        """How many cells keep it and, where all do, which comes nearest to the limit; what fails it is named by `failing`."""
        nearest = self.tightest if self.outcome == "held" else None
        return f"{self.name}: {self.told()}" + (f"; nearest to the limit: {nearest.sentence()}." if nearest else ".")


def rulings(run: RunRecord, table: Sequence[Row]) -> list[Ruling]:
    """The run's gates in their order, each on the cells of its devices.

    A second label of a cell (A/A, sensor off) is judged by none, nor is what another program measured.
    """
    cells = by_cell(table)
    meant = [head for head in heads(table) if not is_twin(head) and not head.protocol]
    return [Ruling(gate, tuple(_judged(gate, head, cells[head.cell]) for head in meant if _means(gate, head))) for gate in run.gates]


def _means(gate: Gate, head: Row) -> bool:
    """Whether the gate is for the cell's device, model, variant and workload, and the workload can have its metric."""
    workload = head.workload.split(" ")[0]
    asked = ((gate.models, head.model), (gate.variants, head.variant), (gate.workloads, workload))
    return (
        head.device in gate.devices
        and all(not names or name in names for names, name in asked)
        and _WORKLOADS.get(gate.metric) in (None, workload)
    )


def _judged(gate: Gate, head: Row, metrics: Mapping[str, Row]) -> Judged:
    row = metrics.get(gate.metric) or _missing(head, gate.metric)
    if row.status != "valid" or row.reason == LASTING:
        return Judged(gate, row, "not judged")
    if row.value is None:
        return Judged(gate, row, "not measured")
    held = _keeps(gate, row.value)
    if row.low is None or row.high is None:
        return Judged(gate, row, "held" if held else "broken")
    whole = _keeps(gate, row.low) and _keeps(gate, row.high) if held else _is_beyond(gate, row.low, row.high)
    return Judged(gate, row, "held" if held else "broken", whole)


def _keeps(gate: Gate, value: float) -> bool:
    return (gate.at_most is None or value <= gate.at_most) and (gate.at_least is None or value >= gate.at_least)


def _is_beyond(gate: Gate, low: float, high: float) -> bool:
    """Whether an interval lies wholly beyond one of the bounds."""
    return (gate.at_most is not None and low > gate.at_most) or (gate.at_least is not None and high < gate.at_least)


def _missing(head: Row, metric: str) -> Row:
    """The row that the table does not have."""
    unsensed = "no meter" if metric.startswith("meter_") else "no power sensor" if METRICS[metric].shown in ("energy", "power") else ""
    reason = unsensed if head.status == "valid" else head.reason
    return replace(head, metric=metric, value=None, unit=METRICS[metric].unit, low=None, high=None, n=0, reason=reason, message="")
