"""The metrics of the tasks, against answers known without them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch_models import fashion, session

from agent.schema import FaultError
from compress import detections, ranking, tasks, transcripts
from compress.records import Data, Samples
from compress.verify import verify
from controller import outputs
from controller.collect import Collected
from controller.collect import Samples as Values
from controller.session import Job
from reports.figures import Quality, _change

ONE_HOT = np.eye(3)


def test_area_and_equal_error_rate_by_hand() -> None:
    """Of 2 positives and 3 negatives 4.5 of the 6 pairs are in order, a tie counting half; refusals and acceptances cross at 0.4."""
    curve = ranking.Curve(np.array([0.9, 0.5, 0.5, 0.3, 0.7]), np.array([True, True, False, False, False]))
    assert curve.area() == pytest.approx(4.5 / 6)
    assert curve.equal_error_rate() == pytest.approx(0.4)
    assert ranking.Curve(np.arange(4.0), np.array([False, False, True, True])).equal_error_rate() == 0


def test_area_is_the_rank_sum_statistic() -> None:
    """Against scipy's Mann-Whitney U on scores with ties; a weight of two counts a sample twice."""
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 20, 200).astype(float), rng.random(200) < 0.4
    wanted = mannwhitneyu(scores[positive], scores[~positive]).statistic / (positive.sum() * (~positive).sum())
    assert ranking.Curve(scores, positive).area() == pytest.approx(wanted)
    weights = rng.integers(0, 3, 200).astype(float)
    rows = np.repeat(np.arange(200), weights.astype(int))
    assert ranking.Curve(scores, positive).area(weights) == pytest.approx(ranking.Curve(scores[rows], positive[rows]).area())


def test_equal_error_rate_of_two_normal_distributions() -> None:
    """Two standard normals d apart: Phi(-d / 2)."""
    from scipy.special import ndtr, ndtri

    at = ndtri((np.arange(4000) + 0.5) / 4000)
    curve = ranking.Curve(np.concatenate([at, at + 2]), np.repeat([False, True], 4000))
    assert curve.equal_error_rate() == pytest.approx(ndtr(-1), abs=1e-3)
    assert curve.area() == pytest.approx(ndtr(np.sqrt(2)), abs=1e-3)


@pytest.mark.parametrize(
    ("found", "wanted", "distance"),
    [([], [], 0), ([], [1, 2], 2), ([1, 2], [], 2), ([1, 2, 3], [1, 3], 1), ([1, 2, 3], [2, 3, 4], 2), ([7] * 3, [7, 8, 7], 1)],
)
def test_edit_distance(found: list[int], wanted: list[int], distance: int) -> None:
    """Insertions, deletions and replacements cost one each."""
    assert transcripts.edit_distance(found, wanted) == distance


def test_best_path_and_error_rate() -> None:
    """Repetitions are one symbol unless a blank is between; one error in four symbols is a rate of 0.25."""
    paths = np.array([[1, 1, 0, 1, 2], [2, 2, 2, 0, 0]])
    assert transcripts.best_path(ONE_HOT[paths]) == [[1, 1, 2], [2]]
    scored = tasks.score("sequence", ONE_HOT[paths], np.array([[1, 1, 1], [2, -1, -1]]))
    assert (scored.value, scored.figures) == (0.75, {"error_rate": 0.25})


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array([rows], np.float64)


def test_average_precision_by_hand() -> None:
    """Right, wrong, right of two objects: precision 1 up to recall 1/2, 2/3 up to 1: 5/6. A second box on an object is suppressed."""
    truth = boxes([0, 2, 2, 2, 2], [0, 8, 8, 2, 2], [-1, 0, 0, 0, 0])
    found = boxes([2, 2, 2, 2, 0.9, 1], [5, 5, 2, 2, 0.8, 1], [8, 8, 2, 2, 0.7, 1], [2.2, 2, 2, 2, 0.6, 1])
    assert detections.mean_average_precision(found, truth)(np.ones(1)) == pytest.approx(5 / 6)


