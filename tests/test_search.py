"""Searches: what is tried, what is cut, what is kept, what comes out. Optuna, builds and launches are real, and few."""

import dataclasses
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compress_models import EXAMPLE, context, example
from sshd import free_port

from agent.schema import Feed
from compress import recipes
from compress.recipes import Recipe, Step
from compress.records import Samples
from controller import measure, pareto, recipe_file, search, search_result, search_space
from controller import trials as trials_module
from controller.bench import Bench
from controller.dataset import Dataset
from controller.engine import Local
from controller.errors import FleetmarkError
from controller.inventory import AgentSettings, Device, Ssh
from controller.measure import Latency
from controller.pareto import Point
from controller.profiles import Profile
from controller.search import Limits, Search
from controller.trials import Trial, Trials

FAST = Profile("quick", 3, 0.01, 10, 0.001, 2, 0.01, 60.0)
NAMES = ("fp32", "fp16", "int8-weights")
FORMATS = ("onnx",)


def bench(folder: Path) -> Bench:
    """The example in ONNX, 60 of its samples held out."""
    source, data = example(200)
    data = dataclasses.replace(data, held_out=Samples({"image": data.eval_feeds["image"][:60]}, data.labels[:60]))
    np.savez(folder / "data.npz", data.eval_feeds["image"][:4])

    sha256 = hashlib.sha256((folder / "data.npz").read_bytes()).hexdigest()
    feeds = {"onnx": (Feed("image", "arr_0", 1.0, [0.0], [1.0], []),)}
    return Bench({"m": Dataset(folder / "data.npz", sha256, feeds, data, random=False)}, {"m": source}, {}, {}, context(folder))


def families(laid: Bench, *names: str) -> dict[str, search_space.Family]:
    found = [recipes.get(name) for name in names]
    return search_space.families(found, FORMATS, laid.sources["m"], laid.datasets["m"].data, laid.context)


@pytest.fixture
def laid(tmp_path: Path) -> Bench:
    return bench(tmp_path)


def done(recipe: Recipe | str, size: int, loss: float, **latencies_s: float) -> Trial:
    """A trial in one format, with a latency a device."""
    one = recipes.get(recipe) if isinstance(recipe, str) else recipe
    measured = {device: (Latency("onnxruntime", "onnx", (value,) * 3),) for device, value in latencies_s.items()}
    return Trial(one, {"onnx": size}, {"onnx": loss}, {"onnx": 0.9 - loss / 100}, measured, is_done=True)


# Which are best


def test_a_front_holds_what_none_dominates() -> None:
    """Of five known points the three are left that are best in something; equals do not push each other out."""
    points = [Point("small", 2, 10), Point("true", 0, 40), Point("middle", 1, 20), Point("worse", 1, 30), Point("twin", 1, 20)]
    assert [one.name for one in pareto.front(points)] == ["small", "middle", "twin", "true"]
    assert pareto.dominates(Point("a", 0, 10, 1.0), Point("b", 0, 10, 2.0))
    assert not pareto.dominates(Point("a", 0, 10, 3.0), Point("b", 1, 10, 2.0))


def test_regret_is_the_worst_ratio_to_each_devices_best() -> None:
    """a is best on one device and three times slower on the other; b is a quarter slower on one, and best on the other."""
    found = pareto.regrets({"pi": {"a": 4.0, "b": 5.0, "c": 6.0}, "nano": {"a": 3.0, "b": 1.0}, "lost": {}})
    assert found == {"a": 3.0, "b": 1.25}


def test_the_one_for_all_is_within_the_floor() -> None:
    """The fastest loses too much; of the others the one of least regret is taken, and each device's front has what is best there."""
    trials = [done("fp32", 100, 0, pi=4.0, nano=1.0), done("int8", 25, 0.5, pi=1.0, nano=1.5), done("fp16", 50, 5, pi=0.1, nano=0.1)]
    found = search_result.result([*trials, Trial(recipes.get("int8"), cut="size"), Trial(recipes.get("int8"))], ["pi", "nano"], 1.0)
    assert found.best is trials[1]
    assert found.regret == 1.5
    assert {place: [one.trial.recipe.name for one in front] for place, front in found.fronts.items()} == {
        "pi": ["int8", "fp16", "fp32"],
        "nano": ["int8", "fp16", "fp32"],
    }
    assert found.counts == {"done": 3, "cut by size": 1, "failed": 1}
    assert search_result.result(trials, ["pi", "nano"], 0.0).best is trials[0]


