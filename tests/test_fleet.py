"""Lanes, and measuring on this machine with real launches: what is collected, what is measured again, what is left out."""

import dataclasses
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agents import OWNER, Agent, tiny_data, tiny_model, until
from hypothesis import given, settings
from hypothesis import strategies as st
from sshd import free_port
from typer.testing import CliRunner

from agent import lease
from agent.cache import unlink
from agent.schema import Artifact, Cell, Fault, FaultError, Feed, ModelFile, Workload, cell_id
from compress.records import Data
from controller.cli.__main__ import app
from controller.collect import Collected
from controller.dataset import Dataset
from controller.errors import FleetmarkError
from controller.estimate import Estimate
from controller.fleet import Fleet
from controller.inventory import AgentSettings, Device, Expect, Ssh
from controller.lane import interleaved
from controller.lanes import group
from controller.links import Links
from controller.listener import label
from controller.profiles import Profile
from controller.queueing import Patience
from controller.remote import Remote
from controller.session import Job, Session
from controller.store import Store
from controller.timeouts import DEFAULT, Timeouts
from controller.visit import open_remote
from reports.records import CellRecord

RUN = "run"
FAST = Profile("quick", 2, 0.01, 10, 0.001, 2, 0.01, 60.0)
DOCUMENT: dict[str, Any] = {"fleetmark": "0", "profile": "quick", "suite": "s", "launches": 2, "request": {}, "provenance": {}}
FLEETMARK = Path(sys.executable).with_name("fleetmark")


class Listener:
    """Remembers what landed."""

    def __init__(self) -> None:
        self.news: list[str] = []
        self.statuses: list[str] = []

    def say(self, text: str) -> None:
        self.news.append(text)

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        pass

    def landed(self, job: Job, status: str) -> None:
        self.news.append(f"{job.cell.device} {label(job)}")
        self.statuses.append(status)


class Bench:
    """A results folder and an agent of this machine, both below `folder`, and one tiny model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agent = Agent(folder / "agent")
        self.device = Device(name="laptop", kind="local", agent=AgentSettings(cache_dir=str(folder / "agent")))
        self.store = Store(folder / "results")
        self.store.create_run(RUN, "2026", DOCUMENT)
        self.listener = Listener()
        (folder / "model.onnx").write_bytes(tiny_model())
        (folder / "data.npz").write_bytes(tiny_data())

    def session(self, device: Device | None = None, profile: Profile = FAST, timeouts: Timeouts = DEFAULT) -> Session:
        return Session(device or self.device, OWNER, profile, self.folder, timeouts=timeouts, say=self.listener.say)

    def job(self, device: str = "laptop", **options: Any) -> Job:
        """The tiny model's cell, in the store."""
        model, data = self.agent.put(tiny_model()), self.agent.put(tiny_data())
        cell = Cell(device, "tiny", "fp32", "onnx", model, "onnxruntime", options, Workload("single_stream", {}))
        artifact = Artifact(model, "onnx", [ModelFile("model.onnx", model, len(tiny_model()))])
        feeds = {"onnx": (Feed("image", "image", 1.0, [0.0], [1.0], []),)}
        dataset = Dataset(
            self.folder / "data.npz", data, feeds, Data({"x": np.zeros((6, 1), np.float32)}, {}, np.zeros(6, np.int64), {}), random=False
        )
        self.store.add_cells(RUN, [(cell_id(cell), cell, None)], [])
        return Job(cell_id(cell), cell, artifact, self.folder, dataset)

    def measure(self, *jobs: Job, devices: list[Device] | None = None, launches: int = 1, **settings: Any) -> dict[str, CellRecord]:
        """Run the fleet over these jobs, with what the store has of earlier runs; give the cells by device."""
        reference = {("tiny", "onnx"): np.arange(96, dtype=np.float32).reshape(6, 16) @ np.arange(32, dtype=np.float32).reshape(16, 2)}
        pending = self.store.open_launches(RUN)
        Fleet(RUN, self.store, launches, self.listener, self.session, reference, pending=pending, **settings).run(
            devices or [self.device], jobs
        )
        return {cell.cell.device: cell for cell in self.store.load_run(RUN).cells}

    def left(self) -> list[str]:
        """The launches that lie on the device."""
        return self.agent.cache.names("launches")


