"""Memory by phase, of the model and of an accelerator: the mean of the launches that told it, not observable where none did."""

import dataclasses

import numpy as np
import pytest
from factory_runs import CRASH, broken, cell, run_of

from reports.memory_figures import NOT_OBSERVABLE
from reports.metrics import MEMORIES, METRICS
from reports.records import CellRecord
from reports.table import Row, rows


def metrics_of(record: CellRecord) -> dict[str, Row]:
    return {row.metric: row for row in rows(run_of((record,))) if row.metric in MEMORIES}


def telling(record: CellRecord, **sizes: list[float]) -> CellRecord:
    """The cell whose launches told these sizes, one each, as far as they go."""
    launches = [
        dataclasses.replace(one, values={**one.values, **{name: np.array(each[at : at + 1]) for name, each in sizes.items()}})
        for at, one in enumerate(record.launches)
    ]
    return dataclasses.replace(record, launches=tuple(launches))


def test_memory_is_the_mean_of_the_launches_that_told_it() -> None:
    """2, 3 and 4 MB are 3 MB with an interval over three launches; of two that told there is no interval, and n says two."""
    found = metrics_of(telling(cell("laptop", "fp32", "tflite", 1), pss_load_bytes=[2e6, 3e6, 4e6], model_memory_bytes=[1e6, 2e6]))
    load, model = found["pss_load_bytes"], found["model_memory_bytes"]
    assert (load.value, load.n, load.unit) == (3e6, 3, "B")
    assert load.low == pytest.approx(3e6 - 4.302653 * 1e6 / 3**0.5)
    assert (model.value, model.n, model.low) == (1.5e6, 2, None)


def test_what_nobody_tells_is_not_observable() -> None:
    """Without a word of a phase, the model or an accelerator there is no value and the reason; a 0 that was told stays one."""
    found = metrics_of(telling(cell("laptop", "fp32", "tflite", 1), accelerator_memory_bytes=[0.0, 0.0, 0.0]))
    assert found.pop("accelerator_memory_bytes").value == 0
    assert {(row.value, row.reason) for row in found.values()} == {(None, NOT_OBSERVABLE)}
    assert set(found) == set(MEMORIES) - {"accelerator_memory_bytes", "accelerator_context_bytes"}
    assert all(METRICS[name].unit == "B" for name in MEMORIES)


def test_a_cell_that_never_ran_says_nothing_of_memory() -> None:
    """A failed cell has its fault, not six more reasons."""
    assert metrics_of(broken("laptop", "fp16", "tflite", "failed", CRASH, launched=True)) == {}
