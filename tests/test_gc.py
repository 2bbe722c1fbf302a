"""What gc tells, what it deletes, and what it leaves alone: on this machine and on devices."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from factory_runs import mixed_run
from sshd import Sshd

from agent.cache import Lock, sha256_of
from agent.schema import dump
from controller import garbage
from controller.inventory import Device, load
from controller.store import Store
from controller.visit import visiting

FLEETMARK = Path(sys.executable).with_name("fleetmark")


class Lab:
    """A folder with an inventory of one device, whose agent's folder is `agent`."""

    def __init__(self, folder: Path, server: Sshd | None = None) -> None:
        self.folder, self.agent = folder, folder / "the agent's"
        ssh = (
            {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.host_key, "config": str(server.config)}
            if server
            else {}
        )
        kind: dict[str, Any] = {"kind": "generic", "ssh": ssh} if server else {"kind": "local"}
        entry = {**kind, "agent": {"cache_dir": str(self.agent), "python": sys.executable}}
        (folder / "inventory.yaml").write_text(json.dumps({"version": 1, "devices": {"board": entry}}))

    @property
    def device(self) -> Device:
        return load(self.folder / "inventory.yaml").devices["board"]

    def fill(self) -> None:
        """Leave on the device what runs leave there: agents, a blob, an upload, an environment, a launch, an engine, a probe cut off."""
        with visiting(self.device) as remote:
            model = self.folder / "model"
            model.write_bytes(b"x" * 5000)
            remote.upload({sha256_of(str(model)): model})
        for name in (
            "agent-0123456789ab.pyz",
            "agent-ba9876543210.pyz.part",
            f"blobs/{'0' * 64}.part",
            "prepared/engine",
            "lease.json.17.tmp",
            "probe-17.tmp",
        ):
            (self.agent / name).write_bytes(b"x" * 100)
        for name in ("envs/0123456789abcdef/numpy", "envs/.unpacking-old", "launches/old/files", "launches/.starting-old"):
            (self.agent / name).mkdir(parents=True)
            (self.agent / name / "file").write_bytes(b"x" * 100)

    def listing(self) -> list[str]:
        return sorted(str(path.relative_to(self.agent)) for path in self.agent.rglob("*"))

    def run(self, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        environ = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "FLEETMARK_CACHE": str(self.folder / "cache")}
        done = subprocess.run(
            [str(FLEETMARK), *words], cwd=self.folder, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done


# Devices


def test_a_device_is_emptied_only_with_yes(shared_sshd: Sshd, tmp_path: Path) -> None:
    """`gc --remote` tells what lies there and deletes nothing; with --yes nothing is left, not even the folder; a second time is fine."""
    lab = Lab(tmp_path, shared_sshd)
    lab.fill()
    before = lab.listing()
    told = json.loads(lab.run("gc", "--remote", "--json").stdout)["garbage"]
    assert lab.listing() == before
    assert told["deleted"] is False
    sizes = told["devices"][0]["size_bytes"]
    assert sizes["blobs"] == 5100
    assert sizes["environments"] == sizes["launches"] == 200
    assert sizes["agents"] > 40_000
    done = lab.run("gc", "--remote", "board", "--yes")
    assert not lab.agent.exists()
    assert f"freed {sum(sizes.values()):,} bytes" in done.stderr
    lab.run("gc", "--remote", "--yes")
    assert not lab.agent.exists()


def test_what_the_agent_did_not_make_stays(tmp_path: Path) -> None:
    """In a folder that somebody uses for other things too, their files and folders stay."""
    lab = Lab(tmp_path)
    lab.fill()
    for name in ("thesis.txt", "agent-notes.pyz", "controller/kept"):
        (lab.agent / name).parent.mkdir(exist_ok=True)
        (lab.agent / name).write_text("mine")
    lab.run("gc", "--remote", "--yes")
    assert lab.listing() == ["agent-notes.pyz", "controller", "controller/kept", "thesis.txt"]


@pytest.mark.parametrize("launching", [False, True])
def test_nothing_goes_while_somebody_measures(launching: bool, tmp_path: Path) -> None:
    """With a lease in force, or a launch that runs, nothing is deleted and the holder is named; the preview names them too."""
    lab = Lab(tmp_path)
    lab.fill()
    with visiting(lab.device) as remote:
        remote.acquire("alice@lab run 7", 100.0)
    busy = Lock(str(lab.agent / "busy.lock"))
    if launching:
        busy.acquire()
    before = lab.listing()
    refused = lab.run("gc", "--remote", "--yes", code=3)
    assert "error[busy]" in refused.stderr
    assert "alice@lab run 7" in refused.stderr
    assert ("a launch of alice@lab run 7 is running" in refused.stderr) == launching
    assert "alice@lab run 7" in lab.run("gc", "--remote").stderr
    assert set(before) <= set(lab.listing())
    busy.close()


def test_devices_that_cannot_be_reached_keep_none_from_being_emptied(tmp_path: Path) -> None:
    """One device is off: the others are emptied, and the exit code is 4."""
    lab = Lab(tmp_path)
    lab.fill()
    document = json.loads((tmp_path / "inventory.yaml").read_text())
    document["devices"] = {"away": {"kind": "generic", "ssh": {"host": "127.0.0.1", "port": 9}}, **document["devices"]}
    (tmp_path / "inventory.yaml").write_text(json.dumps(document))
    assert "away" in lab.run("gc", "--remote", "--yes", code=4).stderr
    assert not lab.agent.exists()


def test_devices_are_named_with_remote_only(tmp_path: Path) -> None:
    """`gc board` without --remote is wrong usage, and deletes nothing here."""
    assert "gc --remote board" in Lab(tmp_path).run("gc", "board", "--yes", code=2).stderr


# This machine


def keep(results: Path) -> str:
    """Results with one run; give the sha256 of an artifact of it."""
    record = mixed_run()
    store = Store(results)
    store.create_run(record.id, record.started_at, {"suite": "s", "profile": "quick"})
    store.add_cells(record.id, [], record.variants)
    store.close()
    return record.variants[0].sha256


def variant(cache: Path, name: str, sha256: str) -> Path:
    folder = cache / "artifacts" / "variants" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"artifact": dump({"sha256": sha256})}))
    (folder / "model.onnx").write_bytes(b"x" * 1000)
    folder.with_name(f"{name}.lock").touch()
    return folder


