"""The table as OpenMetrics text, for Prometheus and what reads its format: one gauge family a metric, each cell a sample of it.

Source: OpenMetrics 1.0: base units, `# UNIT` as the name's suffix, label values escaped, and `# EOF` at the end.
"""

from collections.abc import Iterator, Mapping, Sequence

from reports.metrics import METRICS
from reports.records import RunRecord
from reports.table import Row, heads

UNITS = {
    "s": ("_s", "seconds"),
    "J": ("_j", "joules"),
    "W": ("_w", "watts"),
    "B": ("_bytes", "bytes"),
    "1/s": ("_per_s", "per_second"),
    "pp": ("_pp", "percentage_points"),
    "dB": ("_db", "decibels"),
    "1": ("", "ratio"),
}
"""A stored unit to the suffix of its metrics in the table, and what OpenMetrics calls it."""

_BOUNDS = {"": "", "low": ", lower end of its 95 % interval", "high": ", upper end of its 95 % interval"}
_NAMES = ("run", "device", "model", "variant", "backend", "workload")


def to_openmetrics(run: RunRecord, table: Sequence[Row]) -> str:
    """Every number of the table as `fleetmark_METRIC_UNIT`, its interval's ends and its n beside it, and every cell with its status."""
    return "".join(f"{line}\n" for line in _lines(run, table))


def family(metric: str, bound: str = "") -> str:
    """What a metric of the table is called in OpenMetrics; `bound` is low, high or empty."""
    suffix, unit = UNITS[METRICS[metric].unit]
    return "_".join(part for part in ("fleetmark", metric.removesuffix(suffix), bound, unit) if part)


def _lines(run: RunRecord, table: Sequence[Row]) -> Iterator[str]:
    yield from _head("fleetmark_run", "info", "The run that all samples are of.")
    about = {"run": run.id, "tag": run.tag or "", "started_at": run.started_at, "profile": run.profile, "fleetmark": run.fleetmark}
    yield _sample("fleetmark_run_info", about, 1)
    yield from _head("fleetmark_cell", "info", "Each cell of the run with its status, and why it has no number.")
    for row in heads(table):
        yield _sample("fleetmark_cell_info", {**_labels(row), "status": row.status, "reason": row.reason}, 1)
    for metric in METRICS:
        rows = [row for row in table if row.metric == metric and row.value is not None]
        yield from _families(metric, rows)
    yield "# EOF"


def _families(metric: str, rows: Sequence[Row]) -> Iterator[str]:
    _, unit = UNITS[METRICS[metric].unit]
    for bound, meaning in _BOUNDS.items():
        values = [(row, getattr(row, bound or "value")) for row in rows]
        found = [(row, value) for row, value in values if value is not None]
        if found:
            name = family(metric, bound)
            yield from _head(name, "gauge", METRICS[metric].label + meaning, unit)
            yield from (_sample(name, _labels(row), value) for row, value in found)
    if rows:
        name = family(metric).removesuffix(f"_{unit}") + "_n"
        yield from _head(name, "gauge", f"{METRICS[metric].label}: how many samples or launches it rests on")
        yield from (_sample(name, _labels(row), row.n) for row in rows)


def _head(name: str, kind: str, meaning: str, unit: str = "") -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {_escaped(meaning)}"


def _labels(row: Row) -> dict[str, str]:
    names = {name: str(getattr(row, name)) for name in _NAMES}
    return {**names, "cell": row.cell, "boundary": row.boundary, "emulated": row.emulated, "protocol": row.protocol}


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items() if label)
    return f"{name}{{{told}}} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
