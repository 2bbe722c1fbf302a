"""A suite of one model that was named on the command line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.choices import BackendChoice, WorkloadChoice
from controller.errors import FleetmarkError
from controller.suite import Model, Suite

SUFFIXES = (".onnx", ".tflite")
NAME_CHARACTERS = "A-Za-z0-9._-"


def is_model(text: str) -> bool:
    """Whether a text names a model and not a suite: an .onnx, a .tflite, or python:package.module:factory."""
    return text.startswith("python:") or Path(text).suffix in SUFFIXES


def suite(text: str, given: Mapping[str, Any], recipes: Sequence[str], backends: Sequence[str] = ("auto",)) -> Suite:
    """The suite; `given` are further fields of its model (data, tflite, weights, task). Raises FleetmarkError.

    The model is called as its file is, in the characters that a name may have.
    """
    fields = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
    fields.setdefault("task", "classification" if fields.get("data") else "none")
    try:
        model = Model.model_validate({"source": text, **fields})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise FleetmarkError(f"{where}: {detail['msg'].removeprefix('Value error, ')}", next="see --help") from None
    path = model.torch.file if model.torch else model.source
    return Suite(
        models={re.sub(f"[^{NAME_CHARACTERS}]", "_", path.stem).lstrip("._-") or "model": model},
        recipes=tuple(recipes),
        devices=("all",),
        backends=tuple(BackendChoice(name=name) for name in backends),
        workloads=(WorkloadChoice("single_stream"),),
        profile="quick",
        launches=None,
        gates=(),
        path=path,
    )
