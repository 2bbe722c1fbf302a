"""Temperature, clock, power and rolling latency of a launch over the seconds since its measured window began, and where it was throttled.

What the store does not hold is missing, and said to be.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.power import METER, SENSOR
from reports import format as fmt
from reports import text
from reports.energy import Span, Trace, power_over_time
from reports.energy_figures import launch_spans, launch_trace
from reports.labels import ordered_cells
from reports.records import LaunchRecord, RunRecord
from reports.steadiness import CLOCK_SHARE, LOW_FOR, target_hz
from reports.table import Row

KINDS = ("temperature", "clock", "power", "latency")
MOST_POINTS = 500  # of all series of a launch together
FEWEST_READINGS = 3

_UNTIMED = "server"  # whose latencies do not follow each other without a pause

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One of KINDS over time: `t_s` in seconds from the window's begin, `values` in °C, Hz, W or s; thinned, with lows and highs kept."""

    kind: str
    t_s: Values
    values: Values


@dataclass(frozen=True, slots=True)
class Throttled:
    """A time in which the device held itself back, and what shows it."""

    begin_s: float
    end_s: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Course:
    """A launch of the cell of `row` over time: of its launches the throttled one, else the hottest, else the longest.

    `idle_w` are the lowest and the highest mean power of the idle times, `boundary` is what the power covers. `missing` says which series
    there are not, and why; `notes` what was said of the launch when it was judged.
    """

    name: str
    row: Row
    launch: LaunchRecord
    window_s: float
    series: Mapping[str, Series]
    throttled: tuple[Throttled, ...]
    limit_c: float | None
    idle_w: tuple[float, float] | None
    boundary: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_throttled(self) -> bool:
        """Whether the launch was judged so, or a time of it is known."""
        return self.launch.status == "throttled" or bool(self.throttled)

    def figures(self) -> dict[str, str]:
        """By kind what the table says of it: the range of temperatures, clocks and powers, the first and the last of the latencies."""
        return {kind: _range(kind, self.series[kind]) if kind in self.series else "" for kind in KINDS}


def courses(run: RunRecord, table: Sequence[Row]) -> list[Course]:
    """One for each cell of which a temperature, clock or power was read often enough: throttled ones first.

    Of these and of the others the hottest of each device stands before the second of any.
    """
    records = {record.id: record for record in run.cells}
    rows = [next(iter(cell.values())) for cell in ordered_cells(table)]
    found = [course for row in rows if (course := _foremost(row, records[row.cell].launches)) is not None]
    found.sort(key=_peak, reverse=True)
    seen: Counter[tuple[str, bool]] = Counter()
    ranks: dict[str, int] = {}
    for course in found:
        seen[of := (course.row.device, course.is_throttled)] += 1
        ranks[course.row.cell] = seen[of]
    found.sort(key=lambda course: (not course.is_throttled, ranks[course.row.cell]))
    return [replace(course, name=f"heat-{at}") for at, course in enumerate(found, 1)]


