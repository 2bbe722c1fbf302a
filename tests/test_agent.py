"""The agent's verbs, spoken to as the controller does, under every Python that a device may have."""

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import OWNER, Agent, fault, phases, types

from agent.__main__ import main
from agent.description import Probe
from agent.schema import LaunchSpec, dump, encode, load

OLD_AND_NEW = ("3.6.15", "3.7", "3.8", "3.9", "3.10", "3.12", "3.13")
Refuse = Callable[[str, object], str]
ODD = {
    "LC_ALL": "C",
    "LANG": "xx_YY.ISO-8859-1",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONIOENCODING": "ascii:strict",
    "PYTHONWARNINGS": "error",
}


def interpreter(version: str) -> str:
    """pyenv's interpreter of that version; where it is missing the test is skipped, and fails in CI."""
    pyenv = shutil.which("pyenv")
    root = Path(subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()) if pyenv else Path("/nowhere")
    found = [path for path in root.glob("versions/*/bin/python") if f"{path.parts[-3]}.".startswith(f"{version}.")]
    if found:
        return str(found[-1])
    reason = f"pyenv has no Python {version}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "a 'cache'")


# Every Python


@pytest.mark.parametrize("version", OLD_AND_NEW)
def test_every_verb_works_under_every_python(version: str, tmp_path: Path) -> None:
    """probe, lease, verify, install, start, follow, cancel and gc answer as agreed, in an odd environment with a bare locale.

    The launch ends in env_missing, for these interpreters have no runtime, with its spool complete.
    """
    agent = Agent(tmp_path / "caché", interpreter(version), ODD)
    probe: Probe = load(Probe, agent.call("probe", None, "--quick"))
    assert probe.python.startswith(version)
    assert probe.bits == 64
    archive = agent.put(_archive(tmp_path))
    assert agent.call("verify", {"blobs": [archive, "0" * 64]})["blobs"][archive]["present"] is True
    assert agent.call("install", {"environment": "env", "archive": archive}) == {"installed": True}
    spec = agent.spec(environment="env", environ={"GRÜSSE": "grüße"})
    spec = spec._replace(artifact=spec.artifact._replace(files=[spec.artifact.files[0]._replace(name="modèle.onnx")]))
    assert agent.call("start", spec) == {"launch": spec.launch, "started": True}
    assert agent.call("start", spec) == {"launch": spec.launch, "started": False}
    with agent.following(spec.launch) as lines:
        events = list(lines)
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert types(events) == ["hello", "conditions", "measure", "phase", "conditions", "fault", "end"]
    assert fault(events)[:2] == ("env_missing", "import")
    assert agent.call("cancel", {"launch": spec.launch}) == {"cancelled": False}
    assert agent.call("lease")["owner"] == OWNER
    assert agent.call("gc", {"launches": [spec.launch]})["freed_bytes"] > 0
    assert agent.cache.names("launches") == []


def _archive(folder: Path) -> bytes:
    (folder / "site").mkdir()
    (folder / "site/module.py").write_text("A = 1\n")
    (folder / "site/template.py").write_text("this is {{ no }} module\n")
    return Path(shutil.make_archive(str(folder / "env"), "gztar", folder / "site")).read_bytes()


# The zipapp


BUILD = "import sys; from controller.deploy import build_zipapp; sys.stdout.buffer.write(build_zipapp().content)"


