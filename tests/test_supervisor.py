"""A launch under a runtime that misbehaves, and under whatever may happen to the processes around it.

The fake runtime is a module called onnxruntime that does its harm when it is imported; the launches that measure have the real one.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from agents import Agent, fault, log, phases, sleeps_on_a_lock, types, until

from agent import memory, worker
from agent.cache import Lock, is_held, wait_until_free
from agent.schema import encode

HANG = "import time; time.sleep(1e6)"
TO_EVENTS = "import os, sys; os.write(int(sys.argv[sys.argv.index('--events') + 1]), {!r})"


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "cache")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder of the fake runtime, where it also leaves its notes."""
    made = tmp_path / "fake"
    made.mkdir()
    return made


def fake(site: Path, code: str) -> dict[str, Any]:
    """The change of a launch that makes it import a fake onnxruntime with this code, which fails in the end."""
    (site / "onnxruntime.py").write_text(f"{code}\nraise ImportError('fake')\n")
    return {"environ": {"PYTHONPATH": str(site)}}


def started(agent: Agent, site: Path, code: str, **changes: Any) -> str:
    """A launch whose fake runtime has begun to import, and does what `code` says next."""
    launch = agent.start(**fake(site, f"open(__file__ + '.begun', 'w').close()\n{code}"), **changes)
    until((site / "onnxruntime.py.begun").exists, "an import")
    return launch


def workers(agent: Agent) -> list[psutil.Process]:
    """The agent's worker processes that live."""
    mine = [one for one in psutil.process_iter(["cmdline", "status"]) if str(agent.zipapp) in (one.info["cmdline"] or [])]
    return [one for one in mine if "worker" in one.info["cmdline"] and one.info["status"] != psutil.STATUS_ZOMBIE]


# The worker


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGILL", "SIGKILL"])
def test_a_worker_that_is_killed_is_a_fault_with_its_signal(agent: Agent, site: Path, name: str) -> None:
    """A crash names signal and phase, its place is in the log; SIGKILL is no lack of memory if the kernel counts and denies it."""
    events = agent.run(**fake(site, f"import os, signal; os.kill(os.getpid(), signal.{name})"))
    code, phase, message = fault(events)
    denied = memory.oom_kills() is not None
    assert (code, phase) == ("crash" if name != "SIGKILL" or denied else "oom", "import")
    assert f"by {name}" in message
    assert name == "SIGKILL" or str(site / "onnxruntime.py") in log(events)


def test_a_kill_for_want_of_memory_is_told_from_others() -> None:
    """SIGKILL is `oom` if the kernel's count of such kills has grown, or is not there; other signals and statuses are a crash."""
    count = memory.oom_kills()
    assert worker.death(-signal.SIGKILL, "load", -1).code == "oom"
    assert worker.death(-signal.SIGKILL, "load", None).code == "oom"
    assert worker.death(-signal.SIGKILL, "load", count).code == ("crash" if count is not None else "oom")
    assert worker.death(-signal.SIGSEGV, "load", -1).code == "crash"
    assert "status 3" in worker.death(3, "load", -1).message


@pytest.mark.parametrize(("status", "message"), [(0, "ended before its work was done"), (3, "ended with status 3")])
def test_a_worker_that_ends_early_is_a_crash(agent: Agent, site: Path, status: int, message: str) -> None:
    """A runtime that ends the process, also with status 0, is a fault: without the last word nothing counts as done."""
    code, phase, told = fault(agent.run(**fake(site, f"import os; os._exit({status})")))
    assert (code, phase) == ("crash", "import")
    assert message in told


@pytest.mark.parametrize("code", [HANG, "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"], ids=["hangs", "stopped"])
def test_a_worker_that_hangs_is_ended_at_its_deadline(agent: Agent, site: Path, code: str) -> None:
    """After the deadline there is a fault of that name, what the runtime said before is in the log, and no worker is left."""
    events = agent.run(**fake(site, f"import sys; print('before', file=sys.stderr, flush=True)\n{code}"), deadline_s=1.0)
    assert fault(events)[0] == "deadline"
    assert "before" in log(events)
    assert workers(agent) == []


def test_a_flood_of_messages_leaves_its_tail(agent: Agent, site: Path) -> None:
    """20 MB on standard error, not even text, neither block the worker nor fill the spool: the last 16 KiB are kept."""
    flood = "import os\nfor _ in range(320): os.write(2, b'\\xff\\n' * 32768)\nos.write(2, b'the last word')"
    events = agent.run(**fake(site, flood))
    assert fault(events)[0] == "env_missing"
    assert log(events).endswith("the last word")
    assert len(log(events)) <= 16384
    assert os.path.getsize(agent.cache.launch("launch-1", "events.jsonl")) < 200_000