def test_detections_of_another_class_or_too_far_off_are_wrong() -> None:
    """An IoU of 1/3 is none; a right box of the wrong class costs both classes."""
    truth = boxes([0, 2, 2, 2, 2], [1, 8, 8, 2, 2])
    assert detections.overlap(truth[0][:1, 1:], np.array([[3.0, 2, 2, 2]]))[0, 0] == pytest.approx(1 / 3)
    right, shifted = [2, 2, 2, 2, 0.9, 1, 0], [9, 8, 2, 2, 0.9, 0, 1]
    assert detections.mean_average_precision(boxes(right, shifted), truth)(np.ones(1)) == 0.5
    swapped = boxes([*right[:5], 0, 1], [8, 8, 2, 2, 0.9, 1, 0])
    assert detections.mean_average_precision(swapped, truth)(np.ones(1)) == 0


def test_embeddings_are_scored_by_cosine() -> None:
    """Lengths do not matter; every pair of one identity is closer than every other pair, or is not."""
    vectors = np.array([[1, 0], [9, 1], [0, 2], [0.1, 1]])
    assert tasks.score("embedding", vectors, np.array([4, 4, 7, 7])).value == 1
    assert tasks.score("embedding", vectors, np.array([4, 7, 4, 7])).value < 0.5


def test_anomalies_by_reconstruction_and_by_score() -> None:
    """What is rebuilt worse is the likelier anomaly; one output a sample is its score."""
    inputs, labels = np.zeros((4, 3)), np.array([0, 0, 1, 1])
    rebuilt = np.array([0.1, 0.3, 0.2, 0.9])
    assert tasks.score("anomaly", inputs + rebuilt[:, None], labels, inputs).value == 0.75
    assert tasks.score("anomaly", rebuilt[:, None], labels).value == 0.75


@pytest.mark.parametrize(
    ("task", "out", "labels"),
    [
        ("classification", np.zeros((2, 3)), np.zeros(2)),
        ("anomaly", np.zeros((2, 1)), np.array([1, 2])),
        ("anomaly", np.zeros((2, 1)), np.array([0, 0])),
        ("embedding", np.zeros((2, 4)), np.array([1, 2])),
        ("sequence", np.zeros((2, 4, 3)), np.array([1, 2])),
        ("sequence", np.zeros((2, 4, 3)), np.full((2, 2), -1)),
        ("detection", np.zeros((2, 4, 6)), np.zeros((2, 1, 4))),
        ("detection", np.zeros((2, 4, 6)), np.full((2, 1, 5), -1.0)),
        ("detection", np.zeros((3, 4, 6)), np.zeros((2, 1, 5))),
    ],
)
def test_wrong_labels_are_bad_data(task: str, out: np.ndarray, labels: np.ndarray) -> None:
    """Labels of another task, of another number, or that leave the metric undefined."""
    with pytest.raises(FaultError) as refusal:
        tasks.score(task, out, labels)
    assert refusal.value.fault.code == "bad_data"


@pytest.mark.parametrize(("task", "out"), [("detection", np.zeros((2, 4))), ("sequence", np.zeros((2, 4))), ("anomaly", np.zeros((2, 4)))])
def test_outputs_of_another_task_are_a_bad_model(task: str, out: np.ndarray) -> None:
    """The message says what the task takes."""
    labels = {"detection": np.zeros((2, 1, 5)), "sequence": np.ones((2, 1), int), "anomaly": np.array([0, 1])}[task]
    with pytest.raises(FaultError, match="the task takes") as refusal:
        tasks.score(task, out, labels)
    assert refusal.value.fault.code == "bad_model"


def test_an_own_metric_runs_from_its_file(tmp_path: Path) -> None:
    """It gets outputs and labels of any shape; its errors and numbers out of range are told with its file's name."""
    file = tmp_path / "mine.py"
    file.write_text("def near(outputs, labels): return 1 - abs(outputs - labels).mean()\ndef percent(outputs, labels): return 97\n")
    out = np.array([[0.5, 1.0]])
    assert tasks.score(f"python:{file}:near", out, np.ones((1, 2))).value == 0.75
    for function, reason in {"percent": "gives 97", "absent": "absent"}.items():
        with pytest.raises(FaultError, match=f"mine.py: .*{reason}"):
            tasks.score(f"python:{file}:{function}", out, np.ones((1, 2)))


