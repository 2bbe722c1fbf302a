"""run --trace: a timeline that keeps to the Chrome Trace Event format, and says what each device did when."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import tiny_model
from hypothesis import given
from hypothesis import strategies as st
from sshd import Sshd
from test_fleet import FLEETMARK, Bench, bench

from controller import context
from controller.cli.listeners import listening
from controller.errors import FleetmarkError
from controller.inventory import AgentSettings, Device, Ssh
from controller.listener import Listeners, Logged
from controller.redaction import redact
from controller.timeline import Step, placed
from controller.trace import MAX_NAME, Trace

ORDER = ["connect", "ship", "start", "import", "load", "first_inference", "warmup", "measure", "measured", "done", "fetch"]
__all__ = ["bench"]  # a fixture
INVENTORY = "version: 1\ndevices:\n  laptop: {{kind: local, agent: {{cache_dir: {}}}}}\n"


class Clock:
    """A fake clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def checked(text: str) -> dict[str, list[dict[str, Any]]]:
    """A timeline's slices by track, in order, after a check of every event against the format; AssertionError where one is not right."""
    document = json.loads(text)
    names: dict[int, str] = {}
    tracks: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        match event["ph"]:
            case "M" if event["name"] == "thread_name":
                assert event["tid"] not in names, "a track is named twice"
                names[event["tid"]] = event["args"]["name"]
            case "M":
                assert event["name"] in ("process_name", "thread_sort_index")
            case "i":
                assert event["s"] == "t"
                assert event["ts"] >= 0
            case "X":
                assert event["ts"] >= 0
                assert event["dur"] >= 0, "a slice ends before it begins"
                tracks[event["tid"]].append(event)
            case _:
                raise AssertionError(f"unknown kind {event['ph']}")
    assert set(tracks) <= set(names), "a track has no name"
    assert len(set(names.values())) == len(names)
    for slices in tracks.values():
        _check_nested(slices)
    return {names[number]: slices for number, slices in tracks.items()}


def _check_nested(slices: Sequence[dict[str, Any]]) -> None:
    ends: list[int] = []
    for one in slices:
        while ends and ends[-1] <= one["ts"] and one["dur"] + one["ts"] > ends[-1]:
            ends.pop()
        assert not ends or one["ts"] + one["dur"] <= ends[-1], f"{one['name']} crosses the end of what it lies in"
        ends.append(one["ts"] + one["dur"])


def phases(slices: Sequence[dict[str, Any]], within: dict[str, Any] | None = None) -> list[str]:
    """The phases of a track, or those in one of its launches."""
    end = within["ts"] + within["dur"] if within else 0
    return [
        one["name"]
        for one in slices
        if one["cat"] == "phase" and (within is None or (within["ts"] <= one["ts"] < end and one["ts"] + one["dur"] <= end))
    ]


def test_two_devices_have_a_track_each_with_every_phase(bench: Bench, shared_sshd: Sshd) -> None:
    """A run on this machine and over SSH at once: each track has connect, ship, and in each launch its phases, in order, with its ids."""
    ssh = Ssh(host="127.0.0.1", port=shared_sshd.port, user=shared_sshd.user, host_key=shared_sshd.host_key, config=shared_sshd.config)
    board = Device(name="board", kind="generic", ssh=ssh, agent=AgentSettings(python=sys.executable, cache_dir=str(bench.folder / "board")))
    trace = Trace("r")
    heard = bench.listener
    bench.listener = Listeners(_Both(heard), Logged(), trace)  # pyright: ignore[reportAttributeAccessIssue] - a listener too
    cells = bench.measure(bench.job(), bench.job("board"), devices=[bench.device, board], launches=2)
    tracks = checked(trace.text())
    for name, cell in cells.items():
        slices = tracks[name]
        launches = [one for one in slices if one["cat"] == "launch"]
        assert [one["args"] for one in launches] == [
            {"cell": cell.id, "launch": launch.id, "status": "valid"} for launch in sorted(cell.launches, key=lambda each: each.round)
        ]
        assert phases(slices)[:2] == ORDER[:2]
        for one in launches:
            assert [phase for phase in phases(slices, one) if phase in ORDER] == ORDER[2:]
        told = {one["name"]: one["args"]["clock"] for one in slices if one["cat"] == "phase"}
        assert (told["connect"], told["measure"], told["fetch"]) == ("controller", "device", "controller")
    assert heard.statuses == ["valid"] * 4


class _Both:
    """A listener that hears of the plan, too."""

    def __init__(self, listener: Any) -> None:
        self.say, self.phase, self.landed = listener.say, listener.phase, listener.landed

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        pass


def test_the_check_finds_slices_that_cross() -> None:
    """The check of these tests refuses a slice that ends after the one it begins in, and a negative one."""
    label = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "a"}}
    one, other = ({"ph": "X", "name": "x", "pid": 1, "tid": 1, "ts": ts, "dur": 10} for ts in (0, 5))
    with pytest.raises(AssertionError, match="crosses"):
        checked(json.dumps({"traceEvents": [label, one, other]}))
    with pytest.raises(AssertionError, match="ends before"):
        checked(json.dumps({"traceEvents": [label, {**one, "dur": -1}]}))


