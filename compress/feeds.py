"""Arrays of samples, checked against a model's inputs and brought into its layout."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError, TensorSpec


def arrange(
    specs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[np.generic]], transpose: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[np.generic]]:
    """The arrays as the model is fed: by its own input names, transposed, of its dtype, samples on axis 0.

    An array belongs to the input of its name; with one of each the name does not matter (TFLite conversion changes it).
    Raises FaultError `bad_data` that names the array, the shape it has and the one it should have.
    """
    fed = {spec.name: _one(spec, *_array_for(spec, specs, arrays), transpose) for spec in specs}
    counts = {name: len(array) for name, array in fed.items()}
    if len(set(counts.values())) > 1:
        raise _bad(f"the inputs have different numbers of samples: {counts}")
    return fed


def batch(specs: Sequence[TensorSpec]) -> int:
    """How many samples the model takes at once: its fixed first dimension, or 1."""
    return max([1, *(spec.shape[0] for spec in specs if spec.shape)])


def _array_for(spec: TensorSpec, specs: Sequence[TensorSpec], arrays: Mapping[str, NDArray[np.generic]]) -> tuple[str, NDArray[np.generic]]:
    if spec.name in arrays:
        return spec.name, arrays[spec.name]
    if len(specs) == len(arrays) == 1:
        return next(iter(arrays.items()))
    raise _bad(f"no array for the model's input {spec.name!r}; there are {sorted(arrays)}")


def _one(spec: TensorSpec, name: str, array: NDArray[np.generic], transpose: Mapping[str, Sequence[int]]) -> NDArray[np.generic]:
    axes = transpose.get(name, ())
    if axes and sorted(axes) != list(range(array.ndim)):
        raise _bad(f"array {name!r} has shape {list(array.shape)}, which axes {list(axes)} do not transpose")
    laid_out = array.transpose(axes) if axes else array
    wanted = spec.shape[1:]
    fits = laid_out.ndim == len(spec.shape) and all(want in (-1, got) for want, got in zip(wanted, laid_out.shape[1:], strict=True))
    if not fits:
        after = f" ({list(laid_out.shape)} transposed)" if axes else ""
        raise _bad(f"array {name!r} has shape {list(array.shape)}{after}, the model's input {spec.name!r} takes {['samples', *wanted]}")
    if laid_out.dtype.kind == "f" and not np.isfinite(laid_out).all():
        raise _bad(f"array {name!r} holds NaN or infinity")
    return np.ascontiguousarray(laid_out, spec.dtype)


def _bad(message: str) -> FaultError:
    return FaultError("bad_data", message, "mend the data file, or `inputs:` in the suite", "compress")