def test_without_devices_size_decides() -> None:
    """The smallest within the floor is the one; a format has a front of its own."""
    found = search_result.result([done("fp32", 100, 0), done("int8", 25, 0.5), done("int8-dynamic", 20, 3)], [], None)
    assert found.best is not None
    assert (found.best.recipe.name, found.regret, list(found.fronts)) == ("int8", 1.0, ["onnx"])


# What is tried


def test_families_have_their_strengths_free(laid: Bench) -> None:
    """prune-75 and prune-50 would be one; what the source cannot give is left out; a member is a recipe with that strength."""
    found = families(laid, "fp32", "lowrank-int8", "prune-50", "prune-75-int8")
    assert list(found) == ["fp32", "lowrank-int8"]  # there is no torch module to prune
    assert found["lowrank-int8"].member((0.35,)) == dataclasses.replace(
        recipes.get("lowrank-int8"), name="lowrank-int8-0.35", steps=(Step("lowrank", {"ratio": 0.35}), Step("int8-static"))
    )
    assert found["lowrank-int8"].point_of(found["lowrank-int8"].member((0.35,))) == (0.35,)
    assert found["fp32"].point_of(recipes.get("lowrank-int8")) is None


def test_epochs_are_a_share_of_what_a_recipe_trains() -> None:
    """A quarter of ten are two; of none are none; where nothing trains nothing changes."""
    recipe = Recipe("r", (Step("prune", {"ratio": 0.5, "epochs": 10}), Step("int8-static")))
    assert search_space.trained(recipe, ["torch", "onnx"], 0.25).steps[0].params["epochs"] == 2
    assert search_space.trained(recipe, ["torch", "onnx"], 0).steps[0].params["epochs"] == 0
    assert search_space.trained(recipe, ["onnx"], 0) == recipe


def test_no_recipe_is_tried_twice_and_an_interrupted_one_is_the_next(laid: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 2 + 4 members come up once, over three openings of the file; the one that was begun and not told comes up again."""
    monkeypatch.setattr(search_space, "STRENGTHS", (0.1, 0.15, 0.2, 0.25))
    monkeypatch.setattr(trials_module, "PERCENT", [10, 15, 20, 25])
    free = families(laid, "fp32", "fp16", "lowrank-int8")
    names: list[str] = []
    for count in (2, 2, 9):
        trials = Trials(tmp_path / "search.db", free, "question", 2)
        asked = trials.ask()
        while asked is not None and count:
            names.append(asked.recipe.name)
            trials.tell(asked, done(asked.recipe, 10, 1.0), (1.0, 10.0))
            count -= 1
            asked = trials.ask()
        begun = asked and asked.recipe.name
        trials.close()
        if begun:
            again = Trials(tmp_path / "search.db", free, "question", 2)
            following = again.ask()
            assert following is not None
            assert following.recipe.name == begun
            again.close()
    assert len(names) == len(set(names)) == 6


def test_a_search_of_something_else_is_refused(laid: Bench, tmp_path: Path) -> None:
    """Another question, or a file that is no search's, is told and left as it is."""
    Trials(tmp_path / "search.db", families(laid, "fp32"), "one", 2).close()
    with pytest.raises(FleetmarkError, match="of another search"):
        Trials(tmp_path / "search.db", families(laid, "fp32"), "two", 2)
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FleetmarkError, match="not a search's file"):
        Trials(tmp_path / "notes", families(laid, "fp32"), "one", 2)
    assert (tmp_path / "notes").read_text() == "mine"


