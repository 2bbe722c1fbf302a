"""The comparison of an artifact with its float source."""

import numpy as np
import pytest

from agent.schema import FaultError
from compress.tasks import score
from compress.verify import SQNR_LIMIT_DB, drift, verify


def test_drift_is_the_definition_of_method_md():
    """An error of a tenth of the signal is 20 dB; the cosine and the largest difference are the textbook's."""
    reference = np.array([3.0, 4.0], np.float32)
    found = drift(reference, reference + np.array([0.5, 0.0], np.float32))
    assert found.sqnr_db == pytest.approx(20.0)
    assert found.cosine == pytest.approx((3.5 * 3 + 16) / (5 * np.hypot(3.5, 4)))
    assert found.max_abs == 0.5


@pytest.mark.parametrize(
    ("reference", "outputs", "sqnr_db", "cosine"),
    [([1.0, 2.0], [1.0, 2.0], SQNR_LIMIT_DB, 1.0), ([0.0], [0.0], SQNR_LIMIT_DB, 1.0), ([0.0], [1.0], -SQNR_LIMIT_DB, 0.0)],
)
def test_drift_is_finite_where_the_formula_is_not(reference, outputs, sqnr_db, cosine):
    """Equal arrays and silent references give the limit, so that every figure can be written as JSON."""
    found = drift(np.array(reference), np.array(outputs))
    assert found.sqnr_db == sqnr_db
    assert found.cosine == pytest.approx(cosine)


def test_drift_of_huge_float32_values_does_not_overflow():
    """The sums are taken in float64."""
    assert drift(np.full(4, 3e38, np.float32), np.full(4, 2.7e38, np.float32)).sqnr_db == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("broken", ["reference", "outputs"])
def test_what_is_not_a_number_is_a_verification_fault(value, broken):
    """NaN and infinity on either side are refused and said to be the cause."""
    arrays = {"reference": np.ones(3), "outputs": np.ones(3)}
    arrays[broken] = np.array([1.0, value, 1.0])
    with pytest.raises(FaultError, match="NaN or infinity") as caught:
        drift(**arrays)
    assert caught.value.fault.code == "verification"


def test_accuracy_takes_any_output_with_samples_first():
    """Logits of shape [samples, 1, 1, classes] count like [samples, classes]."""
    logits = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert score("classification", logits.reshape(4, 1, 1, 2), np.array([1, 0, 0, 0], np.uint8)).value == 0.75


def test_garbage_is_refused_without_labels_and_with_labels_that_show_it():
    """Outputs unrelated to the reference's raise `verification`, whose message gives the figures."""
    rng = np.random.default_rng(0)
    reference, garbage = rng.standard_normal((50, 10)), rng.standard_normal((50, 10))
    for labels in (None, reference.argmax(axis=1)):
        with pytest.raises(FaultError, match="SQNR") as caught:
            verify({"a": reference}, {"a": garbage}, labels)
        assert caught.value.fault.code == "verification"


def test_a_model_that_scales_its_logits_passes_where_labels_show_that_it_works():
    """A tenth of the logits has 1 dB of SQNR and the same accuracy."""
    reference = np.random.default_rng(0).standard_normal((50, 10))
    labels = reference.argmax(axis=1)
    found = verify({"a": reference}, {"a": reference * 0.1}, labels)
    assert (found.accuracy, found.reference_accuracy) == (1.0, 1.0)
    assert found.drift.sqnr_db < 1.0


def test_the_worst_of_several_outputs_counts_and_names_pair_them():
    """Outputs come in another order and are paired by name; the drift is that of the worse one."""
    a, b = np.ones((4, 2)), np.full((4, 3), 2.0)
    found = verify({"a": a, "b": b}, {"b": b * 1.1, "a": a}, None)
    assert found.drift.sqnr_db == pytest.approx(20.0)
    assert found.samples == 4


def test_a_missing_output_is_refused():
    """An artifact with fewer outputs is not the same model."""
    with pytest.raises(FaultError, match="1 outputs where the reference has 2"):
        verify({"a": np.ones(3), "b": np.ones(3)}, {"a": np.ones(3)}, None)
