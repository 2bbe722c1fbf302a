"""The OpenMetrics text is read by Prometheus's own parser, number for number, whatever names are in it."""

import dataclasses

from factory_runs import cell, mixed_run, run_of
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from reports.metrics import METRICS
from reports.openmetrics import UNITS, family, to_openmetrics
from reports.table import heads, rows


def parsed(text: str) -> dict[str, Metric]:
    return {found.name: found for found in text_string_to_metric_families(text)}


def test_every_number_of_the_table_is_in_it() -> None:
    """Value, interval and n of each row are samples with the cell's labels, exact; units are those of families; nothing else is there."""
    run = mixed_run()
    table, found = rows(run), parsed(to_openmetrics(run, rows(run)))
    expected: dict[tuple[str, str], float] = {}
    for row in (row for row in table if row.value is not None):
        numbers = {"": row.value, "low": row.low, "high": row.high}
        expected |= {(family(row.metric, bound), row.cell): number for bound, number in numbers.items() if number is not None}
        expected[family(row.metric).removesuffix(f"_{UNITS[row.unit][1]}") + "_n", row.cell] = row.n
    gauges = {name: one for name, one in found.items() if one.type == "gauge"}
    assert {(name, sample.labels["cell"]): sample.value for name, one in gauges.items() for sample in one.samples} == expected
    assert found["fleetmark_latency_p90_seconds"].unit == "seconds"
    assert found["fleetmark_latency_p90_seconds"].documentation == "p90 latency"
    assert len({family(metric) for metric in METRICS}) == len(METRICS)


def test_every_cell_is_told_with_its_status() -> None:
    """Also those without a number, with the reason."""
    run = mixed_run()
    told = parsed(to_openmetrics(run, rows(run)))["fleetmark_cell"].samples
    assert {(one.labels["cell"], one.labels["status"]) for one in told} == {(row.cell, row.status) for row in heads(rows(run))}
    assert {one.labels.get("reason") for one in told if one.labels["status"] == "unreachable"} == {"unreachable"}


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_hostile_names_are_labels(name: str) -> None:
    """A name of whatever characters is one label's value, as the table has it."""
    record = cell("laptop", "int8", "tflite", 1, launches=1, samples=30)
    run = run_of((dataclasses.replace(record, cell=record.cell._replace(device=name, model=name)),))
    table = rows(run)
    labels = parsed(to_openmetrics(run, table))["fleetmark_latency_p90_seconds"].samples[0].labels
    assert (labels.get("device", ""), labels.get("model", "")) == (table[0].device, table[0].model)
