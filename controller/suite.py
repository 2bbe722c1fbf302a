"""The suite: which models, how compressed, on what and how driven, and which budgets they must keep, as a person wrote it down."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, ValidationInfo, WithJsonSchema, model_validator

from compress.records import TorchSource
from controller import gates, strict, yamlfile
from controller.choices import BackendChoice, BackendField, WorkloadChoice, WorkloadField
from controller.gates import GateTable, Limits
from controller.selectors import SelectorText
from controller.strict import FilePath, Name, Record, UniqueNames, Version, quoted
from reports.records import Gate

TASKS = ("classification", "detection", "embedding", "anomaly", "sequence", "none")

Profile = Literal["quick", "standard", "strict"]
DType = Literal["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]

_CODE = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RESOLVED = re.compile(r"python:/.+\.py:[A-Za-z_]\w*")


def _source(value: Any, info: ValidationInfo) -> Any:
    """An absolute path; of a python: source the file becomes one: python:/folder/package/module.py:factory."""
    if isinstance(value, str) and _CODE.fullmatch(value):
        _, module, factory = value.split(":")
        return Path(f"python:{strict.resolve(module.replace('.', '/') + '.py', info)}:{factory}")
    return strict.resolve(value, info)


def _check_source(path: Path) -> Path:
    if path.suffix not in (".onnx", ".tflite") and not _RESOLVED.fullmatch(str(path)):
        raise ValueError("a path ending with .onnx or .tflite expected, or python:package.module:factory")
    return path


def _check_suffix(path: Path, info: ValidationInfo) -> Path:
    suffixes = {"tflite": (".tflite",), "data": (".npz",), "weights": (".pt", ".pth")}[info.field_name or ""]
    if path.suffix not in suffixes:
        raise ValueError(f"a path ending with {' or '.join(suffixes)} expected")
    return path


def _task(value: Any, info: ValidationInfo) -> Any:
    """Of a python: metric the file as an absolute path, as of a source."""
    return str(_source(value, info)) if isinstance(value, str) and _CODE.fullmatch(value) else value


def _check_task(text: str) -> str:
    if text not in TASKS and not _RESOLVED.fullmatch(text):
        raise ValueError(f"no task is called {quoted(text)}; {strict.nearest(text, (*TASKS, 'python:module:function'))}")
    return text


def _recipe(value: Any, info: ValidationInfo) -> Any:
    """A recipe file's absolute path; a named recipe as it is."""
    if isinstance(value, str) and ("/" in value or value.endswith((".yaml", ".yml"))):
        return str(strict.resolve(value, info))
    return strict.check_name(value) if isinstance(value, str) else value


Numbers = Annotated[
    Annotated[float, Tag("number")] | Annotated[tuple[float, ...], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, tuple) else "number"),
]


