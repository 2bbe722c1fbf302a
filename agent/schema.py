"""The records that cross the wire, and how they are written and read.

Both sides use this one module: a record is a ``typing.NamedTuple``; on the wire it is a JSON object keyed by field name, written by
`dump` and read by `load`, which is strict (no unknown or missing field, no coercion, no NaN or infinity, no array in an object's place).
"""
# JSON is of unknown type until it is loaded.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import json
from typing import Any, Dict, List, NamedTuple, Optional, Union

PROTOCOL = 1

STATUSES = ("valid", "unsteady", "throttled", "failed", "unsupported", "unreachable", "skipped", "cancelled")

REASONS = (
    "unreachable",
    "auth",
    "host_key",
    "no_python",
    "env_missing",
    "no_device",
    "busy",
    "bad_model",
    "bad_data",
    "unsupported_op",
    "convert_fail",
    "compile_fail",
    "verification",
    "accuracy_floor",
    "oom",
    "timeout",
    "deadline",
    "crash",
    "protocol",
    "link_lost",
    "rebooted",
    "disk_full",
    "meter_lost",
    "cancelled",
)

MAX_DEPTH = 32
MAX_WHOLE_FLOAT = 2**1000  # Python's ints have no bounds, its floats do


class SchemaError(ValueError):
    """A document that is not the record it should be; the message says where in it and why."""


class TensorSpec(NamedTuple):
    """One input or output of a model: shape as a list of ints (-1 where dynamic), dtype by its numpy name."""

    name: str
    shape: List[int]
    dtype: str


class ModelFile(NamedTuple):
    """A file of an artifact: the name the runtime expects, and its content by sha256 (hex)."""

    name: str
    sha256: str
    size_bytes: int


class Artifact(NamedTuple):
    """A model as it is shipped: the first file is the one to open; `sha256` identifies all files together."""

    sha256: str
    format: str  # onnx | tflite | openvino | edgetpu | tensorrt
    files: List[ModelFile]


class Workload(NamedTuple):
    """How the model is driven."""

    name: str
    options: Dict[str, Any]


class Cell(NamedTuple):
    """One square of the matrix: device x artifact x backend with its options x workload.

    `artifact` is the artifact's sha256, empty where none could be built.
    """

    device: str
    model: str
    variant: str
    format: str
    artifact: str
    backend: str
    options: Dict[str, Any]
    workload: Workload


class Feed(NamedTuple):
    """How one model input is made from an array of the data file.

    value = (array * scale - mean) / std, per channel on axis 1 where mean and std have more than one entry; then transposed.
    """

    input: str
    array: str
    scale: float
    mean: List[float]
    std: List[float]
    transpose: List[int]  # axes including the sample axis; empty: as it is


class LaunchSpec(NamedTuple):
    """All that a device needs to run one launch: one fresh process measuring one cell."""

    launch: str
    owner: str
    artifact: Artifact
    backend: str
    options: Dict[str, Any]
    workload: Workload
    python: str  # the worker's interpreter; empty: the agent's own
    environment: str  # name of a folder below envs/; empty: what the interpreter has
    environ: Dict[str, str]
    data: str  # sha256 of the .npz with the feeds
    feeds: List[Feed]
    evaluate: bool  # after measuring, run every sample and keep the outputs
    min_duration_s: float
    min_queries: int
    warmup_min_s: float
    warmup_min_queries: int
    warmup_max_s: float
    max_samples: int
    deadline_s: float  # from the worker's start
    settle_max_temp_c: Optional[float] = None  # None: the launch does not wait
    settle_timeout_s: float = 0.0
    power: Optional[Dict[str, Any]] = None  # the device's power sensor: `driver` and its options; None: no power is sampled
    idle_s: float = 0.0  # how long the device does nothing before and after, for a meter that somebody else reads
    profiled: int = 0  # inferences whose operations are timed, in the place of all measuring; 0: an ordinary launch


class Availability(NamedTuple):
    """Whether a backend can be used here, with which runtime distribution and on which of its devices."""

    backend: str
    ok: bool
    runtime: str
    version: str
    devices: List[str]
    reason: str


class Conditions(NamedTuple):
    """The state of the device at one moment; None where it cannot be observed."""

    when: str  # before | after
    wall_time_s: float
    monotonic_s: float
    load_1m: Optional[float]
    memory_available_bytes: Optional[int]
    cpu_busy_share: Optional[float]
    temps_c: Dict[str, float]
    clocks_hz: Dict[str, float]
    governors: List[str]
    limits_c: Dict[str, float]  # by the names of temps_c: where the device slows itself down
    peaks_c: Dict[str, float]  # after: the highest of temps_c in the measured window
    throttle: Dict[str, int]  # flags and counters since boot: get_throttled, soctherm_oc/oc1_event_cnt, core_throttle_count, ...
    usb_mbps: Dict[str, float]  # of each accelerator stick, by kind and port: "ncs2 2-1.4"
    power_mode: str  # a Jetson's, by name
    shared_gpu_bytes: Optional[int]  # what a Jetson's GPU has of the memory (NvMapMemUsed)


