"""int8 for OpenVINO with accuracy control: what costs too much goes back to float."""
# nncf and openvino are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.schema import FaultError
from compress.records import Samples
from compress.techniques import Applied, Technique, Workspace
from compress.techniques.openvino import StaticInt8Params, nncf, read, save, settings

LABEL = "fleetmark label"


class AccuracyControlParams(StaticInt8Params):
    """How much may be lost."""

    max_drop_pp: Annotated[float, Field(gt=0, le=100)] = 0.5
    """By how many percentage points the accuracy on held-out samples may fall."""


class OpenvinoAccuracyControl(Technique[AccuracyControlParams]):
    """nncf quantises all, ranks operations by what they cost on held-out samples, and turns the worst back until the rest costs less.

    A. Kozlov et al., "Neural Network Compression Framework for fast model inference" (2020).
    """

    def apply(self, source: Path, params: AccuracyControlParams, context: Workspace) -> Applied:
        """The IR, inputs and outputs float32; raises FaultError `unsupported_op` where nothing stays quantised."""
        library, feeds = nncf(), list(context.batches())
        assert context.held_out is not None  # noqa: S101 - it needs labels, `build` saw to it
        model = library.quantize_with_accuracy_control(
            read(source),
            library.Dataset(feeds),
            library.Dataset(_labelled(context.held_out, list(context.calibration), context.batch)),
            validation_fn=_accuracy,
            max_drop=params.max_drop_pp / 100,
            subset_size=len(feeds),
            advanced_quantization_parameters=(chosen := settings(params))["advanced_parameters"],
            preset=chosen["preset"],
        )
        quantisers = sum(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
        if not quantisers:
            message = f"int8-accuracy-control leaves nothing in int8 that costs at most {params.max_drop_pp:g} points"
            raise FaultError("unsupported_op", message, "raise max_drop_pp, or give calibration samples like the real ones", "compress")
        return Applied(save(model, context.folder), told={"quantisers": quantisers})


def _labelled(samples: Samples, names: list[str], batch: int) -> list[dict[str, Any]]:
    """Feeds of one inference each, with the labels under a name of their own; an incomplete last batch is left out."""
    if samples.labels is None or len(samples.labels) < batch:
        raise FaultError("bad_data", f"the model takes {batch} samples at once, fewer are held out", "add held_ arrays", "compress")
    arrays = samples.feeds if set(names) == set(samples.feeds) else dict(zip(names, samples.feeds.values(), strict=True))
    arrays = {**arrays, LABEL: samples.labels}
    return [{name: array[at : at + batch] for name, array in arrays.items()} for at in range(0, len(samples.labels) - batch + 1, batch)]


def _accuracy(model: Any, batches: Iterable[Mapping[str, NDArray[Any]]]) -> tuple[float, list[float]]:
    """The share of samples whose largest logit is their label's, and 0 or 1 for each."""
    hits: list[float] = []
    for batch in batches:
        labels = batch[LABEL]
        logits = np.asarray(model({name: array for name, array in batch.items() if name != LABEL})[0]).reshape(len(labels), -1)
        hits += (logits.argmax(axis=1) == labels).astype(float).tolist()
    return float(np.mean(hits)), hits


TECHNIQUES = (
    OpenvinoAccuracyControl("int8-accuracy-control", "openvino", params=AccuracyControlParams, needs_data=True, needs_labels=True),
)
