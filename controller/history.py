"""A stored run as reports read it: with the noise floors of its devices that earlier runs measured."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from controller import gates
from controller.errors import FleetmarkError
from controller.store import RunRow, Store
from reports.baseline import Baseline, against
from reports.comparison import noise_floors, was_doubled
from reports.figures import counted
from reports.records import NoiseFloor, RunRecord
from reports.table import rows
from reports.trend import Trend, trend

BASELINE = "baseline"
"""The tag of the run that reports are compared with."""
TREND_RUNS = 10  # of a report; each is read whole

# Of a probe: what makes a device another one to measure on. Runtimes come beside it, from the launches.
ENVIRONMENT = (
    "board",
    "soc",
    "machine",
    "cpu_model",
    "cpu_count",
    "kernel",
    "os",
    "glibc",
    "governors",
    "power_mode",
    "emulated",
    "container",
)

Runtimes = frozenset[tuple[str, str, str]]  # backend, distribution, version


def load(store: Store, name: str) -> RunRecord:
    """Give the run that an id, a unique prefix of one, a tag or `latest` names; raises FleetmarkError where none or several do."""
    record = store.load_run(store.find_run(name).id)
    bound = gates.bind(record.gates, record.devices.values())
    return replace(record, floors=earlier_floors(store, record), gates=bound)


def baseline(store: Store, record: RunRecord, name: str | None = None) -> Baseline | None:
    """Give the comparison of a run with the named one, else with an earlier one of its suite tagged `baseline`, with the trend.

    None where no name is given and there is no such run; raises FleetmarkError where the name is of no run.
    """
    base = store.find_run(name) if name else _tagged(store, record)
    if base is None:
        return None
    earlier = _other(load(store, base.id), record)
    return against(earlier, record, trend=_trend(store, earlier, record), advice=_advice(store, earlier, record))


def _tagged(store: Store, record: RunRecord) -> RunRow | None:
    found = [row for row in store.list_runs() if row.tag == BASELINE and row.id != record.id]
    return next((row for row in found if row.document["suite"] == record.suite and row.started_at < record.started_at), None)


def _other(base: RunRecord, new: RunRecord) -> RunRecord:
    if base.id == new.id:
        raise FleetmarkError(f"{new.id} is both runs: there is nothing to compare", next="fleetmark runs list shows those there are")
    return base


def _trend(store: Store, base: RunRecord, record: RunRecord) -> Trend:
    known = {base.id: base, record.id: record}
    loaded = [known.get(row.id) or store.load_run(row.id) for row in trend_runs(store, base.id, record)]
    return trend([(run, rows(run)) for run in loaded])


def trend_runs(store: Store, base: str, record: RunRecord, most: int = TREND_RUNS) -> list[RunRow]:
    """Give the runs of a trend that ends with `record`: the base, those tagged, and the latest of its suite, at most so many, by time."""
    earlier = [row for row in store.list_runs() if row.started_at < record.started_at and row.id != base]
    of_interest = [row for row in earlier if row.tag] + [row for row in earlier if not row.tag and row.document["suite"] == record.suite]
    ends = [store.find_run(base), store.find_run(record.id)]
    return sorted([*of_interest[: most - len(ends)], *ends], key=lambda row: (row.id == record.id, row.started_at))


def compare(store: Store, base: str, new: str, rerun: str | None = None) -> Baseline:
    """Give the comparison of two named runs, and how to confirm what it suspects; raises FleetmarkError where a name is of no run."""
    newer = load(store, new)
    older = _other(load(store, base), newer)
    return against(older, newer, load(store, rerun) if rerun else None, advice=() if rerun else _advice(store, older, newer))


def _advice(store: Store, base: RunRecord, new: RunRecord) -> Sequence[str]:
    """The command that confirms: with a later run of the same suite in the same environment, else with one that is to be made."""
    command = f"fleetmark compare {base.id} {new.id} --rerun"
    for row in store.list_runs():
        if row.id != base.id and row.started_at > new.started_at and row.finished_at and row.document["suite"] == new.suite:
            later = store.load_run(row.id)
            if all(_is_alike(later, new, name) for name in new.devices if _measured(new, name)):
                return "A later run in the same environment confirms what is suspected, or not:", f"{command} {later.id}"
    return "Run it again to confirm what is suspected:", f"fleetmark run {shlex.quote(new.suite)}", f"{command} latest"


def earlier_floors(store: Store, record: RunRecord) -> dict[str, NoiseFloor]:
    """Give the noise floor of each device without A/A pairs in this run, by the latest `run --aa` before it in the same environment.

    The same: nothing of ENVIRONMENT differs, and every runtime of this run was measured there in its version.
    """
    wanted = {name for name in record.devices if _measured(record, name) and not was_doubled(record, name)}
    found: dict[str, NoiseFloor] = {}
    for row in store.list_runs():
        if not wanted - found.keys():
            break
        if row.started_at < record.started_at and row.document.get("request", {}).get("aa"):
            found |= _floors(store.load_run(row.id), record, wanted - found.keys())
    return found


def _floors(earlier: RunRecord, record: RunRecord, wanted: Iterable[str]) -> dict[str, NoiseFloor]:
    alike = {name for name in wanted if _is_alike(earlier, record, name)}
    measured = noise_floors(rows(earlier)) if alike else {}
    return {name: replace(measured[name], run=earlier.id, started_at=earlier.started_at) for name in alike & measured.keys()}


def _is_alike(earlier: RunRecord, record: RunRecord, device: str) -> bool:
    then, now = _environment(earlier, device), _environment(record, device)
    return then is not None and then == now and _measured(record, device) <= _measured(earlier, device)


def _environment(record: RunRecord, device: str) -> list[object] | None:
    known = record.devices.get(device)
    return [getattr(known.probe, name) for name in ENVIRONMENT] if known and known.probe else None


def _measured(record: RunRecord, device: str) -> Runtimes:
    """The runtimes that launches of the device told of."""
    launches = ((cell.cell.backend, launch.details) for cell in record.cells if cell.cell.device == device for launch in counted(cell))
    return frozenset((backend, str(details.get("runtime")), str(details.get("version"))) for backend, details in launches)
