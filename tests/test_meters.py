"""Meters outside of the devices: what they answer, what becomes of those that lie, and how a launch's energy comes of them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import factory_runs
import numpy as np
import pytest
from agents import liar, tiny_model, until
from meters import FakeMeter, Handler, running
from sshd import Sshd, free_port
from test_energy import EXACT_J, IDLE, WINDOW, power
from test_fleet import FAST, FLEETMARK, Bench
from typer.testing import CliRunner

from agent import sensors
from agent.power import Sampler
from agent.schema import Event, FaultError, Workload
from agent.sensors import PowerSensor, SensorError
from agent.system import System
from controller import inventory, metering, plan, profiles
from controller.cli.__main__ import app
from controller.collect import Collected, collect
from controller.errors import ConfigError
from controller.inventory import Device, Meter
from controller.metering import Offset
from controller.remote import Remote
from controller.session import Session
from controller.store import Store
from controller.timeouts import DEFAULT, Timeouts
from controller.transport import connect
from reports import energy_figures, sections, table
from reports.energy import Energy, Refusal
from reports.records import LaunchRecord

PASSWORD = "a-password-of-its-own"
SECRET = "hunter2 &%\"'é"
SLOW = {"timeout_s": 5.0}  # on a busy machine an answer may take a while


@contextmanager
def sensor(meter: FakeMeter, driver: str = "shelly", **options: Any) -> Iterator[PowerSensor]:
    """The driver of a fake meter that is running."""
    with running(meter):
        yield sensors.get(driver)(System("/"), {"url": meter.url, **SLOW, **options})


def entry(meter: FakeMeter, driver: str = "shelly", **options: Any) -> Meter:
    return Meter.model_validate({"driver": driver, "url": meter.url, **options})


# What they answer


@pytest.mark.parametrize(("kind", "driver"), [("gen1", "shelly"), ("gen2", "shelly"), ("tasmota", "tasmota")])
@pytest.mark.parametrize("password", ["", SECRET])
def test_each_meter_tells_its_watts(kind: str, driver: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of HARDWARE.md's answer, at the wall, with and without a password, which is sent to nobody who did not ask for it."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")  # a meter is in the lab, not behind a proxy
    monkeypatch.setenv("no_proxy", "")
    with sensor(FakeMeter(kind, power_w=lambda: 25.7), driver, password="") as plug:
        found = plug.probe()
        assert (found.problem, found.scope, found.total) == ("", "wall", ("meter",))
        assert [reading.value for reading in plug.read()] == [25.7]
    if driver == "shelly":
        assert found.details == {"generation": kind[-1]}


@pytest.mark.parametrize(("kind", "driver"), [("gen1", "shelly"), ("gen2", "shelly")])
def test_a_shelly_asks_for_its_password(kind: str, driver: str) -> None:
    """Basic for the first generation, SHA-256 digests after it; the password is not sent before, and never where a digest is asked for."""
    meter = FakeMeter(kind, SECRET, lambda: 25.7)
    with sensor(meter, driver, password=SECRET) as plug:
        assert plug.probe().problem == ""
        assert [plug.read()[0].value for _ in range(3)] == [25.7] * 3
    assert "Authorization" not in meter.heard[0]
    assert kind == "gen1" or not any("Basic" in one for one in meter.heard)
    assert not any(SECRET in one for one in meter.heard)


def test_tasmota_takes_its_password_in_the_query() -> None:
    """Where else it would not look."""
    with sensor(FakeMeter("tasmota", PASSWORD, lambda: 20), "tasmota", password=PASSWORD) as plug:
        assert (plug.probe().problem, plug.read()[0].value) == ("", 20)


@pytest.mark.parametrize(("kind", "driver"), [("gen1", "shelly"), ("gen2", "shelly"), ("tasmota", "tasmota")])
@pytest.mark.parametrize("password", ["", "wrong-one"])
def test_a_wrong_password_is_told_and_not_shown(kind: str, driver: str, password: str) -> None:
    """One line that says so, in which there is no password."""
    with sensor(FakeMeter(kind, "right"), driver, password=password) as plug:
        problem = plug.probe().problem
    assert "\n" not in problem
    assert problem.startswith(f"{driver} at 127.0.0.1: ")
    assert "wrong-one" not in problem
    if driver == "shelly":
        assert "password" in problem


def test_a_second_channel_is_another_page() -> None:
    """Channel 1 of a meter that has only channel 0 is told as missing, not read as channel 0."""
    with sensor(FakeMeter("gen2"), channel=1) as plug:
        assert "has no channel 1" in plug.probe().problem


# What becomes of those that lie


def text(handler: Handler) -> None:
    handler.say(b"<html>welcome</html>")


def huge(handler: Handler) -> None:
    handler.say(b'{"apower": 25.7, "pad": "' + b"x" * 70_000 + b'"}')


def less_than_nothing(handler: Handler) -> None:
    """A chunk whose size is negative, without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
    with suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65536)