class Counted:
    """How many links were open at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def open(self, device: Device, timeouts: Timeouts) -> Remote:
        self.now += 1
        self.most = max(self.most, self.now)
        remote = open_remote(device, timeouts)
        close = remote.close

        def closed() -> None:
            close()
            self.now -= 1

        remote.close = closed
        return remote


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


DEVICES = st.lists(
    st.tuples(st.none() | st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]), st.none() | st.sampled_from("xyz")), max_size=6
)


@settings(max_examples=15, deadline=None)
@given(DEVICES)
def test_lanes_hold_every_device_once_and_share_nothing(chosen: list[tuple[str | None, str | None]]) -> None:
    """Each device is in one lane; no two lanes share a host or a meter, and no lane could be cut in two."""
    devices = [
        Device(name=f"d{at}", kind="generic" if host else "local", ssh=Ssh(host=host) if host else None, meter=meter)
        for at, (host, meter) in enumerate(chosen)
    ]
    lanes = group(devices)
    assert sorted(device.name for lane in lanes for device in lane) == sorted(device.name for device in devices)
    assert not any(_share(one, other) for lane in lanes for one in lane for rest in lanes if rest is not lane for other in rest)
    for lane in lanes:
        reached, rest = lane[:1], lane[1:]
        while near := [device for device in rest if any(_share(device, other) for other in reached)]:
            reached, rest = reached + near, [device for device in rest if device not in near]
        assert rest == []


def _share(one: Device, other: Device) -> bool:
    return _host(one) == _host(other) or (one.meter is not None and one.meter == other.meter)


def _host(device: Device) -> str:
    return device.ssh.host if device.ssh else ""


def test_every_round_lands_and_nothing_stays_on_the_device(bench: Bench) -> None:
    """Two launches of a cell are valid, the first with accuracy and drift, and both are deleted on the device."""
    cell = bench.measure(bench.job(), launches=2)["laptop"]
    assert (cell.status, [launch.round for launch in cell.launches]) == ("valid", [0, 1])
    assert ["drift_sqnr_db" in launch.values for launch in cell.launches] == [True, False]
    assert bench.listener.statuses == ["valid", "valid"]
    assert bench.left() == []


def test_a_launch_that_ended_without_us_counts(bench: Bench) -> None:
    """A launch that an earlier controller started is collected and not measured again, though the cell could not be started now."""
    job = bench.job(runtime="nowhere")
    launch = bench.agent.start()
    bench.store.begin_launch(RUN, job.id, 0, launch, "2026")
    cell = bench.measure(job)["laptop"]
    assert ([one.id for one in cell.launches], cell.fault, cell.status) == ([launch], None, "valid")
    assert bench.listener.statuses == ["valid"]
    assert bench.left() == []


def test_a_launch_that_failed_without_us_is_not_measured_again(bench: Bench) -> None:
    """A collected launch with a fault of its own sets its cell aside, as one that was followed would."""
    job = bench.job()
    launch = bench.agent.start(model=b"no model")
    bench.store.begin_launch(RUN, job.id, 0, launch, "2026")
    cell = bench.measure(job, launches=2)["laptop"]
    assert [one.id for one in cell.launches] == [launch]
    assert bench.listener.statuses == ["failed"]


def test_a_launch_that_never_started_is_measured(bench: Bench) -> None:
    """A launch that was noted and never reached the device is told as such and measured again."""
    job = bench.job()
    bench.store.begin_launch(RUN, job.id, 0, "never-started", "2025")
    cell = bench.measure(job)["laptop"]
    assert [one.status for one in cell.launches] == ["failed", "valid"]
    assert (cell.status, bench.listener.statuses) == ("valid", ["valid"])


def test_a_device_out_of_reach_leaves_the_others_alone(bench: Bench) -> None:
    """A closed port is `unreachable` for its own cells, the other lane's are valid."""
    away = Device(name="away", kind="generic", ssh=Ssh(host="127.0.0.1", port=free_port()))
    cells = bench.measure(bench.job(), bench.job("away"), devices=[away, bench.device])
    assert (cells["laptop"].status, cells["away"].status) == ("valid", "unreachable")


