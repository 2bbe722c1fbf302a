"""Two cells against each other (METHOD.md, rule 11): faster, slower, tied, or not comparable and why; and the noise floor of devices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.foreign import REASON
from reports.metrics import METRICS
from reports.records import NoiseFloor, RunRecord
from reports.statistics import Comparison, compare
from reports.table import Row, heads

TIE_FLOOR = 0.03
TWIN = " (A/A)"
"""What `fleetmark run --aa` appends to the variant of a cell's second label."""
UNSENSED = " (sensor off)"
"""What it appends where the cell is measured once more, without the device's power sensor."""


Floors = Mapping[str, NoiseFloor]  # by device
NO_FLOORS: Floors = {}


@dataclass(frozen=True, slots=True)
class Judgement:
    """`verdict` on the first of two rows: faster, slower, tied or, with its `reasons`, not comparable.

    `comparison` is of what they cost, so a ratio above 1 is slower (of rates the inverse); effects below `floor`, a share, are ties.
    """

    verdict: str
    comparison: Comparison | None
    floor: float
    reasons: tuple[str, ...] = ()


def judge(first: Row, second: Row, floors: Floors = NO_FLOORS) -> Judgement:
    """The verdict on `first` against `second`, two rows of the same metric, by rule 11."""
    known = [floors[row.device].share for row in (first, second) if row.device in floors]
    floor = max(TIE_FLOOR, 2 * max(known, default=0.0))
    reasons = tuple(dict.fromkeys(_obstacles(first, second)))
    found = None if reasons else compare_rows(first, second)
    if found is None:
        return Judgement("not comparable", None, floor, reasons or ("n too small",))
    return Judgement(_verdict(found, floor), found, floor)


def compare_rows(first: Row, second: Row) -> Comparison | None:
    """How many times what `second` costs `first` does, from one statistic a launch; None below 3 launches on either side.

    Paired by round where rounds match: both rows are of one run and one device and have one launch in each of the same rounds. Launches
    of a round are neighbours in time, so the device's drift cancels in their difference. Else Welch's t over all launches.
    """
    first, second = (first, second) if METRICS[first.metric].better == "lower" else (second, first)
    one, two = dict(first.per_launch), dict(second.per_launch)
    alike = (first.run, first.device) == (second.run, second.device) and one.keys() == two.keys()
    if alike and len(one) == len(first.per_launch) == len(second.per_launch):
        return compare([one[at] for at in one], [two[at] for at in one], paired=True)
    return compare([value for _, value in first.per_launch], [value for _, value in second.per_launch], paired=False)


def noise_floors(table: Sequence[Row]) -> dict[str, NoiseFloor]:
    """The noise floor of each device that has A/A pairs of valid cells with 3 or more launches.

    The root mean square, over pairs, of the log ratio of the headline metric or, where that is larger, of its standard error: one pair
    may come out equal by luck. Were log ratios normal, twice the floor would hold 95 % of them, hence the 2 of rule 11.
    """
    rows = {_label(row): row for row in heads(table) if row.status == "valid" and row.value is not None}
    squares: dict[str, list[float]] = {}
    for label, row in rows.items():
        twin = rows.get((*label[:-1], row.variant + TWIN))
        found = compare_rows(twin, row) if twin else None
        if found:
            squares.setdefault(row.device, []).append(max(abs(math.log(found.ratio)), found.error) ** 2)
    return {device: NoiseFloor(math.expm1(math.sqrt(sum(each) / len(each))), len(each)) for device, each in squares.items()}


def known_floors(run: RunRecord, table: Sequence[Row]) -> dict[str, NoiseFloor]:
    """The noise floor of each device by the run's own A/A pairs, else by those of an earlier run, where there is one."""
    return {**run.floors, **noise_floors(table)}


def sampling_effects(table: Sequence[Row]) -> dict[str, list[tuple[Row, Comparison]]]:
    """For each device that was measured without its power sensor too: the headline rows, and how many times the cost is with it."""
    rows = {_label(row): row for row in heads(table) if row.status == "valid" and row.value is not None}
    found: dict[str, list[tuple[Row, Comparison]]] = {}
    for label, row in rows.items():
        off = rows.get((*label[:-1], row.variant + UNSENSED))
        effect = compare_rows(row, off) if off else None
        if effect:
            found.setdefault(row.device, []).append((row, effect))
    return found


def was_doubled(run: RunRecord, device: str) -> bool:
    """Whether the run has A/A pairs of the device, of whatever status."""
    return any(record.cell.device == device and record.cell.variant.endswith(TWIN) for record in run.cells)


def is_twin(row: Row) -> bool:
    """Whether it is another label of a cell that was measured under several."""
    return row.variant.endswith((TWIN, UNSENSED))


def _label(row: Row) -> tuple[str, ...]:
    return row.device, row.model, row.backend, row.workload, row.variant


def _obstacles(first: Row, second: Row) -> Iterator[str]:
    for part in ("metric", "model", "workload"):
        if getattr(first, part) != getattr(second, part):
            yield f"another {part}"
    if first.protocol or second.protocol:
        yield REASON
    if bool(first.emulated) != bool(second.emulated):
        yield "emulated"
    if first.boundary != second.boundary:
        yield "other boundary"
    if first.usb_mbps and second.usb_mbps and first.usb_mbps != second.usb_mbps:
        yield "other USB speed"
    for row in (first, second):
        if row.status != "valid":
            yield row.status
        elif row.value is None:
            yield row.reason or "no data"


def _verdict(found: Comparison, floor: float) -> str:
    if found.low <= 1 <= found.high or abs(math.log(found.ratio)) < math.log1p(floor):
        return "tied"
    return "slower" if found.ratio > 1 else "faster"