def test_without_optuna_it_says_what_to_install(laid: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(FleetmarkError) as missing:
        Trials(tmp_path / "search.db", families(laid, "fp32"), "one", 2)
    assert missing.value.next == "install fleetmark[search]"


# What is cut


@pytest.mark.parametrize(
    ("trial", "devices", "limits", "is_cut"),
    [
        (done("fp16", 111, 0.5), 0, Limits(), True),  # int8 is 1.1 times smaller and loses no more
        (done("fp16", 109, 0.5), 0, Limits(), False),
        (done("fp16", 111, 0.4), 0, Limits(), False),
        (done("fp16", 111, 0.5), 1, Limits(), False),  # another arithmetic may be faster, whatever the size
        (done("int8-per-tensor", 111, 0.5), 1, Limits(), True),
        (done("fp16", 50, 0.0), 0, Limits(size_bytes=49), True),
        (done("fp16", 50, 0.2), 0, Limits(drop_pp=0.1), True),
    ],
)
def test_losers_are_cut(laid: Bench, trial: Trial, devices: int, limits: Limits, is_cut: bool) -> None:
    """Beaten by a margin, or over a limit."""
    chosen = [Device(name="laptop", kind="local")] * devices
    running = Search(laid, "m", chosen, limits, None, Local(), print, _done=[done("int8", 100, 0.5)])
    assert running._is_loser(trial, trial.loss_pp) == is_cut


# The whole


def test_a_search_measures_resumes_and_writes_its_best(laid: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three recipes: the float one is over the size limit, two are measured on the device that answers; again nothing is tried.

    The device that does not answer is left out and told, and the best recipe can be read back from its file.
    """
    monkeypatch.setattr(measure, "PROFILE", FAST)
    monkeypatch.setattr(measure, "RECONNECT_S", 0.1)
    monkeypatch.setenv("FLEETMARK_CACHE", str(tmp_path / "cache"))
    laptop = Device(name="laptop", kind="local", agent=AgentSettings(cache_dir=str(tmp_path / "agent")), backends=("onnxruntime",))
    far = Device(name="far", kind="generic", ssh=Ssh(host="127.0.0.1", port=free_port()), backends=("onnxruntime",))
    free, limits, news = families(laid, *NAMES), Limits(size_bytes=200_000), list[str]()

    def go_on() -> list[Trial]:
        trials = Trials(tmp_path / "search.db", free, "question", 3)
        Search(laid, "m", [laptop, far], limits, trials, Local(1), news.append).run(10, 1000.0, 3)
        told = trials.told
        trials.close()
        return told

    first = go_on()
    assert {one.recipe.name: (one.is_done, one.cut, list(one.latencies)) for one in first} == {
        "fp32": (False, "accuracy", []),
        "fp16": (True, None, ["laptop"]),
        "int8-weights": (True, None, ["laptop"]),
    }
    assert sum("far is left out from now on: unreachable" in line for line in news) == 1
    assert "every recipe was tried" in news[-1]
    monkeypatch.setattr(Search, "_try", None)
    assert go_on() == first
    found = search_result.result(first, ["laptop", "far"], None)
    assert list(found.fronts["far"]) == []
    assert found.best is not None
    assert all(one.latency is not None and len(one.latency.launches_s) == 3 for one in found.fronts["laptop"])
    (tmp_path / "best.yaml").write_text(recipe_file.text(found.best.recipe))
    assert recipe_file.find(str(tmp_path / "best.yaml")) == found.best.recipe


def test_an_interrupted_command_goes_on(tmp_path: Path) -> None:
    """Ctrl-C after the first trial ends with 130 and keeps it; the same command tries the other two, and writes what no other beats.

    The figures that chose are of the held-out samples, those beside them of the evaluation samples.
    """
    tried = [word for name in NAMES for word in ("-r", name)]
    program = Path(sys.executable).with_name("fleetmark")
    options = ["--search", "--trials", "3", "-f", "onnx", "-j", "1", "-o", "out", "--json"]
    command = [str(program), "compress", str(EXAMPLE / "suite.yaml"), *tried, *options]
    environ = {**os.environ, "FLEETMARK_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in a script's background ignores it
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("1/3 fp32") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "search.db; the same command goes on" in said
    again = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "3/3" in again.stderr
    assert "1/3" not in again.stderr
    told = json.loads(again.stdout)["search"]
    assert told["trials"] == {"done": 3}
    front = told["fronts"]["onnx"]
    assert front[0]["recipe"] == "int8-weights"
    assert all(one["reference_accuracy"] == 0.925 for one in front)
    manifests = {path.parent.parent.name: json.loads(path.read_text()) for path in (tmp_path / "out").rglob("manifest.json")}
    assert {name: one["accuracy"] for name, one in manifests.items()} == {one["recipe"]: one["accuracy"] for one in front}
    assert told["best"]["recipe"] == recipe_file.find(str(tmp_path / "out" / "best.yaml")).name


def test_a_recipe_comes_back_from_its_file(tmp_path: Path) -> None:
    """Parameters of every kind and a floor."""
    steps = (Step("prune", {"ratio": 0.35, "criterion": "l1"}), Step("int8-static", {"granularity": "tensor"}))
    recipe = Recipe("prune-0.35", steps, "thin: and, small", 0.5)
    (tmp_path / "r.yaml").write_text(recipe_file.text(recipe))
    assert recipe_file.find(str(tmp_path / "r.yaml")) == recipe


def test_it_takes_held_out_labels(laid: Bench) -> None:
    """A search without them would choose by what it is judged with."""
    with pytest.raises(FleetmarkError, match="held-out samples with labels"):
        search.held_out(dataclasses.replace(laid.datasets["m"].data, held_out=None))