def test_a_void_lease_is_taken_anew_and_a_foreign_one_is_not(bench: Bench) -> None:
    """After a reboot, which voids leases, the next launch runs; with somebody else's lease it is `busy` and names them."""
    session, job = bench.session(), bench.job()
    session.ship([job], session.open())
    unlink(bench.agent.cache.path("lease.json"))
    assert session.measure(job, "one", False, print).fault is None
    session.close()
    lease.acquire(bench.agent.cache, "somebody else", 100.0)
    with pytest.raises(FaultError, match="somebody else") as caught:
        session.measure(job, "two", False, print)
    assert caught.value.fault.code == "busy"


def test_a_busy_host_is_left_out_with_its_holder_and_measured_later(bench: Bench) -> None:
    """A run that does not wait names who has the host; nothing is launched, and once the host is free a second try is valid."""
    job = bench.job()
    lease.acquire(bench.agent.cache, "ann@desk run 7", 100.0)
    cell = bench.measure(job)["laptop"]
    assert cell.fault is not None
    assert (cell.fault.code, "ann@desk run 7 has this host, for" in cell.fault.message, cell.launches) == ("busy", True, ())
    lease.release(bench.agent.cache, "ann@desk run 7")
    bench.store.cell_faults(RUN, {job.id: None})
    assert bench.measure(job)["laptop"].status == "valid"


def test_a_host_key_that_changes_in_a_run_costs_no_launch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is asked no more and its cell is `unreachable`; once the key is right again its launch is collected, not made again."""
    measure, asked = Session.measure, list[str]()

    def change(session: Session, job: Job, launch: str, *rest: Any) -> None:
        asked.append(launch)
        measure(session, job, launch, *rest)
        raise FaultError("host_key", "another key", "")

    job = bench.job()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "measure", change)
        assert bench.measure(job, launches=2)["laptop"].status == "unreachable"
    (launch,) = asked
    bench.store.cell_faults(RUN, {job.id: None})
    cell = bench.measure(job, launches=2)["laptop"]
    assert (cell.launches[0].id, [one.status for one in cell.launches]) == (launch, ["valid", "valid"])


def test_a_lost_launch_that_cannot_be_ended_is_deleted_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the agent's file is damaged, which another process of it needs: what is over does not stay on the device."""
    measure, cancelled = Session.measure, list[str]()

    def lose(session: Session, *given: Any) -> Collected:
        collected = measure(session, *given)
        return collected if cancelled else Collected(fault=Fault("crash", "follow", "the supervisor is gone", ""))

    def cancel(_: Session, launch: str) -> None:
        cancelled.append(launch)
        raise FaultError("protocol", "the agent's cancel gave no answer", "")

    monkeypatch.setattr(Session, "measure", lose)
    monkeypatch.setattr(Session, "cancel", cancel)
    assert bench.measure(bench.job())["laptop"].status == "valid"
    assert (len(cancelled), bench.left()) == (1, [])


def test_no_launch_begins_that_would_not_end_by_the_deadline(bench: Bench) -> None:
    """Of two cells the one that is expected to take longer than there is time is left out, the other one is measured."""
    short, long = bench.job(), bench.job(intra_op_num_threads=1)
    estimate = Estimate({short.id: 0.0, long.id: 7200.0})
    bench.measure(short, long, estimate=estimate, patience=Patience(until_s=time.monotonic() + 3600.0))
    faults = {cell.id: cell.fault for cell in bench.store.load_run(RUN).cells}
    assert faults[short.id] is None
    assert (faults[long.id].code, estimate.left_s()) == ("deadline", 0.0)


