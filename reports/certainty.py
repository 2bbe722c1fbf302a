"""How sure a run is: what each cell's numbers rest on, the checks over all of them, and the state its devices were in."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from agent.schema import Conditions
from reports import format as fmt
from reports import text
from reports.comparison import TIE_FLOOR, known_floors, sampling_effects
from reports.figures import DISAGREE, counted
from reports.foreign import protocol_of
from reports.labels import sentence_name
from reports.metrics import METRICS
from reports.records import CellRecord, LaunchRecord, NoiseFloor, RunRecord
from reports.statistics import FEWEST_LAUNCHES
from reports.table import Row, emulated, heads

_NAMED = 5  # devices that a sentence names
_PROFILES = {
    "quick": "at least 0.5 s and 100 queries a launch: a first look. Decide with --profile standard.",
    "standard": "at least 3 s and 1,000 queries a launch.",
    "strict": "at least 600 s a launch, with early stopping at confidence 0.99.",
    "imported": "what other programs told, by rules of their own.",
}


@dataclass(frozen=True, slots=True)
class Footing:
    """What a cell's numbers rest on: `width` is the half width of the headline's interval, `loop` the timing loop's cost, as shares."""

    row: Row
    valid: int
    launches: int
    samples: int
    smallest: int
    width: float | None
    loop: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """A sentence about the whole run; `good` is False where it limits what may be concluded."""

    good: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The extremes of what was observed around a device's launches, as text; empty where it cannot be observed."""

    device: str
    launches: int
    load: str
    busy: str
    temperature: str
    clock: str
    governors: str
    memory: str


def footings(run: RunRecord, table: Sequence[Row]) -> list[Footing]:
    """One for each cell that was launched, in the run's order."""
    rows = {row.cell: row for row in heads(table)}
    return [_footing(record, rows[record.id]) for record in run.cells if record.launches]


def checks(run: RunRecord, table: Sequence[Row], found: Sequence[Footing]) -> list[Check]:
    """What speaks for and against trusting the run's numbers."""
    return list(_checks(run, table, [footing for footing in found if footing.row.status == "valid" and not footing.row.protocol]))


def device_states(run: RunRecord) -> list[DeviceState]:
    """The state of each device that launched something, over all its launches."""
    launches: dict[str, list[LaunchRecord]] = {}
    for record in run.cells:
        launches.setdefault(record.cell.device, []).extend(record.launches)
    return [_state(_named(run, device), found) for device, found in launches.items() if found]


def _footing(record: CellRecord, row: Row) -> Footing:
    launches = counted(record)
    sizes = [len(launch.values["latency_s"]) for launch in launches if "latency_s" in launch.values]
    width = (row.high - row.low) / 2 / row.value if row.value and row.low is not None and row.high is not None else None
    costs = [float(launch.values["loop_cost_s"][0]) for launch in launches if "loop_cost_s" in launch.values]
    return Footing(
        row=row,
        valid=sum(launch.status == "valid" for launch in record.launches),
        launches=len(record.launches),
        samples=sum(sizes),
        smallest=min(sizes, default=0),
        width=width,
        loop=max(costs) / row.value if costs and row.value and METRICS[row.metric].unit == "s" else None,
        notes=tuple(dict.fromkeys(text.line(note) for launch in record.launches for note in launch.notes)),
    )


def _checks(run: RunRecord, table: Sequence[Row], valid: Sequence[Footing]) -> Iterator[Check]:
    yield Check(run.profile != "quick", f"Profile {run.profile}, {run.launches_planned} launches a cell: {_PROFILES.get(run.profile, '')}")
    if run.finished_at is None:
        yield Check(False, "The run is not finished: some cells may be missing or incomplete.")
    enough = sum(footing.valid >= FEWEST_LAUNCHES for footing in valid)
    yield Check(
        enough == len(valid), f"{enough} of {len(valid)} valid cells have {FEWEST_LAUNCHES} or more valid launches, so an interval."
    )
    yield from _width(valid)
    yield from _small(table)
    yield from _uncounted(run)
    yield from _loop_cost(valid)
    yield from _noise(run, table)
    yield from _sampling(run, table)
    apart = len({row.cell for row in table if row.message == DISAGREE})
    if apart:
        yield Check(False, f"In {_cells(apart)} a pooled value lies outside the interval of its launches: the launches disagree.")


def _width(valid: Sequence[Footing]) -> Iterator[Check]:
    widest = max((footing for footing in valid if footing.width is not None), key=lambda footing: footing.width or 0.0, default=None)
    if widest is not None and widest.width is not None:
        name = sentence_name(widest.row)
        yield Check(widest.width <= 0.1, f"The widest 95 % interval is {fmt.percent(widest.width)} either way: {name}.")