def test_what_arrives_late_is_placed_by_the_devices_clock() -> None:
    """Phases that a device tells after its measuring window lie where its clock says, set by the event that came fastest."""
    steps = [
        Step("start", 10.0, None),
        Step("load", 11.1, 500.0),
        Step("warmup", 12.0, 501.0),
        Step("measure", 17.1, 502.0),
        Step("measured", 17.1, 506.0),
        Step("fetch", 17.2, None),
    ]
    found = [(step.name, pytest.approx(begin_s), pytest.approx(end_s)) for step, begin_s, end_s in placed(steps, 18.0)]
    assert found == [
        ("start", 10.0, 11.0),
        ("load", 11.0, 12.0),
        ("warmup", 12.0, 13.0),
        ("measure", 13.0, 17.0),
        ("measured", 17.0, 17.2),
        ("fetch", 17.2, 18.0),
    ]


@given(st.lists(st.tuples(st.sampled_from(["a", "details"]), st.floats(0, 9), st.none() | st.floats()), min_size=1))
def test_whatever_a_device_says_of_its_clock_slices_are_in_order(told: list[tuple[str, float, float | None]]) -> None:
    """Clocks that jump, stand, or are no numbers: slices follow each other, none begins after it was heard of, none is lost."""
    steps = [Step(name, heard_s, clock_s) for (name, _, clock_s), heard_s in zip(told, sorted(one[1] for one in told), strict=True)]
    found = list(placed(steps, 9.0))
    assert [step for step, _, _ in found] == [step for step in steps if step.name != "details"]
    at_s = steps[0].heard_s
    for step, begin_s, end_s in found:
        assert at_s <= begin_s <= min(step.heard_s, end_s)
        at_s = begin_s


@given(st.text(st.characters(), max_size=2 * MAX_NAME))
def test_any_text_is_escaped(text: str) -> None:
    """Names of devices and phases and news come back from the JSON as they were, cut at a length; the document is ASCII."""
    trace = Trace("r")
    device = f"<script>\x1b[31m\"'\\\n{text}"[:50]
    trace.phase(device, text)
    trace.say(text)
    document = trace.text()
    assert document.isascii()
    assert [one["name"] for one in checked(document)[redact(device)]] == [redact(text[:MAX_NAME])]


def test_a_launch_ends_when_its_device_is_lost_or_it_is_begun_again(bench: Bench) -> None:
    """A launch that is measured again says so; one whose device is lost has the status it landed with, and ends then."""
    clock, job = Clock(), bench.job()
    trace = Trace("r", clock)
    for launch in ("one", "two"):
        clock.now_s += 1.0
        with context.at(launch=launch):
            trace.phase("laptop", "start", job)
    clock.now_s += 1.0
    trace.landed(job, "failed")
    clock.now_s += 5.0
    launches = [one for one in checked(trace.text())["laptop"] if one["cat"] == "launch"]
    assert [(one["args"]["launch"], one["args"]["status"], one["ts"], one["dur"]) for one in launches] == [
        ("one", "measured again", 1_000_000, 1_000_000),
        ("two", "failed", 2_000_000, 1_000_000),
    ]


def test_waiting_for_nothing_more_is_not_shown(bench: Bench) -> None:
    """A device that is done is idle; one that waits for a launch waits."""
    clock = Clock()
    trace = Trace("r", clock)
    trace.phase("laptop", "wait")
    clock.now_s += 1.0
    trace.phase("laptop", "start", bench.job())
    clock.now_s += 1.0
    trace.phase("laptop", "wait")
    clock.now_s += 1.0
    assert phases(checked(trace.text())["laptop"]) == ["wait", "start"]


def test_it_is_written_however_the_run_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C leaves a whole timeline, and no other file beside it; what cannot be written is told and raises nothing of its own."""
    with pytest.raises(KeyboardInterrupt):
        _interrupted(tmp_path / "t.json")
    assert [one["name"] for one in checked((tmp_path / "t.json").read_text())["pi"]] == ["connect"]
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    with listening("r", tmp_path / "t.json"):
        (tmp_path / "t.json").unlink()
        (tmp_path / "t.json").mkdir()
    assert "error[usage]: cannot write" in capfd.readouterr().err


def _interrupted(path: Path) -> None:
    with listening("r", path) as listeners:
        listeners.planned(3, lambda: 60.0)
        listeners.phase("pi", "connect")
        raise KeyboardInterrupt


def test_where_it_cannot_be_written_nothing_begins(tmp_path: Path) -> None:
    """A folder that is not there, or in place of the file, is told before the run."""
    for path in (tmp_path, tmp_path / "none" / "t.json"):
        with pytest.raises(FleetmarkError, match="cannot write the timeline"), listening("r", path):
            raise AssertionError("it began")


def test_a_run_from_the_command_line_has_both(tmp_path: Path) -> None:
    """fleetmark run --trace --log-file: the launches of the timeline are those of the log, whose lines have all ids; stderr has neither."""
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    (tmp_path / "inventory.yaml").write_text(INVENTORY.format(tmp_path / "agent"))
    words = ["run", "model.onnx", "-b", "onnxruntime", "--launches", "1", "--profile", "quick"]
    asked = [FLEETMARK, *words, "--trace", "t.json", "--log-file", "log", "--log-level", "debug"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    (launch,) = [one["args"] for one in checked((tmp_path / "t.json").read_text())["laptop"] if one["cat"] == "launch"]
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    measured = next(line for line in lines if line.get("phase") == "measure")
    run = json.loads((tmp_path / "t.json").read_text())["otherData"]["run"]
    assert (measured["run"], measured["device"], measured["cell"], measured["launch"]) == (run, "laptop", launch["cell"], launch["launch"])
    assert [line["status"] for line in lines if "status" in line] == ["valid"] * 2
    assert {"probe", "lease", "start"} <= {line.get("verb") for line in lines if line["level"] == "debug"}
    assert "{" not in done.stderr
