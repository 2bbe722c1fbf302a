"""What the report says of each workload, from launches with known latencies."""

from dataclasses import replace

import numpy as np
import pytest
from factory_runs import cell, run_of
from numpy.typing import NDArray

from agent.schema import Workload
from controller import profiles
from reports.format import value as shown
from reports.metrics import HEADLINES, METRICS
from reports.page import render
from reports.records import CellRecord
from reports.table import Row, heads, rows
from reports.workload_figures import heat


def trace(*parts: tuple[float, float]) -> NDArray[np.float64]:
    """Latencies of parts of (seconds, latency in seconds), with a little noise."""
    draw = np.random.default_rng(1)
    return np.concatenate([np.full(round(length / latency), latency) for length, latency in parts]) * draw.uniform(
        0.99, 1.01, sum(round(length / latency) for length, latency in parts)
    )


def driven(name: str, options: dict[str, object], **values: list[list[float]]) -> CellRecord:
    """A valid cell of a workload whose launches have these raw values beside their own."""
    record = cell("laptop", "fp32", "onnxruntime", 1, median_s=1e-3)
    launches = tuple(
        replace(launch, values={**launch.values, **{metric: np.array(each[at]) for metric, each in values.items()}})
        for at, launch in enumerate(record.launches)
    )
    return replace(record, id=f"{name:0<16.16}", cell=record.cell._replace(workload=Workload(name, options)), launches=launches)


def table(record: CellRecord, profile: str = "standard") -> dict[str, Row]:
    return {row.metric: row for row in rows(run_of((record,), profile=profile))}


def test_heat_is_found_where_it_began() -> None:
    """A trace that becomes 40 % slower after 250 of 600 s: burst, onset to a block, steady state and both medians; every k-th is enough."""
    latency_s = trace((250, 0.010), (350, 0.014))
    for stride in (1, 4):
        kept = latency_s[::stride]
        found = heat(kept, float(latency_s.sum()))
        assert found.throttled_s == pytest.approx(250, abs=10)
        assert (found.burst_p50_s, found.steady_p50_s) == (pytest.approx(0.010, rel=0.01), pytest.approx(0.014, rel=0.01))


def test_a_short_disturbance_is_no_throttling() -> None:
    """Two slow blocks of sixty, and a device that keeps its pace."""
    assert heat(trace((100, 0.010), (8, 0.020), (200, 0.010)), 308.0).throttled_s is None
    assert heat(trace((600, 0.010)), 600.0).throttled_s is None


def test_sustained_cells_are_ranked_by_their_steady_latency() -> None:
    """With ratio and time; a time needs every launch to have throttled, and tells where not."""
    hot, cool = trace((30, 0.010), (30, 0.012)), trace((60, 0.010))
    found = table(driven("sustained", {"duration_s": 60}, latency_s=[list(hot)] * 3, window_s=[[60.0]] * 3))
    assert found["sustained_p50_s"].value == pytest.approx(0.012, rel=0.01)
    assert found["sustained_slowdown"].value == pytest.approx(1.2, rel=0.01)
    assert found["time_to_throttle_s"].value == pytest.approx(30, abs=1.5)
    mixed = table(driven("sustained", {"duration_s": 60}, latency_s=[list(hot), list(hot), list(cool)], window_s=[[60.0]] * 3))
    assert (mixed["time_to_throttle_s"].value, mixed["time_to_throttle_s"].reason) == (None, "not throttled")


def test_a_trace_of_few_samples_has_no_heat() -> None:
    """Fewer than five a block are refused, with the number."""
    found = table(driven("sustained", {"duration_s": 60}, latency_s=[[0.2] * 299] * 3, window_s=[[60.0]] * 3))
    assert (found["sustained_p50_s"].value, found["sustained_p50_s"].reason) == (None, "n too small")