def beyond_all_numbers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-9223372036854775808\r\n{}\r\n")


def nested(handler: Handler) -> None:
    handler.say(b"[" * 30_000)


def trickle(handler: Handler) -> None:
    """A byte now and then, each in time for a time-out that begins anew with it."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Pad: ")
    while not handler.server.done.wait(0.02):
        handler.wfile.write(b"x")
        handler.wfile.flush()


def trickle_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not handler.server.done.wait(0.02):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def silent(handler: Handler) -> None:
    handler.server.done.wait()


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"\x00\xff no HTTP\r\n\r\n")


def broken(handler: Handler) -> None:
    handler.say(b"", 500)


@pytest.mark.parametrize(
    ("misbehave", "why", "options"),
    [
        (text, "not JSON", SLOW),
        (huge, "longer than 65536 bytes", SLOW),
        (nested, "not JSON", SLOW),
        (garbage, "not HTTP", SLOW),
        (less_than_nothing, "longer than 65536 bytes", SLOW),
        (beyond_all_numbers, "not HTTP", SLOW),
        (broken, "answers 500", SLOW),
        (trickle, "no answer within 0.2 s", {"timeout_s": 0.2}),
        (trickle_body, "no answer within 0.2 s", {"timeout_s": 0.2}),
        (silent, "no answer within 0.2 s", {"timeout_s": 0.2}),
    ],
)
def test_a_meter_that_does_not_answer_as_one_is_told(misbehave: Callable[[Handler], None], why: str, options: dict[str, Any]) -> None:
    """However it fails, there is one line of why, in bounded time, and no number."""
    with sensor(FakeMeter(misbehave=misbehave), **options) as plug:
        assert why in plug.probe().problem


@pytest.mark.parametrize("value", [None, "25.7", True, -0.5, 1e5, [25.7], {"w": 1}, 10**400])
@pytest.mark.parametrize(("kind", "driver"), [("gen1", "shelly"), ("gen2", "shelly"), ("tasmota", "tasmota")])
def test_what_is_no_power_is_no_reading(kind: str, driver: str, value: object) -> None:
    """Text, nothing, below zero, beyond any plug: an error, never a number."""
    with sensor(FakeMeter(kind, power_w=lambda: value), driver) as plug:
        assert plug.probe().problem
        with pytest.raises(SensorError):
            plug.read()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_has_not_are_refused(value: str) -> None:
    """Python's reader would take them."""
    with sensor(FakeMeter(misbehave=lambda handler: handler.say(f'{{"apower": {value}}}'.encode()))) as plug:
        assert "not JSON" in plug.probe().problem


def test_a_reading_that_the_meter_does_not_believe_is_none() -> None:
    """is_valid false of the first generation."""

    def invalid(handler: Handler) -> None:
        handler.say(b"", 404) if "rpc" in handler.path else handler.say(b'{"power":48.52,"is_valid":false}')

    with sensor(FakeMeter(misbehave=invalid)) as plug:
        assert "not valid" in plug.probe().problem


def test_no_redirect_is_followed() -> None:
    """What answers with another host's address is refused, and the other host hears nothing, the password least of all."""
    other = FakeMeter("gen2")
    with running(other), sensor(FakeMeter(misbehave=lambda one: one.say(b"", 302, {"Location": other.url})), password=SECRET) as plug:
        assert "redirects are not followed" in plug.probe().problem
    assert other.heard == []


