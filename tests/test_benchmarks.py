"""The benchmarks' arithmetic, and one pair of each comparison on the real runtimes; no claim on a time."""

import gzip
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import bare, compression, fidelity, report, results, sensors, startup, store, summary
from benchmarks.launching import Example, example, local_agent, upload
from benchmarks.ratio import Ratio, median_ratio


def test_interval_is_between_conovers_ranks() -> None:
    """The interval of the median of 10 values is the 2nd to the 9th, of 20 the 6th to the 15th (Conover's binomial ranks)."""
    assert median_ratio([float(value) for value in range(10, 0, -1)]) == Ratio(math.sqrt(30), 2, 9, 10)
    assert median_ratio([float(value) for value in range(20, 0, -1)]) == Ratio(math.sqrt(110), 6, 15, 20)


def test_fewer_than_six_pairs_have_no_interval() -> None:
    """Below 6 pairs there is a median but no 95 % interval, which is then neither narrow nor inside of anything."""
    found = median_ratio([1.0, 1.0, 1.0, 1.0, 1.0])
    assert found.median == 1
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.is_narrower(1.0)
    assert not found.is_inside(0.0, math.inf)
    with pytest.raises(ValueError, match="no pairs"):
        median_ratio([])


def test_interval_covers_the_median_in_95_percent_of_samples() -> None:
    """Of 1,000 samples of 30 skewed ratios with median 1, 93.5 to 97.5 % have it in their interval (exact: 95.7 %)."""
    draws = np.random.default_rng(7).lognormal(0, 0.05, (1000, 30)) ** 3
    covered = sum(found.low <= 1 <= found.high for found in (median_ratio(draw.tolist()) for draw in draws))
    assert 935 <= covered <= 975


@given(st.lists(st.floats(0.5, 2), min_size=6, max_size=60))
def test_swapping_the_sides_inverts_the_ratio(ratios: list[float]) -> None:
    """Theirs / ours gives the inverse of ours / theirs: neither side is favoured."""
    ours, theirs = median_ratio(ratios), median_ratio([1 / ratio for ratio in ratios])
    assert theirs.median == pytest.approx(1 / ours.median)
    assert (theirs.low, theirs.high) == pytest.approx((1 / ours.high, 1 / ours.low))


def test_interval_is_judged_either_way() -> None:
    """Each of the two bounds alone can be too far from the median, or outside."""
    assert Ratio(1.0, 0.995, 1.005, 100).is_narrower(0.01)
    assert not Ratio(1.0, 0.985, 1.005, 100).is_narrower(0.01)
    assert not Ratio(1.0, 0.995, 1.015, 100).is_narrower(0.01)
    assert Ratio(1.0, 0.98, 1.02, 100).is_inside(0.97, 1.03)
    assert not Ratio(1.0, 0.96, 1.02, 100).is_inside(0.97, 1.03)
    assert not Ratio(1.0, 0.98, 1.04, 100).is_inside(0.97, 1.03)


def test_benchmark_apps_median_is_read_in_its_unit() -> None:
    """benchmark_app prints microseconds where the mean is below a millisecond, and milliseconds elsewhere; anything else is refused."""
    assert fidelity.parse_median("[ INFO ]    Median:        45.67 us\n[ INFO ]    Average:       212.82 us") == pytest.approx(45.67e-6)
    assert fidelity.parse_median("[ INFO ]    Median:        1.83 ms") == pytest.approx(1.83e-3)
    with pytest.raises(ValueError, match="no median"):
        fidelity.parse_median("[ ERROR ] no such model")


@pytest.mark.parametrize("name", list(fidelity.COMPARISONS))
def test_one_pair(name: str, tmp_path: Path) -> None:
    """A launch through the agent and the other tool in a process of its own both measure the example model."""
    case = fidelity.make_case(name, tmp_path)
    with local_agent(tmp_path / "agent", 60) as remote:
        spec = fidelity.launch_of(remote, case)._replace(launch="pair", min_duration_s=0.0, min_queries=120)
        launch = fidelity.ours(remote, case, spec)
    assert launch.queries == (fidelity.ARRIVALS if name == "server" else 120)
    assert launch.p50_s > (0 if name == "server" else launch.loop_cost_s) >= 0
    assert fidelity.theirs(case, 120) > 0