class Measurement(NamedTuple):
    """A metric's raw values of one launch, few enough to travel in the event itself."""

    metric: str
    unit: str
    values: List[float]


class SampleFile(NamedTuple):
    """Raw values that travel as a file: `count` little-endian values of `dtype`, every `stride`-th of those taken."""

    metric: str
    unit: str
    dtype: str  # int64 | float32
    shape: List[int]
    stride: int
    sha256: str
    size_bytes: int


class Fault(NamedTuple):
    """Why something gave no number: a code of REASONS, the phase it happened in, one line of why, one of what to do."""

    code: str
    phase: str
    message: str
    next: str


class Event(NamedTuple):
    """One line of a spool."""

    v: int
    seq: int
    t: float  # the device's monotonic clock, seconds
    type: str  # hello | phase | conditions | sample | measure | operations | log | fault | end
    data: Dict[str, Any]


class FaultError(Exception):
    """An error that is already a Fault; raised on both sides."""

    def __init__(self, code: str, message: str, next_step: str = "", phase: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(code, phase, message, next_step)


def dump(record: Any) -> Any:
    """The record as JSON-ready objects, NamedTuples as dicts by field name."""
    if hasattr(record, "_fields"):
        return {name: dump(getattr(record, name)) for name in record._fields}
    if isinstance(record, dict):
        return {str(key): dump(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [dump(value) for value in record]
    return record


def encode(record: Any) -> bytes:
    """The record as canonical JSON: sorted keys, no spaces, ASCII, one line; refuses NaN and infinity."""
    return json.dumps(dump(record), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def fingerprint(record: Any) -> str:
    """The sha256 (hex) of the record's canonical JSON."""
    return hashlib.sha256(encode(record)).hexdigest()


def cell_id(cell: Cell) -> str:
    """A cell's identity: the first 16 hex digits of its fingerprint."""
    return fingerprint(cell)[:16]


def decode(text: Union[bytes, str]) -> Any:
    """JSON without NaN and infinity, at most MAX_DEPTH deep; raises SchemaError."""
    try:
        document = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(document, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise SchemaError("not JSON: {}".format(error)) from None
    _check_depth(value, MAX_DEPTH)
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError("{} is not a number that may cross the wire".format(name))


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):  # what 1e999 becomes
        raise ValueError("a number is too large")
    return value


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise SchemaError("nested deeper than {}".format(MAX_DEPTH))
    children: List[Any] = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    for child in children:
        _check_depth(child, left - 1)


def load(kind: Any, value: Any, where: str = "") -> Any:
    """The record of type `kind` from decoded JSON; raises SchemaError that names the field."""
    if hasattr(kind, "_fields"):
        return _load_record(kind, value, where)
    origin, arguments = _origin(kind)
    if origin is Union:  # Optional
        return None if value is None else load(arguments[0], value, where)
    if origin is list:
        _expect(isinstance(value, list), where, "a list", value)
        return [load(arguments[0], item, "{}[{}]".format(where, at)) for at, item in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), where, "an object", value)
        return {key: load(arguments[1], item, "{}[{}]".format(where, _shown(key))) for key, item in value.items()}
    return _load_scalar(kind, value, where)


def _origin(kind: Any) -> Any:
    """(origin, arguments) of a typing construct; Python 3.6 names its origins List and Dict, later ones list and dict."""
    origin: Any = getattr(kind, "__origin__", None)
    plain = list if origin is List else dict if origin is Dict else origin
    return plain, getattr(kind, "__args__", ())


def _load_record(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where or kind.__name__, "an object", value)
    unknown = sorted(set(value) - set(kind._fields))
    missing = sorted(set(kind._fields) - set(value))
    if unknown or missing:
        what = "unknown {}".format(_shown(unknown)) if unknown else "missing {}".format(_shown(missing))
        raise SchemaError("{}: {}".format(where or kind.__name__, what))
    hints = kind.__annotations__
    return kind(**{name: load(hints[name], value[name], "{}.{}".format(where or kind.__name__, name)) for name in kind._fields})


def _load_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        _expect(abs(value) <= MAX_WHOLE_FLOAT, where, "a finite float", value)
        return float(value)
    _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), where, kind.__name__, value)
    return value


def _shown(name: Any) -> str:
    """What somebody else chose as a name, as it may stand in a message: short and in printable ASCII."""
    return ascii(name)[:80]


def _expect(good: bool, where: str, what: str, value: Any) -> None:
    if not good:
        raise SchemaError("{}: {} expected, not {}".format(where, what, type(value).__name__))
