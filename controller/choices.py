"""What a suite chooses besides models: backends with their options, and workloads with theirs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, TypeAdapter, ValidationInfo, WithJsonSchema, model_validator

import backends
from controller import strict
from controller.inventory import BACKENDS, check_backend
from controller.strict import Record, quoted
from controller.targets import PROCESSOR

_NOT_OF_AUTO = "profile"  # it makes inferences slower, and a launch of its own times operations anyway
_KINDS = {int: "a whole number from 1", str: "text", list: "a list", bool: "true or false"}


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _with_lists(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """As JSON has it: lists in the place of tuples."""
    return json.loads(json.dumps(options))


class BackendChoice(Record):
    """A backend with its options; `auto` is every backend that the device offers and the artifact fits."""

    name: Annotated[str, WithJsonSchema({"anyOf": [{"enum": ["auto", *BACKENDS]}, {"type": "string"}]})]
    options: Annotated[Mapping[str, Any], AfterValidator(_with_lists)] = Field(default_factory=dict[str, Any])
    """What the backend takes: threads, providers, ..."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = _known_options(self.name if self.name == "auto" else check_backend(self.name))
        if known is not None:
            unknown = {("options", key, "[key]"): _unknown(key, known) for key in self.options.keys() - known.keys()}
            wrong = {("options", key): _wrong(key, self.options[key], known[key]) for key in self.options.keys() & known.keys()}
            strict.refuse({**unknown, **wrong})
        return self


def _known_options(backend: str) -> Mapping[str, type] | None:
    """A backend's options with their types; for `auto` those that all for processors have; None where only the backend itself knows."""
    if backend == "auto":
        first, *others = (backends.get(name).options for name in PROCESSOR)
        return {key: kind for key, kind in first.items() if key != _NOT_OF_AUTO and all(key in other for other in others)}
    return backends.get(backend).options if backend in backends.NAMES else None


def _unknown(key: str, known: Mapping[str, type]) -> str:
    return f"unknown option {quoted(key)}: {strict.nearest(key, known)}"


def _wrong(key: str, value: object, kind: type) -> str:
    fits = type(value) is kind and (value is False or not isinstance(value, int) or value >= 1)
    return "" if fits else f"`{key}`: {_KINDS[kind]} expected"


@dataclass(frozen=True, slots=True)
class WorkloadChoice:
    """A workload with its options, times in seconds."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


class _Workload(Record):
    """A workload as it stands in the file."""

    def choice(self) -> WorkloadChoice:
        options = self.model_dump(exclude_none=True)
        return WorkloadChoice(options.pop("name"), options)


class _SingleStream(_Workload):
    """The next query when the last one is done."""

    name: Literal["single_stream"]


class _MultiStream(_Workload):
    """Several samples in a query, back to back."""

    name: Literal["multi_stream"]
    samples: Annotated[int, Field(ge=1, le=1024)] = 8
    """Samples in a query."""


class _Offline(_Workload):
    """All samples at once, batched."""

    name: Literal["offline"]
    batch: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Samples in a batch; by default the model's own number, 1 where it leaves that open."""


_Bound = Annotated[float, Field(gt=0)] | None


class _Server(_Workload):
    """Seeded Poisson arrivals, the queue included in the latency; the highest rate whose p99 stays within the bound."""

    name: Literal["server"]
    p99_s: _Bound = None
    p99_ms: _Bound = None
    p99_us: _Bound = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self._bounds()) != 1:
            raise ValueError("`server` needs one bound: `p99_ms`, `p99_s` or `p99_us`")
        return self

    def choice(self) -> WorkloadChoice:
        return WorkloadChoice("server", {"p99_s": self._bounds()[0]})

    def _bounds(self) -> list[float]:
        bounds = ((self.p99_s, 1), (self.p99_ms, 1e3), (self.p99_us, 1e6))
        return [bound / per_second for bound, per_second in bounds if bound is not None]


class _Sustained(_Workload):
    """single_stream for many minutes."""

    name: Literal["sustained"]
    duration_s: Annotated[float, Field(ge=60, le=86400)] = 600.0
    """In seconds."""


_FORMS = (_SingleStream, _MultiStream, _Offline, _Server, _Sustained)
_AnyWorkload = Annotated[_SingleStream | _MultiStream | _Offline | _Server | _Sustained, Discriminator("name")]
_PlainName = Literal["single_stream", "multi_stream", "offline", "sustained"]
_ADAPTER = TypeAdapter[_Workload](_AnyWorkload)


def _workload(value: Any, info: ValidationInfo) -> WorkloadChoice:
    if isinstance(value, dict) and "name" not in value:
        _check_keys(cast(dict[str, object], value))
    return _ADAPTER.validate_python(_named(cast(object, value)), context=info.context).choice()


def _check_keys(fields: Mapping[str, object]) -> None:
    """Where a workload has no name, nothing tells which keys it may have: those of any workload."""
    known = {key for form in _FORMS for key in form.model_fields}
    strict.refuse({(key, "[key]"): f"unknown key {quoted(key)}: {strict.nearest(key, known)}" for key in fields.keys() - known})


BackendField = Annotated[BackendChoice, BeforeValidator(_named, json_schema_input_type=str | BackendChoice)]
WorkloadField = Annotated[WorkloadChoice, BeforeValidator(_workload, json_schema_input_type=_PlainName | _AnyWorkload)]
