"""Distillation: losses by hand, students counted to the parameter, mutual learning's gradients, and a student built to ONNX."""

import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from compress_models import EXAMPLE, context
from torch import Tensor, nn
from torch_models import LENET, fashion, lenet, lenet_source, session

from agent.schema import FaultError
from compress.build import Source, build
from compress.recipes import Recipe, Step
from compress.records import TorchSource
from compress.techniques.distill import TECHNIQUES, DistillParams
from compress.training import cost
from compress.training.distillation import Cohort, Hinted, cosine_distance, distilled, from_teacher, measure, middle, mutual, soft_targets
from compress.training.loop import fit
from compress.training.students import thinner, written

THIN = """

def Thin():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
"""


def params(**given: object) -> DistillParams:
    return DistillParams.model_validate({"epochs": 1, **given})


def logits(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("loss", ["kl", "mse", "cosine"])
def test_equal_outputs_have_no_distance(loss: str) -> None:
    """A student that gives what the teacher gives has nothing to learn, by any measure; another one has."""
    far = measure(loss, 3.0)
    assert far(logits(6, 5), logits(6, 5)).item() == pytest.approx(0, abs=1e-6)
    assert far(logits(6, 5), -logits(6, 5)) > 0.1


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_by_hand(temperature: float) -> None:
    """Probabilities 1/4, 3/4 against 1/2, 1/2 are 0.1438 nats apart; the temperature softens, and its square keeps the gradient's scale."""
    student = torch.tensor([[0.0, temperature * math.log(3)]])
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert soft_targets(temperature)(student, torch.zeros(1, 2)).item() == pytest.approx(temperature**2 * expected, rel=1e-5)


def test_the_cosine_looks_at_the_direction_only() -> None:
    """0 for a longer vector of the same direction, 1 for a right angle, 2 for the opposite."""
    one = torch.tensor([[1.0, 0.0]])
    assert [round(cosine_distance(one, torch.tensor([other])).item(), 5) for other in ([3.0, 0.0], [0.0, 1.0], [-2.0, 0.0])] == [0, 1, 2]


def test_alpha_weighs_teacher_against_labels() -> None:
    """With alpha 0 it is the task's loss, with 1 the teacher's, with 1/4 the mixture."""
    model, here = lenet(), session(lenet())
    student = thinner(model, 0.5, here, seed=0)
    batch = here.train.take(torch.arange(32))
    far = soft_targets(2.0)
    task, teacher = here.loss(student(*batch.inputs), batch), far(student(*batch.inputs), model(*batch.inputs))
    for alpha in (0.0, 0.25, 1.0):
        expected = (1 - alpha) * task + alpha * teacher
        torch.testing.assert_close(from_teacher(here, model, far, alpha)(student, batch), expected)


def test_a_student_of_half_the_width() -> None:
    """Each layer but the last has half of its channels: LeNet-5 of 3, 8, 60 and 42 has 15,738 parameters, the teacher stays as it is."""
    model = lenet()
    student = thinner(model, 0.5, session(model), seed=0)
    assert cost.parameters(student) == (25 + 1) * 3 + (75 + 1) * 8 + 201 * 60 + 61 * 42 + 43 * 10 == 15_738
    assert cost.parameters(model) == 61_706


def test_the_strongest_channels_stay() -> None:
    """Of four hidden units those two with the largest weights stay, with their weights."""
    model = nn.Sequential(nn.Linear(784, 4), nn.ReLU(), nn.Linear(4, 10))
    model[0].weight.data = torch.tensor([1.0, 4.0, 2.0, 3.0])[:, None].expand(4, 784).clone()
    student = thinner(nn.Sequential(nn.Flatten(), *model), 0.5, session(lenet()), seed=0)
    assert student[1].weight[:, 0].tolist() == [4.0, 3.0]
    assert torch.equal(student[3].weight, model[2].weight[:, [1, 3]])


def test_new_weights_come_from_the_seed() -> None:
    """A fresh student has none of the teacher's weights; the same seed gives the same student."""
    model, here = lenet(), session(lenet())
    first, again, other = (thinner(model, 0.5, here, seed=seed, fresh=True).fc3.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_cannot_be_thinner() -> None:
    """A module of one layer is refused, with what to do."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(FaultError, match="can be made narrower") as refusal:
        thinner(model, 0.5, session(model), seed=0)
    assert "student" in refusal.value.fault.next


def test_mutual_learning_teaches_both() -> None:
    """Each student has the gradient of its own loss and its distance from the other as it is: neither is the other's lever."""
    here = session(lenet())
    students = [thinner(lenet(), 0.5, here, seed=seed, fresh=True) for seed in (1, 2)]
    batch, far = here.train.take(torch.arange(16)), soft_targets(2.0)
    mutual(here, far, 0.5)(Cohort(students), batch).backward()
    for one, other in (students, students[::-1]):
        got = one.fc1.weight.grad.clone()
        one.zero_grad()
        outputs = one(*batch.inputs)
        (0.5 * here.loss(outputs, batch) + 0.5 * far(outputs, other(*batch.inputs).detach())).backward()
        assert got.abs().sum() > 0
        torch.testing.assert_close(got, one.fc1.weight.grad)


def test_mutual_learning_changes_both() -> None:
    """After an epoch both students have other weights."""
    here = session(lenet())
    cohort = Cohort([thinner(lenet(), 0.5, here, seed=seed, fresh=True) for seed in (1, 2)])
    before = [one.fc1.weight.clone() for one in cohort.students]
    fit(cohort, here, 1, loss=mutual(here, soft_targets(2.0), 0.5))
    assert not any(torch.equal(then, one.fc1.weight) for then, one in zip(before, cohort.students, strict=True))


@pytest.mark.parametrize("layer", ["conv2", "fc1"])
def test_a_hint_is_met_by_the_right_regressor(layer: str) -> None:
    """Where the teacher's features are the student's, the identity as regressor leaves no distance; the regressor is not the student's."""
    model, here = lenet(), session(lenet())
    student = thinner(model, 1.0, here, seed=0)
    inputs = tuple(here.example().values())
    hinted = Hinted(student, model, (layer, layer), inputs)
    assert hinted.distance() > 0.01
    width = hinted.regressor.in_features
    hinted.regressor.load_state_dict({"weight": torch.eye(width), "bias": torch.zeros(width)})
    assert hinted.distance().item() == pytest.approx(0, abs=1e-9)
    assert hinted.alone() is student
    assert cost.parameters(hinted) == cost.parameters(student) + width * (width + 1)


@pytest.mark.parametrize(("layers", "reason"), [(("conv9", "conv2"), "no layer 'conv9'"), (("conv1", "conv2"), "gives")])
def test_hints_that_do_not_fit(layers: tuple[str, str], reason: str) -> None:
    """A layer that is not there, and two with other heights and widths, are refused by name."""
    here = session(lenet())
    with pytest.raises(FaultError, match=reason):
        Hinted(lenet(), lenet(), layers, tuple(here.example().values()))


def test_the_middle_layer_is_the_hint() -> None:
    """Of LeNet-5's five layers with weights it is the third."""
    assert middle(lenet()) == "fc1"


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "offline", "loss": "kl", "initialise": "random", "learning_rate": 0.01},
        {"mode": "offline", "loss": "mse"},
        {"mode": "offline", "loss": "hint", "hint": ["conv2", "conv2"]},
        {"mode": "offline", "loss": "cosine"},
        {"mode": "online", "students": 2},
        {"mode": "self", "generations": 2},
    ],
    ids=lambda one: "-".join(str(value) for value in one.values()),
)
def test_a_student_learns(given: dict[str, object]) -> None:
    """Every mode and loss gives a smaller module that scores higher than untaught, and tells the scores that it chose by."""
    model = lenet()
    here = session(model)
    untaught = here.score(thinner(model, 0.5, here, seed=0, fresh=given.get("initialise") == "random"))
    student = distilled(model, params(**given), here)
    told = here.told["step"]
    assert told["after"]["parameters"] == cost.parameters(student) == 15_738
    assert told["after"]["score"] == here.score(student) > untaught
    assert len(told["held_out"]) == (2 if given["mode"] == "self" else 1)


