"""Faults of a device's disk and of what lies on it, and of its clock and lease."""

import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from faults.kinds import Missed, Scene, kind
from faults.machine import Machine, fill

GARBAGE = (
    b"\xff\xfe\x00garbage\n",
    b'{"v":99,"seq":3,"t":1.0,"type":"phase","data":{}}\n',
    b"[" * 5000 + b"]" * 5000 + b"\n",
    b'{"v":1,"seq":1,"t":1.0,"type":"phase","data":{"name":"warmup"}}\n',
    b"{}\n",
    b'{"v":1,"seq":"x","t":1.0,"type":"end","data":{}}\n',
    b"\n",
)


def _flip(path: Path, at: float) -> None:
    """Change a byte in the middle of a file."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        place = int(at * size)
        file.seek(place)
        old = file.read(1)
        if not old:
            raise Missed
        file.seek(place)
        file.write(bytes([old[0] ^ 0x40]))


def _blobs(device: Machine, ending: str) -> list[Path]:
    return sorted(path for path in Path(device.cache.path("blobs")).iterdir() if path.name.endswith(".part") == bool(ending))


def _spools(device: Machine) -> list[Path]:
    return [folder / "events.jsonl" for folder in device.running() if (folder / "events.jsonl").stat().st_size > 0]


def _samples(device: Machine) -> list[Path]:
    return [file for folder in device.launches() for file in (folder / "files").iterdir() if file.stat().st_size > 0]


@kind("disk full", "disk_full", "env_missing", "link_lost")
def disk_full(scene: Scene) -> Generator[float]:
    """Not a byte is left for a while: for what arrives, or for what a launch writes."""
    fill(scene.device.filler)
    yield scene.rng.uniform(1.0, 4.0)
    scene.device.filler.unlink(missing_ok=True)


@kind("disk full before the first connection", "disk_full", "env_missing", "link_lost", is_early=True)
def disk_full_at_once(scene: Scene) -> Generator[float]:
    """Some is left, not enough for the upload."""
    fill(scene.device.filler)
    os.truncate(scene.device.filler, max(0, scene.device.filler.stat().st_size - scene.rng.choice([0, 4096, 300_000, 1_000_000])))
    yield scene.stop_s()
    scene.device.filler.unlink(missing_ok=True)


@kind("disk full while a launch runs", "disk_full", "env_missing", "link_lost")
def disk_full_in_launch(scene: Scene) -> Generator[float]:
    """The spool cannot be written any more."""
    scene.wait(scene.device.running)
    fill(scene.device.filler)
    yield scene.rng.uniform(0.5, 3.0)
    scene.device.filler.unlink(missing_ok=True)


@kind("upload damaged", "protocol", "link_lost", is_early=True)
def upload_damaged(scene: Scene) -> Generator[float]:
    """A byte changes in what has arrived of a file: the link is slow, so that it can be seen, and is lost afterwards."""
    scene.device.proxy.slow_down(400e3)
    try:
        _flip(scene.wait(lambda: [part for part in _blobs(scene.device, ".part") if part.stat().st_size > 0])[0], 0.3)
    except (OSError, Missed):
        scene.device.proxy.slow_down(0)
        raise Missed from None
    scene.device.proxy.cut()
    yield 0.0
    scene.device.proxy.slow_down(0)


@kind("model or data damaged", "protocol")
def blob_damaged(scene: Scene) -> Generator[float]:
    """A byte changes in a file that had arrived."""
    _flip(scene.rng.choice(scene.wait(lambda: _blobs(scene.device, ""))), scene.rng.random())
    yield 0.0


@kind("model and data deleted", "protocol")
def blobs_deleted(scene: Scene) -> Generator[float]:
    """Somebody clears the agent's folder of files while a run uses them."""
    for path in scene.wait(lambda: _blobs(scene.device, "")):
        path.unlink(missing_ok=True)
    yield 0.0


@kind("agent's folder deleted", "protocol", "crash", "env_missing", "busy", "link_lost")
def folder_deleted(scene: Scene) -> Generator[float]:
    """Somebody deletes all of it while a run uses it."""
    scene.wait(lambda: _blobs(scene.device, ""))
    shutil.rmtree(scene.device.cache.root, ignore_errors=True)
    yield 0.0


@kind("agent damaged", "protocol", "crash", "link_lost", "env_missing")
def agent_damaged(scene: Scene) -> Generator[float]:
    """A byte changes in the program itself."""
    found = scene.wait(lambda: list(Path(scene.device.cache.root).glob("agent-*.pyz")))
    _flip(found[0], scene.rng.random())
    yield 0.0


@kind("spool truncated", "protocol", "crash")
def spool_truncated(scene: Scene) -> Generator[float]:
    """What a running launch had told is gone in part, to the middle of a line."""
    spool = scene.wait(lambda: _spools(scene.device))[0]
    os.truncate(spool, max(0, spool.stat().st_size - scene.rng.randint(1, 400)))
    yield 0.0


@kind("garbage in the spool", "protocol", "crash")
def spool_garbage(scene: Scene) -> Generator[float]:
    """Something else writes into it."""
    with scene.wait(lambda: _spools(scene.device))[0].open("ab") as spool:
        spool.write(scene.rng.choice(GARBAGE))
    yield 0.0


@kind("sample file damaged", "protocol")
def sample_damaged(scene: Scene) -> Generator[float]:
    """A byte changes in what a launch measured."""
    with suppress(FileNotFoundError):  # collected and deleted in between
        _flip(scene.wait(lambda: _samples(scene.device))[0], scene.rng.random())
    yield 0.0


@kind("sample file gone", "protocol", "crash")
def sample_gone(scene: Scene) -> Generator[float]:
    """What a launch measured is deleted before it was collected."""
    scene.wait(lambda: _samples(scene.device))[0].unlink(missing_ok=True)
    yield 0.0


@kind("lease taken by somebody else", "busy")
def lease_taken(scene: Scene) -> Generator[float]:
    """They hold the host for a while."""
    path = Path(scene.device.cache.path("lease.json"))
    document = json.loads(scene.wait(path.read_text))
    path.write_text(json.dumps({**document, "owner": "somebody else", "expires_s": time.monotonic() + 3600}))
    yield scene.rng.uniform(1.0, scene.stop_s())
    path.unlink(missing_ok=True)


@kind("garbage in the lease", "busy")
def lease_garbage(scene: Scene) -> Generator[float]:
    """The file holds something else."""
    path = Path(scene.device.cache.path("lease.json"))
    scene.wait(path.exists)
    path.write_bytes(scene.rng.choice(GARBAGE))
    yield 0.0


@kind("device's clock an hour ahead", where="loopback")
def clock_ahead(scene: Scene) -> Generator[float]:
    """The wall clock jumps and stays so."""
    scene.loopback.clock.write_text("3600")
    yield 0.0


@kind("device's clock an hour back", where="loopback")
def clock_back(scene: Scene) -> Generator[float]:
    """The wall clock jumps and stays so."""
    scene.loopback.clock.write_text("-3600")
    yield 0.0