def test_verification_tells_the_metric() -> None:
    """Outputs far from the reference pass where the task's metric shows that they serve, and the figures stand beside it."""
    vectors = np.array([[1.0, 0], [9, 1], [0, 2], [0.1, 1]])
    found = verify({"a": vectors}, {"a": vectors * 0.1}, np.array([4, 4, 7, 7]), "embedding")
    assert (found.metric, found.accuracy, found.reference_accuracy, found.figures) == ("roc_auc", 1, 1, {"eer": 0})


LEARNT = {
    "embedding": (np.random.default_rng(0).integers(0, 4, 64), (8,)),
    "sequence": (np.random.default_rng(1).integers(1, 5, (64, 2)), (6, 5)),
    "anomaly": (np.repeat([0, 1], 32), (1, 28, 28)),
}


@pytest.mark.parametrize("task", LEARNT)
def test_each_loss_can_be_learnt(task: str) -> None:
    """Some steps of gradient descent on a linear module make the loss smaller, and the score is the task's metric."""
    labels, shape = LEARNT[task]
    feeds = {"image": fashion().eval_feeds["image"][:64]}
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, int(np.prod(shape))), torch.nn.Unflatten(1, shape))
    samples = Samples(feeds, labels)
    here = session(module, replace(fashion(), train=samples, held_out=samples, task=task))
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    losses = list[float]()
    for _ in range(15):
        optimiser.zero_grad()
        loss = here.loss(module(*here.train.inputs), here.train)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    wanted = tasks.score(task, module(*here.train.inputs).detach().numpy(), labels, np.asarray(feeds["image"])).value
    assert here.score(module) == pytest.approx(wanted)


def test_an_own_loss_is_taken() -> None:
    """A model's file that defines `loss` is trained by it."""
    here = session(torch.nn.Flatten())
    here.code = cast("object", SimpleNamespace(loss=lambda found, labels: found.sum() + 0 * labels.sum() + 7))
    assert float(here.loss(torch.zeros(2, 10), here.train.take(torch.arange(2)))) == 7


def test_a_launch_tells_its_metric_with_paired_draws() -> None:
    """The same draws for every launch: a variant equal to its reference has a change of zero with an interval of zero."""
    rng = np.random.default_rng(0)
    feeds, labels = {"x": rng.standard_normal((40, 4)).astype(np.float32)}, np.repeat([0, 1], 20)
    anomalous = (rng.standard_normal((40, 1)) + labels[:, None]).astype(np.float32)
    cell = SimpleNamespace(model="m", format="onnx")
    job = SimpleNamespace(cell=cell, artifact=None, dataset=SimpleNamespace(data=Data(feeds, {}, labels, {}, task="anomaly")))

    def told(found: np.ndarray) -> dict[str, np.ndarray]:
        launch = Collected(samples={"output_0": Values("output_0", "1", found)})
        return {one.metric: one.array for one in outputs.derive(launch, cast(Job, job), {("m", "onnx"): anomalous})}

    values = told(anomalous)["roc_auc"]
    assert values[0] == tasks.score("anomaly", anomalous, labels).value
    assert len(values) == 1 + outputs.RESAMPLES
    assert values[1:].std() == pytest.approx(0.08, abs=0.04)
    assert 0 < told(anomalous)["eer"][0] < 0.5
    same = _change(Quality("roc_auc", told(anomalous)["roc_auc"]), Quality("roc_auc", values))
    assert same.interval is not None
    assert (same.value, same.interval.low, same.interval.high) == (0, 0, 0)
    worse = _change(Quality("roc_auc", told(-anomalous)["roc_auc"]), Quality("roc_auc", values))
    assert worse.interval is not None
    assert worse.interval.high < 0
