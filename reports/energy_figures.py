"""Energy and power of a cell, from what the launches' sensor or meter said: per inference, gross and net, always within one boundary."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from agent.power import METER, SENSOR, PowerTrace
from agent.schema import load
from agent.sensors import METER_TIMEOUT_S
from reports import text
from reports.energy import Energy, Refusal, Span, Trace, aligned, integrate, power_at_rate_w
from reports.figures import Figure, counted
from reports.metrics import ENERGIES
from reports.records import CellRecord, LaunchRecord
from reports.statistics import log_interval

NO_ENERGY = "no energy"
MOST_CLOCK_ERROR = 0.25  # of the measured window
TOO_FAST = "above the rate measured"

Measured = tuple[LaunchRecord, Energy]


def launch_energy(launch: LaunchRecord, of: str = SENSOR) -> Energy | Refusal | None:
    """The energy of a launch's measured window by the device's sensor or by the meter it is on, or why its readings give none.

    None where it was not asked.
    """
    trace, spans = launch_trace(launch, of), launch_spans(launch)
    if not isinstance(trace, Trace):
        return trace
    if spans is None:
        return Refusal(trace.source, trace.boundary, "it is not known when the measured window was")
    window, idle = spans
    if of == METER and trace.clock_error_s > MOST_CLOCK_ERROR * window.length_s:
        return Refusal(trace.source, trace.boundary, f"the readings' times are known within {trace.clock_error_s:.3g} s only")
    return integrate(trace, window, idle)


def launch_trace(launch: LaunchRecord, of: str = SENSOR) -> Trace | Refusal | None:
    """What the sensor or the meter said during a launch, on the device's clock, or why that is nothing; None where it was not asked."""
    if of not in launch.details:
        return None
    about: PowerTrace = load(PowerTrace, launch.details[of])
    source, problem = text.line(about.driver), text.line(about.problem)
    suffix = "uj" if about.kind == "energy" else "uw"
    names = [f"{of}_t_s", *(f"{of}_{at}_{suffix}" for at in range(len(about.rails)))]
    if len(names) == 1 or not all(name in launch.values for name in names):
        return Refusal(source, about.boundary, problem or "the sensor gave no readings")
    columns = [launch.values[name] for name in names]
    if len({len(column) for column in columns}) != 1:
        return Refusal(source, about.boundary, "its readings are not complete")
    trace = Trace(
        source=source,
        boundary=about.boundary,
        kind="energy" if about.kind == "energy" else "power",
        period_s=about.period_s,
        t_s=columns[0],
        values=np.column_stack(columns[1:]) / 1e6,
        ranges_j=about.ranges_j,
        problem=problem,
    )
    return _on_device_time(trace, launch) if of == METER else trace


def launch_spans(launch: LaunchRecord) -> tuple[Span, tuple[Span, Span] | None] | None:
    """The measured window and the idle times before and after it on the device's clock, as far as they are known."""
    window, before, after = (_span(launch, name) for name in ("power_window_s", "power_idle_before_s", "power_idle_after_s"))
    return (window, (before, after) if before and after else None) if window else None


def _on_device_time(trace: Trace, launch: LaunchRecord) -> Trace:
    """A meter's readings on the device's clock. What it shows it measured within its last period; asking took METER_TIMEOUT_S at most."""
    offset_s, error_s = (float(launch.values[f"{METER}_clock_{what}_s"][0]) for what in ("offset", "error"))
    return aligned(trace, offset_s - trace.period_s / 2, error_s + trace.period_s / 2 + METER_TIMEOUT_S / 2)


def energy_figures(record: CellRecord, rate_per_s: float = 1.0) -> Iterator[Figure]:
    """The energy figures of a cell; where no launch gave energy, one figure that says why. Nothing without a sensor and a meter.

    Of a device that has both, those of the meter are the metrics that begin with `meter_`: their boundaries are not mixed.
    `rate_per_s` is the target rate of inferences that power is given at.
    """
    own, meter = (_figures(record, of, rate_per_s) for of in (SENSOR, METER))
    yield from own or meter
    if own:
        yield from (replace(figure, metric=f"{METER}_{figure.metric}") for figure in meter)