def test_a_device_that_keeps_losing_launches_is_set_aside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the tries of one cell and the first of another the rest is left out, with the last reason; the launches are stored."""
    jobs = [bench.job(intra_op_num_threads=threads) for threads in (1, 2, 3)]
    lost = Collected(fault=Fault("rebooted", "follow", "the device rebooted during the launch", ""))
    monkeypatch.setattr(Session, "measure", lambda *_: lost)
    bench.measure(*jobs)
    cells = bench.store.load_run(RUN).cells
    told = [cell.fault.message for cell in cells if cell.fault]
    assert sorted(len(cell.launches) for cell in cells) == [0, 1, 3]
    why = "laptop was set aside after 4 lost launches in a row, the last: the device rebooted during the launch"
    assert told == [why] * 2


def test_a_store_that_fails_stops_every_lane_and_leaves_launches_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other lane's launch, of an hour, is not waited for and goes on; the error is raised once, and nothing is left out."""
    other = Device(name="other", kind="local", agent=AgentSettings(cache_dir=str(bench.folder / "other")))
    slow, quick = bench.job(), bench.job("other")
    profile = dataclasses.replace(FAST, min_duration_s=3600.0, deadline_s=7200.0)
    monkeypatch.setattr("controller.fleet.lanes.group", lambda devices: [[device] for device in devices])

    def begin(*found: Any) -> None:
        if found[1] == quick.id:
            until(bench.left, "the other lane's launch")
            raise FleetmarkError("the disk is full")
        Store.begin_launch(bench.store, *found)

    monkeypatch.setattr(bench.store, "begin_launch", begin)
    sessions = {"laptop": bench.session(profile=profile), "other": bench.session(other)}
    fleet = Fleet(RUN, bench.store, 1, bench.listener, lambda device: sessions[device.name], {})
    with pytest.raises(FleetmarkError, match="the disk is full"):
        fleet.run([bench.device, other], [slow, quick])
    (launch,) = bench.left()
    assert bench.agent.call("cancel", {"launch": launch}) == {"cancelled": True}  # it was still running
    bench.agent.follow(launch)
    assert [cell.fault for cell in bench.store.load_run(RUN).cells] == [None, None]