def test_the_zipapp_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Builds in separate processes, with other hash seeds and from other folders, are equal, and stay below 200 KB."""
    environs = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    builds = [
        subprocess.Popen([sys.executable, "-c", BUILD], env=environ, cwd=folder, stdout=subprocess.PIPE)
        for environ, folder in zip(environs, (tmp_path, "."), strict=True)
    ]
    first, second = (build.communicate()[0] for build in builds)
    assert first == second
    assert 10_000 < len(first) < 200_000


# Requests


@pytest.fixture
def refuse(agent: Agent, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Iterator[Refuse]:
    """The code with which a verb refuses a request, asked in this process."""

    def ask(verb: str, request: object) -> str:
        stdin = request if isinstance(request, bytes) else encode(request)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        assert main([verb, "--cache", agent.cache.root]) == 1
        out, errors = capsysbinary.readouterr()
        assert errors == b""
        assert out.count(b"\n") == 1
        return json.loads(out)["fault"]["code"]

    umask = os.umask(0o077)
    yield ask
    os.umask(umask)


@pytest.mark.parametrize(
    "request_",
    [
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b"NaN",
        b'{"launch": NaN}',
        b"[" * 100_000,
        b'{"launch":' * 40 + b"1" + b"}" * 40,
        b" " * (4 << 20) + b"{}",
    ],
    ids=["cut", "list", "text", "not utf-8", "nan", "nan inside", "deep", "deeper than allowed", "too large"],
)
def test_a_request_that_is_none_is_refused(refuse: Refuse, request_: bytes) -> None:
    """What is not a JSON object of moderate size and depth is a protocol fault, in one line, without a traceback."""
    assert refuse("cancel", request_) == "protocol"


def test_a_request_with_wrong_values_is_refused(agent: Agent, refuse: Refuse) -> None:
    """Each verb checks the types, names and ranges of what it is told."""
    spec = dump(agent.spec())
    wrong: list[tuple[str, Any]] = [
        ("start", {}),
        ("start", {**spec, "extra": 1}),
        ("start", {**spec, "deadline_s": "60"}),
        ("start", {**spec, "launch": "../../x"}),
        ("start", {**spec, "environment": "../x"}),
        ("start", {**spec, "data": "../x"}),
        ("start", {**spec, "deadline_s": -1}),
        ("cancel", {"launch": ["x"]}),
        ("cancel", {"launch": "/etc"}),
        ("verify", {"blobs": "0" * 64}),
        ("verify", {"blobs": [1]}),
        ("install", {"environment": "x"}),
        ("install", {"environment": "../x", "archive": "0" * 64}),
        ("lease", {"action": "steal"}),
        ("lease", {"action": "acquire", "owner": "x", "ttl_s": "nan"}),
        ("lease", {"action": "acquire", "owner": 5, "ttl_s": 5}),
        ("gc", {"launches": ["../x"]}),
        ("probe", {"environments": ["onnxruntime"]}),
    ]
    assert [(verb, request) for verb, request in wrong if refuse(verb, request) != "protocol"] == []
    assert sorted(os.listdir(agent.cache.root)) == [
        "agent.pyz",
        "blobs",
        "envs",
        "launches",
        "lease.json",
        "lease.lock",
        "prepared",
        "start.lock",
    ]


def test_no_request_is_an_empty_one(agent: Agent) -> None:
    """With nothing on standard input, or a terminal there, a verb takes no request."""
    assert agent.call("lease", b"") == agent.call("lease", b"  \n") == {"owner": "", "age_s": 0.0, "left_s": 0.0, "running": False}
    controller, terminal = pty.openpty()
    done = subprocess.run(agent.argv("lease"), stdin=terminal, capture_output=True, check=True)
    os.close(controller)
    os.close(terminal)
    assert json.loads(done.stdout)["ok"]["owner"] == ""


# The folder


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    """A cache below a file, as on a read-only home, is env_missing with what to set."""
    agent = Agent(tmp_path / "cache")
    (tmp_path / "file").write_text("")
    answer = subprocess.run(
        [agent.python, "-I", str(agent.zipapp), "lease", "--cache", str(tmp_path / "file/cache")],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 1
    found = json.loads(answer.stdout)["fault"]
    assert found["code"] == "env_missing"
    assert "agent.cache_dir" in found["next"]


def test_the_folder_is_its_owners_only(tmp_path: Path) -> None:
    """Whatever the login's umask, nobody else may read or write what the agent makes."""
    agent = Agent(tmp_path / "cache")
    root = tmp_path / "other"
    subprocess.run(["/bin/sh", "-c", 'umask 000; exec "$@"', "sh", *agent.argv("lease"), "--cache", str(root)], input=b"", check=True)
    assert {path.stat().st_mode & 0o077 for path in (root, *root.rglob("*"))} == {0}


# Probing


