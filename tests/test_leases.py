"""Who has which device, as `device list` shows it."""

import json
from pathlib import Path

from device_commands import Command, added
from sshd import Sshd, free_port

from agent import lease
from agent.cache import Cache, Lock
from agent.schema import Fault
from controller import holders
from controller.remote import LeaseState

ANN = "ann@desk run 7"


def test_the_list_shows_who_has_what(fleetmark: Command, tmp_path: Path) -> None:
    """A device that is held has its holder, a disabled one is not asked; --offline asks nobody."""
    cache = Cache(str(tmp_path / "cache"))
    cache.create()
    lease.acquire(cache, ANN, 300.0)
    lines = {line.split()[0]: line.rstrip() for line in fleetmark("device", "list").out.splitlines() if line.strip()}
    assert (f"{ANN}, for" in lines["laptop"], lines["far"].endswith("no")) == (True, True)
    (held, asked) = json.loads(fleetmark("device", "list", "--json").out)["devices"]
    assert (held["lease"]["owner"], held["lease"]["running"], "lease" in asked or "fault" in asked) == (ANN, False, False)
    offline = fleetmark("device", "list", "--offline").out
    assert (ANN in offline, "held by" in offline) == (False, False)


def test_a_device_that_does_not_answer_is_told_beside_the_others(fleetmark: Command, sshd: Sshd, tmp_path: Path) -> None:
    """One by SSH that nobody has, and one whose port is closed."""
    fleetmark(*added(sshd, "board", "--yes", "--host-key", sshd.host_key))
    path = tmp_path / "inventory.yaml"
    path.write_text(
        path.read_text().replace("host: 192.0.2.7,   port: 2222", f"host: 127.0.0.1, port: {free_port()}").replace("enabled: false", "")
    )
    found = {one["name"]: one for one in json.loads(fleetmark("device", "list", "--json").out)["devices"]}
    assert (found["board"]["lease"]["owner"], found["far"]["fault"]["code"]) == ("", "unreachable")


def test_a_holder_is_shown_in_a_line(tmp_path: Path) -> None:
    """Who, since when, and whether a launch runs, also of one whose lease is over."""
    cache = Cache(str(tmp_path))
    cache.create()
    lease.acquire(cache, ANN, 1e-9)
    running = Lock(cache.path("busy.lock"))
    running.acquire()
    assert holders.shown(LeaseState(**lease.state(cache))) == f"{ANN}, for 0 s, measuring"
    running.close()
    assert holders.shown(LeaseState(**lease.state(cache))) == "nobody"
    assert holders.shown(Fault("unreachable", "connect", "no route", "")) == "not known (unreachable)"
    assert holders.shown(LeaseState("", 0.0, running=True)) == "somebody, measuring"
