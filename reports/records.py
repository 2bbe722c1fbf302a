"""What a report is made from: a run with its cells and their launches, raw values and all. The store fills these in."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.description import Probe
from agent.schema import Cell, Conditions, Fault


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """One launch. `values` maps a raw metric to float64 values, 1-D:

    latency_s (one per stored query), runtime_s (the same by the runtime's own clock, where it has one), window_s, queries, loop_cost_s,
    samples_per_query (multi_stream and offline), server_rate_per_s (0 where none keeps the bound),
    peak_memory_bytes, accelerator memory where known,
    cold_start_process_s, cold_start_import_s, cold_start_load_s, cold_start_first_inference_s (one value each),
    correct (0 or 1 per evaluation sample, in the data file's order), or a metric of QUALITIES (its value, then those of the same
    bootstrap draws of samples for every cell) with eer and error_rate beside it (one value),
    drift_sqnr_db, drift_cosine, drift_max_abs (one value each).
    """

    id: str
    round: int
    status: str
    started_at: str  # ISO 8601, UTC
    values: Mapping[str, NDArray[np.float64]]
    before: Conditions | None = None
    after: Conditions | None = None
    fault: Fault | None = None
    log_tail: str = ""
    details: Mapping[str, object] = field(default_factory=dict[str, object])  # what the backend says of its effective settings
    notes: tuple[str, ...] = ()  # e.g. "samples thinned: every 4th kept"


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One cell with its launches; `fault` where it could not even be started (skipped, unreachable, no artifact).

    `profiled` is the launch that timed its operations, with the values inference_s and operation_s (of all operations, one inference
    after the other, or once their averages; none where the runtime tells no times) and the operations themselves under `operations` in
    its details. It is in no statistic and changes no status.
    """

    id: str
    cell: Cell
    status: str  # of STATUSES
    size_bytes: int | None
    launches: tuple[LaunchRecord, ...]
    fault: Fault | None = None
    profiled: LaunchRecord | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a device costs; `currency` is of ISO 4217, and prices in several are never compared."""

    amount: float
    currency: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One budget: `metric` as the table calls it, its bounds in the table's unit, None where there is none; `written` is for people.

    `devices` are the names in the run that its `selector` means; `models`, `variants` and `workloads` are those it is for, empty for all.
    """

    selector: str
    metric: str
    at_most: float | None
    at_least: float | None
    written: str
    devices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as the inventory names it and as it introduced itself; `probe` is None if it was never reached."""

    name: str
    kind: str
    tags: Mapping[str, str]
    probe: Probe | None
    groups: tuple[str, ...] = ()
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class VariantRecord:
    """An artifact of the run: where it came from and how it was checked on the controller."""

    model: str
    variant: str
    format: str
    sha256: str
    size_bytes: int
    manifest: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """By how much identical cells of a device differ, as a share, from so many A/A pairs; `run`, empty for the same, measured it when."""

    share: float
    pairs: int
    run: str = ""
    started_at: str = ""  # ISO 8601, UTC


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class RunRecord:
    """All that is known of one run; one record is equal to itself alone."""

    id: str
    started_at: str  # ISO 8601, UTC
    finished_at: str | None
    fleetmark: str  # version
    profile: str
    suite: str  # its path or the model's, as given
    launches_planned: int
    devices: Mapping[str, DeviceRecord]
    variants: tuple[VariantRecord, ...]
    cells: tuple[CellRecord, ...]
    conditions: Mapping[str, object]  # controller's host, packages, command line: provenance
    rate_per_s: float = 1.0  # the target rate of inferences that power is given at
    gates: tuple[Gate, ...] = ()
    tag: str | None = None
    floors: Mapping[str, NoiseFloor] = field(default_factory=dict[str, NoiseFloor])  # by device, from an earlier run with A/A pairs
