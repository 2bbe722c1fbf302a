"""A model's data file: whatever is in it, arrays that fit come out, or a fault that says which does not."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from compress_models import EXAMPLE

from agent.schema import FaultError
from controller import dataset
from controller.dataset import Dataset
from controller.suite import Model

ROWS = np.ones((20, 3), np.float32)
ZEROS = np.zeros(20, np.int64)
HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + b"\n"


def prepared(folder: Path) -> Dataset:
    """What becomes of data.npz in this folder, for a torch module, whose inputs are those of its data."""
    (folder / "net.py").write_text("")
    source = "python:net:Net"
    return dataset.prepare("m", Model.model_validate({"source": source, "data": str(folder / "data.npz")}), folder, print)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def zipped(name: str, content: bytes) -> bytes:
    """A zip file with one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def single() -> bytes:
    """An array that is not in an archive."""
    stream = io.BytesIO()
    np.save(stream, ROWS)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "No data left"),
        (b"hello", "pickle"),
        (single(), "a single array"),
        (zipped("eval_x.npy", HUGE), "Unable to allocate"),
        (zipped("eval_x.txt", b"hello"), "nothing that the model is fed"),
    ],
)
def test_a_file_that_is_no_data(content: bytes, said: str, tmp_path: Path) -> None:
    """No archive, one array alone, a header that promises terabytes, and members that are no arrays are bad_data."""
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(FaultError, match=said) as failure:
        prepared(tmp_path)
    assert failure.value.fault.code == "bad_data"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"eval_x": np.array([1, "a", None], object)}, "Object arrays"),
        ({"eval_x": np.full((4, 3), "abc")}, r"eval_x is <U3 of shape \[4, 3\]"),
        ({"eval_x": ROWS.astype(complex)}, "complex128"),
        ({"eval_x": np.float32(3)}, r"eval_x is float32 of shape \[\]"),
        ({"train_x": ROWS}, "nothing that the model is fed"),
        ({"eval_x": ROWS, "calib_x": ROWS[:0]}, r"calib_x is float32 of shape \[0, 3\]"),
        ({"eval_x": ROWS, "calib_x": np.float32(3)}, "calib_x is float32"),
        ({"eval_x": ROWS, "train_x": np.float32(3)}, "train_x is float32"),
        ({"eval_x": ROWS, "train_x": ROWS[:0]}, "train_x is float32 of shape"),
        ({"eval_x": ROWS, "train_x": ROWS[:9]}, "9 train_ samples, too few"),
        ({"eval_x": ROWS, "train_x": ROWS, "held_x": ROWS[:0]}, "held_x is float32 of shape"),
        ({"eval_x": ROWS, "train_x": ROWS * np.nan}, "train_x holds NaN"),
        ({"eval_x": ROWS, "held_x": ROWS * np.inf}, "held_x holds NaN or infinity"),
        ({"eval_x": ROWS, "train_x": ROWS, "train_labels": ZEROS[1:]}, "train_labels are int64 of shape"),
        ({"eval_x": ROWS, "train_x": ROWS, "train_labels": ZEROS, "held_x": ROWS}, "no held_labels"),
    ],
)
def test_arrays_that_a_model_cannot_be_fed(arrays: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    """Each is named, with what it is, before anything is trained or run."""
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(FaultError, match=said) as failure:
        prepared(tmp_path)
    assert failure.value.fault.code == "bad_data"


@pytest.mark.parametrize(("kind", "fed"), [("f8", "float32"), (">f4", "float32"), ("f2", "float32"), ("u1", "float32"), ("i4", "int64")])
def test_a_module_is_fed_what_it_computes_with(kind: str, fed: str, tmp_path: Path) -> None:
    """Doubles, halves and foreign byte orders become float32 in every part; whole numbers int64."""
    np.savez(tmp_path / "data.npz", eval_x=ROWS.astype(kind), train_x=ROWS.astype(kind))
    data = prepared(tmp_path).data
    assert data.train is not None
    assert data.held_out is not None
    parts = (data.eval_feeds, data.calib_feeds, data.train.feeds, data.held_out.feeds)
    assert {part["x"].dtype for part in parts} == {np.dtype(fed)}
    assert [len(part["x"]) for part in parts] == [20, 20, 18, 2]


def test_without_a_file_inputs_are_drawn() -> None:
    """A model file tells what it is fed; there is nothing to train with."""
    model = Model.model_validate({"source": str(EXAMPLE / "model.onnx"), "task": "classification"})
    found = dataset.prepare("m", model, Path(), print)
    assert found.random
    assert found.data.train is None
