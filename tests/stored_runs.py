"""Synthetic runs in a real store, as the command line reads them."""

from dataclasses import asdict, replace
from pathlib import Path

from controller.collect import Samples
from controller.store import Store
from reports.records import RunRecord


def keep(run: RunRecord, folder: Path, stride: int = 1, *, url: str | None = None) -> None:
    """Write a run with its devices, cells and launches to the store in `folder`, or at `url`; of the samples every `stride`-th is there."""
    store = Store(folder, url)
    provenance = dict(run.conditions)
    document: dict[str, object] = {"fleetmark": run.fleetmark, "profile": run.profile, "suite": run.suite, "launches": run.launches_planned}
    document["gates"] = [asdict(gate) for gate in run.gates]
    store.create_run(run.id, run.started_at, {**document, "provenance": provenance})
    store.add_cells(run.id, [(record.id, record.cell, record.fault) for record in run.cells], run.variants)
    for device in run.devices.values():
        store.set_device(run.id, device)
    for record in run.cells:
        for launch in record.launches:
            store.begin_launch(run.id, record.id, launch.round, launch.id, launch.started_at)
            raw = [Samples(metric, "s", values, stride if len(values) > 1 else 1) for metric, values in launch.values.items()]
            store.finish_launch(replace(launch, values={}), raw)
    if run.finished_at:
        store.finish_run(run.id, run.finished_at)
    store.close()