def test_the_same_student_without_a_teacher() -> None:
    """`compare` tells what training alone gives the same student; where that is as good, a note says that the teacher gained nothing."""
    here = session(lenet())
    student = distilled(lenet(), params(loss="mse", alpha=1.0, learning_rate=1e-6, compare=True), here)
    alone = thinner(lenet(), 0.5, here, seed=0)
    assert here.told["step"]["without_teacher"] == fit(alone, here, 1, 1e-6)
    assert any("gained nothing" in note for note in here.notes) == (here.score(student) <= here.score(alone))


def test_the_same_again() -> None:
    """Two runs give the same student to the bit."""
    first, second = (distilled(lenet(), params(mode="online"), session(lenet())) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("code", "reason"),
    [("", "has no 'Thin'"), ("Thin = lambda: nn.Linear(784, 10)", "gives no student"), ("Thin = lambda: nn.Conv2d(1, 2, 3)", "of shape")],
)
def test_students_that_do_not_fit(code: str, reason: str) -> None:
    """A factory that is not there, fails, or makes something with other outputs is refused by its name."""
    here = session(lenet())
    here.code = ModuleType("owner")
    exec(f"from torch import nn\n{code}", vars(here.code))  # noqa: S102 - code of this test
    with pytest.raises(FaultError, match=reason):
        written("Thin", here, 0)


@pytest.mark.parametrize("given", [{"mode": "online", "loss": "hint"}, {"hint": ["a", "b"]}, {"width": 0.0}, {"temperature": 0.5}])
def test_parameters_are_checked(given: dict[str, object]) -> None:
    """What contradicts itself or is out of range is refused before any work."""
    with pytest.raises(ValueError, match="distill"):
        TECHNIQUES[0].check(given)


def test_the_owners_student_is_built(tmp_path: Path) -> None:
    """A factory in the source's file makes the student; what is built has its parameters and gives the model's classes."""
    file = tmp_path / "owner.py"
    file.write_text(LENET.read_text() + THIN)
    source = Source("owner", EXAMPLE / "model.onnx", None, TorchSource(file, "LeNet5", lenet_source(tmp_path).weights))
    recipe = Recipe("taught", (Step("distill", {"student": "Thin", "epochs": 5, "learning_rate": 0.01}), Step("int8-static")))
    made = build(source, recipe, "onnx", fashion(), context(tmp_path))
    assert made.manifest["steps"]["distill"]["after"]["parameters"] == 785 * 16 + 17 * 10
    assert made.manifest["accuracy"] > 0.6
