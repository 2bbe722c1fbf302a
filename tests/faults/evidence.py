"""What a campaign leaves behind: in the store, and on its devices."""

import json
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controller.store import Store
from faults.checks import CellState, Row
from faults.controller import Controller
from faults.limits import GONE_S
from faults.machine import Machine
from faults.suite import true_output

PATIENCE_S = 20.0
EMPTY = frozenset[str]()


def run_id(controller: Controller) -> str:
    """The id of the only run, empty as long as there is none."""
    if not controller.store.exists():
        return ""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with closing(sqlite3.connect(controller.store, timeout=PATIENCE_S)) as store:
                found = store.execute("SELECT id FROM runs").fetchall()
            break
        except sqlite3.OperationalError as error:  # a full disk's
            if "no such table" in str(error):
                return ""
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    assert len(found) <= 1, found
    return str(found[0][0]) if found else ""


def read_store(controller: Controller, tags: dict[str, str]) -> tuple[list[CellState], list[Row]]:
    """The cells and launches of the run, read past the store's own reader but for what blobs are made of."""
    run = run_id(controller)
    if not run:
        return [], []
    with closing(Store.open(controller.results)) as store:
        record = store.load_run(run)
        outputs = dict(_outputs(controller))
        rows = [
            Row(
                launch.id,
                cell.id,
                launch.round,
                launch.status,
                launch.fault.code if launch.fault else "",
                launch.log_tail,
                launch.values.get("latency_s"),
                outputs.get(launch.id),
            )
            for cell in record.cells
            for launch in cell.launches
        ]
        rows += [Row(launch, cell, round_, "started") for launch, cell, round_ in store.open_launches(run)]
    cells = [
        CellState(
            cell.id,
            tags[cell.cell.device],
            cell.status,
            cell.fault.code if cell.fault else "",
            frozenset({"no_device"}) if "providers" in cell.cell.options else EMPTY,
            true_output(cell.cell.model),
        )
        for cell in record.cells
    ]
    return cells, rows


def _outputs(controller: Controller) -> Iterator[tuple[str, NDArray[np.float32]]]:
    with closing(sqlite3.connect(controller.store, timeout=10)) as store:
        for launch, values, shape in store.execute("SELECT launch_id, \"values\", shape FROM samples WHERE metric = 'output_0'"):
            yield launch, np.frombuffer(zlib.decompress(values), "<f4").reshape(json.loads(shape))


def leftovers(device: Machine) -> list[str]:
    """What runs or lies on a device after it has had time to come to rest."""
    end = time.monotonic() + GONE_S
    while (device.processes() or device.running() or device.lease_left_s()) and time.monotonic() < end:
        time.sleep(0.05)
    processes_ = [f"{device.name}: process {pid} still runs: {' '.join(words)[:200]}" for pid, words in device.processes().items()]
    launches = [f"{device.name}: launch {folder.name} is still there" for folder in device.launches()]
    blobs = Path(device.cache.path("blobs"))
    parts = [f"{device.name}: {path.name} is still there" for path in blobs.glob("*.part")] if blobs.is_dir() else []
    lease = [f"{device.name}: it is held for {left_s:.1f} s more"] if (left_s := device.lease_left_s()) else []
    return [*processes_, *launches, *parts, *lease]
