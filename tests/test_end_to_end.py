"""The main job over real parts: the command line, real sshd, real runtimes, the example model."""

import csv
import functools
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sshd as ssh_server
from sshd import Sshd

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
FLEETMARK = Path(sys.executable).with_name("fleetmark")
MEASURED = {"valid", "unsteady"}  # on a machine that others share latencies need not settle, and the run then exits with 3
LONG = {"profile": "standard", "operations": False}  # launches whose windows are long enough to do something in
TIMEOUT_S = 600.0


class Lab:
    """A folder to run in; artifacts and environments are shared by all tests of the session."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "FLEETMARK_CACHE": str(cache), "COLUMNS": "160", "NO_COLOR": "1"}
        self.devices: dict[str, Any] = {}

    def local(self, name: str = "laptop", **more: Any) -> None:
        self.devices[name] = {"kind": "local", "agent": {"cache_dir": str(self.folder / "local agent")}, **more}

    def board(self, name: str, server: Sshd, *, cache: Path | None = None, python: str = "", **ssh: Any) -> Path:
        """A device behind sshd under an interpreter without any runtime; give its agent's folder, whose name needs quoting."""
        cache = cache or self.folder / f"{name}'s agent"
        settings = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.user,
            "host_key": server.host_key,
            "config": str(server.config),
            **ssh,
        }
        python = python or str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
        self.devices[name] = {"kind": "generic", "ssh": settings, "agent": {"cache_dir": str(cache), "python": python}}
        return cache

    def write(self, **suite: Any) -> Path:
        """Write inventory.yaml and suite.yaml (JSON is YAML); give the suite's path."""
        (self.folder / "inventory.yaml").write_text(json.dumps({"version": 1, "devices": self.devices}))
        path = self.folder / "suite.yaml"
        path.write_text(json.dumps({"version": 1, "devices": ["all"], "workloads": ["single_stream"], "profile": "quick", **suite}))
        return path

    def start(self, *words: object) -> "subprocess.Popen[str]":
        command = [str(FLEETMARK), *map(str, words)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in a script's background ignores it
        )

    def run(self, *words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        with self.start(*words) as process:
            out, errors = process.communicate(timeout=TIMEOUT_S)
        noisy = {3} if words[0] == "run" and code == 0 else set[int]()
        assert process.returncode in {code} | noisy, (words, out, errors)
        return subprocess.CompletedProcess(list(words), process.returncode, out, errors)

    def rows(self, run: str = "latest") -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.run("export", run, "--to", "csv").stdout)))

    def launches(self) -> list[tuple[str, str, int, str]]:
        """(id, cell, round, status) of every measured launch in the store."""
        return [launch for launch in self.stored() if launch[2] >= 0]

    def stored(self) -> list[tuple[str, str, int, str]]:
        """The same of every launch, those too that timed operations."""
        with closing(sqlite3.connect(self.folder / "results" / "fleetmark.db")) as database:
            return list(database.execute("select id, cell_id, round, status from launches order by cell_id, round, id"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def supplied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent's folder for all tests that are not about what is shipped: a board's environment takes longer to send than to measure in."""
    return tmp_path_factory.mktemp("supplied agent")


@pytest.fixture
def lab(tmp_path: Path, shared_cache: Path) -> Lab:
    return Lab(tmp_path, shared_cache)


def model(**changes: Any) -> dict[str, Any]:
    """The example's entry of a suite."""
    image = {"shape": [1, 1, 28, 28], "dtype": "float32", "layout": "NCHW", "mean": 0.2860, "std": 0.3530}
    files = {"source": str(EXAMPLE / "model.onnx"), "tflite": str(EXAMPLE / "model.tflite"), "data": str(EXAMPLE / "data.npz")}
    return {**files, "inputs": {"image": image}, "task": "classification", **changes}


def until(condition: Callable[[], Any], what: str) -> Any:
    """Give the first true value of `condition`; fail after three minutes without one."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


def measuring(agent: Path) -> Path | None:
    """The folder of a launch that is in its measuring window, or past it."""
    spools = [spool for spool in agent.glob("launches/*/events.jsonl") if '"warmup"' in spool.read_text()]
    return spools[0].parent if spools else None


def cells(rows: list[dict[str, str]], device: str) -> dict[tuple[str, str, str], str]:
    return {(row["model"], row["variant"], row["backend"]): row["status"] for row in rows if row["device"] == device}


def test_the_same_suite_gives_the_same_cells_here_and_over_ssh_and_ships_nothing_twice(lab: Lab, sshd: Sshd) -> None:
    """The example suite gives the same valid cells here and over OpenSSH with shipped environments; a second run ships 0 bytes."""
    lab.local()
    lab.board("board", sshd)
    suite = lab.write(models={"lenet": model()}, recipes=["fp32", "int8"], backends=["onnxruntime", "tflite", "openvino"])
    first = lab.run("run", suite, "--launches", 1)
    rows = lab.rows()
    here, there = cells(rows, "laptop"), cells(rows, "board")
    assert len(here) == 6
    assert here.keys() == there.keys()
    assert {*here.values(), *there.values()} <= MEASURED
    accuracies = {(row["device"], row["variant"], row["backend"]): float(row["value"]) for row in rows if row["metric"] == "accuracy"}
    assert len(accuracies) == 12
    assert all(0.9 < accuracy < 0.95 for accuracy in accuracies.values())
    report = Path(first.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert (lab.folder / report).read_text().startswith("<!")
    lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime", "tflite", "openvino"])
    again = lab.run("run", suite, "--launches", 1, "-l", "board")
    assert "board: shipped 0 bytes (agent 0, environments 0, artifacts 0)" in again.stderr


def test_each_cells_operations_are_timed_once_in_a_launch_of_its_own(lab: Lab) -> None:
    """Three runtimes: one launch more each, no measured one, with a section in the report; resuming adds nothing."""
    lab.local()
    suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime", "tflite", "openvino"], operations=True)
    report = lab.folder / lab.run("run", suite, "--launches", 1).stdout.strip().splitlines()[-1].removeprefix("report: ")
    stored = lab.stored()
    assert sorted(round_ for _, _, round_, _ in stored) == [-1, -1, -1, 0, 0, 0]
    assert len({cell for _, cell, _, _ in stored}) == 3
    assert {status for _, _, round_, status in stored if round_ == -1} == {"valid"}
    rows = {(row["backend"], row["metric"]): row for row in lab.rows()}
    assert {rows[backend, "cold_start_s"]["n"] for backend in ("onnxruntime", "tflite", "openvino")} == {"1"}
    assert {rows[backend, "accelerator_time_share"]["value"] for backend in ("onnxruntime", "tflite", "openvino")} == {"0"}
    assert report.read_text().count("the slowest operations") == 2
    lab.run("run", "--resume", "latest")
    assert lab.stored() == stored


def test_a_link_cut_in_a_launch_loses_and_repeats_nothing(lab: Lab, sshd: Sshd, supplied: Path) -> None:
    """With the link cut in a measuring window the launch goes on, the controller reconnects, and every launch is there exactly once."""
    agent = lab.board("board", sshd, cache=supplied)
    suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"], **LONG)
    with lab.start("run", suite, "--launches", 2) as process:
        cut = until(lambda: measuring(agent), "a launch that measures").name
        sshd.cut()
        out, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode in (0, 3), (out, errors)
    found = lab.launches()
    assert [round_ for _, _, round_, _ in found] == [0, 1]
    assert {status for _, _, _, status in found} <= MEASURED
    assert cut in [launch for launch, _, _, _ in found]
    assert list((agent / "launches").iterdir()) == []


def test_a_killed_controller_resumes_with_what_was_finished(lab: Lab, sshd: Sshd, supplied: Path) -> None:
    """After kill -9 of the controller the running launch ends on the device; --resume collects it and measures only what is missing."""
    agent = lab.board("board", sshd, cache=supplied)
    suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"], **LONG)
    with lab.start("run", suite, "--launches", 3) as process:
        until(lambda: [one for one in (lab.launches() if measuring(agent) else []) if one[3] in MEASURED], "a launch in the store")
        running = until(lambda: measuring(agent), "another launch that measures").name
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {launch for launch, _, _, status in lab.launches() if status in MEASURED}
    lab.run("run", "--resume", "latest")
    found = lab.launches()
    assert len(found) == 3
    assert {status for _, _, _, status in found} <= MEASURED
    assert {launch for launch, _, _, _ in found} >= before | {running}
    assert len({(cell, round_) for _, cell, round_, _ in found}) == 3


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(lab: Lab) -> None:
    """Ctrl-C ends the running launch, exits with 130, names --resume, and resuming completes the run."""
    lab.local()
    suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"], **LONG)
    with lab.start("run", suite, "--launches", 2) as process:
        until(lambda: measuring(lab.folder / "local agent"), "a launch that measures")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "fleetmark run --resume" in errors
    assert "Traceback" not in errors
    lab.run("run", "--resume", "latest")
    done = [status for _, _, _, status in lab.launches() if status != "cancelled"]
    assert len(done) == 2
    assert set(done) <= MEASURED


def test_two_command_lines_share_a_board(lab: Lab, shared_cache: Path, sshd: Sshd, supplied: Path, tmp_path: Path) -> None:
    """While one run has the board another one leaves it out, which names the holder, or waits and then measures; both are whole."""
    agent = lab.board("board", sshd, cache=supplied)
    suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"], **LONG)
    (tmp_path / "other").mkdir()
    other = Lab(tmp_path / "other", shared_cache)
    other.board("board", sshd, cache=agent)
    others = other.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"])
    with lab.start("run", suite, "--launches", 2) as process:
        until(lambda: measuring(agent), "a launch that measures")
        process.send_signal(signal.SIGSTOP)  # or it may be done with the board before the others have begun
        left_out = other.run("run", others, "--launches", 1, "--no-wait", code=3)
        assert [row["reason"] for row in other.rows() if row["metric"] == "latency_p90_s"] == ["busy"]
        with other.start("run", others, "--launches", 1) as waiting:
            assert waiting.stderr
            assert any(re.search("board: waiting for .+, who has had it for", line) for line in waiting.stderr)
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=TIMEOUT_S)
            waiting.communicate(timeout=TIMEOUT_S)
    assert (process.returncode in (0, 3), waiting.returncode in (0, 3)) == (True, True)
    assert " has this host" in left_out.stderr
    assert [status in MEASURED for _, _, _, status in (*lab.launches(), *other.launches())] == [True] * 3


def test_bad_models_and_data_fail_alone(lab: Lab, tmp_path: Path) -> None:
    """A missing model, a truncated ONNX, an unknown TFLite operator and data of wrong shapes each fail their cells; the good model runs."""
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes((EXAMPLE / "model.onnx").read_bytes()[:100_000])
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, eval_image=np.zeros((4, 3, 28, 28), np.uint8))
    unknown = tmp_path / "unknown.tflite"
    unknown.write_bytes(with_unknown_operator((EXAMPLE / "model.tflite").read_bytes()))
    lab.local()
    models = {
        "good": model(),
        "missing": model(source=str(tmp_path / "nowhere.onnx"), tflite=None),
        "truncated": model(source=str(truncated), tflite=None),
        "unknown": model(tflite=str(unknown)),
        "shapes": model(data=str(wrong)),
    }
    models = {name: {key: value for key, value in one.items() if value is not None} for name, one in models.items()}
    suite = lab.write(models=models, recipes=["fp32"], backends=["onnxruntime", "tflite"])
    lab.run("run", suite, "--launches", 1, code=3)
    reasons = {(row["model"], row["backend"]): (row["status"], row["reason"]) for row in lab.rows()}
    assert {reasons[good][0] for good in (("good", "onnxruntime"), ("good", "tflite"), ("unknown", "onnxruntime"))} <= MEASURED
    assert reasons["missing", "onnxruntime"] == ("failed", "bad_model")
    assert reasons["truncated", "onnxruntime"] == ("failed", "bad_model")
    assert reasons["unknown", "tflite"] == ("unsupported", "unsupported_op")
    assert reasons["shapes", "onnxruntime"] == reasons["shapes", "tflite"] == ("failed", "bad_data")


def with_unknown_operator(model: bytes) -> bytes:
    """The .tflite with its first operator replaced by a custom one that nobody has."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    code = tree.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"NobodyHasThis"
    for operator in tree.subgraphs[0].operators:
        if operator.opcodeIndex == 0:
            operator.builtinOptions, operator.builtinOptionsType = None, 0
    builder = Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_devices_that_cannot_be_used_fail_alone(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    """A closed port, a wrong host key, a device without Python and a full disk each fail with their reason; the laptop measures."""
    lab.local()
    lab.board("closed", sshd, port=ssh_server.free_port())
    lab.board("changed", sshd, host_key="ssh-ed25519 SHA256:" + "A" * 43)
    lab.board("no-python", sshd, python="/nowhere/python3")
    with small_disk(tmp_path / "small") as disk:
        lab.board("full", sshd, cache=disk / "agent")
        suite = lab.write(models={"lenet": model()}, recipes=["fp32"], backends=["onnxruntime"])
        lab.run("run", suite, "--launches", 1, "--no-wait", code=4)
    reasons = {row["device"]: (row["status"], row["reason"]) for row in lab.rows() if row["metric"] == "latency_p90_s"}
    assert reasons["laptop"][0] in MEASURED
    assert reasons["closed"] == ("unreachable", "unreachable")
    assert reasons["changed"] == ("unreachable", "host_key")
    assert reasons["no-python"] == ("unreachable", "no_python")
    assert reasons["full"] == ("failed", "disk_full")


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    ssh_server.require_root()
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_tflite_runtime_with_numpy_1_runs_beside_the_controllers_numpy_2(lab: Lab, sshd: Sshd) -> None:
    """tflite-runtime 2.14.0 with numpy below 2, in its environment, measures here and over SSH, with the same accuracy on both."""
    assert int(np.__version__.split(".")[0]) >= 2
    lab.local()
    lab.board("board", sshd)
    choice = {"name": "tflite", "options": {"runtime": "tflite-runtime"}}
    suite = lab.write(models={"lenet": model()}, recipes=["int8"], backends=[choice])
    lab.run("run", suite, "--launches", 1)
    accuracies = [float(row["value"]) for row in lab.rows() if row["metric"] == "accuracy"]
    assert len(accuracies) == 2
    assert accuracies[0] == accuracies[1] > 0.91
    with closing(sqlite3.connect(lab.folder / "results" / "fleetmark.db")) as database:
        documents = [json.loads(text) for (text,) in database.execute("select document from launches")]
    assert [(one["details"]["runtime"], one["details"]["version"]) for one in documents] == [("tflite-runtime", "2.14.0")] * 2


def test_a_model_runs_without_a_suite(lab: Lab) -> None:
    """`fleetmark run MODEL.onnx` needs neither suite nor data: random inputs, drift, no accuracy."""
    lab.local()
    lab.write()
    shutil.copy(EXAMPLE / "model.onnx", lab.folder / "net.onnx")
    lab.run("run", "net.onnx", "-l", "laptop", "--launches", 1, "--backend", "onnxruntime")
    metrics = {row["metric"] for row in lab.rows() if row["value"]}
    assert {"latency_p50_s", "throughput_per_s", "drift_sqnr_db", "size_bytes"} <= metrics
    assert "accuracy" not in metrics