def test_a_meter_that_is_not_there() -> None:
    """A closed port is told as the system tells it."""
    plug = sensors.get("shelly")(System("/"), {"url": f"http://127.0.0.1:{free_port()}"})
    assert plug.probe().problem == "shelly at 127.0.0.1: Connection refused"


def test_a_trace_has_no_secret() -> None:
    """What is stored of a sampled meter: no password, in no form."""
    with running(FakeMeter("gen2", PASSWORD)) as meter:
        sampler = Sampler(System("/"), "shelly", {"url": meter.url, "password": PASSWORD, **SLOW})
        sampler.start()
        until(lambda: sampler.trace().reads, "a reading")
        sampler.stop()
    assert PASSWORD not in repr(sampler.trace())


# The inventory


def load(tmp_path: Path, meter: str) -> Meter:
    path = tmp_path / "inventory.yaml"
    path.write_text(f"version: 1\nmeters:\n  plug: {{{meter}}}\ndevices:\n  d: {{kind: local, meter: plug}}\n")
    return inventory.load(path).meters["plug"]


def test_a_meter_is_at_the_wall_unless_it_says_otherwise(tmp_path: Path) -> None:
    """And measures once a second."""
    meter = load(tmp_path, 'driver: shelly, url: "http://192.0.2.93"')
    assert (meter.boundary, meter.period_s, meter.user, meter.token) == ("wall", 1.0, "admin", None)


@pytest.mark.parametrize(
    ("meter", "message"),
    [
        ('driver: shely, url: "http://h"', "no meter has the driver `shely`; did you mean `shelly`?"),
        ('driver: ina226, url: "http://h"', "no meter has the driver `ina226`; known here: shelly, tasmota"),
        ("driver: shelly", "`url` is missing in `plug`"),
        ('driver: shelly, url: "http://me:pw@h"', "secret"),
        ('driver: shelly, url: "http://h", token: hunter2', "`token`"),
        ('driver: shelly, url: "http://h", password: hunter2', "secret"),
        ('driver: shelly, url: "http://h", period_s: 0', "`period_s`"),
        ('driver: shelly, url: "http://h", user: "a:b"', "`user`"),
    ],
)
def test_a_mistake_in_a_meter_has_its_place_and_a_way_out(tmp_path: Path, meter: str, message: str) -> None:
    """As in the rest of the file."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, meter)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_meter_is_no_sensor_of_a_device(tmp_path: Path) -> None:
    """`power:` is what the device reads itself."""
    path = tmp_path / "inventory.yaml"
    path.write_text("version: 1\ndevices:\n  d: {kind: local, power: {driver: shelly}}\n")
    with pytest.raises(ConfigError, match="no power sensor is called `shelly`"):
        inventory.load(path)


def test_a_token_is_looked_up_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment, or in a file whose path is relative to the inventory's; the inventory itself never holds it."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("PLUG", SECRET)
    for token in ("env:PLUG", "file:secret"):
        meter = load(tmp_path, f'driver: shelly, url: "http://h", token: "{token}"')
        assert SECRET not in repr(meter)
        assert metering.options(meter)["password"] == SECRET


@pytest.mark.parametrize("token", ["env:FLEETMARK_NOT_SET", "file:not-there"])
def test_a_token_that_is_not_there_is_meter_lost(tmp_path: Path, token: str) -> None:
    """With where it was looked for."""
    meter = load(tmp_path, f'driver: shelly, url: "http://h", token: "{token}"')
    with pytest.raises(FaultError) as caught:
        metering.options(meter)
    assert caught.value.fault.code == "meter_lost"
    assert token.partition(":")[2] in caught.value.fault.message


# Two clocks


@pytest.mark.parametrize("way", ["local", "ssh"])
def test_this_machine_and_itself_have_one_clock(tmp_path: Path, shared_sshd: Sshd, way: str) -> None:
    """The offset of a device that is this machine is 0 within what the round trips leave open, over either transport."""
    transport = connect("d", shared_sshd.settings() if way == "ssh" else None)
    with closing(Remote(transport, "d", cache_dir=str(tmp_path / "agent"))) as remote:
        remote.deploy()
        found = metering.compare(remote)
    assert found.low_s <= 0 <= found.high_s
    assert found.error_s < 0.1


@pytest.mark.parametrize(
    "answer", ["", "noon", '{"v":1,"ok":{"monotonic_s":"noon"}}', '{"v":1,"ok":{"monotonic_s":NaN}}', '{"v":1,"ok":7}']
)
def test_what_is_no_time_is_refused(tmp_path: Path, answer: str) -> None:
    """A device that answers anything else when it is asked for its time: `protocol`, and nothing is left running."""
    remote = Remote(connect("liar", None), "liar", str(liar(tmp_path, answer.encode())), str(tmp_path))
    with closing(remote), pytest.raises(FaultError) as caught:
        metering.compare(remote)
    assert caught.value.fault.code == "protocol"


class FakeClock:
    """A device whose clock is ahead and runs fast, behind a link that is slow both ways, unevenly; its answers take fake time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.now_s = 1000.0
        self.delays = np.random.default_rng(seed)
        monkeypatch.setattr(metering.time, "monotonic", lambda: self.now_s)

    def ahead_s(self) -> float:
        return 50.0 + 1e-4 * (self.now_s - 1000)

    def clock(self, times: int) -> Iterator[float]:
        for _ in range(times):
            self.now_s += self.delays.exponential(0.05)
            there_s = self.now_s + self.ahead_s()
            self.now_s += self.delays.exponential(0.005)
            yield there_s