class InputSpec(Record):
    """One input of a model; what is not said here is read from the model."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """As the source has it, the batch first."""
    dtype: DType | None = None
    layout: Annotated[str, Field(pattern="^[A-Z]{1,6}$")] | None = None
    """What each axis is, such as NCHW."""
    mean: Numbers | None = None
    """What is taken away before dividing by `std`: one number, or one for each channel."""
    std: Numbers | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape and self.layout and len(self.shape) != len(self.layout):
            raise ValueError(f"`layout` {self.layout} has {len(self.layout)} axes, `shape` {len(self.shape)}")
        if any(number <= 0 for number in (self.std if isinstance(self.std, tuple) else (self.std,)) if number is not None):
            raise ValueError("`std` must be greater than 0")
        return self


class Model(Record):
    """A model with its data. Paths are relative to the suite's folder, absolute once read."""

    source: Annotated[Path, BeforeValidator(_source, json_schema_input_type=str), AfterValidator(_check_source)]
    """An .onnx or .tflite file, or python:package.module:factory: a torch module, its file found from the suite's folder."""
    weights: Annotated[FilePath, AfterValidator(_check_suffix)] | None = None
    """A torch module's weights: a state_dict, read with weights_only."""
    tflite: Annotated[FilePath, AfterValidator(_check_suffix)] | None = None
    """The same model as .tflite: spares the conversion."""
    data: Annotated[FilePath, AfterValidator(_check_suffix)] | None = None
    """An .npz file: arrays named after the inputs plus `labels`, prefixed eval_, calib_ or train_."""
    inputs: Mapping[str, InputSpec] = Field(default_factory=dict[str, InputSpec])
    task: Annotated[
        str, BeforeValidator(_task), AfterValidator(_check_task), WithJsonSchema({"anyOf": [{"enum": list(TASKS)}, {"type": "string"}]})
    ] = "none"
    """What its outputs mean: classification, detection, embedding, anomaly, sequence, none (drift only) or python:module:function."""

    @property
    def factory(self) -> str:
        """/folder/package/module.py:factory of a python: source, else empty."""
        return str(self.source).removeprefix("python:") if str(self.source).startswith("python:") else ""

    @property
    def torch(self) -> TorchSource | None:
        """The torch module of a python: source."""
        file, _, factory = self.factory.rpartition(":")
        return TorchSource(Path(file), factory, self.weights) if file else None


class _File(Record):
    """The suite of fleetmark: models, recipes, devices, backends, workloads and gates. Paths are relative to the file's folder."""

    version: Version
    """The version of this format, 1."""
    models: Annotated[Mapping[Name, Model], Field(min_length=1)]
    """The models by name."""
    recipes: Annotated[tuple[Annotated[str, BeforeValidator(_recipe, json_schema_input_type=str)], ...], Field(min_length=1), UniqueNames]
    """How to compress them: named recipes, or paths of recipe files."""
    devices: Annotated[tuple[SelectorText, ...], Field(min_length=1)] = ("all",)
    """Selectors of the inventory's devices: names, groups, key=value tags, all; `!` in front takes away."""
    backends: Annotated[tuple[BackendField, ...], Field(min_length=1), UniqueNames] = (BackendChoice(name="auto"),)
    """The runtimes: auto, names, or {name: ..., options: {...}}."""
    workloads: Annotated[tuple[WorkloadField, ...], Field(min_length=1), UniqueNames] = (WorkloadChoice("single_stream"),)
    """How the models are driven: names, or {name: ...} with options."""
    profile: Profile = "standard"
    """How long each launch measures."""
    launches: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Fresh processes for each cell; by default as many as the profile says."""
    operations: bool | None = None
    """Whether a launch more of each cell times its operations; by default not in profile quick."""
    rate_per_s: Annotated[float, Field(gt=0)] = 1.0
    """The rate of inferences, so many a second, that the report gives power at."""
    gates: GateTable = Field(default_factory=dict[str, Limits])
    """Budgets by selector and metric: a number is a maximum; {min: ...} where more is better."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that was read; `launches` and `operations` are None where the profile decides."""

    models: Mapping[str, Model]
    recipes: tuple[str, ...]
    devices: tuple[str, ...]
    backends: tuple[BackendChoice, ...]
    workloads: tuple[WorkloadChoice, ...]
    profile: Profile
    launches: int | None
    gates: tuple[Gate, ...]
    path: Path
    version: int = 1
    operations: bool | None = None
    rate_per_s: float = 1.0


def load(path: Path) -> Suite:
    """Give the suite in the file; raises ConfigError with every problem that is in it."""
    file = strict.validate(yamlfile.read(path), _File)
    return Suite(
        models=file.models,
        recipes=file.recipes,
        devices=file.devices,
        backends=file.backends,
        workloads=file.workloads,
        profile=file.profile,
        launches=file.launches,
        gates=gates.parse(file.gates),
        path=path,
        version=file.version,
        rate_per_s=file.rate_per_s,
        operations=file.operations,
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return _File.model_json_schema()