def _figures(record: CellRecord, of: str, rate_per_s: float) -> list[Figure]:
    found = [(launch, energy) for launch in counted(record) if (energy := launch_energy(launch, of)) is not None]
    measured = [(launch, energy) for launch, energy in found if isinstance(energy, Energy)]
    refused = [energy for _, energy in found if isinstance(energy, Refusal)]
    boundaries = sorted({energy.boundary for _, energy in found})
    if len(boundaries) > 1:
        message = f"its launches were measured within different boundaries: {', '.join(boundaries)}"
        return [Figure("energy_gross_j", None, reason=NO_ENERGY, message=message)]
    if measured and record.cell.workload.name == "server":
        message = "the search tried many rates in the measured window: the energy of one is not known"
        return [_refusal("energy_gross_j", message, boundaries[0])]
    if measured:
        return list(_energies(measured, rate_per_s))
    return [_refusal("energy_gross_j", refused[0].reason, refused[0].boundary)] if refused else []


def _energies(measured: Sequence[Measured], rate_per_s: float) -> Iterator[Figure]:
    yield _mean("energy_gross_j", measured, [energy.gross_j / _inferences(launch) for launch, energy in measured])
    net = [(launch, energy, energy.net_j / _inferences(launch)) for launch, energy in measured if energy.net_j is not None]
    kept = [(launch, energy) for launch, energy, _ in net]
    if net:
        yield _mean("energy_net_j", kept, [each for *_, each in net])
    else:
        yield _refusal("energy_net_j", measured[0][1].net_refusal, measured[0][1].boundary)
    yield _mean("power_average_w", measured, [energy.average_w for _, energy in measured])
    yield _mean("power_peak_w", measured, [energy.peak_w for _, energy in measured])
    if net:
        yield _mean("power_idle_w", kept, [energy.idle_w or 0.0 for _, energy in kept])
        yield _at_rate(kept, rate_per_s)


def _at_rate(measured: Sequence[Measured], rate_per_s: float) -> Figure:
    """The power at a rate of inferences, from launches whose net energy is known."""
    found = [
        (one, power_at_rate_w(one[1], _inferences(one[0]), window, rate_per_s))
        for one in measured
        if (window := _span(one[0], "power_window_s")) is not None
    ]
    kept = [(one, power_w) for one, power_w in found if power_w is not None]
    if len(kept) < len(measured):
        message = f"{rate_per_s:g} inferences/s are more than were measured"
        return Figure("power_at_rate_w", None, n=len(measured), reason=TOO_FAST, message=message, boundary=measured[0][1].boundary)
    return _mean("power_at_rate_w", [one for one, _ in kept], [power_w for _, power_w in kept])


def _mean(metric: str, measured: Sequence[Measured], each: Sequence[float]) -> Figure:
    """The mean over launches, with an interval where all are positive."""
    per_launch = tuple((launch.round, value) for (launch, _), value in zip(measured, each, strict=True))
    message = _uncertainty(metric, [energy for _, energy in measured])
    value = float(np.mean(each))
    return Figure(metric, value, log_interval(each), len(each), message=message, per_launch=per_launch, boundary=measured[0][1].boundary)


def _uncertainty(metric: str, energies: Sequence[Energy]) -> str:
    """What a reader has to know of an energy: whose it is, by how much one launch's may be off at most, and how much was seen."""
    if metric not in ENERGIES:
        return ""
    relative = max(_error(metric, energy) for energy in energies)
    coverage = min(energy.coverage for energy in energies)
    first = energies[0]
    return f"{first.boundary} by {first.source}; each launch within {100 * relative:.2g} %; readings cover at least {100 * coverage:.0f} %"


def _error(metric: str, energy: Energy) -> float:
    net = metric == "energy_net_j"
    whole_j = abs(energy.net_j or 0.0) if net else energy.gross_j
    error_j = energy.error_j + (energy.idle_error_j if net else 0.0)
    return error_j / whole_j if whole_j else float("inf")


def _refusal(metric: str, reason: str, boundary: str) -> Figure:
    return Figure(metric, None, reason=NO_ENERGY, message=reason, boundary=boundary)


def _inferences(launch: LaunchRecord) -> float:
    each = launch.values["samples_per_query"][0] if "samples_per_query" in launch.values else 1.0
    return float(launch.values["queries"][0] * each)


def _span(launch: LaunchRecord, name: str) -> Span | None:
    if name not in launch.values or len(launch.values[name]) != 2:
        return None
    begin_s, end_s = launch.values[name].tolist()
    return Span(begin_s, end_s) if begin_s < end_s else None
