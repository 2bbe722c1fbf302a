"""What the page's sections show, taken from the table: leaders of the verdict, and the measured parts with their charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.power import METER
from reports import text
from reports.charts import Chart
from reports.foreign import MEAN, REASON
from reports.labels import device_name, ordered_cells
from reports.metrics import (
    BESIDE_QUALITIES,
    COLD_START_PARTS,
    DRIFTS,
    ENERGIES,
    MEMORIES,
    METRICS,
    ON_ACCELERATOR,
    PERCENTILES,
    POWERS,
    TASK_METRICS,
)
from reports.operations import Profile, Timed, profile_of, share_of
from reports.records import LaunchRecord, RunRecord
from reports.table import Row
from reports.verdict import Finding, Standing

_LEADERS = 5
_SLOWEST = 12
_ASKED = "energy_gross_j"  # the row that every cell with a power sensor has, a refusal where there is no energy
_FACTS = (*TASK_METRICS, "size_bytes", "peak_memory_bytes", "cold_start_s", "throughput_per_s")


@dataclass(frozen=True, slots=True)
class Leaders:
    """The first cells of a finding: the best of each device where there are several devices, else the ranking's start."""

    title: str
    standings: tuple[Standing, ...]
    more: int
    by_device: bool

    def name(self, row: Row) -> str:
        """What the list is about: the device, or the cell on the only one."""
        return device_name(row) if self.by_device else f"{row.variant}, {row.backend}"


@dataclass(frozen=True, slots=True)
class CellRows:
    """A cell's rows by metric; `note` is what a reader of them has to know."""

    id: str
    rows: Mapping[str, Row]
    note: str = ""

    def n(self, metrics: Sequence[str]) -> int:
        """What these metrics rest on, the most that one of them counts; 0 if none has a value."""
        return max((row.n for metric in metrics if (row := self.rows.get(metric)) and row.value is not None), default=0)


