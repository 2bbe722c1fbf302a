"""The workloads in real launches: what each tells, and what a model cannot do."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import Agent, fault
from onnx import TensorProto, helper

from agent.schema import Workload


@cache
def open_model() -> bytes:
    """image [n, 1, 4, 4] to twice the image, of any number of samples."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 4, 4]) for name in ("image", "twice")]
    graph = helper.make_graph([helper.make_node("Add", ["image", "image"], ["twice"])], "open", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@cache
def stiff_model() -> bytes:
    """As `open_model` says of itself, but a reshape inside takes one sample."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *rest]) for name, rest in (("image", [1, 4, 4]), ("y", [16]))]
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1, 16])
    node = helper.make_node("Reshape", ["image", "shape"], ["y"])
    graph = helper.make_graph([node], "stiff", values[:1], values[1:], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def told(events: list[dict[str, Any]]) -> dict[str, float]:
    assert not [event["data"] for event in events if event["type"] == "fault"], events
    return {event["data"]["metric"]: event["data"]["values"][0] for event in events if event["type"] == "measure"}


def files(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The shape of each sample file by metric."""
    return {event["data"]["metric"]: event["data"]["shape"] for event in events if event["type"] == "sample"}


def test_multi_stream_runs_several_samples_a_query(tmp_path: Path) -> None:
    """Its latencies are those of queries, and it tells how many samples each has: eight unless the suite says otherwise."""
    agent = Agent(tmp_path)
    events = agent.run(workload=Workload("multi_stream", {"samples": 3}), max_samples=200_000)
    measured = told(events)
    assert measured["samples_per_query"] == 3
    assert files(events)["latency_ns"] == [measured["queries"]]
    assert told(agent.run(workload=Workload("multi_stream", {})))["samples_per_query"] == 8


@pytest.mark.parametrize(("options", "batch"), [({}, 1), ({"batch": 4}, 4), ({"batch": 9}, 9)])
def test_offline_runs_batches_of_an_open_model(tmp_path: Path, options: dict[str, Any], batch: int) -> None:
    """Also of more samples than the data has; the evaluation afterwards still sees each of the six samples once."""
    events = Agent(tmp_path).run(model=open_model(), workload=Workload("offline", options))
    assert told(events)["samples_per_query"] == batch
    assert files(events)["output_0"] == [6, 1, 4, 4]


def test_offline_takes_the_batch_that_a_model_has(tmp_path: Path) -> None:
    """A fixed first dimension is the batch, named or not; another one is unsupported, with the number."""
    agent = Agent(tmp_path)
    for options in ({}, {"batch": 1}):
        assert told(agent.run(workload=Workload("offline", options)))["samples_per_query"] == 1
    code, _, message = fault(agent.run(workload=Workload("offline", {"batch": 8})))
    assert (code, message) == ("unsupported_op", "input image takes 1 samples at once, not 8")


def test_a_model_that_only_says_that_its_batch_is_open_is_unsupported(tmp_path: Path) -> None:
    """The runtime's own refusal is the reason."""
    code, phase, message = fault(Agent(tmp_path).run(model=stiff_model(), workload=Workload("offline", {"batch": 2})))
    assert (code, phase) == ("unsupported_op", "first_inference")
    assert message.startswith("the model does not run 2 samples at once: ")


def test_server_tells_the_rate_that_it_found(tmp_path: Path) -> None:
    """A generous bound has a rate, below that of calls back to back; the latencies are those at the rate, the seed is told."""
    events = Agent(tmp_path).run(workload=Workload("server", {"p99_s": 0.2}), min_duration_s=0.02, min_queries=300)
    measured = told(events)
    assert 0 < measured["server_rate_per_s"] < measured["server_failing_rate_per_s"]
    assert measured["server_trials"] > 3
    assert files(events)["latency_ns"][0] <= measured["queries"] >= 300
    assert measured["arrival_seed"] == int(measured["arrival_seed"])


def test_a_bound_that_no_rate_keeps_is_a_result(tmp_path: Path) -> None:
    """Rate 0 with the latencies of calls back to back, not a fault."""
    measured = told(Agent(tmp_path).run(workload=Workload("server", {"p99_s": 1e-9}), min_queries=300))
    assert (measured["server_rate_per_s"], measured["server_trials"]) == (0, 0)


def test_a_search_keeps_the_deadline(tmp_path: Path) -> None:
    """One that would take hours ends in time, with what it has and a note."""
    measured = told(Agent(tmp_path).run(workload=Workload("server", {"p99_s": 0.02}), min_duration_s=3600.0, deadline_s=3.0))
    assert measured["window_cut_short"] == 1


def test_data_without_samples_is_bad_data(tmp_path: Path) -> None:
    """Whatever the batch."""
    buffer = io.BytesIO()
    np.savez(buffer, image=np.zeros((0, 1, 4, 4), np.float32))
    launch = {"model": open_model(), "data": buffer.getvalue(), "workload": Workload("offline", {"batch": 4})}
    assert fault(Agent(tmp_path).run(**launch))[0] == "bad_data"
