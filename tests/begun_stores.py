"""Stores in which a run has begun."""

from pathlib import Path
from typing import Any

import numpy as np
from store_writer import CELL

from agent.schema import cell_id
from controller.collect import Samples
from controller.store import Store
from reports.records import LaunchRecord

DOCUMENT: dict[str, Any] = {"fleetmark": "0", "profile": "quick", "suite": "s", "launches": 3, "request": {}, "provenance": {}}


def begun(folder: Path, url: str | None, *launches: str, patience_s: float = 30.0) -> Store:
    """A store with a run that has begun these launches."""
    store = Store(folder, url, patience_s=patience_s)
    store.create_run("run", "2026-01-01T00:00:00.000+00:00", DOCUMENT)
    store.add_cells("run", [(cell_id(CELL), CELL, None)], [])
    for name in launches:
        store.begin_launch("run", cell_id(CELL), 0, name, "2026-01-01T00:00:00.000+00:00")
    return store


def finish(store: Store, name: str, status: str = "valid", **more: Any) -> None:
    store.finish_launch(LaunchRecord(name, 0, status, "", {}, **more), [Samples("rate", "1", np.ones(3))])
