"""Learning from a teacher, from each other, and from oneself; the losses are `Loss`es for any step's training."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from agent.schema import FaultError
from compress.techniques.distill import DistillParams
from compress.training import cost
from compress.training.loop import fit
from compress.training.session import SEED, Loss, Session, Split, first
from compress.training.students import thinner, written

Measure = Callable[[Tensor, Tensor], Tensor]
"""(student's outputs, teacher's outputs) -> how far apart they are, a scalar."""


def soft_targets(temperature: float) -> Measure:
    """The Kullback-Leibler divergence of softened class probabilities, times the temperature squared (Hinton, Vinyals and Dean, 2015)."""

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = ((one.reshape(len(one), -1) / temperature).log_softmax(1) for one in (student, teacher))
        return nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2

    return divergence


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of logits (Ba and Caruana, 2014) or embeddings."""
    return nn.functional.mse_loss(student, teacher)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - the cosine of the angle between embeddings, on average: 0 for equal directions, 2 for opposite ones."""
    return 1 - nn.functional.cosine_similarity(student.reshape(len(student), -1), teacher.reshape(len(teacher), -1)).mean()


def measure(loss: str, temperature: float) -> Measure:
    """The measure of that name in `DistillParams.loss`; hints go with soft targets."""
    return {"mse": squared_difference, "cosine": cosine_distance}.get(loss, soft_targets(temperature))


def from_teacher(session: Session, teacher: nn.Module, far: Measure, alpha: float) -> Loss:
    """alpha times the distance from what the teacher gives, and (1 - alpha) times the task's loss."""

    def loss(student: nn.Module, batch: Split) -> Tensor:
        outputs = first(student(*batch.inputs))
        with torch.no_grad():
            wanted = first(teacher(*batch.inputs))
        return (1 - alpha) * session.loss(outputs, batch) + alpha * far(outputs, wanted)

    return loss


class Hinted(nn.Module):
    """A student with a regressor from one of its layers to the teacher's (Romero et al., FitNets: Hints for Thin Deep Nets, 2015).

    Called as the student. Trained jointly with the soft targets, not as a stage before. Raises FaultError `bad_model` for layers that
    are not there or whose outputs differ in more than their features.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, layers: tuple[str, str], inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.student = student
        self._seen: dict[str, Tensor] = {}
        self._hooks = [self._watch(one, name, key) for one, name, key in ((teacher, layers[0], "teacher"), (student, layers[1], "student"))]
        with torch.no_grad():
            student.eval()(*inputs)
            teacher(*inputs)
        ours, theirs = self._seen["student"], self._seen["teacher"]
        self._axis = 1 if ours.dim() > 3 or isinstance(student.get_submodule(layers[1]), (nn.Conv1d, nn.BatchNorm1d)) else ours.dim() - 1
        self.regressor = nn.Linear(ours.shape[self._axis], theirs.shape[self._axis if theirs.dim() == ours.dim() else -1])
        if self._regressed().shape != theirs.shape:
            message = f"{layers[1]} gives {tuple(ours.shape)}, the teacher's {layers[0]} {tuple(theirs.shape)}"
            raise FaultError("bad_model", message, "give hint layers that differ in their number of features only", "compress")

    def forward(self, *inputs: Tensor) -> Any:
        """What the student gives."""
        return self.student(*inputs)

    def distance(self) -> Tensor:
        """Of the last batch: the mean squared difference over the mean square of the teacher's features, so that its scale is no matter."""
        wanted = self._seen["teacher"]
        return nn.functional.mse_loss(self._regressed(), wanted) / wanted.square().mean().clamp_min(1e-12)

    def alone(self) -> nn.Module:
        """The student without the regressor; the teacher is watched no longer."""
        for hook in self._hooks:
            hook.remove()
        return self.student

    def _regressed(self) -> Tensor:
        return self.regressor(self._seen["student"].movedim(self._axis, -1)).movedim(-1, self._axis)

    def _watch(self, model: nn.Module, name: str, key: str) -> Any:
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            message = f"the {key} has no layer {name!r}"
            raise FaultError(
                "bad_model", message, "give `hint:` as the names of the teacher's and the student's layer", "compress"
            ) from None
        return layer.register_forward_hook(lambda _layer, _inputs, found: self._seen.__setitem__(key, first(found)))


