"""A simulated fleet of launches whose true percentiles are known: launch effects, correlated samples and a heavy tail, seeded."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from factory_runs import run_of
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from agent.schema import Cell, Workload, cell_id
from reports.records import CellRecord, LaunchRecord
from reports.table import Row, by_cell, rows

LAUNCHES = 5
SAMPLES = 400


@dataclass(frozen=True)
class Service:
    """Latency = exp(launch effect + spread * T(z)): z is a stationary AR(1) series of standard normals, T makes Student's t of it.

    The launch effect is normal with standard deviation `between`; the t has 2 degrees of freedom, so a tail without a variance.
    """

    between: float
    spread: float
    correlation: float

    def percentile(self, quantile: float) -> float:
        """The percentile of the median launch: T is monotone, so that of z passes through it."""
        return float(np.exp(self.spread * _tail(ndtri(quantile))))

    def launches(self, cells: int, seed: int) -> NDArray[np.float64]:
        """Latencies of shape (cells, LAUNCHES, SAMPLES)."""
        generator = np.random.default_rng(seed)
        noise = generator.normal(0, np.sqrt(1 - self.correlation**2), (cells, LAUNCHES, SAMPLES))
        noise[..., 0] = generator.normal(0, 1, (cells, LAUNCHES))
        series = lfilter([1], [1, -self.correlation], noise, axis=-1)
        return np.exp(generator.normal(0, self.between, (cells, LAUNCHES, 1)) + self.spread * _tail(series))


def _tail(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quantile of Student's t with 2 degrees of freedom at the probability of a standard normal's value."""
    share = ndtr(normal)
    return (2 * share - 1) / np.sqrt(2 * share * (1 - share))


SERVICES = {
    "launches differ": Service(between=0.03, spread=0.03, correlation=0.5),
    "samples are correlated": Service(between=0.005, spread=0.05, correlation=0.9),
    "the tail is heavy": Service(between=0.02, spread=0.1, correlation=0.7),
}


@cache
def fleet(name: str) -> list[dict[str, Row]]:
    """2,000 identical cells of that service, each its rows by metric, made as those of a real run are."""
    return table_of(SERVICES[name].launches(2000, seed=1))


def table_of(latencies: NDArray[np.float64]) -> list[dict[str, Row]]:
    """The rows by metric of cells with these latencies, of shape (cells, launches, samples)."""
    return list(by_cell(rows(run_of(tuple(_cell(each, f"v{at}") for at, each in enumerate(latencies))))).values())


def row_of(each: Sequence[float], **changed: object) -> Row:
    """A p90 row with these per-launch statistics, one a round; `changed` replaces fields of the row."""
    (found,) = table_of(np.repeat(np.array(each)[None, :, None], 30, axis=2))
    return dataclasses.replace(found["latency_p90_s"], **changed)


def _cell(latencies: NDArray[np.float64], variant: str) -> CellRecord:
    identity = Cell("laptop", "lenet", variant, "onnx", "a" * 64, "tflite", {}, Workload("single_stream", {}))
    launches = [LaunchRecord(f"{variant}-{at}", at, "valid", "", {"latency_s": samples}) for at, samples in enumerate(latencies)]
    return CellRecord(cell_id(identity), identity, "valid", None, tuple(launches))