def used(path: Path, when_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    os.utime(path, (when_s, when_s))
    return path


def test_what_no_kept_run_uses_may_go(tmp_path: Path) -> None:
    """Artifacts of other runs, what is unfinished or unreadable, and data and environments last used before the first kept run."""
    lab, cache = Lab(tmp_path), tmp_path / "cache"
    kept = variant(cache, "kept", keep(tmp_path / "results"))
    first_run_s = 1735732800  # 20250101-120000
    goes = [variant(cache, "other", "e" * 64), variant(cache, "half.partial", "e" * 64), cache / "artifacts/variants/broken"]
    goes[2].mkdir()
    for folder in ("data", "environments"):
        goes.append(used(cache / folder / "old", first_run_s - 1))
        used(cache / folder / "new", first_run_s + 1)
    before = sorted(cache.rglob("*"))
    told = json.loads(lab.run("gc", "--json").stdout)["garbage"]
    assert sorted(item["path"] for item in told["items"]) == sorted(map(str, goes))
    assert sorted(cache.rglob("*")) == before
    done = lab.run("gc", "--yes")
    assert f"freed {sum(item['size_bytes'] for item in told['items']):,} bytes" in done.stderr
    assert not any(path.exists() for path in goes)
    assert (kept / "model.onnx").exists()
    assert sorted(path.name for folder in ("data", "environments") for path in (cache / folder).iterdir()) == ["new", "new"]
    assert json.loads(lab.run("gc", "--json").stdout)["garbage"]["items"] == []


def test_without_results_all_may_go(tmp_path: Path) -> None:
    """No run is kept, so none uses anything."""
    cache = tmp_path / "cache"
    variant(cache, "one", "e" * 64)
    used(cache / "data" / "file", time.time())
    items = garbage.find(cache, garbage.kept(tmp_path / "results"))
    assert [(item.kind, item.why) for item in items] == [("artifacts", "of no kept run"), ("data", "of no kept run")]


def test_a_cache_that_is_not_there_has_nothing_to_give(tmp_path: Path) -> None:
    """gc in an empty folder tells 0 bytes."""
    assert "0 bytes may go" in Lab(tmp_path).run("gc").stderr