def test_a_probe_tries_each_backend_in_a_process_of_its_own(agent: Agent, tmp_path: Path) -> None:
    """A runtime that works is available, one that crashes on import is not and says how, one that chatters is heard all the same."""
    site = Path(agent.cache.environment("crashing"))
    site.mkdir()
    (site / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    other = Path(agent.cache.environment("chattering"))
    other.mkdir()
    (other / "openvino.py").write_text('import os; print("{}"); os.write(1, b"noise" * 99999); raise ImportError("fake")')
    found = load(Probe, agent.call("probe", {"environments": {"onnxruntime": "crashing", "openvino": "chattering"}}))
    backends = {backend.backend: backend for backend in found.backends}
    assert (backends["onnxruntime"].ok, backends["onnxruntime"].reason) == (False, "its import ended without an answer, by SIGILL")
    assert not backends["openvino"].ok
    assert "fake" in backends["openvino"].reason
    assert backends["tflite"].ok


# A whole launch


def test_a_launch_measures_and_evaluates(agent: Agent) -> None:
    """On this Python with the real runtime: every phase, every metric, files named after their content, conditions around it."""
    events = agent.run()
    assert fault_free(events)
    assert phases(events) == [
        "import",
        "data",
        "prepare",
        "load",
        "first_inference",
        "warmup",
        "measure",
        "measured",
        "details",
        "evaluate",
        "done",
    ]
    measured = {event["data"]["metric"]: event["data"]["values"][0] for event in events if event["type"] == "measure"}
    assert {name for name in measured if not name.startswith("trace_")} == {
        *(f"cold_start_{part}_s" for part in ("process", "import", "load", "first_inference")),
        *("loop_cost_s", "model_cached_share", "warmup_queries", "warmup_s", "warmup_settled"),
        *("cpu_time_s", "peak_memory_bytes", "queries", "window_s"),
        *("pss_import_bytes", "pss_load_bytes", "pss_measure_bytes", "model_memory_bytes"),
    }
    assert measured["queries"] >= 10
    assert measured["peak_memory_bytes"] > 0
    assert 0 <= measured["model_cached_share"] <= 1
    files = {event["data"]["metric"]: event["data"] for event in events if event["type"] == "sample"}
    assert set(files) == {"latency_ns", "output_0"}
    assert files["output_0"]["shape"] == [6, 2]
    assert sum(event["type"] == "conditions" for event in events) == 2
    assert load(LaunchSpec, json.loads(Path(agent.cache.launch("launch-1", "spec.json")).read_bytes())).launch == "launch-1"
    for file in files.values():
        content = Path(agent.cache.launch("launch-1", "files", file["sha256"])).read_bytes()
        assert agent.put(content) == file["sha256"]
        assert len(content) == file["size_bytes"]


def fault_free(events: list[dict[str, Any]]) -> bool:
    assert types(events)[0] == "hello"
    assert types(events)[-1] == "end", events
    return "fault" not in types(events)


def test_a_slow_model_gives_what_there_is_time_for(agent: Agent) -> None:
    """A window whose minima its deadline does not allow ends before the deadline, with fewer queries, and says so."""
    events = agent.run(min_duration_s=1e6, deadline_s=3.0)
    assert fault_free(events)
    measured = {event["data"]["metric"]: event["data"]["values"] for event in events if event["type"] == "measure"}
    assert measured["window_cut_short"] == [1.0]
    assert measured["queries"][0] > 0
    assert "output_0" in [event["data"].get("metric") for event in events]


@pytest.mark.parametrize(
    ("change", "code", "phase"),
    [
        ({"model": b"not a model"}, "bad_model", "load"),
        ({"data": b"not an archive"}, "bad_data", "data"),
        ({"feeds": []}, "bad_data", "load"),
        ({"options": {"providers": ["NoSuchProvider"]}}, "no_device", "load"),
        ({"backend": "none"}, "env_missing", "import"),
        ({"python": "/nowhere/python"}, "no_python", "spawn"),
        ({"python": "/nowhere/\0"}, "no_python", "spawn"),
        ({"environ": {"A=B": "c"}}, "no_python", "spawn"),
    ],
    ids=["model", "data", "feeds", "provider", "backend", "interpreter", "interpreter's name", "environment"],
)
def test_what_cannot_be_measured_is_a_fault(agent: Agent, change: dict[str, Any], code: str, phase: str) -> None:
    """A bad model, bad data, a missing device, runtime or interpreter: its reason code, its phase, one line, and a complete spool."""
    found = fault(agent.run(**change))
    assert found[:2] == (code, phase), found
    assert "\n" not in found[2]


def test_requests_and_answers_are_single_lines(agent: Agent) -> None:
    """An answer is one line of ASCII, canonical JSON."""
    done = subprocess.run(agent.argv("probe", "--quick"), input=encode({}), capture_output=True, check=True)
    assert done.stdout.endswith(b"\n")
    assert encode(json.loads(done.stdout)) == done.stdout[:-1]
    assert done.stderr == b""