@pytest.mark.parametrize("seed", range(5))
def test_the_offset_holds_all_through_the_launch(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Whatever the link does, the true offset is within the bound at every time in between, though the clocks drift apart."""
    device = FakeClock(monkeypatch, seed)
    truths = [device.ahead_s()]
    before = metering.compare(device)  # type: ignore[arg-type] # a Remote's clock is all that is asked
    device.now_s += 300
    truths.append(device.ahead_s())
    device.now_s += 300
    after = metering.compare(device)  # type: ignore[arg-type]
    found = before.until(after)
    assert all(abs(truth - found.middle_s) <= found.error_s for truth in [*truths, device.ahead_s()])
    assert found.error_s < 0.1


# A launch's energy


def shown(seed: int, offset_s: float, error_s: float, watts: Callable[[np.ndarray], np.ndarray] = power) -> LaunchRecord:
    """A launch on a fake plug that measures once a second and shows it until the next time, read once a second over a slow network.

    The readings are on a clock that the device's is `offset_s` ahead of; what is stored of the offset is off by `error_s`.
    """
    random = np.random.default_rng(seed)
    asked_s = np.arange(0.5, 99, 1.0) + random.uniform(-0.05, 0.05, 99)
    within_s = random.uniform(0, 0.5, 99)
    measured_s = np.floor(asked_s + within_s * random.uniform(0, 1, 99) - (phase := random.uniform(0, 1))) + phase
    power_w = watts(measured_s) + random.normal(0, 0.01, 99)
    values = {
        "queries": [600],
        "meter_t_s": asked_s + within_s / 2 - offset_s,
        "meter_0_uw": power_w * 1e6,
        "meter_clock_offset_s": [offset_s + random.uniform(-1, 1) * error_s],
        "meter_clock_error_s": [error_s],
        "power_window_s": [WINDOW.begin_s, WINDOW.end_s],
        "power_idle_before_s": [IDLE[0].begin_s, IDLE[0].end_s],
        "power_idle_after_s": [IDLE[1].begin_s + 2, IDLE[1].end_s],
    }
    about = {"driver": "shelly", "boundary": "wall", "kind": "power", "rails": ["meter"], "period_s": 1.0, "ranges_j": [0.0]}
    details = {"meter": {**about, "problem": "", "reads": 99, "failed": 0, "details": {}}}
    return LaunchRecord(str(seed), seed, "valid", "", {name: np.array(value, float) for name, value in values.items()}, details=details)


@pytest.mark.parametrize("offset_s", [-0.2, 0.2, 8000.0])
@pytest.mark.parametrize("seed", range(20))
def test_the_stated_error_covers_a_meter_that_is_slow_and_read_from_here(offset_s: float, seed: int) -> None:
    """1 Hz over 60 s, shown up to a second late, on another clock known within 200 ms: the exact energy is within the stated error."""
    found = energy_figures.launch_energy(shown(seed, offset_s, 0.2), "meter")
    assert isinstance(found, Energy), found
    assert abs(found.gross_j - EXACT_J) <= found.error_j
    assert found.gross_j == pytest.approx(EXACT_J, rel=0.02)
    assert found.error_j < 0.15 * EXACT_J
    assert found.net_j == pytest.approx(EXACT_J - 120, rel=0.06)
    assert found.boundary == "wall"


def test_a_meter_that_says_the_same_all_the_time_gives_no_energy() -> None:
    """A constant is refused, not integrated."""
    frozen = shown(0, 0.2, 0.1)
    frozen = replace(frozen, values={**frozen.values, "meter_0_uw": np.full(99, 4.2e6)})
    found = energy_figures.launch_energy(frozen, "meter")
    assert isinstance(found, Refusal)
    assert "stuck" in found.reason


def test_clocks_that_nobody_knows_give_no_energy() -> None:
    """A laptop that slept during the launch has lost the device's time: a refusal, not a number that may be off by anything."""
    found = energy_figures.launch_energy(shown(0, 0.2, 40.0), "meter")
    assert isinstance(found, Refusal)
    assert "known within 40.8 s only" in found.reason


def figures(*launches: LaunchRecord, workload: str = "single_stream") -> dict[str, tuple[float | None, str, str]]:
    record = factory_runs.mixed_run().cells[0]
    record = replace(record, cell=record.cell._replace(workload=Workload(workload, {})), launches=launches)
    return {figure.metric: (figure.value, figure.boundary, figure.message) for figure in energy_figures.energy_figures(record)}


def both() -> LaunchRecord:
    """A launch of a device that has a sensor of its own besides."""
    alone = shown(0, 0.2, 0.1)
    values = {name.replace("meter_", "power_"): value for name, value in alone.values.items() if name in ("meter_t_s", "meter_0_uw")}
    own = {"power": {**alone.details["meter"], "driver": "ina226", "boundary": "board"}}  # type: ignore[dict-item]
    return replace(alone, values={**alone.values, **values, "power_t_s": values["power_t_s"] + 0.2}, details={**alone.details, **own})


def test_sensor_and_meter_of_one_device_stay_apart() -> None:
    """Both are there, each with its boundary; without a sensor of its own, the meter's are the device's energies."""
    alone = shown(0, 0.2, 0.1)
    assert {boundary for _, boundary, _ in figures(alone).values()} == {"wall"}
    assert {"energy_gross_j", "energy_net_j", "power_average_w", "power_peak_w"} <= set(figures(alone))
    found = figures(both())
    assert {metric: boundary for metric, (_, boundary, _) in found.items()} == {
        **dict.fromkeys(figures(alone), "board"),
        **dict.fromkeys((f"meter_{metric}" for metric in figures(alone)), "wall"),
    }
    assert "board by ina226; each launch within" in found["energy_gross_j"][2]
    assert "wall by shelly; each launch within" in found["meter_energy_gross_j"][2]


def test_the_report_has_a_block_for_sensor_and_meter_each() -> None:
    """One cell stands under both boundaries, each with its own values."""
    table_rows = table.rows(factory_runs.run_of((replace(factory_runs.mixed_run().cells[0], launches=(both(),)),)))
    (part,) = [part for part in sections.measured(table_rows, {}, 1.0) if part.anchor == "energy"]
    blocks = {block.title: [cell.rows["energy_gross_j"].boundary for cell in block.cells] for block in part.blocks}
    assert blocks == {"Boundary: board": ["board"], "Boundary: wall": ["wall"]}


def test_a_search_has_no_energy_per_inference() -> None:
    """The window of workload server is of many rates, the inferences counted are of one."""
    value, boundary, message = figures(shown(0, 0.2, 0.1), workload="server")["energy_gross_j"]
    assert (value, boundary) == (None, "wall")
    assert "many rates" in message


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("measure", {"metric": "meter_clock_error_s", "unit": "s", "values": [0.0]}),
        (
            "sample",
            {"metric": "meter_0_uw", "unit": "uW", "dtype": "int64", "shape": [1], "stride": 1, "sha256": "0" * 64, "size_bytes": 8},
        ),
    ],
)
def test_a_device_has_no_say_in_its_meter(kind: str, data: dict[str, Any]) -> None:
    """What only this machine may tell is refused from a device; among its details it is dropped."""
    with pytest.raises(FaultError) as caught:
        collect([Event(1, 0, 0.0, kind, data)], lambda _: b"12345678")
    assert caught.value.fault.code == "protocol"
    told = [Event(1, 0, 0.0, "phase", {"name": "details", "details": {"meter": 1, "power": 2, "threads": 3}}), Event(1, 1, 0.0, "end", {})]
    assert collect(told, lambda _: b"").details == {"threads": 3}