class Cohort(nn.Module):
    """Students that learn from each other (Zhang, Xiang, Hospedales and Lu, Deep Mutual Learning, 2018)."""

    def __init__(self, students: list[nn.Module]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The mean of what they give."""
        return torch.stack([first(one(*inputs)) for one in self.students]).mean(0)


def mutual(session: Session, far: Measure, alpha: float) -> Loss:
    """Of a Cohort: for each student the task's loss and its mean distance from the others as they are, weighted as by `from_teacher`."""

    def loss(cohort: nn.Module, batch: Split) -> Tensor:
        assert isinstance(cohort, Cohort)  # noqa: S101 - for the type checker
        found = [first(one(*batch.inputs)) for one in cohort.students]
        task = sum((session.loss(one, batch) for one in found), torch.zeros(()))
        pairs = [far(one, other.detach()) for one in found for other in found if other is not one]
        return (1 - alpha) * task + alpha * sum(pairs, torch.zeros(())) / (len(found) - 1)

    return loss


def distilled(model: nn.Module, params: DistillParams, session: Session) -> nn.Module:
    """A student of the module, taught as `params.mode` says; tells its scores, and on `compare` those of the same one taught by labels."""
    before = cost.figures(model, session)
    student = {"offline": _offline, "online": _online, "self": _generations}[params.mode](model, params, session)
    after = cost.figures(student, session)
    session.tell(before=before, after=after)
    if params.compare:
        alone = _student(model, params, session, SEED)
        scores = fit(alone, session, params.epochs, params.learning_rate)
        best = max(scores, default=session.score(alone))
        session.tell(without_teacher=scores)
        if after["score"] <= best:
            session.note(
                f"distillation gained nothing: {after['score']:.4f} with it, {best:.4f} for the same student without, on held-out samples"
            )
    return student


def _student(model: nn.Module, params: DistillParams, session: Session, seed: int) -> nn.Module:
    if params.student:
        return written(params.student, session, seed)
    fresh = params.initialise == "random"
    return thinner(model, params.width, session, seed=seed, fresh=fresh, drawn=params.mode == "online")


def _offline(model: nn.Module, params: DistillParams, session: Session) -> nn.Module:
    student = _student(model, params, session, SEED)
    student, scores = _taught(student, session.teacher, params, session)
    session.tell(held_out=scores)
    return student


def _generations(model: nn.Module, params: DistillParams, session: Session) -> nn.Module:
    """Each generation learns from the one before; gives the best (Furlanello et al., Born-Again Neural Networks, 2018)."""
    teacher, told = session.teacher, list[list[float]]()
    generations: list[nn.Module] = []
    for at in range(params.generations):
        student, scores = _taught(_student(model, params, session, SEED + at), teacher, params, session)
        told.append(scores)
        generations.append(student)
        teacher = copy.deepcopy(student).eval().requires_grad_(False)
    session.tell(held_out=told)
    return max(generations, key=session.score)


def _online(model: nn.Module, params: DistillParams, session: Session) -> nn.Module:
    cohort = Cohort([_student(model, params, session, SEED + at) for at in range(params.students)])
    loss = mutual(session, measure(params.loss, params.temperature), params.alpha)
    together = fit(cohort, session, params.epochs, params.learning_rate, loss=loss)
    session.tell(held_out=together, students=[session.score(one) for one in cohort.students])
    return max(cohort.students, key=session.score)


def _taught(student: nn.Module, teacher: nn.Module, params: DistillParams, session: Session) -> tuple[nn.Module, list[float]]:
    loss = from_teacher(session, teacher, measure(params.loss, params.temperature), params.alpha)
    if params.loss != "hint":
        return student, fit(student, session, params.epochs, params.learning_rate, loss=loss)
    layers = params.hint or (middle(teacher), middle(teacher))
    hinted = Hinted(student, teacher, layers, tuple(session.example().values()))
    scores = fit(
        hinted,
        session,
        params.epochs,
        params.learning_rate,
        loss=lambda net, batch: loss(net, batch) + params.alpha * hinted.distance(),
    )
    return hinted.alone(), scores


def middle(model: nn.Module) -> str:
    """The name of the middle one of its layers with weights."""
    names = [name for name, one in model.named_modules() if isinstance(getattr(one, "weight", None), Tensor)]
    if not names:
        raise FaultError("bad_model", "the teacher has no layer with weights", "give `hint:`", "compress")
    return names[len(names) // 2]
