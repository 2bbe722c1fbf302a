"""What a launch tells, hostile until checked, as the record of a launch."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.schema import REASONS, Event, FaultError, SampleFile, dump
from controller.collect import collect

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SIZES = st.lists(st.integers(-1, 3) | st.integers(), max_size=9)
FILE = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(["latency_ns", "output_0", "../x", "Z"]),
        "unit": st.text(max_size=20),
        "dtype": st.sampled_from(["int64", "float32", "object"]),
        "shape": SIZES,
        "stride": st.integers(-1, 2) | st.integers(),
        "sha256": st.just(hashlib.sha256(bytes(24)).hexdigest()),
        "size_bytes": st.sampled_from([0, 24]) | st.integers(),
    }
)
MEASURE = st.fixed_dictionaries({"metric": st.sampled_from(["latency_ns", "rate"]), "unit": st.text(), "values": st.lists(st.floats())})
FAULT = st.fixed_dictionaries({"code": st.sampled_from(REASONS) | st.text(), "phase": JSON, "message": st.text(), "next": st.text()})
TYPES = st.sampled_from(["conditions", "measure", "sample", "fault", "log", "phase", "end", "lost", "news"])
DATA = FILE | MEASURE | FAULT | st.dictionaries(st.sampled_from(["text", "details", "code", "name"]), JSON, max_size=3)


def event(kind: str, data: Any) -> Event:
    return Event(v=1, seq=0, t=0.0, type=kind, data=data)


def file(metric: str, values: Any, **changes: Any) -> Event:
    array = np.asarray(values)
    content = array.tobytes()
    found = SampleFile(metric, "ns", array.dtype.name, list(array.shape), 1, hashlib.sha256(content).hexdigest(), len(content))
    return event("sample", dump(found._replace(**changes)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(event, TYPES, DATA), max_size=5))
def test_hostile_events_are_a_record_or_a_fault(events: list[Event]) -> None:
    """Whatever a device tells, collecting gives a launch that has its end, with a fault or with latencies, or raises FaultError."""
    try:
        launch = collect(events, lambda _: bytes(24))
    except FaultError as error:
        code = error.fault.code
    else:
        assert launch.complete
        code = launch.fault.code if launch.fault else ""
        assert code or launch.samples["latency_ns"].array.dtype == np.int64
    assert code in ("", *REASONS)


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 2**63},
        {"stride": 0},
        {"shape": []},
        {"shape": [0], "size_bytes": 0},
        {"shape": [10**40, 0], "size_bytes": 0},
        {"shape": [-3, -1]},
        {"size_bytes": 23},
        {"dtype": "float64"},
        {"sha256": "0" * 64},
    ],
)
def test_a_sample_file_that_lies_is_refused(changes: dict[str, Any]) -> None:
    """A sample file whose description does not fit its content, or could not be stored, is `protocol`."""
    content = np.arange(3).tobytes()
    with pytest.raises(FaultError) as caught:
        collect([file("latency_ns", np.arange(3), **changes), event("end", {})], lambda _: content)
    assert caught.value.fault.code == "protocol"


@pytest.mark.parametrize("values", [None, [-1, 5], [[1], [2]], np.ones(3, np.float32)])
def test_a_launch_without_latencies_is_not_valid(values: Any) -> None:
    """A launch that ends well but has no latencies, or such as no clock gives, has the fault `protocol`."""
    events = [] if values is None else [file("latency_ns", values)]
    launch = collect([*events, event("end", {})], lambda _: np.asarray(values).tobytes())
    assert launch.fault is not None
    assert launch.fault.code == "protocol"


@pytest.mark.parametrize("values", [[-1, 5], [[1], [2]], np.ones(3, np.float32)])
def test_times_that_no_clock_gives_are_refused(values: Any) -> None:
    """What a device says of its runtime's own clock is held to what a clock can say."""
    good = np.array([1, 2])
    contents = {name: np.asarray(value).tobytes() for name, value in (("latency_ns", good), ("runtime_ns", values))}
    events = [file("latency_ns", good), file("runtime_ns", values), event("end", {})]
    with pytest.raises(FaultError, match="runtime_ns"):
        collect(events, lambda sample: contents[sample.metric])


def test_a_whole_launch_is_as_it_was_told() -> None:
    """Latencies arrive bit by bit as the device wrote them, and the launch has no fault."""
    values = np.array([3, 1, 2**40])
    launch = collect([file("latency_ns", values), event("end", {})], lambda _: values.tobytes())
    assert launch.fault is None
    assert launch.samples["latency_ns"].array.tolist() == values.tolist()
