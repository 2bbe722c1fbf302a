"""Content-addressed files and environments: what is here, what an upload still lacks, unpacking, and taking away."""

import os
import shutil
import tarfile
import tempfile
from typing import Any, Dict, Iterator, List

from agent.cache import Cache, disk_fault, is_held, read_object, sha256_of
from agent.schema import FaultError

MAX_MEMBERS = 100000
MAX_UNPACKED_BYTES = 4 << 30


def verify(cache: Cache, wanted: List[str]) -> Dict[str, Dict[str, Any]]:
    """Tell of each sha256 whether it is here, re-hashed, and how many bytes of an unfinished upload there are.

    A complete upload is renamed into place; one whose content is not what its name says is deleted and reported `corrupt`.
    """
    return {sha256: _verify_one(cache, sha256) for sha256 in wanted}


def _verify_one(cache: Cache, sha256: str) -> Dict[str, Any]:
    for path in (cache.blob(sha256), cache.partial(sha256)):
        if os.path.exists(path) and sha256_of(path) == sha256:
            os.replace(path, cache.blob(sha256))
            return {"present": True, "partial_bytes": 0, "corrupt": False}
    corrupt = os.path.exists(cache.blob(sha256))
    if corrupt:
        os.unlink(cache.blob(sha256))
    partial = os.path.getsize(cache.partial(sha256)) if os.path.exists(cache.partial(sha256)) else 0
    return {"present": False, "partial_bytes": partial, "corrupt": corrupt}


def discard(cache: Cache, sha256: str) -> None:
    """Delete an upload that turned out to be corrupt."""
    if os.path.exists(cache.partial(sha256)):
        os.unlink(cache.partial(sha256))


def install(cache: Cache, name: str, archive: str) -> bool:
    """Unpack the tar.gz blob `archive` as environment `name`; False if it was there. The archive is deleted afterwards.

    Raises FaultError `protocol` for a member that would land outside, `disk_full`, or `env_missing` for a broken archive.
    """
    target = cache.environment(name)
    if os.path.isdir(target):
        return False
    temporary = tempfile.mkdtemp(prefix=".unpacking-", dir=cache.path("envs"))
    try:
        with tarfile.open(cache.blob(archive), "r:gz") as tar:
            for member in _safe_members(tar):
                tar.extract(member, temporary, set_attrs=False)
                if member.isfile() and member.mode & 0o100:
                    os.chmod(os.path.join(temporary, member.name), 0o700)
        os.rename(temporary, target)
    except (tarfile.TarError, EOFError) as error:
        raise FaultError("env_missing", "environment {} cannot be unpacked: {}".format(name, error), "run again", "install") from error
    except OSError as error:
        if os.path.isdir(target):
            return False
        raise disk_fault(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    os.unlink(cache.blob(archive))
    return True


def _safe_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Plain files and folders with relative names that stay inside; anything else is refused, as is an archive out of bounds."""
    total = 0
    for count, member in enumerate(tar):
        parts = member.name.split("/")
        total += member.size
        if not (member.isfile() or member.isdir()) or member.name.startswith("/") or ".." in parts or "\\" in member.name:
            raise FaultError("protocol", "the archive holds {!r}, which is refused".format(member.name[:200]), "", "install")
        if count >= MAX_MEMBERS or total > MAX_UNPACKED_BYTES:
            raise FaultError("protocol", "the archive is larger than an environment may be", "", "install")
        yield member


def collect_garbage(cache: Cache, launches: List[str], everything: bool) -> int:
    """Delete the named launches, or with `everything` all that no running launch uses; return the bytes freed."""
    freed = 0
    names = cache.names("launches") if everything else launches
    for name in names:
        folder = cache.launch(name)
        if os.path.isdir(folder) and not is_held(cache.launch(name, "alive.lock")):
            freed += _delete(folder)
    if everything and not is_held(cache.path("busy.lock")):
        for folder in ("blobs", "envs", "prepared"):
            freed += sum(_delete(cache.path(folder, entry)) for entry in os.listdir(cache.path(folder)))
    return freed


def _delete(path: str) -> int:
    if not os.path.isdir(path):
        size = os.path.getsize(path)
        os.unlink(path)
        return size
    size = sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(path) for file in files)
    shutil.rmtree(path, ignore_errors=True)
    return size


def started_launches(cache: Cache) -> List[Dict[str, Any]]:
    """Return the launches that lie here: id, owner, and whether they are running."""
    found: List[Dict[str, Any]] = []
    for name in cache.names("launches"):
        spec = read_object(cache.launch(name, "spec.json"))
        found.append({"launch": name, "owner": spec.get("owner", ""), "running": is_held(cache.launch(name, "alive.lock"))})
    return found