@dataclass(frozen=True, slots=True)
class Block:
    """A chart, where there is one, and the table of its numbers."""

    title: str
    caption: str
    metrics: tuple[str, ...]
    chart: Chart | None
    cells: tuple[CellRows, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A section of measured quantities; `without` counts the cells that have none of them."""

    anchor: str
    title: str
    lead: str
    blocks: tuple[Block, ...]
    without: int


@dataclass(frozen=True, slots=True)
class Operations:
    """A cell's profile with its rows of the table, or the problem for which it has none."""

    id: str
    rows: Mapping[str, Row]
    profile: Profile | None
    problem: str

    def slowest(self) -> Sequence[Timed]:
        """The operations that are shown one by one."""
        return self.profile.slowest[:_SLOWEST] if self.profile else ()

    def others(self) -> Sequence[Timed]:
        """Those that are shown as one."""
        return self.profile.slowest[_SLOWEST:] if self.profile else ()

    def share(self, some: Sequence[Timed]) -> float:
        """The share of the inference that some operations took."""
        return share_of(some)

    def accelerated(self) -> bool:
        """Whether it is known that an accelerator ran anything, or not known what it ran."""
        found = [self.rows[metric] for metric in ON_ACCELERATOR if metric in self.rows]
        return any(row.value != 0 for row in found)


def leaders(finding: Finding) -> Leaders:
    """Who is in front of a finding."""
    devices = dict.fromkeys(standing.row.device for standing in finding.standings)
    if len(devices) == 1:
        title = f"Ranking on {device_name(finding.standings[0].row)}"
        return Leaders(title, finding.standings[:_LEADERS], len(finding.standings[_LEADERS:]), by_device=False)
    best = [next(standing for standing in finding.standings if standing.row.device == device) for device in devices]
    return Leaders("Best cell of each device", tuple(best[:_LEADERS]), len(best[_LEADERS:]), by_device=True)


def facts(rows: Mapping[str, Row]) -> list[Row]:
    """The other figures of the best cell."""
    return [row for metric in _FACTS if (row := rows.get(metric)) and row.value is not None]


def measured(table: Sequence[Row], charts: Mapping[str, Chart], rate_per_s: float) -> list[Part]:
    """The measured parts for which the table has numbers; power is given at `rate_per_s` inferences a second."""
    cells = tuple(CellRows(next(iter(rows.values())).cell, rows, _note(rows)) for rows in ordered_cells(table))
    means = (MEAN,) if any(MEAN in cell.rows for cell in cells) else ()
    latencies = _block("", "Latency percentiles and throughput", (*PERCENTILES, *means, "throughput_per_s"), charts.get("latency"), cells)
    sizes = _block("Size and memory", "Model size and peak memory", ("size_bytes", "peak_memory_bytes"), charts.get("footprint"), cells)
    memory = _memory(cells)
    start = ("cold_start_s", *COLD_START_PARTS)
    cold = _block("Cold start", "Cold start and its parts", start, charts.get("cold-start"), cells)
    parts = (
        _part(
            "latency",
            "Latency",
            "p50, p90, p95 and p99 of one inference, p90 in figures. Wide bars are 95 % intervals.",
            (latencies,),
            cells,
        ),
        _energy(charts, cells, rate_per_s),
        _part("footprint", "Footprint", "What a model costs before its first answer.", (sizes, memory, cold), cells),
        _part(
            "accuracy",
            "Accuracy",
            "On the device, over the same samples, against fp32. Bars are 95 % intervals.",
            _accuracies(charts, cells),
            cells,
        ),
    )
    return [part for part in parts if part.blocks]


def _accuracies(charts: Mapping[str, Chart], cells: Sequence[CellRows]) -> list[Block]:
    """A block for each metric of a task, and one for the cells of which only the drift is known."""
    blocks: list[Block] = []
    rest = cells
    for metric in TASK_METRICS:
        having = [cell for cell in rest if cell.n((metric,))]
        rest = [cell for cell in rest if not cell.n((metric,))]
        beside = tuple(one for one in BESIDE_QUALITIES if any(one in cell.rows for cell in having))
        columns = (metric, *beside, "accuracy_change_pp", *DRIFTS)
        label = METRICS[metric].label
        blocks.append(_block(label, f"{label} and drift", columns, charts.get(f"accuracy-{metric}"), having))
    blocks = [block for block in [*blocks, _block("drift", "Drift of cells without labels", DRIFTS, None, rest)] if block.cells]
    titles = [block.title.capitalize() if block.title.islower() else block.title for block in blocks] if len(blocks) > 1 else [""]
    return [replace(block, title=title) for block, title in zip(blocks, titles, strict=False)]


def _note(rows: Mapping[str, Row]) -> str:
    """That another program measured the cell, with the spread of the mean that it told."""
    foreign = any(row.protocol for row in rows.values())
    return "; ".join(part for part in (REASON, rows[MEAN].message if MEAN in rows else "") if part) if foreign else ""


def _memory(cells: Sequence[CellRows]) -> Block:
    """Every cell that was measured, also those of which nothing is observable."""
    metrics = tuple(metric for metric in MEMORIES if any(metric in cell.rows for cell in cells))
    title = "Memory by part and phase"
    return Block(title, title, metrics, None, tuple(cell for cell in cells if any(metric in cell.rows for metric in metrics)))


def _energy(charts: Mapping[str, Chart], cells: Sequence[CellRows], rate_per_s: float) -> Part:
    """A block for each power boundary, since values of different ones are not compared; cells that were refused say why."""
    asked = [one for cell in cells for rows in (cell.rows, _of_meter(cell.rows)) for one in _asked(cell.id, rows)]
    boundaries = sorted({cell.rows[_ASKED].boundary for cell in asked})
    blocks = tuple(
        Block(
            f"Boundary: {boundary or 'several'}",
            f"Energy and power, {boundary or 'several boundaries'}",
            (*ENERGIES, *POWERS),
            charts.get(f"energy-{boundary}"),
            tuple(cell for cell in asked if cell.rows[_ASKED].boundary == boundary),
        )
        for boundary in boundaries
    )
    lead = f"Of cells whose device has a power sensor. The target rate is {rate_per_s:g}/s, idle in between. Lines are 95 % intervals."
    return Part("energy", "Energy and power", lead, blocks, 0)


def _asked(cell: str, rows: Mapping[str, Row]) -> list[CellRows]:
    return [CellRows(cell, rows, rows[_ASKED].message)] if _ASKED in rows else []


def _of_meter(rows: Mapping[str, Row]) -> dict[str, Row]:
    """What a meter measured of a device that has a sensor of its own, by the names of what that measured."""
    return {metric: rows[f"{METER}_{metric}"] for metric in (*ENERGIES, *POWERS) if f"{METER}_{metric}" in rows}


def operations(run: RunRecord, table: Sequence[Row]) -> list[Operations]:
    """The cells of which a launch timed the operations, or tried to, or is known what an accelerator ran; in the other sections' order."""
    records = {record.id: record for record in run.cells}
    cells = [(records[next(iter(rows.values())).cell], rows) for rows in ordered_cells(table)]
    return [
        Operations(record.id, rows, profile_of(record), _problem(record.profiled) if record.profiled else "")
        for record, rows in cells
        if record.profiled or any(metric in rows for metric in ON_ACCELERATOR)
    ]


def _problem(launch: LaunchRecord) -> str:
    if launch.fault is not None:
        return text.line(f"{launch.fault.code}: {launch.fault.message}")
    return "" if launch.details.get("operations") else "the runtime tells nothing of its operations"


def _block(title: str, caption: str, metrics: tuple[str, ...], chart: Chart | None, cells: Sequence[CellRows]) -> Block:
    return Block(title, caption, metrics, chart, tuple(cell for cell in cells if cell.n(metrics)))


def _part(anchor: str, title: str, lead: str, blocks: Sequence[Block], cells: Sequence[CellRows]) -> Part:
    full = tuple(block for block in blocks if block.cells)
    without = len(cells) - len({cell.id for block in full for cell in block.cells})
    hollow = " Hollow points: not valid." if any(row.status != "valid" for cell in cells for row in cell.rows.values() if row.value) else ""
    return Part(anchor, title, lead + (hollow if anchor == "latency" else ""), full, without)
