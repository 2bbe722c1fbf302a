"""Turns the events of one launch, hostile until checked here, into a record with its raw values."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.operations import Profiled
from agent.power import METER, SENSOR, PowerTrace
from agent.schema import REASONS, Conditions, Event, Fault, FaultError, Measurement, SampleFile, SchemaError, dump, load
from agent.sensors import BOUNDARIES, ENERGY, POWER
from backends import ACCELERATOR, CPU
from controller import limits

METRIC = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
DTYPES = {"int64": np.dtype("<i8"), "float32": np.dtype("<f4")}


@dataclass(frozen=True, slots=True)
class Samples:
    """Raw values of one metric: `array` is int64 or float of any shape; of what was taken, every `stride`-th is here."""

    metric: str
    unit: str
    array: NDArray[Any]
    stride: int = 1


@dataclass(slots=True)
class Collected:
    """What a launch has told so far; `complete` once its spool has ended."""

    samples: dict[str, Samples] = field(default_factory=dict[str, Samples])
    before: Conditions | None = None
    after: Conditions | None = None
    fault: Fault | None = None
    log: str = ""
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    operations: list[Profiled] | None = None  # of a launch that timed them
    complete: bool = False


def collect(events: Iterable[Event], fetch: Callable[[SampleFile], bytes], *, profiled: bool = False) -> Collected:
    """Give the record of a launch from its whole spool, one that timed operations if `profiled`; `fetch` brings a sample file's content.

    Raises FaultError: `protocol` for anything that is not as agreed, `rebooted` or `crash` for a spool that ends without its end.
    """
    launch = Collected()
    for event in events:
        try:
            (_take_operations if profiled and event.type == "operations" else _take)(launch, event, fetch)
        except SchemaError as error:
            raise FaultError("protocol", f"event {event.seq} ({event.type[:20]!r}): {error}", "run again", "follow") from error
    if launch.complete and launch.fault is None and not (_is_profile(launch) if profiled else _are_times(launch.samples.get("latency_ns"))):
        what = "whole times of its operations" if profiled else "latencies"
        launch.fault = Fault("protocol", "follow", f"the launch ended without a fault and without {what}", "run again")
    if "runtime_ns" in launch.samples and not _are_times(launch.samples["runtime_ns"]):
        raise FaultError("protocol", "runtime_ns: not times in nanoseconds", "run again", "follow")
    if not launch.complete:
        raise FaultError("link_lost", "the spool ended without its end", "fleetmark run --resume", "follow")
    return launch


def _are_times(found: Samples | None) -> bool:
    return found is not None and found.array.dtype.kind == "i" and found.array.ndim == 1 and bool((found.array >= 0).all())


def _is_profile(launch: Collected) -> bool:
    """Whether there are operations, inferences' times, and where there are operations' times, the same number of each."""
    inferences, times = launch.samples.get("inference_ns"), launch.samples.get("operation_ns")
    if launch.operations is None or inferences is None or not _are_times(inferences):
        return False
    return times is None or (_are_times(times) and bool(launch.operations) and len(times.array) % len(launch.operations) == 0)


def _take(launch: Collected, event: Event, fetch: Callable[[SampleFile], bytes]) -> None:
    match event.type:
        case "conditions":
            conditions: Conditions = load(Conditions, event.data)
            launch.before, launch.after = (conditions, launch.after) if conditions.when == "before" else (launch.before, conditions)
        case "measure":
            _add(launch, _measurement(load(Measurement, event.data)))
        case "sample":
            _take_file(launch, load(SampleFile, event.data), fetch)
        case "fault":
            launch.fault = _fault(load(Fault, event.data))
        case "log":
            launch.log = _text(event.data.get("text"), limits.MAX_LOG_CHARACTERS)
        case "phase" if "details" in event.data:
            told = _details(event.data["details"])
            launch.details = {key: value for key, value in told.items() if key not in (SENSOR, METER)}
        case "sensor":
            launch.details = {**launch.details, SENSOR: _power(load(PowerTrace, event.data))}
        case "end":
            launch.complete = True
        case "lost":
            raise _lost(event)
        case _:
            pass


def _take_file(launch: Collected, file: SampleFile, fetch: Callable[[SampleFile], bytes]) -> None:
    _check_file(file)
    if sum(samples.array.nbytes for samples in launch.samples.values()) + file.size_bytes > limits.MAX_FILES_BYTES:
        raise SchemaError(f"{file.metric}: the files are too large together")
    _add(launch, _array(file, fetch(file)))


def _take_operations(launch: Collected, event: Event, _: object) -> None:
    """Those of a launch that timed them, which come in any number of events."""
    found: list[Profiled] = load(list[Profiled], event.data.get("operations"), "operations")
    for one in found:
        if one.device not in (CPU, ACCELERATOR, "") or max(map(len, one)) > limits.MAX_OPERATION_CHARACTERS:
            raise SchemaError(f"operation {one.name[:40]!r}: its texts are too long, or its device is none that is known")
    launch.operations = [*(launch.operations or ()), *found]
    if len(launch.operations) > limits.MAX_OPERATIONS:
        raise SchemaError("too many operations")


def _lost(event: Event) -> FaultError:
    if event.data.get("code") == "rebooted":
        return FaultError("rebooted", "the device rebooted during the launch", "it is measured again", "follow")
    return FaultError("crash", "the launch's supervisor is gone without a word", "it is measured again", "follow")


def _add(launch: Collected, samples: Samples) -> None:
    if samples.metric in launch.samples or len(launch.samples) >= limits.MAX_FILES:
        raise SchemaError(f"{samples.metric}: told twice, or too many metrics")
    launch.samples[samples.metric] = samples


def _measurement(found: Measurement) -> Samples:
    _check_metric(found.metric)
    if len(found.values) > limits.MAX_VALUES or not all(map(math.isfinite, found.values)):
        raise SchemaError(f"{found.metric}: too many values, or not finite")
    return Samples(found.metric, _text(found.unit, 16), np.array(found.values, dtype=np.float64))


def _check_metric(name: str) -> None:
    if not METRIC.match(name) or name.startswith(f"{METER}_"):  # which this machine reads, not a device
        raise SchemaError(f"{name[:80]!r} is not a metric's name")


def _check_file(file: SampleFile) -> None:
    _check_metric(file.metric)
    shaped = 1 <= len(file.shape) <= 8 and file.shape[0] > 0 and all(0 <= size <= limits.MAX_FILE_BYTES for size in file.shape)
    if file.dtype not in DTYPES or not shaped or not 1 <= file.stride <= limits.MAX_WHOLE:
        raise SchemaError(f"{file.metric}: dtype {file.dtype[:20]!r}, shape {str(file.shape)[:80]}, stride {file.stride} is refused")
    if math.prod(file.shape) * DTYPES[file.dtype].itemsize != file.size_bytes or file.size_bytes > limits.MAX_FILE_BYTES:
        raise SchemaError(f"{file.metric}: {file.size_bytes} bytes do not fit shape {file.shape}, or are too many")


def _array(file: SampleFile, content: bytes) -> Samples:
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise SchemaError(f"{file.metric}: the file's content is not what its sha256 says")
    array = np.frombuffer(content, dtype=DTYPES[file.dtype]).reshape(file.shape)
    return Samples(file.metric, _text(file.unit, 64), array, file.stride)


def _fault(fault: Fault) -> Fault:
    if fault.code not in REASONS:
        raise SchemaError(f"{fault.code[:40]!r} is not a reason code")
    return Fault(fault.code, _text(fault.phase, 40), _text(fault.message), _text(fault.next))


def _power(trace: PowerTrace) -> dict[str, Any]:
    if trace.boundary not in BOUNDARIES or trace.kind not in (POWER, ENERGY):
        raise SchemaError(f"a sensor of boundary {trace.boundary[:20]!r} and kind {trace.kind[:20]!r} is refused")
    return _details(dump(trace._replace(driver=_text(trace.driver, 64), problem=_text(trace.problem))))


def _text(value: object, most: int = limits.MAX_TEXT_CHARACTERS) -> str:
    if not isinstance(value, str):
        raise SchemaError(f"text expected, not {type(value).__name__}")
    return value[-most:]


def _details(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or len(json.dumps(value)) > limits.MAX_DETAILS_CHARACTERS:
        raise SchemaError("details: an object of moderate size expected")
    return value  # pyright: ignore[reportUnknownVariableType] - JSON
