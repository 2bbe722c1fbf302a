"""Early stopping and percentiles against MLPerf's LoadGen itself, run on this machine, on the trace that it wrote of its own run."""
# mlperf_loadgen is a native module with partial stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent import early_stopping
from reports.statistics import percentile

DRIVER = """
import random, sys, time
import mlperf_loadgen as loadgen

scenario, queries, quantile, folder = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
draw = random.Random(scenario)

def issue(samples):
    end = time.perf_counter_ns() + int(draw.lognormvariate(10, 0.5))
    while time.perf_counter_ns() < end:
        pass
    loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

settings = loadgen.TestSettings()
settings.scenario = getattr(loadgen.TestScenario, scenario)
settings.mode = loadgen.TestMode.PerformanceOnly
settings.min_duration_ms = 1
settings.min_query_count = settings.max_query_count = queries
settings.single_stream_target_latency_percentile = settings.multi_stream_target_latency_percentile = quantile
settings.multi_stream_samples_per_query = 8
output = loadgen.LogOutputSettings()
output.outdir = folder
logs = loadgen.LogSettings()
logs.log_output = output
logs.enable_trace = True
system = loadgen.ConstructSUT(issue, lambda: None)
library = loadgen.ConstructQSL(64, 64, lambda samples: None, lambda samples: None)
loadgen.StartTestWithLogSettings(system, library, settings, logs)
"""


def run(folder: Path, scenario: str, queries: int, quantile: float) -> tuple[str, NDArray[np.float64]]:
    """LoadGen's summary of a run of so many queries, and their latencies in ns by its own trace, in ascending order."""
    command = [sys.executable, "-c", DRIVER, scenario, str(queries), str(quantile), str(folder)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    trace = (folder / "mlperf_log_trace.json").read_text()  # not always valid JSON
    by_query = dict(re.findall(r'"query_seq":(\d+),.*"complete_ns":(\d+)', trace))
    assert len(by_query) == queries
    return (folder / "mlperf_log_summary.txt").read_text(), np.sort(np.array(list(map(int, by_query.values())), dtype=np.float64))


def told(summary: str, pattern: str) -> int:
    found = re.search(pattern, summary)
    assert found, summary
    return int(found[1])


@pytest.mark.parametrize(("scenario", "quantile", "queries"), [("SingleStream", 0.9, 1003), ("MultiStream", 0.99, 1411)])
def test_estimates_are_loadgens(tmp_path: Path, scenario: str, quantile: float, queries: int) -> None:
    """On the same trace: the early-stopping estimate, how many queries it discards, and the percentile itself."""
    summary, latency_ns = run(tmp_path, scenario, queries, quantile)
    assert early_stopping.estimate(latency_ns, quantile) == told(summary, r"Early stopping 9[09]\.0th percentile estimate: (\d+)")
    assert early_stopping.most_overlatency(queries, quantile) - 1 == told(summary, r"Would discard (\d+) highest")
    assert percentile(latency_ns, quantile) == told(summary, r"9[09]\.0th percentile latency \(ns\) : (\d+)")
    if scenario == "SingleStream":
        assert early_stopping.estimate(latency_ns, 0.99) == told(summary, r"Early stopping 99\.0th percentile estimate: (\d+)")


@pytest.mark.parametrize(("quantile", "fewest"), [(0.9, 64), (0.95, 130), (0.99, 662)])
def test_the_fewest_queries_are_loadgens(tmp_path: Path, quantile: float, fewest: int) -> None:
    """One query less is too few for LoadGen, which names the number itself, and for us."""
    summary, latency_ns = run(tmp_path, "SingleStream", fewest - 1, quantile)
    assert early_stopping.smallest_queries(quantile) == told(summary, r"Need to process at least (\d+) queries") == fewest
    assert early_stopping.estimate(latency_ns, quantile) is None


def test_a_percentile_that_is_a_sample_is_ours_one_below_loadgens(tmp_path: Path) -> None:
    """Where n times the percentile is whole LoadGen takes the next sample; we take the least that 90 % do not exceed."""
    summary, latency_ns = run(tmp_path, "SingleStream", 1000, 0.9)
    assert latency_ns[900] == told(summary, r"90\.0th percentile latency \(ns\) : (\d+)")
    assert percentile(latency_ns, 0.9) == latency_ns[899]


@pytest.mark.parametrize("quantile", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("queries", [1, 64, 1000, 20_000, 200_000])
def test_no_more_overlatency_than_the_binomial_allows(queries: int, quantile: float) -> None:
    """The number found has probability below 1 % by scipy's binomial distribution, the next one has not."""
    from scipy.stats import binom

    most = early_stopping.most_overlatency(queries, quantile)
    assert binom.cdf(most, queries, 1 - quantile) < 0.01 <= binom.cdf(most + 1, queries, 1 - quantile)