def test_their_failure_is_told(tmp_path: Path) -> None:
    """A tool that ends with an error gives no number."""
    missing = Example("tflite", (tmp_path / "missing.tflite",), tmp_path / "missing.npy")
    case = fidelity.Case("tflite", missing, fidelity.SINGLE_STREAM, fidelity.CALL, fidelity.BARE_LOOP)
    with pytest.raises(RuntimeError, match=r"missing\.npy"):
        fidelity.theirs(case, 1)


def test_bare_queries_are_of_so_many_calls() -> None:
    """By hand too a query of multi_stream is 8 calls, and an open loop makes each of its queries once, after its arrival."""
    calls: list[int] = []
    bare.repeated(lambda: calls.append(1), 8)()
    assert len(calls) == 8
    assert bare.open_loop_p50_ns(lambda: calls.append(1), 30, 1e4, 3) > 0
    assert len(calls) == 8 + bare.WARMUP + 30


@pytest.mark.parametrize("sensor", list(sensors.SENSORS))
def test_sensors_are_read_with_them_on_alone(sensor: str, tmp_path: Path) -> None:
    """Of two real launches of the example the one has readings of both kinds in its window, the other none at all."""
    root = sensors.board(tmp_path / "root")
    with local_agent(tmp_path / "agent", 60) as remote:
        spec = upload(remote, example("tflite", tmp_path))
        off = sensors.launch(remote, root, spec._replace(launch="off", min_duration_s=0.5), "off")
        for number, window_s in enumerate((0.5, 2.0, 8.0)):  # on a busy machine a program may take long to answer
            watched = spec._replace(launch=f"on-{number}", power=sensors.SENSORS[sensor], min_duration_s=window_s)
            on = sensors.launch(remote, root, watched, "on")
            if on.power:
                break
    assert min(on.telemetry, on.power, on.p50_s, off.p50_s) > 0
    assert (off.telemetry, off.power) == (0, 0)


def test_a_cost_outside_of_one_percent_is_said() -> None:
    """The whole interval has to lie inside of 0.99 to 1.01."""
    costs = [sensors.Cost("ina226", "tflite", 1e-5, 1e-5, Ratio(1.0, 0.995, high, 40), 3, 15) for high in (1.009, 1.011)]
    *_, met, missed = sensors.table(costs).splitlines()
    assert ("| inside |" in met, "| **not inside** |" in missed) == (True, True)


def test_startup_has_one_value_a_round_and_names_what_missed() -> None:
    """Each command has one value a round, in the table with its ratios; a median above its target is called missed."""
    named = {name: ["true"] for name in (*startup.BASES, *startup.TARGETS_S)}
    assert {name: len(values) for name, values in startup.measure(named, rounds=2).items()} == dict.fromkeys(named, 2)
    taken = {startup.BASES[0]: [0.01] * 6, startup.BASES[1]: [0.1] * 6, "fleetmark --help": [0.2] * 6, "agent probe --quick": [0.4] * 6}
    *_, met, missed = startup.table(taken).splitlines()
    assert met == "| `fleetmark --help` | 200 | 20.00 [20.00, 20.00] | 2.00 [2.00, 2.00] | 250: met |"
    assert missed == "| `agent probe --quick` | 400 | 40.00 [40.00, 40.00] | 4.00 [4.00, 4.00] | 300: **missed** |"


def test_results_replace_their_own_section_only(tmp_path: Path) -> None:
    """Writing a benchmark's section again leaves the others as they are, wherever it stands."""
    path = tmp_path / "RESULTS.md"
    for name, text in (("fidelity", "| 1 |"), ("startup", "| 2 |"), ("fidelity", r"| 3 \1 |")):
        results.write(name, "a machine.", text, path)
    assert path.read_text() == results.TITLE + "\n## fidelity\na machine.\n\n| 3 \\1 |\n\n## startup\na machine.\n\n| 2 |\n"


def test_machine_is_described() -> None:
    """The description tells cores, memory, Python and the versions asked for."""
    text = results.describe(["numpy"])
    assert f"numpy {np.__version__}" in text
    assert " cores, " in text
    assert " GiB, " in text


