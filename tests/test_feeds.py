"""The model's inputs, made from the data file."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import feeds
from agent.schema import FaultError, Feed, TensorSpec

PLAIN = Feed("image", "image", 1.0, [0.0], [1.0], [])


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def refusal(path: str, *wanted: Feed) -> str:
    with pytest.raises(FaultError) as error:
        feeds.read(path, list(wanted))
    assert error.value.fault.code == "bad_data"
    return error.value.fault.message


def test_a_feed_is_scaled_centred_and_transposed(tmp_path: Path) -> None:
    """value = (array * scale - mean) / std in float32, per channel where there are several, then the axes are moved."""
    image = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    path = saved(tmp_path, image=image)
    one = feeds.read(path, [Feed("x", "image", 1 / 255, [0.5], [0.25], [])])["x"]
    np.testing.assert_allclose(one, (image / 255 - 0.5) / 0.25, rtol=1e-5)
    several = feeds.read(path, [Feed("x", "image", 1.0, [1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [0, 2, 3, 1])])["x"]
    channels = np.array([1, 2, 3]).reshape(1, 3, 1, 1), np.array([1, 2, 4]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(several, ((image - channels[0]) / channels[1]).transpose(0, 2, 3, 1), rtol=1e-6)
    assert several.dtype == np.float32
    assert several.flags["C_CONTIGUOUS"]


def test_a_feed_without_preprocessing_is_the_array_itself(tmp_path: Path) -> None:
    """Its dtype and values stay."""
    ids = np.array([[2**40, 1], [2, 3]])
    assert (feeds.read(saved(tmp_path, image=ids), [PLAIN])["image"] == ids).all()


@pytest.mark.parametrize("change", [{"array": "other"}, {"mean": [0.0, 1.0]}, {"std": []}, {"transpose": [0, 9]}])
def test_a_feed_that_does_not_fit_the_file_is_bad_data(tmp_path: Path, change: dict[str, Any]) -> None:
    """An array that is not there, as many means as there are not channels, axes that are none."""
    refusal(saved(tmp_path, image=np.zeros((2, 3, 4))), PLAIN._replace(**change))


def test_inputs_with_different_numbers_of_samples_are_bad_data(tmp_path: Path) -> None:
    """Every input has a value for each sample."""
    path = saved(tmp_path, image=np.zeros((2, 3)), other=np.zeros((3, 3)))
    assert "different numbers" in refusal(path, PLAIN, PLAIN._replace(input="other", array="other"))


def test_a_file_that_is_none_is_bad_data(tmp_path: Path) -> None:
    """No file, an empty one, an .npy, a pickle, an archive of something else, and one cut at many places: never a traceback."""
    buffer = io.BytesIO()
    np.savez(buffer, image=np.arange(300.0))
    whole = buffer.getvalue()
    pickled, plain, strange = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(pickled, image=np.array([{}], dtype=object))
    np.save(plain, np.zeros(3))
    with zipfile.ZipFile(strange, "w") as archive:
        archive.writestr("image.npy", b"not an array")
    path = tmp_path / "data.npz"
    refusal(str(path), PLAIN)
    for content in [b"", *(one.getvalue() for one in (pickled, plain, strange)), *(whole[:cut] for cut in range(1, len(whole), 101))]:
        path.write_bytes(content)
        assert "\n" not in refusal(str(path), PLAIN)


def test_an_array_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive's directory tells its size."""
    monkeypatch.setattr(feeds, "MAX_ARRAY_BYTES", 1000)
    monkeypatch.setattr(feeds, "prepare_array", None)
    assert "larger than" in refusal(saved(tmp_path, image=np.zeros(1000)), PLAIN)


def spec(*shape: int, name: str = "x", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, list(shape), dtype)


@pytest.mark.parametrize(
    ("shape", "batches", "fed"),
    [((1, 3), 5, (1, 3)), ((-1, 3), 5, (1, 3)), ((-1, -1), 5, (1, 3)), ((2, 3), 2, (2, 3)), ((5, 3), 1, (5, 3)), ((3,), 5, (3,))],
)
def test_samples_are_fed_as_the_model_takes_them(shape: tuple[int, ...], batches: int, fed: tuple[int, ...]) -> None:
    """As many at once as a fixed first dimension says, one where it is open, without the axis where the model has none."""
    found = list(feeds.batches({"x": np.arange(15.0).reshape(5, 3)}, [spec(*shape)]))
    assert len(found) == batches
    assert {(batch["x"].shape, batch["x"].dtype.name) for batch in found} == {(fed, "float32")}
    assert found[0]["x"].ravel()[0] == 0.0


@pytest.mark.parametrize(
    "specs", [[spec(6, 3)], [spec(1, 4)], [spec(1, 3, 1)], [spec(1, 3, name="y")], [spec(2, 3), spec(3, name="x")], []]
)
def test_data_that_does_not_fit_the_model_is_bad_data(specs: list[TensorSpec]) -> None:
    """Too few samples for one inference, other shapes, other names, other numbers at once, or no input at all."""
    with pytest.raises(FaultError) as error:
        feeds.first({"x": np.zeros((5, 3))}, specs)
    assert error.value.fault.code == "bad_data"


def test_a_renamed_only_input_is_fed_by_its_new_name() -> None:
    """A converter may have renamed the input; with several inputs names must match."""
    arrays = {"x": np.zeros((5, 3))}
    assert list(feeds.named(arrays, [spec(1, 3, name="serving_default_x:0")])) == ["serving_default_x:0"]
    assert feeds.named(arrays, [spec(1, 3), spec(1, 3, name="y")]) is arrays