def test_a_servers_rate_is_the_mean_of_its_launches() -> None:
    """With an interval; one launch without a rate refuses it, with the reason."""
    found = table(driven("server", {"p99_s": 0.02}, server_rate_per_s=[[100.0], [110.0], [121.0]]))["server_rate_per_s"]
    assert found.value == pytest.approx(110)
    assert found.low is not None
    assert found.low < 110
    none = table(driven("server", {"p99_s": 0.02}, server_rate_per_s=[[100.0], [110.0], [0.0]]))["server_rate_per_s"]
    assert (none.value, none.reason) == (None, "over the bound")
    assert none.message == "in 1 of 3 launches not even the lowest rate kept the bound"


def test_throughput_counts_samples() -> None:
    """Eight samples a batch are eight times the batches a second."""
    one, eight = (table(driven("offline", {}, samples_per_query=[[float(count)]] * 3))["throughput_per_s"].value for count in (1, 8))
    assert one is not None
    assert eight == pytest.approx(8 * one)


def test_only_strict_runs_have_loadgens_estimate() -> None:
    """Of the percentile that the workload is ranked by, above that percentile itself."""
    for name, headline in (("single_stream", "latency_p90_s"), ("multi_stream", "latency_p99_s")):
        record = driven(name, {}, latency_s=[list(trace((1, 0.001)))] * 3)
        assert "latency_early_stopping_s" not in table(record)
        found = table(record, "strict")
        assert (found["latency_early_stopping_s"].value or 0) > (found[headline].value or 1)


def test_every_workload_has_its_place_in_the_report() -> None:
    """Table, verdict and page take a run of all five, each ranked by its own headline."""
    records = (
        driven("single_stream", {}),
        driven("multi_stream", {"samples": 8}, samples_per_query=[[8.0]] * 3),
        driven("offline", {"batch": 8}, samples_per_query=[[8.0]] * 3),
        driven("server", {"p99_s": 0.02}, server_rate_per_s=[[100.0], [110.0], [121.0]]),
        driven("sustained", {"duration_s": 60}, latency_s=[list(trace((60, 0.010)))] * 3, window_s=[[60.0]] * 3),
    )
    run = run_of(records)
    found = heads(rows(run))
    assert [row.metric for row in found] == list(HEADLINES.values())
    page = render(run)
    for row in found:
        assert shown(row.metric, row.value) in page
        assert METRICS[row.metric].label in page


@pytest.mark.parametrize(
    ("profile", "workload", "queries"),
    [
        ("quick", "single_stream", 100),
        ("quick", "multi_stream", 299),
        ("quick", "server", 299),
        ("quick", "offline", 100),
        ("strict", "single_stream", 64),
        ("strict", "multi_stream", 662),
        ("strict", "server", 662),
    ],
)
def test_a_profile_asks_for_the_queries_that_the_headline_needs(profile: str, workload: str, queries: int) -> None:
    """METHOD.md's minimum of samples; under profile strict LoadGen's."""
    options = {"p99_s": 0.02} if workload == "server" else {}
    assert profiles.fitted(profiles.get(profile), Workload(workload, options)).min_queries == queries


def test_a_launch_has_time_for_its_window() -> None:
    """Measuring ends at a share of the deadline: what is asked for fits in there."""
    for profile in profiles.PROFILES.values():
        for workload in (Workload("sustained", {"duration_s": 3600.0}), Workload("server", {"p99_s": 1.0}), Workload("offline", {})):
            fitted = profiles.fitted(profile, workload)
            assert profiles.window_s(profile, workload) + profile.warmup_max_s < profiles.MEASURE_UNTIL * fitted.deadline_s


def test_only_a_strict_search_is_told_of_early_stopping() -> None:
    """The stored cell's workload stays as the suite has it."""
    workload = Workload("server", {"p99_s": 0.02})
    assert profiles.driven(profiles.get("standard"), workload) == workload
    assert profiles.driven(profiles.get("strict"), workload).options == {"p99_s": 0.02, "early_stopping": True}
    assert workload.options == {"p99_s": 0.02}