def test_a_runtime_that_writes_to_standard_output_cannot_forge_events(agent: Agent, site: Path) -> None:
    """What it prints, or writes to descriptor 1, is in the log and nowhere else."""
    forged = '{"type": "measure", "data": {"metric": "forged", "unit": "s", "values": [0]}}'
    events = agent.run(**fake(site, f"import os\nprint({forged!r}, flush=True)\nos.write(1, b'{forged}' + b'\\n')"))
    assert fault(events)[0] == "env_missing"
    assert log(events).count("forged") == 2
    assert "forged" not in [event["data"].get("metric") for event in events]


@pytest.mark.parametrize(
    "text",
    [b"garbage\n", b"[]\n", b'{"type": 1, "data": {}}\n', b'{"type": "phase", "data": []}\n', b"x" * (1 << 20), b"{}\n" * 10_000],
    ids=["garbage", "list", "type", "data", "long line", "many lines"],
)
def test_garbled_events_are_a_fault(agent: Agent, site: Path, text: bytes) -> None:
    """A worker that sends anything but its events is ended with a protocol fault, and what it sends is not kept without bound."""
    events = agent.run(**fake(site, TO_EVENTS.format(text) + f"\n{HANG}"))
    assert fault(events)[0] == "protocol"
    assert workers(agent) == []


def test_a_workers_children_do_not_outlive_it(agent: Agent, site: Path) -> None:
    """A child that holds all of the worker's pipes neither hides the worker's death nor survives it."""
    fork = f"import os\nchild = os.fork()\nif child == 0:\n    {HANG}\nopen({str(site / 'child')!r}, 'w').write(str(child))\nos.abort()"
    assert fault(agent.run(**fake(site, fork), deadline_s=30.0))[0] == "crash"
    child = int((site / "child").read_text())
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, "the child's end")


def test_what_a_worker_inherits(site: Path, tmp_path: Path) -> None:
    """Three standard streams and its events, no other descriptor; no PYTHON variable of the login, one locale everywhere."""
    agent = Agent(tmp_path / "cache", environ={"PYTHONSTARTUP": "/nowhere", "PYTHONHASHSEED": "1", "LC_ALL": "de_DE.UTF-8", "KEPT": "yes"})
    told = site / "told"
    report = f"import json, os; json.dump([dict(os.environ), os.listdir('/proc/self/fd')], open({str(told)!r}, 'w'))"
    agent.run(**fake(site, report))
    environ, descriptors = json.loads(told.read_text())
    assert len(descriptors) == 5  # one is the listing's own
    assert {name for name in environ if name.startswith("PYTHON")} == {"PYTHONPATH"}
    assert (environ["LC_ALL"], environ["KEPT"]) == ("C.UTF-8", "yes")


# Starting


