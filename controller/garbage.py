"""What of the laptop's cache may go: all in it can be made or fetched again, and what kept runs use stays."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.schema import SchemaError, decode
from controller.errors import FleetmarkError
from controller.store import Store

KINDS = {
    "artifacts": "artifacts/variants",
    "references": "artifacts/references",
    "converted": "artifacts/converted",
    "exported": "artifacts/exported",
    "trained": "artifacts/trained",
    "unverified artifacts": "artifacts/made",
    "data": "data",
    "environments": "environments",
    "unpacked environments": "unpacked",
}
UNFINISHED = ".partial"
LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the results hold: the sha256 of their artifacts, and when the first run began (seconds of the epoch; None: no run)."""

    artifacts: frozenset[str]
    since_s: float | None


@dataclass(frozen=True, slots=True)
class Item:
    """A file or folder of the cache that may go, and why."""

    kind: str
    path: Path
    size_bytes: int
    why: str


def kept(results: Path, url: str | None = None) -> Kept:
    """Give what the runs in a results folder, or at a database URL, use; nothing where there are no results in the folder."""
    try:
        store = Store.open(results, url)
    except FleetmarkError:
        if url or (results.exists() and any(results.iterdir())):
            raise
        return Kept(frozenset(), None)
    try:
        return Kept(store.artifacts(), min((_began_s(run.id) for run in store.list_runs()), default=None))
    finally:
        store.close()


def _began_s(run: str) -> float:
    """A run's id begins with the time at which it began to make what it needs."""
    return datetime.strptime(run[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()


def find(cache: Path, kept: Kept) -> list[Item]:
    """Give what may go: artifacts of no kept run; references, data and environments that none of them can have used."""
    return [item for kind, folder in KINDS.items() if (cache / folder).is_dir() for item in _of(kind, cache / folder, kept)]


def _of(kind: str, folder: Path, kept: Kept) -> Iterator[Item]:
    for path in sorted(folder.iterdir()):
        if path.suffix == LOCK:
            continue
        why = _why(kind, path, kept)
        if why:
            yield Item(kind, path, _size(path), why)


def _why(kind: str, path: Path, kept: Kept) -> str:
    """Why a file or folder may go, empty if it may not."""
    if path.suffix == UNFINISHED:
        return "unfinished"
    if kind == "artifacts":
        is_kept = _artifact(path) in kept.artifacts
    else:
        is_kept = kept.since_s is not None and path.stat().st_mtime >= kept.since_s
    return "" if is_kept else "of no kept run"


def _artifact(folder: Path) -> str:
    """The sha256 of a variant's artifact by its manifest, empty where that cannot be read."""
    try:
        return str(decode((folder / "manifest.json").read_bytes())["artifact"]["sha256"])
    except (OSError, SchemaError, KeyError, TypeError):
        return ""


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def delete(items: Sequence[Item]) -> int:
    """Delete them; give the bytes freed."""
    for item in items:
        if item.path.is_dir():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)
        item.path.with_name(item.path.name + LOCK).unlink(missing_ok=True)
    return sum(item.size_bytes for item in items)