def test_devices_of_a_lane_take_turns(bench: Bench) -> None:
    """Each device's cells stay in their order, and no device follows itself while another has cells left."""
    jobs = [bench.job(device, intra_op_num_threads=at) for device, at in (("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2))]
    found = list(interleaved(jobs))
    assert [job.cell.device for job in found] == ["a", "b", "a", "b", "a"]
    assert [job for job in found if job.cell.device == "a"] == jobs[:3]


def test_more_devices_than_links_are_measured_at_the_same_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one link for three devices each of them gets valid launches, and never more than one link is open."""
    devices = [Device(name=name, kind="local", agent=AgentSettings(cache_dir=str(bench.folder / name))) for name in "abc"]
    monkeypatch.setattr("controller.fleet.lanes.group", lambda devices: [[device] for device in devices])
    links, counted = Links(1), Counted()
    monkeypatch.setattr("controller.link.open_remote", counted.open)
    cells = bench.measure(*(bench.job(device.name) for device in devices), devices=devices, links=links)
    assert {name: cell.status for name, cell in cells.items()} == dict.fromkeys("abc", "valid")
    assert counted.most == 1


def test_a_link_lost_late_in_a_long_launch_is_made_anew(bench: Bench) -> None:
    """A launch longer than the patience with a lost link survives the loss of one that had held so far."""
    session, job = bench.session(profile=dataclasses.replace(FAST, min_duration_s=1.0), timeouts=Timeouts(reconnect_s=0.5)), bench.job()
    session.ship([job], session.open())
    lost: list[str] = []

    def lose(phase: str, _: float | None) -> None:
        if phase == "measured" and not lost:
            lost.append(phase)
            raise FaultError("link_lost", "cut", "")

    assert session.measure(job, "one", False, lose).fault is None
    session.close()
    assert lost


def test_an_interrupt_before_a_launch_is_followed_still_ends_it(bench: Bench) -> None:
    """A launch that had only just been started when Ctrl-C came is cancelled, not waited for."""
    session, job = bench.session(profile=dataclasses.replace(FAST, min_duration_s=3600.0, deadline_s=7200.0)), bench.job()
    session.ship([job], session.open())
    session.interrupt()
    fault = session.measure(job, "one", False, print).fault
    session.close()
    assert fault is not None
    assert fault.code == "cancelled"


def test_a_run_that_goes_on_is_not_resumed(bench: Bench) -> None:
    """--resume of a run that another controller holds is refused before anything is made."""
    (bench.folder / "inventory.yaml").write_text("version: 1\ndevices:\n  laptop: {kind: local}\n")
    asked = {"target": str(bench.folder / "model.onnx"), "name": "model.onnx", "inventory": str(bench.folder / "inventory.yaml")}
    bench.store.create_run("held", "2026", DOCUMENT | {"request": asked | dict.fromkeys(("select", "profile", "launches"))})
    folder = bench.folder / "results" / "held"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = subprocess.run([FLEETMARK, "run", "--resume", "held"], cwd=bench.folder, capture_output=True, text=True, timeout=60, check=False)
    os.close(held)
    assert (done.returncode, "run held is still going on" in done.stderr) == (2, True), done.stderr


def test_a_run_is_resumed_as_it_was_asked_for(bench: Bench) -> None:
    """An option that would change what a resumed run measures is refused by name, not ignored."""
    bench.store.create_run("old", "2026", DOCUMENT | {"request": {"target": "model.onnx", "name": "model.onnx"}})
    done = CliRunner().invoke(app, ["run", "--resume", "old", "--launches", "9", "--results", str(bench.folder / "results")])
    assert "--launches has no say" in str(done.exception)


def test_a_power_mode_other_than_expected_is_said(bench: Bench) -> None:
    """The run goes on, for the person may know better."""
    device = bench.device.model_copy(update={"expect": Expect(power_mode="MAXN")})
    cells = bench.measure(bench.job(), devices=[device])
    assert "laptop: its power mode is not told, MAXN is expected" in bench.listener.news
    assert cells["laptop"].status == "valid"


def test_what_was_stored_and_not_deleted_is_deleted_by_a_resumed_run(bench: Bench) -> None:
    """A controller that died between the two leaves nothing on the device for good, not of cells either that have nothing left to do."""
    job, launch = bench.job(), bench.agent.start()
    bench.agent.follow(launch)
    reference = {("tiny", "onnx"): np.arange(96, dtype=np.float32).reshape(6, 16) @ np.arange(32, dtype=np.float32).reshape(16, 2)}
    fleet = Fleet(RUN, bench.store, 1, bench.listener, bench.session, reference, stored={"laptop": [launch, "gone"]})
    fleet.run([bench.device], [job])
    assert bench.left() == []
    assert bench.listener.statuses == ["valid"]


def test_files_that_somebody_deleted_are_sent_again(bench: Bench) -> None:
    """The launch that could not start for want of them is told, the next try has them."""
    bench.agent.put(b"")

    class Deleting(Listener):
        deleted = 0

        def phase(self, *told: Any) -> None:
            if told[1] == "start" and not self.deleted:
                for blob in Path(bench.agent.cache.path("blobs")).iterdir():
                    blob.unlink()
                    self.deleted += 1

    bench.listener = Deleting()
    cell = bench.measure(bench.job())["laptop"]
    assert [launch.status for launch in cell.launches] == ["failed", "valid"]
    assert cell.launches[0].fault
    assert "was not uploaded" in cell.launches[0].fault.message
