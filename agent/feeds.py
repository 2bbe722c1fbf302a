"""The model's inputs, made from the data file (.npz) as the launch's feeds say; numpy comes with every runtime."""

from typing import Any, Dict, Iterator, List

from agent.schema import FaultError, Feed, TensorSpec

MAX_ARRAY_BYTES = 1 << 30


def read(path: str, feeds: List[Feed]) -> Dict[str, Any]:
    """Return the prepared array of each input, samples on axis 0; raises FaultError `bad_data`.

    A feed's value is (array * scale - mean) / std, transposed. Mean and std have one entry, or one for each channel of axis 1.
    """
    try:
        import numpy
    except ImportError as error:
        raise FaultError("env_missing", "numpy cannot be imported: {}".format(error), "run fleetmark device setup", "data") from error
    try:
        with open(path, "rb") as file, numpy.load(file, allow_pickle=False) as data:
            arrays = {feed.input: prepare_array(numpy, _member(data, feed.array), feed) for feed in feeds}
    except MemoryError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise FaultError(
            "bad_data", "the data file cannot be used: {}".format(why), "check `data` and `inputs` in the suite", "data"
        ) from error
    if len({len(array) for array in arrays.values()}) > 1:
        raise FaultError("bad_data", "the inputs have different numbers of samples", "check `data` in the suite", "data")
    return arrays


def _member(data: Any, name: str) -> Any:
    """An array of the file, unless it would be too large."""
    if data.zip.getinfo(name + ".npy").file_size > MAX_ARRAY_BYTES:
        raise ValueError("array {} is larger than {} bytes".format(name, MAX_ARRAY_BYTES))
    return data[name]


def prepare_array(numpy: Any, array: Any, feed: Feed) -> Any:
    """Return the feed's value made from its array; raises ValueError."""
    if array.ndim < 1:
        raise ValueError("array {} has no sample axis".format(feed.array))
    if feed.scale != 1.0 or feed.mean != [0.0] or feed.std != [1.0]:
        array = array.astype(numpy.float32)
        array *= numpy.float32(feed.scale)
        array -= _by_channel(numpy, feed.mean, array)
        array /= _by_channel(numpy, feed.std, array)
    return numpy.ascontiguousarray(array.transpose(feed.transpose) if feed.transpose else array)


def _by_channel(numpy: Any, values: List[float], array: Any) -> Any:
    if len(values) != 1 and (array.ndim < 2 or array.shape[1] != len(values)):
        raise ValueError("{} means or deviations do not fit an array of shape {}".format(len(values), list(array.shape)))
    return numpy.asarray(values, dtype=numpy.float32).reshape((1, -1) + (1,) * (array.ndim - 2) if len(values) > 1 else ())


def named(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Dict[str, Any]:
    """Return the arrays under the model's names; a converter may have renamed the input of a model that has only one."""
    if len(arrays) == len(specs) == 1:
        return {specs[0].name: next(iter(arrays.values()))}
    return arrays


def first(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Dict[str, Any]:
    """Return the first inference's feeds; raises FaultError `bad_data` if the data does not fit the model or is too little."""
    for batch in batches(arrays, specs):
        return batch
    raise FaultError("bad_data", "the data has fewer samples than one inference takes", "check `data` in the suite", "data")


def batch(arrays: Dict[str, Any], specs: List[TensorSpec], size: int) -> Dict[str, Any]:
    """Return the feeds of one inference of `size` samples, the data over again where it has fewer.

    Raises FaultError `unsupported_op` if the model takes another number, `bad_data` as `batch_size` does.
    """
    for spec in specs:
        fixed = batch_size(arrays, [spec])
        if fixed != size and not (_has_batch(arrays[spec.name], spec) and spec.shape[0] == -1):
            message = "input {} takes {} samples at once, not {}".format(spec.name, fixed, size)
            raise FaultError("unsupported_op", message, "leave out `batch`, or export the model with an open first dimension", "load")
    samples = min(map(len, arrays.values()))
    if samples == 0:
        raise FaultError("bad_data", "the data has no samples", "check `data` in the suite", "data")
    order = [at % samples for at in range(size)]
    return {spec.name: arrays[spec.name][order].astype(spec.dtype, copy=False) for spec in specs}


def batches(arrays: Dict[str, Any], specs: List[TensorSpec]) -> Iterator[Dict[str, Any]]:
    """Yield the feeds of one inference each, of `batch_size` samples; what is left over at the end is not fed."""
    size, samples = batch_size(arrays, specs), min(map(len, arrays.values()))
    for at in range(0, samples - size + 1, size):
        yield {spec.name: _slice(arrays[spec.name], spec, at, size).astype(spec.dtype, copy=False) for spec in specs}


def _slice(array: Any, spec: TensorSpec, at: int, size: int) -> Any:
    return array[at : at + size] if _has_batch(array, spec) else array[at]


def _has_batch(array: Any, spec: TensorSpec) -> bool:
    """Whether the input's first axis is that of the samples."""
    return len(spec.shape) == array.ndim


def batch_size(arrays: Dict[str, Any], specs: List[TensorSpec]) -> int:
    """Return how many samples one inference takes: the inputs' fixed first dimension, one where it is dynamic or not there.

    Raises FaultError `bad_data` if an input has no data or other shapes, or if inputs take different numbers.
    """
    sizes = {_checked_size(arrays, spec) for spec in specs}
    if len(sizes) != 1:
        raise FaultError("bad_data", "the model's inputs take {} samples at once".format(sorted(sizes) or "no"), "export it anew", "data")
    return sizes.pop()


def _checked_size(arrays: Dict[str, Any], spec: TensorSpec) -> int:
    array = arrays.get(spec.name)
    if array is None:
        raise FaultError("bad_data", "no data for the model's input {}".format(spec.name), "name an array after it", "data")
    whole = _has_batch(array, spec)
    wanted = spec.shape[1:] if whole else spec.shape
    if len(wanted) != array.ndim - 1 or any(want not in (-1, got) for want, got in zip(wanted, array.shape[1:])):
        message = "input {} takes {}, the data has samples of {}".format(spec.name, spec.shape, list(array.shape[1:]))
        raise FaultError("bad_data", message, "check `data` and `inputs` in the suite", "data")
    return max(spec.shape[0], 1) if whole else 1
