"""The agent's zipapp in a folder of its own, spoken to as the controller does, for tests."""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent import lease, spool
from agent.cache import Cache
from agent.schema import Artifact, Feed, LaunchSpec, ModelFile, Workload, encode
from controller.deploy import build_zipapp

OWNER = "test"
PATIENCE_S = 60.0


BEGINNING = '{"root": "/agent", "present": true, "error": "", "python": [3, 11, 2]}'


def liar(folder: Path, answer: bytes, beginning: str = BEGINNING) -> Path:
    """A program that poses as Python on a device: it says this beginning, and this line to whatever it is asked first."""
    (folder / "answer").write_bytes(answer + b"\n")
    program = folder / "python"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{beginning}\nEND\nread -r request\nexec cat '{folder / 'answer'}'\n")
    program.chmod(0o755)
    return program


def request(verb: str, asked: object = None, *options: str) -> bytes:
    """A request as the controller sends it."""
    return encode({"verb": verb, "options": list(options), "request": asked if asked is not None else {}}) + b"\n"


class Agent:
    """An agent below `folder`, run by the interpreter `python` with the environment variables `environ` beside ours."""

    def __init__(self, folder: Path, python: str = sys.executable, environ: Mapping[str, str] | None = None) -> None:
        self.cache = Cache(str(folder))
        self.cache.create()
        self.zipapp = folder / "agent.pyz"
        self.zipapp.write_bytes(build_zipapp().content)
        self.python = python
        self.environ = {**os.environ, **(environ or {})}
        self.launches = 0

    def argv(self, verb: str, *options: str) -> list[str]:
        return [self.python, "-I", str(self.zipapp), verb, "--cache", self.cache.root, *options]

    def ask(self, verb: str, request: object = None, *options: str) -> dict[str, Any]:
        """The whole answer to a request: an object, or bytes as they are."""
        stdin = request if isinstance(request, bytes) else encode(request if request is not None else {})
        done = subprocess.run(
            self.argv(verb, *options), input=stdin, capture_output=True, env=self.environ, timeout=PATIENCE_S, check=False
        )
        lines = done.stdout.splitlines()
        assert len(lines) == 1, (done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(lines[0])
        assert done.returncode == (0 if "ok" in answer else 1), done.stderr
        return answer

    def call(self, verb: str, request: object = None, *options: str) -> dict[str, Any]:
        """What a verb answers that succeeds."""
        answer = self.ask(verb, request, *options)
        assert "ok" in answer, answer
        return answer["ok"]

    def refusal(self, verb: str, request: object = None, *options: str) -> str:
        """The code of the fault that a verb answers."""
        return self.ask(verb, request, *options)["fault"]["code"]

    def put(self, content: bytes) -> str:
        """A blob's sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        Path(self.cache.blob(sha256)).write_bytes(content)
        return sha256

    def spec(self, *, model: bytes | None = None, data: bytes | None = None, **changes: Any) -> LaunchSpec:
        """A short launch of the tiny model on onnxruntime, its lease taken, its files here."""
        model, data = tiny_model() if model is None else model, tiny_data() if data is None else data
        lease.acquire(self.cache, OWNER, 100.0)
        self.launches += 1
        file = ModelFile("model.onnx", self.put(model), len(model))
        made = LaunchSpec(
            launch=f"launch-{self.launches}",
            owner=OWNER,
            artifact=Artifact(file.sha256, "onnx", [file]),
            backend="onnxruntime",
            options={},
            workload=Workload("single_stream", {}),
            python="",
            environment="",
            environ={},
            data=self.put(data),
            feeds=[Feed("image", "image", 1.0, [0.0], [1.0], [])],
            evaluate=True,
            min_duration_s=0.01,
            min_queries=10,
            warmup_min_s=0.001,
            warmup_min_queries=2,
            warmup_max_s=0.01,
            max_samples=1000,
            deadline_s=60.0,
        )
        return made._replace(**changes)

    def start(self, **changes: Any) -> str:
        """The id of a launch that has been started."""
        spec = self.spec(**changes)
        assert self.call("start", spec) == {"launch": spec.launch, "started": True}
        return spec.launch

    def serving(self, *options: str) -> "subprocess.Popen[bytes]":
        """A process that answers request after request."""
        argv = self.argv("serve", *options)
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environ)

    def served(self, *requests: bytes) -> list[dict[str, Any]]:
        """What one process answers to these requests, a line each."""
        with self.serving() as process:
            stdout, _ = process.communicate(b"".join(requests), PATIENCE_S)
        return [json.loads(line) for line in stdout.splitlines()]

    @contextmanager
    def following(self, launch: str, start: int = 0) -> Iterator[Iterator[dict[str, Any]]]:
        """The launch's events as they come, over one connection, which leaving the block cuts."""
        with self.serving() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request("follow", {"launch": launch, "from": start}))
            process.stdin.close()
            watchdog = threading.Timer(PATIENCE_S, process.kill)
            watchdog.start()
            yield (json.loads(line) for line in process.stdout)
            watchdog.cancel()
            process.kill()

    def follow(self, launch: str, start: int = 0) -> list[dict[str, Any]]:
        """The launch's events to its end, read in this process."""
        return [json.loads(line) for line in spool.follow(self.cache, launch, start)]

    def run(self, **changes: Any) -> list[dict[str, Any]]:
        """The events of a launch from start to end."""
        return self.follow(self.start(**changes))

    def supervisor(self, launch: str) -> int:
        """The process id of a launch's supervisor."""
        return json.loads(Path(self.cache.launch(launch, "supervisor.json")).read_bytes())["pid"]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def phases(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["name"] for event in events if event["type"] == "phase"]


def fault(events: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Code, phase and message of the launch's one fault, told before its end."""
    faults = [event["data"] for event in events if event["type"] == "fault"]
    assert len(faults) == 1, events
    assert types(events)[-2:] == ["fault", "end"]
    return faults[0]["code"], faults[0]["phase"], faults[0]["message"]


def log(events: list[dict[str, Any]]) -> str:
    return "".join(event["data"]["text"] for event in events if event["type"] == "log")


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails after PATIENCE_S without one."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"never: {what}")


def sleeps_on_a_lock(pid: int) -> bool:
    """Whether the kernel has the process wait for an flock."""
    return any("-> FLOCK" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


@cache
def tiny_model() -> bytes:
    """An ONNX model of one Flatten and one MatMul: image [1, 1, 4, 4] to logits [1, 2]."""
    weight = numpy_helper.from_array(np.arange(32, dtype=np.float32).reshape(16, 2), "weight")
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["logits"])]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@cache
def tiny_data() -> bytes:
    """A data file with six images for `tiny_model`."""
    buffer = io.BytesIO()
    np.savez(buffer, image=np.arange(96, dtype=np.float32).reshape(6, 1, 4, 4))
    return buffer.getvalue()