def test_starting_at_once_starts_once(agent: Agent) -> None:
    """Of four starts of one launch at the same time one starts it and the others find it started."""
    request = encode(agent.spec())
    with Lock(agent.cache.path("start.lock")):
        processes = [subprocess.Popen(agent.argv("start"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(request)
            process.stdin.close()
            process.stdin = None
        until(lambda: all(sleeps_on_a_lock(process.pid) for process in processes), "four that wait")
    answers = [json.loads(process.communicate()[0])["ok"]["started"] for process in processes]
    assert sorted(answers) == [False, False, False, True]
    assert "done" in phases(agent.follow("launch-1"))


def test_a_killed_start_leaves_nothing_or_a_launch(agent: Agent) -> None:
    """Killed as soon as it touches the launches' folder, a start can be made again; the launch then runs once, to its end.

    What was begun before a power cut is cleared.
    """
    os.mkdir(agent.cache.path("launches", ".starting-before"))
    for _ in range(2):
        spec = agent.spec()
        with subprocess.Popen(agent.argv("start"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            assert process.stdin is not None
            process.stdin.write(encode(spec))
            process.stdin.close()
            until(lambda: set(os.listdir(agent.cache.path("launches"))) - {".starting-before"}, "a launch")
            os.killpg(process.pid, signal.SIGKILL)
        agent.call("start", spec)
        assert "done" in phases(agent.follow(spec.launch))
        agent.call("gc", {"launches": [spec.launch]})
        assert os.listdir(agent.cache.path("launches")) == []


def test_only_the_leases_owner_starts_and_only_one_launch(agent: Agent, site: Path) -> None:
    """Without the lease, or while a launch runs, start is refused as busy and leaves nothing; a launch's lease lasts to its deadline."""
    spec = agent.spec()
    assert agent.refusal("start", spec._replace(owner="other")) == "busy"
    assert agent.cache.names("launches") == []
    launch = started(agent, site, HANG, deadline_s=500.0)
    state = agent.call("lease")
    assert state["running"] is True
    assert state["left_s"] > 490
    assert agent.refusal("start", spec._replace(launch="second")) == "busy"
    assert agent.cache.names("launches") == [launch]
    assert agent.call("cancel", {"launch": launch}) == {"cancelled": True}
    assert agent.follow(launch)[-1]["type"] == "end"
    assert agent.call("start", spec._replace(launch="second"))["started"] is True


def test_a_launch_that_is_about_to_end_is_waited_for(agent: Agent) -> None:
    """A start that finds the last launch's supervisor still there, or somebody looking, tries again for a while."""
    spec = agent.spec()
    busy = Lock(agent.cache.path("busy.lock"))
    busy.acquire()
    with subprocess.Popen(agent.argv("start"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(encode(spec))
        process.stdin.close()
        process.stdin = None
        until(lambda: is_held(agent.cache.path("start.lock")), "a start that has begun")
        busy.close()
        assert json.loads(process.communicate()[0])["ok"]["started"] is True
    assert "done" in phases(agent.follow(spec.launch))


# Detached


def test_a_launch_goes_on_without_whoever_started_it(agent: Agent, site: Path) -> None:
    """With the process group that started it killed, and each connection that follows it cut, the launch goes on to its end."""
    os.mkfifo(site / "fifo")
    spec = agent.spec(**fake(site, f"open({str(site / 'fifo')!r}).read()"))
    (site / "request").write_bytes(encode(spec))
    script = '"$@" < "$0"; exec sleep 1000'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, site / "request", *agent.argv("start")], stdout=subprocess.PIPE, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        assert json.loads(shell.stdout.readline())["ok"]["started"] is True
        os.killpg(shell.pid, signal.SIGHUP)
        os.killpg(shell.pid, signal.SIGKILL)
    with agent.following(spec.launch) as events:
        assert next(events)["type"] == "hello"
    (site / "fifo").write_text("go on")
    events = agent.follow(spec.launch, 1)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert fault(events)[0] == "env_missing"


def test_a_launch_holds_on_to_nothing_of_the_link(agent: Agent, site: Path) -> None:
    """A descriptor that the starting process had inherited is closed once it has answered, so that an SSH session can end."""
    reading, writing = os.pipe()
    spec = agent.spec(**fake(site, HANG))
    subprocess.run(agent.argv("start"), input=encode(spec), stdout=subprocess.DEVNULL, pass_fds=(writing,), check=True)
    os.close(writing)
    assert select.select([reading], [], [], 0)[0] == [reading]
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert agent.call("cancel", {"launch": spec.launch}) == {"cancelled": True}
    agent.follow(spec.launch)


def test_blocked_and_ignored_signals_do_not_matter(agent: Agent, site: Path) -> None:
    """Started by a process that blocks all signals and ignores its children, a launch still sees its worker die and can be cancelled."""
    odd = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    odd += "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); os.execv(sys.argv[1], sys.argv[1:])"
    for code, expected in (("import os; os.abort()", "crash"), (HANG, "cancelled")):
        spec = agent.spec(**fake(site, code))
        subprocess.run([sys.executable, "-c", odd, *agent.argv("start")], input=encode(spec), stdout=subprocess.DEVNULL, check=True)
        if expected == "cancelled":
            agent.call("cancel", {"launch": spec.launch})
        assert fault(agent.follow(spec.launch))[0] == expected


def test_connections_that_are_cut_lose_and_repeat_nothing(agent: Agent) -> None:
    """Followed over a new connection for every four events, a launch tells each event once and in order."""
    launch = agent.start()
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["type"] != "end":
        with agent.following(launch, len(seen)) as events:
            seen += [event for event, _ in zip(events, range(4), strict=False)]
    assert [event["seq"] for event in seen] == list(range(len(seen)))
    assert seen == agent.follow(launch)


# Ends


def test_a_cancelled_launch_says_so(agent: Agent, site: Path) -> None:
    """Cancelling ends the worker and the spool, with fault `cancelled`; a launch that has ended, or never was, is not cancelled."""
    launch = started(agent, site, HANG)
    assert agent.call("cancel", {"launch": launch}) == {"cancelled": True}
    assert fault(agent.follow(launch))[0] == "cancelled"
    assert workers(agent) == []
    for name in (launch, "never"):
        assert agent.call("cancel", {"launch": name}) == {"cancelled": False}


def test_a_cancel_at_any_moment_ends_the_launch(agent: Agent) -> None:
    """Cancelled right after its start, and while it ends, a launch has a complete spool, cancelled or done."""
    launch = agent.start(min_duration_s=1000.0)
    agent.call("cancel", {"launch": launch})
    assert fault(agent.follow(launch))[0] == "cancelled"
    launch = agent.start()
    with agent.following(launch) as events:
        for event in events:
            if event["data"].get("name") == "done":
                os.kill(agent.supervisor(launch), signal.SIGUSR1)
    last = agent.follow(launch)
    assert types(last)[-1] == "end"
    assert "fault" not in types(last) or fault(last)[0] == "cancelled"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_supervisor_that_dies_takes_its_worker_along(agent: Agent, site: Path, name: str) -> None:
    """After its supervisor was killed a launch is lost, no worker goes on measuring, and the next launch can start."""
    launch = started(agent, site, HANG)
    assert len(workers(agent)) == 1
    os.kill(agent.supervisor(launch), signal.Signals[name])
    last = agent.follow(launch)[-1]
    assert (last["type"], last["data"]) == ("lost", {"code": "crash"})
    until(lambda: workers(agent) == [], "the worker's end")
    assert "done" in phases(agent.run())


def test_a_worker_killed_in_its_window_loses_only_the_window(agent: Agent) -> None:
    """Killed while it measures, with the spool held in memory, the launch still tells all that came before, and its phase."""
    launch = agent.start(min_duration_s=1000.0)
    until(lambda: is_held(agent.cache.launch(launch, "quiet.lock")), "a measuring window")
    workers(agent)[0].send_signal(signal.SIGSEGV)
    events = agent.follow(launch)
    code, phase, _ = fault(events)
    assert (code, phase) == ("crash", phases(events)[-1])
    assert phases(events)[:6] == ["import", "data", "prepare", "load", "first_inference", "warmup"]


# The measuring window


@pytest.mark.parametrize("which", ["model", "data"])
def test_a_damaged_file_is_not_held_against_the_model(agent: Agent, which: str) -> None:
    """Where a byte of the model or of the data has changed on the device since its upload, the launch says that, whatever came of it."""
    spec = agent.spec()
    path = Path(agent.cache.blob(spec.artifact.sha256 if which == "model" else spec.data))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    assert agent.call("start", spec)["started"]
    code, phase, message = fault(agent.follow(spec.launch))
    assert (code, phase) == ("protocol", "verify")
    assert "is not what was uploaded" in message


def test_nothing_is_written_in_the_measuring_window(agent: Agent) -> None:
    """From the warm-up on the quiet lock is held and the spool does not grow; afterwards the window's events are there."""
    launch = agent.start(min_duration_s=1.0)
    quiet, spool = agent.cache.launch(launch, "quiet.lock"), Path(agent.cache.launch(launch, "events.jsonl"))
    until(lambda: is_held(quiet) or "measured" in spool.read_text(), "a measuring window")
    during = spool.read_text()
    assert is_held(quiet)
    assert json.loads(during.splitlines()[-1])["data"] == {"name": "warmup"}
    wait_until_free(quiet)
    assert not os.path.exists(quiet)
    events = agent.follow(launch)
    times = {event["data"].get("name"): event["t"] for event in events}
    assert times["measured"] - times["measure"] >= 1.0


# A full disk


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Agent]:
    """An agent on a disk of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield Agent(folder / "cache")
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(agent: Agent, left_bytes: int) -> None:
    free = os.statvfs(agent.cache.root)
    Path(agent.cache.root, "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - left_bytes))


def test_a_disk_that_fills_up_in_a_launch_is_its_fault(full: Agent) -> None:
    """Samples that find no room are fault disk_full, and the spool still gets its end, with the log and the conditions."""
    spec = full.spec(min_queries=60_000, max_samples=60_000)
    fill(full, 300_000)
    full.call("start", spec)
    events = full.follow(spec.launch)
    assert fault(events)[0] == "disk_full"
    assert types(events)[-4:] == ["conditions", "log", "fault", "end"]
    assert os.listdir(full.cache.launch(spec.launch, "files")) == []


def test_a_launch_on_a_disk_that_others_filled_has_its_end(full: Agent, site: Path) -> None:
    """With not a byte left, the launch's log, conditions, fault and end are written all the same."""
    launch = started(full, site, f"import os; os.write(2, b'x' * 16384)\n{HANG}")
    fill(full, 0)
    full.call("cancel", {"launch": launch})
    events = full.follow(launch)
    assert types(events)[-4:] == ["conditions", "log", "fault", "end"]
    assert len(log(events)) == 16384


def test_a_launch_does_not_start_on_a_full_disk(full: Agent) -> None:
    """Where not even its spool's reserve finds room, start says disk_full and leaves nothing."""
    spec = full.spec()
    fill(full, 60_000)
    assert full.refusal("start", spec) == "disk_full"
    assert os.listdir(full.cache.path("launches")) == []