# Whole launches


METERED = replace(FAST, name="standard")


class Metered(Bench):
    """This machine on a meter."""

    def __init__(self, folder: Path, meter: Meter, profile: profiles.Profile = METERED) -> None:
        super().__init__(folder)
        self.meter, self.profile = meter, profile
        self.device = self.device.model_copy(update={"meter": "plug"})

    def session(self, device: Device | None = None, profile: profiles.Profile | None = None, timeouts: Timeouts = DEFAULT) -> Session:
        session = super().session(device, profile or self.profile, timeouts)
        session.meter = self.meter
        return session

    def rows(self) -> dict[str, table.Row]:
        """The table of one launch by metric."""
        (cell,) = self.measure(self.job()).values()
        assert cell.status in ("valid", "unsteady", "throttled"), cell
        self.launch = cell.launches[0]
        run = self.store.load_run("run")
        return {row.metric: row for row in table.rows(run)}


def test_a_run_on_a_meter_has_energy_at_the_wall(tmp_path: Path) -> None:
    """From inventory.yaml to the table: gross and net, boundary and error, of a device without a sensor; the password is nowhere."""
    (tmp_path / "model.onnx").write_bytes(tiny_model())
    with running(FakeMeter("gen2", PASSWORD)) as meter:
        plug = f"{{driver: shelly, url: '{meter.url}', token: env:PLUG, period_s: 0.15}}"
        (tmp_path / "inventory.yaml").write_text(
            f"version: 1\ndefaults: {{agent: {{cache_dir: {tmp_path / 'agent'}}}}}\nmeters:\n  plug: {plug}\n"
            "devices:\n  laptop: {kind: local, meter: plug}\n"
        )
        what = "recipes: [fp32]\ndevices: [all]\nbackends: [onnxruntime]\nprofile: standard\nlaunches: 1\noperations: false\n"
        (tmp_path / "suite.yaml").write_text(f"version: 1\nmodels:\n  net: {{source: model.onnx}}\n{what}")
        environ = {**os.environ, "FLEETMARK_CACHE": str(tmp_path / "cache"), "PLUG": PASSWORD}
        for _ in range(3):  # a busy machine may be unsteady, and may read too seldom
            ended = subprocess.run(
                [FLEETMARK, "run", "suite.yaml"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=170, check=False
            )
            assert ended.returncode in (0, 3), ended.stderr
            store = Store(tmp_path / "results")
            record = store.load_run(store.find_run("latest").id)
            found = {row.metric: row for row in table.rows(record)}
            gross, net = found["energy_gross_j"], found["energy_net_j"]
            if gross.value is not None and net.value is not None:
                break
    assert gross.value is not None, gross.message
    assert net.value is not None, net.message
    assert (gross.boundary, net.boundary) == ("wall", "wall")
    assert "wall by shelly; each launch within" in gross.message
    assert 4 <= (found["power_average_w"].value or 0) <= 5
    (launch,) = record.cells[0].launches
    assert abs(launch.values["meter_clock_offset_s"][0]) <= launch.values["meter_clock_error_s"][0] < 0.5
    assert not any(PASSWORD.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PASSWORD not in ended.stdout + ended.stderr


def test_a_launch_goes_on_without_its_meter(tmp_path: Path) -> None:
    """Nobody answers: latencies are there, energy is refused with the reason, and the launch has a note."""
    bench = Metered(tmp_path, Meter.model_validate({"driver": "shelly", "url": f"http://127.0.0.1:{free_port()}", "period_s": 0.1}))
    rows = bench.rows()
    assert rows["latency_p50_s"].value is not None
    assert (rows["energy_gross_j"].value, rows["energy_gross_j"].reason) == (None, "no energy")
    assert rows["energy_gross_j"].message == "shelly at 127.0.0.1: Connection refused"
    assert "meter_lost: plug: shelly at 127.0.0.1: Connection refused" in bench.launch.notes


def test_profile_quick_waits_for_no_meter(tmp_path: Path) -> None:
    """Its launches are too short: the meter hears nothing, and the table says which profile to use."""
    with running(FakeMeter()) as meter:
        bench = Metered(tmp_path, entry(meter), replace(FAST, reads_meters=False))
        rows = bench.rows()
    assert meter.heard == []
    assert "use profile standard" in rows["energy_gross_j"].message
    assert "power_idle_before_s" not in bench.launch.values
    assert profiles.get("quick").reads_meters is False


def test_a_launch_that_was_not_watched_has_no_energy(tmp_path: Path) -> None:
    """One that an earlier controller started is collected; its meter was not read."""
    with running(FakeMeter()) as meter:
        bench = Metered(tmp_path, entry(meter, period_s=0.1))
        job = bench.job()
        bench.store.begin_launch("run", job.id, 0, bench.agent.start(), "2026")
        (cell,) = bench.measure(job).values()
    found = energy_figures.launch_energy(cell.launches[0], "meter")
    assert isinstance(found, Refusal)
    assert found.reason == "this machine did not read it while the launch ran"


def test_a_meter_is_lost_when_too_many_readings_fail() -> None:
    """The launch's note says what was said instead of the last one; one of a hundred makes no note, nor a meter that nobody asked."""
    meter = Meter.model_validate({"driver": "shelly", "url": "http://h", "token": "env:FLEETMARK_NOT_SET"})
    assert metering.lost(metering.unmetered(Collected(), meter, "not asked")) == ""
    with metering.Readings(meter) as readings:
        pass
    found = readings.added_to(Collected(), Offset(0.0, 0.0))
    assert metering.lost(found) == "env:FLEETMARK_NOT_SET holds no token"
    for failed, why in ((50, "it stopped"), (1, "")):
        found.details["meter"] |= {"problem": "it stopped", "reads": 100, "failed": failed}
        assert metering.lost(found) == why


def test_a_plan_knows_how_long_a_meter_takes() -> None:
    """A window of twenty periods and ten of idle before and after, but not in profile quick."""
    meter = Meter.model_validate({"driver": "shelly", "url": "http://h"})
    device, workload = Device(name="d", kind="local"), Workload("single_stream", {})
    standard, quick = profiles.get("standard"), profiles.get("quick")
    extra_s = plan.launch_s(workload, standard, device, meter) - plan.launch_s(workload, standard, device)
    assert extra_s == pytest.approx(20 - 3 + 2 * 10)
    assert plan.launch_s(workload, quick, device, meter) == plan.launch_s(workload, quick, device)


# Doctor


@pytest.mark.parametrize(("misbehave", "ok", "message"), [(None, True, "plug shows 25.7 W"), (text, False, "not JSON")])
def test_doctor_reads_the_meter(tmp_path: Path, misbehave: Callable[[Handler], None] | None, ok: bool, message: str) -> None:
    """Recommended, also where the device itself cannot be reached; with the address to look at where the meter does not answer."""
    with running(FakeMeter("gen1", power_w=lambda: 25.7, misbehave=misbehave)) as meter:
        devices = f"devices:\n  d: {{kind: generic, ssh: {{host: 127.0.0.1, port: {free_port()}}}, meter: plug}}\n"
        (tmp_path / "inventory.yaml").write_text(f"version: 1\nmeters:\n  plug: {{driver: shelly, url: '{meter.url}'}}\n{devices}")
        ended = CliRunner().invoke(app, ["doctor", "d", "-i", str(tmp_path / "inventory.yaml"), "--json"])
    checks = {check["name"]: check for check in json.loads(ended.stdout)["doctor"]["d"]}
    assert ended.exit_code == 4
    assert (checks["meter"]["ok"], checks["meter"]["level"]) == (ok, "recommended")
    assert message in checks["meter"]["message"]
    assert ok or meter.url in checks["meter"]["mend"]
