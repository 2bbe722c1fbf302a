"""A stored run as reports read it: with the noise floors of its devices that earlier runs measured."""

import difflib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from controller import gates
from controller.errors import FleetmarkError
from controller.store import RunRow, Store
from reports.baseline import Baseline, against
from reports.comparison import noise_floors, was_doubled
from reports.figures import counted
from reports.metrics import METRICS
from reports.records import NoiseFloor, RunRecord
from reports.table import rows
from reports.trend import Trend
from reports.trend import trend as trend_of

BASELINE = "baseline"
"""The tag of the run that reports are compared with."""
LONGEST_TAG = 64
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
    return against(earlier, record, trend=trend(store, record, base=earlier), advice=_advice(store, earlier, record))


def _tagged(store: Store, record: RunRecord) -> RunRow | None:
    found = [row for row in store.list_runs() if row.tag == BASELINE and row.id != record.id]
    return next((row for row in found if row.document["suite"] == record.suite and row.started_at < record.started_at), None)


def _other(base: RunRecord, new: RunRecord) -> RunRecord:
    if base.id == new.id:
        raise FleetmarkError(f"{new.id} is both runs: there is nothing to compare", next="fleetmark runs list shows those there are")
    return base


def trend(store: Store, record: RunRecord, metric: str = "", most: int = TREND_RUNS, base: RunRecord | None = None) -> Trend:
    """Give the trend that ends with a run: over `base`, the tagged runs and the latest of its suite before it, at most so many.

    Of the headlines, or of one metric of the table; raises FleetmarkError for one that is none.
    """
    if metric and metric not in METRICS:
        near = difflib.get_close_matches(metric, METRICS, n=1)
        raise FleetmarkError(f"no metric is called {metric!r}", next=f"try {near[0] if near else 'latency_p50_s'}")
    known = {run.id: run for run in (base, record) if run}
    earlier = [row for row in store.list_runs() if row.started_at < record.started_at and row.id not in known]
    of_suite = [row for row in earlier if not row.tag and row.document["suite"] == record.suite]
    chosen = [*(row for row in earlier if row.tag), *of_suite][: max(0, most - len(known))]
    others = [store.load_run(row.id) for row in chosen] + ([base] if base else [])
    others.sort(key=lambda run: run.started_at)
    return trend_of([(run, rows(run)) for run in (*others, record)], metric)


def valid_tag(store: Store, tag: str) -> str:
    """Give a tag that can be one: up to 64 printable characters, a letter first, and nothing that names a run in another way."""
    fits = tag[:1].isalpha() and tag.isprintable() and " " not in tag and len(tag) <= LONGEST_TAG
    if not fits or tag == "latest" or any(row.id.startswith(tag) for row in store.list_runs()):
        raise FleetmarkError(
            f"{tag!r} cannot be a tag",
            why=f"a tag is up to {LONGEST_TAG} printable characters, no spaces, the first a letter, and neither `latest` nor a run's id",
            next="choose another, such as baseline or v1.2",
        )
    return tag


def compare(store: Store, base: str, new: str, rerun: str | None = None) -> Baseline:
    """Give the comparison of two named runs, and how to confirm what it suspects; raises FleetmarkError where a name is of no run."""
    newer = load(store, new)
    older = _other(load(store, base), newer)
    if rerun is None:
        return against(older, newer, advice=_advice(store, older, newer))
    return against(older, newer, _of_its_own(load(store, rerun), older, newer))


def _of_its_own(rerun: RunRecord, base: RunRecord, new: RunRecord) -> RunRecord:
    """The rerun, if it is one: a run confirms nothing of itself."""
    if rerun.id in (base.id, new.id):
        raise FleetmarkError(
            f"the rerun {rerun.id} is the {'base' if rerun.id == base.id else 'new run'} itself: it confirms nothing",
            next=f"fleetmark run {shlex.quote(new.suite)} measures again; then --rerun latest",
        )
    return rerun


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
