"""The model's inputs, made from the data file (.npz) as the launch's feeds say; numpy comes with every runtime."""

import zipfile
import zlib
from typing import Any, Dict, Iterator, List, Tuple

from agent.schema import FaultError, Feed, TensorSpec

MAX_ARRAY_BYTES = 1 << 30


def read(path: str, feeds: List[Feed]) -> Dict[str, Any]:
    """Return the prepared array of each input, samples on axis 0; raises FaultError `bad_data`.

    A feed's value is (array * scale - mean) / std, transposed. Mean and std have one entry, or one for each channel of axis 1.
    """
    import numpy

    try:
        with numpy.load(path, allow_pickle=False) as data:
            arrays = {feed.input: prepare_array(numpy, data[feed.array], feed) for feed in feeds}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise FaultError(
            "bad_data", "the data file cannot be used: {}".format(error), "check `data` and `inputs` in the suite", "data"
        ) from error
    if len({len(array) for array in arrays.values()}) > 1:
        raise FaultError("bad_data", "the inputs have different numbers of samples", "check `data` in the suite", "data")
    return arrays


def prepare_array(numpy: Any, array: Any, feed: Feed) -> Any:
    """Return the feed's value made from its array; raises ValueError."""
    if array.ndim < 1 or array.nbytes > MAX_ARRAY_BYTES:
        raise ValueError("array {} has no sample axis or is too large".format(feed.array))
    if feed.scale != 1.0 or feed.mean != [0.0] or feed.std != [1.0]:
        mean, std = _by_channel(numpy, feed.mean, array), _by_channel(numpy, feed.std, array)
        array = (array.astype(numpy.float32) * numpy.float32(feed.scale) - mean) / std
    return numpy.ascontiguousarray(array.transpose(feed.transpose) if feed.transpose else array)


def _by_channel(numpy: Any, values: List[float], array: Any) -> Any:
    column = numpy.asarray(values, dtype=numpy.float32)
    return column.reshape((1, -1) + (1,) * (array.ndim - 2)) if len(values) > 1 else column[0]


def named(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Dict[str, Any]:
    """Return the arrays under the model's names; a converter may have renamed the input of a model that has only one."""
    if len(arrays) == len(specs) == 1:
        return {specs[0].name: next(iter(arrays.values()))}
    return arrays


def batches(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Iterator[Dict[str, Any]]:
    """Yield feeds of one inference each: as many samples as the model's fixed first dimension takes, one where it is dynamic."""
    size, whole = _batch_size(arrays, specs)
    samples = min(len(array) for array in arrays.values())
    for at in range(0, samples - size + 1, size):
        yield {
            spec.name: arrays[spec.name][at : at + size].astype(spec.dtype, copy=False)
            if whole
            else arrays[spec.name][at].astype(spec.dtype, copy=False)
            for spec in specs
        }


def _batch_size(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Tuple[int, bool]:
    """The samples of one inference, and whether the model's inputs have a batch axis; raises FaultError `bad_data`."""
    size, whole = 1, True
    for spec in specs:
        array = arrays.get(spec.name)
        if array is None:
            raise FaultError("bad_data", "no data for the model's input {}".format(spec.name), "name an array after it", "data")
        whole = len(spec.shape) == array.ndim
        size = max(spec.shape[0], 1) if whole and spec.shape else 1
        wanted = spec.shape[1:] if whole else spec.shape
        if len(wanted) != array.ndim - 1 or any(w not in (-1, g) for w, g in zip(wanted, array.shape[1:])):
            message = "input {} takes {}, the data has samples of {}".format(spec.name, spec.shape, list(array.shape[1:]))
            raise FaultError("bad_data", message, "check `data` and `inputs` in the suite", "data")
    return size, whole
