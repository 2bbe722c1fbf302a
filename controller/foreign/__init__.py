"""Files of other benchmark programs, read as what they tell: hostile until checked here, never more than the program printed.

Each module reads one program's files by `read(source) -> Reading`.
"""

import hashlib
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.schema import Workload
from controller.errors import FleetmarkError

TOOLS = {"benchmark_app": "openvino", "benchmark_model": "tflite", "trtexec": "tensorrt", "edgetpu_compiler": "edgetpu"}
"""The programs whose files are read, each with the backend that it measures."""

MAX_BYTES = 64 << 20
MAX_SAMPLES = 200_000  # as of our own launches
SINGLE_STREAM = Workload("single_stream", {})

MAX_NUMBER = 1e15  # what a table and its readers hold as a whole number; in microseconds 30 years

_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """A file with its text; `sha256` is that of its bytes."""

    path: Path
    text: str
    sha256: str

    def refusal(self, line: int, what: str, mend: str) -> FleetmarkError:
        """An error that names the file, the line (0: all of it), and what to do."""
        return FleetmarkError(f"{self.path}{f':{line}' if line else ''}: {what}", next=mend)

    def number(self, text: str, line: int, what: str) -> float:
        """A number from 0 to MAX_NUMBER; raises FleetmarkError."""
        found = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
        if not found <= MAX_NUMBER:
            raise self.refusal(
                line, f"{what} is {text[:40]!r}, no number from 0 to {MAX_NUMBER:g}", "import the file as the program wrote it"
            )
        return found


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file tells. `values` maps metrics of the table to one value in their unit, or is raw as in a LaunchRecord, 1-D float64.

    `about` has a sentence on a metric that is to be told beside its value, such as its spread; of raw values every `stride`-th is here.
    """

    values: Mapping[str, NDArray[np.float64]]
    workload: Workload = SINGLE_STREAM
    about: Mapping[str, str] = field(default_factory=dict[str, str])
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    notes: tuple[str, ...] = ()
    stride: int = 1


def read(path: Path, tool: str) -> tuple[Source, Reading]:
    """Give a file of one of TOOLS and what it tells; raises FleetmarkError with file, line and what to do."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FleetmarkError(f"cannot read {path}: {error.strerror}", next="check the path") from error
    source = Source(path, content.decode("utf-8", "replace"), hashlib.sha256(content).hexdigest())
    if len(content) > MAX_BYTES:
        raise source.refusal(0, f"larger than {MAX_BYTES >> 20} MiB", "measure for less time, or import an excerpt that is whole")
    found: Reading = importlib.import_module(f"controller.foreign.{tool}").read(source)
    return source, found


def one(value: float) -> NDArray[np.float64]:
    """A single value as a Reading has it."""
    return np.array([value])
