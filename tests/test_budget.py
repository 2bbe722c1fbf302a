"""Targets: a step finds its own strength."""

from dataclasses import replace
from pathlib import Path

import pytest
from compress_models import context, example

from agent.schema import FaultError
from compress import budget, pipeline, recipes
from compress.budget import Weighed
from compress.build import build
from compress.recipes import Recipe, Step, Target
from compress.records import Samples
from controller import recipe_file
from controller.errors import ConfigError


@pytest.fixture(autouse=True)
def _strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `lowrank` has a strength, called ratio, whatever techniques there are."""
    monkeypatch.setattr(budget, "strength_of", lambda step: {"lowrank": "ratio"}[step.technique])


def recipe(quantity: str, limit: float) -> Recipe:
    """A step with a target between two without."""
    return Recipe("r", (Step("fine-tune"), Step("lowrank", {}, Target(quantity, limit)), Step("int8-static")))


def weighed(calls: list[Recipe]) -> Weighed:
    """1,000 bytes that fall with the ratio; a loss of 10 points at ratio 1, as its square."""

    def size(one: Recipe, _: Target) -> float:
        calls.append(one)
        return 1000 * (1 - float(str(one.steps[1].params["ratio"])))

    return Weighed(size, lambda one: 10 * float(str(one.steps[1].params["ratio"])) ** 2)


def test_a_size_is_reached_with_the_least_strength() -> None:
    """The ratio is the smallest hundredth that fits; at most 7 artifacts are weighed."""
    calls: list[Recipe] = []
    found, notes = budget.settled(recipe("size_bytes", 405), weighed(calls))
    assert found.steps[1] == Step("lowrank", {"ratio": 0.6})
    assert found.steps[0] == Step("fine-tune")
    assert notes == ["lowrank: ratio 0.6 for size_bytes <= 405"]
    assert len(calls) <= 7


def test_sizes_are_weighed_without_training() -> None:
    """Epochs become 0 where the technique that is to do the work has them."""
    one = Recipe("r", (Step("fine-tune", {"epochs": 3}), Step("int8-static")))
    stages = pipeline.plan(one, ["torch", "onnx"], "onnx")
    assert [step.params for step in budget.untrained(one, stages).steps] == [{"epochs": 0}, {}]


def test_a_step_that_always_trains_trains_least() -> None:
    """Distillation has no fewer than one epoch."""
    one = Recipe("r", (Step("distill", {"epochs": 9}),))
    stages = pipeline.plan(one, ["torch"], "onnx")
    assert budget.untrained(one, stages).steps[0].params == {"epochs": 1}


def test_there_is_one_target() -> None:
    """A second one, which would be left out without a word, is refused."""
    two = Recipe("two", (Step("lowrank", {}, Target("macs", 5)), Step("lowrank", {}, Target("macs", 5))))
    with pytest.raises(FaultError, match="two: more than one step has a target"):
        budget.tried(two)


def test_a_file_with_two_targets_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """With the line and column of each target after the first, before any work."""
    path = tmp_path / "two.yaml"
    steps = [f"  - lowrank: {{target: {{macs: {limit}}}}}" for limit in (5, 6)] + ["  - prune:", "      target: {size_bytes: 7}"]
    path.write_text("\n".join(["version: 1", "name: two", "steps:", *steps, ""]))
    with pytest.raises(ConfigError) as caught:
        recipe_file.find(str(path))
    assert [(one.line, one.column) for one in caught.value.problems] == [(5, 15), (7, 7)]
    assert all("only one step may have a target" in one.message for one in caught.value.problems)


def test_a_file_of_a_size_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example in 50,000 bytes: the file that comes out fits, one hundredth weaker it would not, and the manifest says how."""
    monkeypatch.undo()
    source, data = example()
    steps = Step("lowrank", {}, Target("size_bytes", 50_000)), Step("int8-static")
    made = build(source, Recipe("small", steps), "onnx", data, context(tmp_path)).manifest
    ratio = made["recipe"]["steps"][0]["params"]["ratio"]
    assert made["size_bytes"] <= 50_000
    assert f"lowrank: ratio {ratio:g} for size_bytes <= 50000" in made["notes"]
    weaker = Recipe("weaker", (Step("lowrank", {"ratio": ratio - 0.01}), Step("int8-static")))
    assert build(source, weaker, "onnx", data, context(tmp_path)).manifest["size_bytes"] > 50_000


def test_a_loss_is_used_up() -> None:
    """The ratio is the greatest hundredth that loses no more: 10 * 0.44 ** 2 = 1.94, 10 * 0.45 ** 2 = 2.03."""
    found, _ = budget.settled(recipe("accuracy_drop_pp", 2.0), weighed([]))
    assert found.steps[1].params == {"ratio": 0.44}


def test_a_target_out_of_reach_says_so() -> None:
    """No strength gives 5 bytes; the weakest loses more than nothing."""
    with pytest.raises(FaultError, match="does not reach size_bytes <= 5"):
        budget.settled(recipe("size_bytes", 5), weighed([]))
    with pytest.raises(FaultError, match="even the weakest") as refusal:
        budget.settled(recipe("accuracy_drop_pp", 0.0001), weighed([]))
    assert refusal.value.fault.code == "accuracy_floor"


def test_a_strength_that_ruins_the_model_loses_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weaker one is looked for where outputs are no longer the model's; the manifest tells each target's own note."""
    monkeypatch.undo()
    source, data = example()
    data = replace(data, held_out=Samples(data.eval_feeds, data.labels))
    kept = context(tmp_path)
    monkeypatch.setattr("compress.verify.MIN_SQNR_DB", 30.0)
    monkeypatch.setattr("compress.verify.MAX_ACCURACY_DROP", 0.0)
    notes: list[str] = []
    for points in (3, 3.5):
        made = build(source, Recipe("loses", (Step("lowrank", {}, Target("accuracy_drop_pp", points)),)), "onnx", data, kept)
        assert 0 < made.manifest["recipe"]["steps"][0]["params"]["ratio"] < 0.5
        notes += [note for note in made.manifest["notes"] if "accuracy_drop_pp" in note]
    assert [note.rpartition(" ")[2] for note in notes] == ["3", "3.5"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"int8-static": {"target": {"size_bytes": 5}}}, "no strength"),
        ({"lowrank": {"target": {"size": 5}}}, "target: one of size_bytes"),
        ({"lowrank": {"target": {"size_bytes": -1}}}, "target: one of"),
        ({"lowrank": {"target": {"latency_ms": 5}}}, "device"),
        ({"lowrank": {"target": {"size_bytes": 5, "device": "pi"}}}, "target: one of"),
        ({"lowrank": {"target": {"size_bytes": 5}, "ratio": 0.5}}, "not both"),
        ({"lowrank": {"target": 5}}, "target: one of"),
    ],
)
def test_a_target_is_checked_before_any_work(step: object, said: str) -> None:
    """Unknown quantities, limits that are none, and targets that nothing turns are refused."""
    with pytest.raises(ValueError, match=said):
        recipes.step(step)


def test_a_target_stands_in_a_recipe() -> None:
    """A latency has its device."""
    read = recipes.step({"lowrank": {"target": {"latency_ms": 5, "device": "pi4-a"}}})
    assert read.target == Target("latency_ms", 5.0, "pi4-a")
    assert str(read.target) == "latency_ms <= 5 on pi4-a"