def test_the_summary_is_of_a_run_of_the_size_asked_for() -> None:
    """Three cells of 5 launches of 40 samples have eleven rows each; a missed target is said."""
    cost = summary.measure(cells=3, samples=40)
    assert cost.rows == 3 * 11
    assert cost.peak_bytes >= cost.before_bytes > 0
    assert "met" in summary.table_of(summary.Cost(6000, 1.0, 0.5, 10**8, 10**8))
    assert "20 s: **missed**" in summary.table_of(summary.Cost(6000, 19.0, 1.5, 10**8, 10**8))
    assert "1,000: **missed**" in summary.table_of(summary.Cost(6000, 1.0, 0.5, 10**8, 10**9))


def test_the_report_that_is_timed_is_full_and_seen(tmp_path: Path) -> None:
    """Two cells have a section of each kind, energy and operations too; the page is painted, and a missed limit is said."""
    path = tmp_path / "report.html"
    assert report.write(2, path) > 0
    assert set(re.findall(r'<section id="(.*?)"', path.read_text("utf-8"))) >= {"latency", "energy", "footprint", "accuracy", "operations"}
    assert shutil.which("chromium") is None or report.paints(path, scripts=False, times=1)[0] > 0
    assert "**missed**" not in report.table([report.Cost(30, 10**6, [1.0, 9.0, 1.0], [0.1], [0.2])])
    for cost in (
        report.Cost(30, 3 * 10**6, [1.0], [0.1], [0.1]),
        report.Cost(30, 10**6, [4.0], [0.1], [0.1]),
        report.Cost(500, 10**6, [16.0], [0.1], [0.1]),
        report.Cost(30, 10**6, [1.0], [1.1], [0.1]),
    ):
        assert report.table([cost]).count("**missed**") == 1


def test_the_store_that_is_timed_holds_what_was_written(tmp_path: Path) -> None:
    """Twelve launches of 100 samples from several threads are all there; a missed target is said."""
    rate = store.measure("SQLite", tmp_path, None, launches=12, samples=100)
    assert (rate.launches, rate.samples, rate.wall_s > 0) == (12, 100, True)
    assert "1,000,000: met" in store.table([replace(rate, samples=10_000, wall_s=6.0)])
    assert "1,000,000: **missed**" in store.table([replace(rate, samples=10_000, wall_s=8.0)])


@pytest.fixture(scope="module")
def few_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's images as the Debian package has all of Fashion-MNIST, over and over until there are enough to split."""
    folder = tmp_path_factory.mktemp("fashion")
    with np.load(compression.EXAMPLE / "data.npz", allow_pickle=False) as arrays:
        parts = {"train": (arrays["train_image"], arrays["train_labels"]), "t10k": (arrays["eval_image"], arrays["eval_labels"])}
    for stem, (images, labels) in parts.items():
        rows = np.arange(7_100 if stem == "train" else 500) % len(labels)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images[rows].tobytes(), 1))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels[rows].astype(np.uint8).tobytes(), 1))
    return folder


def test_compression_runs_and_keeps_what_it_found(few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network is trained, compressed and coded by the product's recipe; a second run takes the outcome from the folder."""
    bench = compression.Bench(tmp_path, few_images, smoke=True)
    case = next(case for case in compression.CASES if case.network == "LeNet300")
    found = bench.run(case, 1)
    assert found.size_bytes == found.steps["deep-coding"]["file_bytes"]
    assert found.float_bytes > 4 * 266_610
    assert found.float_bytes > 10 * found.size_bytes
    monkeypatch.setattr(compression, "build", None)
    assert bench.run(case, 1) == found


def test_compressions_floors() -> None:
    """A floor is met by the mean of the seeds within 0.3 point, and by the largest file."""
    case = compression.Case("c", "LeNet300", "r", "onnx", 7.0, 0.9050)
    outcome = compression.Outcome(1_000, 8_000, 0.9050, 0.9097, 1.0, {})
    held, worse, larger = (replace(outcome, accuracy=0.9021), replace(outcome, accuracy=0.9019), replace(outcome, size_bytes=1_200))
    assert "| 7x at 0.9050: met |" in compression.table([(case, [held, held, outcome])])
    assert "| 7x at 0.9050: met by 2 of 3 seeds |" in compression.table([(case, [held, outcome])])
    assert "**missed**" in compression.table([(case, [worse, worse])])
    assert "**missed**" in compression.table([(case, [outcome, larger])])
    assert "0.001" not in compression.table([(replace(case, floor=0.005, relative=True), [outcome])])
