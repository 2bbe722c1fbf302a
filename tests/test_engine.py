"""Where compression runs: the same jobs on processes of this machine and on a real Dask cluster."""

import functools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compress_models import context, example
from engine_jobs import die, die_once, double

from agent.schema import Artifact, Fault, FaultError, decode, load
from compress import recipes, training
from compress.build import Source
from compress.recipes import Recipe, Step, Target
from compress.records import TorchSource, no_further
from controller import bench, engine
from controller.bench import Bench
from controller.dataset import Dataset
from controller.engine import DIED, Dask, Engine, Local
from controller.errors import FleetmarkError


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask cluster of two worker processes, with a cache folder of their own."""
    from distributed import LocalCluster

    cache = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETMARK_CACHE", str(cache))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1") as cluster:
            yield "dask://" + cluster.scheduler_address.removeprefix("tcp://")


@pytest.fixture(params=["local", "dask"])
def chosen(request: pytest.FixtureRequest) -> Engine:
    """Each engine."""
    return Local() if request.param == "local" else engine.choose(request.getfixturevalue("scheduler"))


def test_each_job_has_its_result_or_its_fault(chosen: Engine) -> None:
    """Results come in any order, each with its job; a FaultError becomes the fault of its job alone."""
    outcomes = dict(chosen.run(double, [1, 2, 3, 4]))
    assert isinstance(outcomes[4], Fault)
    assert outcomes.pop(4).code == "oom"
    assert outcomes == {1: 2, 2: 4, 3: Fault("bad_data", "", "three", "take another")}


def test_a_dead_workers_job_is_run_again(chosen: Engine, tmp_path: Path) -> None:
    """A job whose process was killed is run once more, and its neighbours are not lost."""
    marker = tmp_path / "marker"
    assert dict(chosen.run(die_once, [marker])) == {marker: "alive"}
    assert marker.read_text() == "dead"


def test_a_job_that_always_dies_is_a_fault() -> None:
    """It does not take the others with it, nor run for ever."""
    assert dict(Local().run(die, [1])) == {1: DIED}


def test_whoever_stops_early_cancels_the_rest(chosen: Engine) -> None:
    """The first result can be taken and the others left."""
    running = chosen.run(double, list(range(5, 40)))
    assert next(iter(running))[0] >= 5
    running.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_goes_on_after_its_owner(number: int, tmp_path: Path) -> None:
    """However the process that asked for the work ends, the workers and what they started end too, and no queued job begins."""
    os.mkfifo(tmp_path / "fifo")
    code = (
        "import engine_jobs, pathlib, sys; from controller.engine import Local; "
        "list(Local(1).run(engine_jobs.linger, [pathlib.Path(sys.argv[1])] * 3))"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "fifo")],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in a script's background ignores it
    )
    with owner, (tmp_path / "fifo").open("rb", buffering=0) as read:
        assert read.read(1) == b"\n"
        owner.send_signal(number)
        ended, _, _ = select.select([read], [], [], 60)
        assert ended
        assert read.read(1) == b""
    assert owner.returncode != 0


@pytest.mark.parametrize(("text", "said"), [("gpu", "no engine is called"), ("dask://", "no engine"), ("dask://127.0.0.1:1", "no Dask")])
def test_an_engine_that_is_not_there(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with what to write, or where nobody answers."""
    monkeypatch.setattr(engine, "CONNECT_S", 1.0)
    with pytest.raises(FleetmarkError, match=said):
        list(engine.choose(text).run(double, [1]))


def test_a_build_is_the_same_anywhere(scheduler: str, tmp_path: Path) -> None:
    """The cluster's artifact is this machine's, byte for byte, and lies in the cache here with its manifest; a fault comes back too."""
    source, data = example()
    here = {"m": Dataset(tmp_path / "x", "", {}, data, random=False)}
    orders = [("int8", "onnx"), ("int8", "tflite")]
    built = {}
    for name, one in (("local", Local()), ("dask", engine.choose(scheduler))):
        laid = Bench(here, {"m": source}, {}, {}, context(tmp_path / name))
        asked = [laid.order("m", recipes.get(recipe), kind) for recipe, kind in orders]
        asked.append(laid.order("m", Recipe("tuned", (Step("fine-tune"),)), "onnx"))
        for order, outcome in laid.build(asked, one):
            built[name, order.recipe.name, order.format] = outcome
    for recipe, kind in orders:
        ours, theirs = built["local", recipe, kind], built["dask", recipe, kind]
        assert ours.artifact == theirs.artifact
        assert [one["runtime"] for one in theirs.manifest["runtimes"]] == [one["runtime"] for one in ours.manifest["runtimes"]]
        assert theirs.folder.parent == tmp_path / "dask" / "cache" / "variants"
    assert built["local", "tuned", "onnx"] == built["dask", "tuned", "onnx"]
    assert built["dask", "tuned", "onnx"].code == "unsupported_op"


def test_a_torch_module_travels_with_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules beside its file, packages too, are there where it is built: the artifact is this machine's."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "sizes.py").write_text("HIDDEN = 4\n")
    (tmp_path / "layers.py").write_text("from parts.sizes import HIDDEN\nfrom torch import nn\nlast = lambda: nn.Linear(HIDDEN, 10)\n")
    file = tmp_path / "net.py"
    code = "import layers\nfrom torch import nn\n\ndef Net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4), layers.last())\n"
    file.write_text(code)
    weights = tmp_path / "net.pt"
    torch.save(
        {"1.weight": torch.ones(4, 784), "1.bias": torch.ones(4), "2.weight": torch.eye(10)[:, :4], "2.bias": torch.ones(10)}, weights
    )
    _, data = example()
    module = TorchSource(file, "Net", weights)
    source = Source("net", training.exported(module, data, tmp_path / "here"), None, module)
    laid = Bench(
        {"net": Dataset(tmp_path / "x", "", {}, replace(data, labels=None), random=False)}, {"net": source}, {}, {}, context(tmp_path)
    )
    order = laid.order("net", recipes.get("int8-weights"), "onnx")
    ((_, here),) = laid.build([order], Local())
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path / "there"))
    there = bench._build_elsewhere(bench._parcel(order, source, no_further))
    assert load(Artifact, decode(there.files["manifest.json"])["artifact"]) == here.artifact


def test_what_needs_this_machine_stays_here(tmp_path: Path) -> None:
    """A latency target is not sent away: with an engine where nobody answers it is built here, where there is no such device."""
    source, data = example()
    laid = Bench({"m": Dataset(tmp_path / "x", "", {}, data, random=False)}, {"m": source}, {}, {}, context(tmp_path))
    fast = Recipe("fast", (Step("lowrank", {}, Target("latency_ms", 5, "pi")),))
    ((_, outcome),) = laid.build([laid.order("m", fast, "onnx")], Dask("tcp://127.0.0.1:1"))
    assert isinstance(outcome, Fault)
    assert outcome.code == "unreachable"


def test_an_artifact_that_arrives_broken_is_refused(tmp_path: Path) -> None:
    """A worker's answer that is not whole, or has no proper name, never gets into the cache."""
    for key, code in (("a" * 64, "not whole"), ("../../x", "without a name")):
        with pytest.raises(FaultError, match=code):
            bench._received(bench._Built(key, {"model.onnx": b"x", "manifest.json": b"{}"}), tmp_path)
    assert not list(tmp_path.rglob("model.onnx"))