def thinned(t_s: Values, values: Values, most: int) -> tuple[Values, Values]:
    """At most so many of the points, in order: of each of equal stretches the lowest and the highest."""
    if len(values) <= most:
        return t_s, values
    parts = np.array_split(np.arange(len(values)), most // 2)
    kept = np.unique([part[pick(values[part])] for part in parts for pick in (np.argmin, np.argmax)])
    return t_s[kept], values[kept]


def _foremost(row: Row, launches: Sequence[LaunchRecord]) -> Course | None:
    seen = [course for launch in launches if (course := _course(row, launch)) is not None]
    best = max(seen, key=lambda course: (course.is_throttled, _peak(course), course.window_s), default=None)
    return best and _with_latency(best)


def _with_latency(course: Course) -> Course:
    points = _latency(course.launch, course.row.workload, course.window_s)
    missing = (*course.missing, *_missing({"latency": points}))
    enough = points is not None and len(points[0]) >= FEWEST_READINGS
    return replace(
        course, series={**course.series, "latency": Series("latency", *points)} if points and enough else course.series, missing=missing
    )


def _course(row: Row, launch: LaunchRecord) -> Course | None:
    """All but the latency, which takes longer than the rest together and is needed of one launch only."""
    window_s = _single(launch, "window_s")
    clock, temperature, power = _read(launch, "clock_hz"), _read(launch, "temp_c"), _power(launch)
    raw = {"temperature": temperature, "clock": clock, "power": power and power[:2]}
    enough = {kind: points for kind, points in raw.items() if points is not None and len(points[0]) >= FEWEST_READINGS}
    if window_s <= 0 or not enough:
        return None
    limit_c = _limit_c(launch)
    slow = [*_slowed(clock, window_s), *_too_hot(temperature, limit_c)]
    return Course(
        name="",
        row=row,
        launch=launch,
        window_s=window_s,
        series={kind: Series(kind, *thinned(*points, MOST_POINTS // len(KINDS))) for kind, points in enough.items()},
        throttled=tuple(sorted(slow, key=lambda span: span.begin_s)),
        limit_c=limit_c,
        idle_w=power[2] if power else None,
        boundary=power[3] if power else "",
        missing=tuple(_missing(raw)),
        notes=tuple(dict.fromkeys(text.line(note) for note in launch.notes)),
    )


def _limit_c(launch: LaunchRecord) -> float | None:
    """The limit of the sensor that was the hottest, whose temperature the readings are; None where it has none."""
    around = [each for each in (launch.before, launch.after) if each is not None]
    seen = [(peak_c, name) for each in around for of in (each.temps_c, each.peaks_c) for name, peak_c in of.items()]
    limits = {name: limit_c for each in around for name, limit_c in each.limits_c.items()}
    return limits.get(max(seen)[1]) if seen else None


def _read(launch: LaunchRecord, name: str) -> tuple[Values, Values] | None:
    values, t_s = launch.values.get(f"trace_{name}"), launch.values.get(f"trace_{name}_t_s")
    return (t_s, values) if values is not None and t_s is not None and len(values) == len(t_s) else None


def _power(launch: LaunchRecord) -> tuple[Values, Values, tuple[float, float] | None, str] | None:
    """(times, powers, idle range, boundary) by the device's sensor, or by its meter where that gave nothing."""
    spans = launch_spans(launch)
    for of in (SENSOR, METER) if spans else ():
        trace = launch_trace(launch, of)
        found = power_over_time(trace) if isinstance(trace, Trace) else None
        if isinstance(trace, Trace) and found and spans:
            window, idle = spans
            means = [mean for span in idle or () if (mean := _mean(*found, span)) is not None]
            return found[0] - window.begin_s, found[1], (min(means), max(means)) if means else None, text.line(trace.boundary)
    return None


def _mean(t_s: Values, power_w: Values, span: Span) -> float | None:
    inside = (t_s >= span.begin_s) & (t_s <= span.end_s)
    return float(power_w[inside].mean()) if inside.any() else None


def _latency(launch: LaunchRecord, workload: str, window_s: float) -> tuple[Values, Values] | None:
    """The median of every stretch of the window, at its middle; queries follow each other, so that their times are their sums."""
    latency_s = launch.values.get("latency_s", np.empty(0))
    if workload.split(" ")[0] == _UNTIMED or not len(latency_s) or window_s <= 0:
        return None
    size = -(-len(latency_s) // (MOST_POINTS // len(KINDS)))  # of a stretch; what is left over at the end is less than one
    count = len(latency_s) // size
    ends_s = np.cumsum(latency_s)
    middles_s = ends_s[: count * size].reshape(count, size).mean(axis=1) * window_s / ends_s[-1]
    return middles_s, np.median(latency_s[: count * size].reshape(count, size), axis=1)


def _slowed(clock: tuple[Values, Values] | None, window_s: float) -> Iterator[Throttled]:
    """Times below 97 % of the clock that the window began with, where they are over 1 % of it (METHOD.md, rule 5)."""
    if clock is None:
        return
    t_s, clocks_hz = (values[(clock[0] >= 0) & (clock[0] <= window_s)] for values in clock)
    if len(clocks_hz) >= FEWEST_READINGS:
        target = target_hz(clocks_hz, t_s, window_s)
        low = clocks_hz < CLOCK_SHARE * target
        for begin_s, end_s, inside in _stretches(t_s, low, window_s) if low.mean() > LOW_FOR else ():
            yield Throttled(begin_s, end_s, f"clock down to {_mhz(clocks_hz[inside].min())} of {_mhz(target)}")


def _too_hot(temperature: tuple[Values, Values] | None, limit_c: float | None) -> Iterator[Throttled]:
    if temperature is None or limit_c is None:
        return
    t_s, temps_c = temperature
    for begin_s, end_s, inside in _stretches(t_s, temps_c >= limit_c, float(t_s[-1]) if len(t_s) else 0.0):
        yield Throttled(begin_s, end_s, f"{temps_c[inside].max():.1f} °C, its limit is {limit_c:.1f} °C")


def _stretches(t_s: Values, holds: NDArray[np.bool_], end_s: float) -> Iterator[tuple[float, float, NDArray[np.intp]]]:
    """(begin, end, which readings) of each stretch in which something holds; it lasts until the next reading."""
    for part in np.split(np.arange(len(t_s)), np.flatnonzero(np.diff(holds)) + 1):
        if len(part) and holds[part[0]]:
            last = part[-1] + 1
            yield float(t_s[part[0]]), float(t_s[last]) if last < len(t_s) else max(end_s, float(t_s[part[-1]])), part


def _missing(raw: Mapping[str, tuple[Values, Values] | None]) -> Iterator[str]:
    for kind, points in raw.items():
        if points is None:
            yield f"{kind} is not known over time"
        elif len(points[0]) < FEWEST_READINGS:
            yield f"{kind} was read {len(points[0])} times only"


def _range(kind: str, series: Series) -> str:
    low, high = float(series.values.min()), float(series.values.max())
    shown = {
        "temperature": lambda: f"{low:.1f} to {high:.1f} °C",
        "clock": lambda: f"{_mhz(low)} to {_mhz(high)}",
        "power": lambda: fmt.interval("power_average_w", high, low, high),
        "latency": lambda: fmt.interval("latency_p50_s", low, float(series.values[0]), float(series.values[-1])),
    }
    return shown[kind]()


def _mhz(clock_hz: float) -> str:
    return f"{clock_hz / 1e6:,.0f} MHz"


def _peak(course: Course) -> float:
    return float(course.series["temperature"].values.max()) if "temperature" in course.series else -300.0


def _single(launch: LaunchRecord, name: str) -> float:
    found = launch.values.get(name)
    return float(found[0]) if found is not None and len(found) else 0.0