def _small(table: Sequence[Row]) -> Iterator[Check]:
    small = Counter(row.metric for row in table if row.reason == "n too small")
    for metric, count in small.items():
        yield Check(False, f"{metric} is left out of {_cells(count)}: n too small.")


def _uncounted(run: RunRecord) -> Iterator[Check]:
    statuses = Counter(launch.status for record in run.cells if not protocol_of(record.cell) for launch in record.launches)
    left_out = {status: count for status, count in statuses.items() if status != "valid"}
    total = statuses.total()
    if total:
        why = ", ".join(f"{count} {status}" for status, count in left_out.items())
        yield Check(not left_out, f"{statuses['valid']} of {total} launches are valid{': ' + why + ' are left out' if why else ''}.")


def _loop_cost(valid: Sequence[Footing]) -> Iterator[Check]:
    dearest = max((footing.loop for footing in valid if footing.loop is not None), default=None)
    if dearest is not None:
        yield Check(dearest <= 0.01, f"The timing loop itself costs at most {fmt.percent(dearest)} of a latency.")


def _noise(run: RunRecord, table: Sequence[Row]) -> Iterator[Check]:
    """The noise floor of each device and where it comes from; the devices that have none."""
    floors = known_floors(run, table)
    devices = dict.fromkeys(row.device for row in heads(table) if row.status == "valid" and not row.protocol)
    for device in devices:
        if device in floors:
            yield _floor(_named(run, device), floors[device])
    unknown = [_named(run, device) for device in devices if device not in floors]
    if unknown:
        names = ", ".join(unknown[:_NAMED]) + (f" and {len(unknown) - _NAMED} more devices" if len(unknown) > _NAMED else "")
        ties = f"effects below {fmt.percent(TIE_FLOOR)} are ties"
        yield Check(False, f"The noise floor of {names} was not measured (fleetmark run --aa does): {ties}, by convention.")


def _sampling(run: RunRecord, table: Sequence[Row]) -> Iterator[Check]:
    """What reading a device's power sensor does to what is measured, by the cell that shows most of it."""
    for device, effects in sampling_effects(table).items():
        row, most = max(effects, key=lambda one: abs(math.log(one[1].ratio)))
        among = f", the most of {len(effects)} cells" if len(effects) > 1 else ""
        span = f"{fmt.ratio(most.low)} to {fmt.ratio(most.high)}"
        harmless = most.low <= 1 <= most.high or abs(math.log(most.ratio)) < math.log1p(TIE_FLOOR)
        yield Check(
            harmless,
            f"With the power sensor of {_named(run, device)} on, {row.variant} with {row.backend} costs {fmt.ratio(most.ratio)} times as "
            f"much ({span}) as with it off{among}.",
        )


def _floor(device: str, floor: NoiseFloor) -> Check:
    pairs = f"{floor.pairs} A/A pair{'' if floor.pairs == 1 else 's'}"
    earlier = f" of run {text.line(floor.run)}, {text.line(floor.started_at[:10])}" if floor.run else ""
    ties = fmt.percent(max(TIE_FLOOR, 2 * floor.share))
    sentence = f"The noise floor of {device} is {fmt.percent(floor.share)}, from {pairs}{earlier}: effects below {ties} are ties."
    return Check(2 * floor.share <= TIE_FLOOR, sentence)


def _state(device: str, launches: Sequence[LaunchRecord]) -> DeviceState:
    before = [launch.before for launch in launches if launch.before]
    around = before + [launch.after for launch in launches if launch.after]
    return DeviceState(
        device=device,
        launches=len(launches),
        load=_range(before, lambda state: [state.load_1m], lambda load: f"{load:.2f}"),
        busy=_range(before, lambda state: [state.cpu_busy_share], fmt.percent),
        temperature=_range(around, lambda state: state.temps_c.values(), lambda temp: f"{temp:.0f} °C"),
        clock=_range(around, lambda state: state.clocks_hz.values(), lambda clock: f"{clock / 1e9:.2f} GHz"),
        governors=", ".join(sorted({governor for state in around for governor in state.governors})),
        memory=_range(around, lambda state: [state.memory_available_bytes], lambda size: fmt.value("size_bytes", size)),
    )


def _named(run: RunRecord, device: str) -> str:
    return text.line(device) + (" (emulated)" if emulated(run, device) else "")


def _range(states: Sequence[Conditions], read: Callable[[Conditions], Iterable[float | None]], shown: Callable[[float], str]) -> str:
    values = [value for state in states for value in read(state) if value is not None]
    return " to ".join(dict.fromkeys((shown(min(values)), shown(max(values))))) if values else ""


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
