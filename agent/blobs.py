"""Content-addressed files and environments: what is here, what an upload still lacks, unpacking, and taking away."""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import zlib
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Set, Tuple

from agent import lease
from agent.cache import CHUNK_BYTES, KEPT, Cache, Lock, checked_sha256, disk_fault, is_held, sha256_of, unlink
from agent.schema import Fault, FaultError, LaunchSpec

MAX_MEMBERS = 100000
MAX_UNPACKED_BYTES = 4 << 30
MAX_NAME_BYTES = 255
MAX_PATH_CHARACTERS = 512  # of an archive: folders are made one within the other
MAX_SAMPLES = 1 << 20
MAX_DEADLINE_S = 7 * 86400.0
UNPACKING = ".unpacking-"


def check(cache: Cache, spec: LaunchSpec) -> None:
    """Raise FaultError unless the launch can be run as it is written and all that it needs is here."""
    names = [file.name for file in spec.artifact.files]
    if not names or not all(map(_is_plain, names)) or len(set(names)) < len(names):
        raise FaultError("protocol", "the artifact's file names {} are refused".format(ascii(names)[:200]), "run again", "start")
    timed = 0 < spec.deadline_s <= MAX_DEADLINE_S and 0 <= spec.settle_timeout_s <= MAX_DEADLINE_S
    if not timed or not 0 <= spec.max_samples <= MAX_SAMPLES:
        raise FaultError("protocol", "the launch's deadline or number of samples is out of range", "choose another profile", "start")
    cache.launch(spec.launch)
    if spec.environment and not os.path.isdir(cache.environment(spec.environment)):
        raise FaultError("env_missing", "environment {} is not installed".format(spec.environment), "run again", "start")
    for name, sha256 in _files(spec):
        if not os.path.exists(cache.blob(sha256)):
            raise FaultError("protocol", "{} was not uploaded".format(ascii(name)), "run again", "start")


def _files(spec: LaunchSpec) -> List[Tuple[str, str]]:
    """The name and sha256 of every file that a launch reads."""
    return [*((file.name, file.sha256) for file in spec.artifact.files), ("the data", spec.data)]


def damage(cache: Cache, spec: LaunchSpec) -> Optional[Fault]:
    """Return the fault of a launch whose model or data is not, or not any more, what it was uploaded as; None where all is whole."""
    for name, sha256 in _files(spec):
        try:
            if _is(cache.blob(sha256), sha256):
                continue
            problem = "is not what was uploaded"
        except OSError as error:
            problem = "cannot be read: {}".format(error.strerror)
        message = "{} {}: it was changed or deleted on the device".format(ascii(name), problem)
        return Fault("protocol", "verify", message, "fleetmark run --resume sends it again and measures again")
    return None


def _is_plain(name: str) -> bool:
    """Whether a folder can hold a file of that name."""
    short = len(name.encode("utf-8", "surrogateescape")) <= MAX_NAME_BYTES
    return short and name == os.path.basename(name) and name not in ("", ".", "..") and "\0" not in name


def verify(cache: Cache, wanted: List[str]) -> Dict[str, Dict[str, Any]]:
    """Tell of each sha256 whether it is here, re-hashed, and how many bytes of an unfinished upload there are.

    A complete upload is renamed into place; one whose content is not what its name says is deleted and reported `corrupt`.
    """
    return {sha256: _verify_one(cache, sha256) for sha256 in wanted}


def _verify_one(cache: Cache, sha256: str) -> Dict[str, Any]:
    for path in (cache.blob(sha256), cache.partial(sha256)):
        if _is(path, sha256):
            os.replace(path, cache.blob(sha256))
            return {"present": True, "partial_bytes": 0, "corrupt": False}
    corrupt = os.path.lexists(cache.blob(sha256))
    if corrupt:
        os.unlink(cache.blob(sha256))
    partial = os.path.getsize(cache.partial(sha256)) if os.path.exists(cache.partial(sha256)) else 0
    return {"present": False, "partial_bytes": partial, "corrupt": corrupt}


def _is(path: str, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except FileNotFoundError:
        return False


def receive(cache: Cache, sha256: str, offset: int, size_bytes: int, read: Callable[[int], bytes]) -> Dict[str, Any]:
    """Take a file's `size_bytes` from `offset` on by `read`, hash it on the way, and give its state as `verify` does.

    What arrived before a link was lost stays for a later `offset`; what is not what its name says is deleted, as is what does not fit
    on the disk. Raises FaultError `protocol` where there is nothing to go on from, OSError.
    """
    part, digest = cache.partial(sha256), hashlib.sha256()
    if not offset >= 0 or not size_bytes >= 0:
        raise FaultError("protocol", "an upload of {} bytes from {}".format(size_bytes, offset), "run again", "put")
    with open(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "r+b") as file:
        _hash_until(file, offset, digest)
        file.truncate(offset)
        try:
            if not _copy(read, file, size_bytes, digest):
                return {"present": False, "partial_bytes": file.tell(), "corrupt": False}
            file.flush()
        except OSError:
            unlink(part)
            raise
    if digest.hexdigest() != sha256:
        unlink(part)
        return {"present": False, "partial_bytes": 0, "corrupt": True}
    os.replace(part, cache.blob(sha256))
    return {"present": True, "partial_bytes": 0, "corrupt": False}


def _hash_until(file: BinaryIO, offset: int, digest: Any) -> None:
    while file.tell() < offset:
        chunk = file.read(min(CHUNK_BYTES, offset - file.tell()))
        if not chunk:
            raise FaultError("protocol", "the upload that was begun is shorter than {} bytes".format(offset), "run again", "put")
        digest.update(chunk)


def _copy(read: Callable[[int], bytes], file: BinaryIO, size_bytes: int, digest: Any) -> bool:
    """Copy and hash; False if there was less."""
    left = size_bytes
    while left:
        chunk = read(min(CHUNK_BYTES, left))
        if not chunk:
            return False
        file.write(chunk)
        digest.update(chunk)
        left -= len(chunk)
    return True


def open_sample(cache: Cache, launch: str, sha256: str) -> BinaryIO:
    """Open one of a launch's sample files for reading; raises FaultError `protocol` for what is none, or not a plain file."""
    path = cache.launch(launch, "files", checked_sha256(sha256))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise FaultError("protocol", "sample file {}: {}".format(sha256, error.strerror), "it is measured again", "fetch") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FaultError("protocol", "sample file {} is not a plain file".format(sha256), "it is measured again", "fetch")
    return os.fdopen(descriptor, "rb")


def install(cache: Cache, name: str, archive: str) -> bool:
    """Unpack the tar.gz blob `archive` as environment `name`; False if it was there. The archive is deleted afterwards.

    Raises FaultError `protocol` for a member that would land outside, `disk_full`, or `env_missing` for a broken archive.
    """
    target, blob = cache.environment(name), cache.blob(archive)
    with Lock(cache.path("install.lock")):
        clear(cache.path("envs"), UNPACKING)
        if os.path.isdir(target):
            return False
        if not _is(blob, archive):
            raise FaultError("protocol", "the archive of environment {} was not uploaded whole".format(name), "run again", "install")
        temporary = tempfile.mkdtemp(prefix=UNPACKING, dir=cache.path("envs"))
        try:
            _unpack(blob, temporary)
            os.sync()  # a device that loses its power must not find an environment of empty files
            os.rename(temporary, target)
        except OSError as error:
            if error.errno is not None:
                unlink(blob)  # it may be what fills the disk
                raise disk_fault(error, target) from error
            raise _broken(name, error) from error  # tarfile and gzip raise bare ones
        except (ValueError, EOFError, zlib.error) as error:
            raise _broken(name, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        os.unlink(blob)
    return True


def _broken(name: str, error: Exception) -> FaultError:
    return FaultError("env_missing", "environment {} cannot be unpacked: {}".format(name, ascii(str(error))[:200]), "run again", "install")


def clear(folder: str, prefix: str) -> None:
    """Delete the folders in `folder` that somebody began under this prefix and did not finish."""
    for entry in os.listdir(folder):
        if entry.startswith(prefix):
            shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)


def _unpack(archive: str, folder: str) -> None:
    """Unpack and compile, so that the first launch does not import slower than all that follow."""
    import compileall
    import tarfile

    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in _safe_members(tar):
                tar.extract(member, folder, set_attrs=False)
                if member.isfile() and member.mode & 0o100:
                    os.chmod(os.path.join(folder, member.name), 0o700)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error
    compileall.compile_dir(folder, quiet=2)


def _safe_members(tar: Any) -> Iterator[Any]:
    """Plain files and folders with relative names that stay inside, each once; anything else is refused, as an archive out of bounds is."""
    total = 0
    seen: Set[str] = set()
    for count, member in enumerate(tar):
        outside = member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name
        outside = outside or len(member.name) > MAX_PATH_CHARACTERS
        place = os.path.normpath(member.name)
        if outside or place in seen or not (member.isfile() or member.isdir()) or member.size < 0:
            raise FaultError("protocol", "the archive holds {}, which is refused".format(ascii(member.name)[:200]), "", "install")
        seen.add(place)
        total += member.size
        if count >= MAX_MEMBERS or total > MAX_UNPACKED_BYTES:
            raise FaultError("protocol", "the archive is larger than an environment may be", "", "install")
        yield member


def delete_launches(cache: Cache, launches: List[str]) -> int:
    """Delete the named launches that do not run; return the bytes freed."""
    with Lock(cache.path("start.lock")):
        folders = [cache.launch(name) for name in launches if not is_held(cache.launch(name, "alive.lock"))]
        return sum(map(_delete, folders))


def garbage(cache: Cache) -> Dict[str, Any]:
    """Return what `empty` would delete, by kind in bytes, and who keeps it from doing so (empty for nobody)."""
    sizes = {kind: sum(map(_size, paths)) for kind, paths in _ours(cache).items()}
    return {"size_bytes": sizes, "busy": _holder(cache)}


def empty(cache: Cache) -> int:
    """Delete all that the agent keeps in its folder, the folder too if nothing else is in it; return the bytes freed.

    What it does not know stays, for the folder may be somebody's home. Raises FaultError `busy` while somebody holds the host.
    """
    with Lock(cache.path("start.lock")), Lock(cache.path("lease.lock")), Lock(cache.path("install.lock")):
        holder = _holder(cache)
        if holder:
            raise FaultError("busy", "{}: nothing was deleted".format(holder), "wait until it is done, or ask them", "gc")
        freed = sum(_delete(path) for paths in _ours(cache).values() for path in paths)
    with contextlib.suppress(OSError):
        os.rmdir(cache.root)
    return freed


def _holder(cache: Cache) -> str:
    """Who uses this host: a launch that runs, or whoever has the lease."""
    state = lease.state(cache)
    whose = state["owner"] or "somebody"
    if state["running"]:
        return "a launch of {} is running here".format(whose)
    return "{} has this host for {:.0f} s more".format(whose, state["left_s"]) if state["owner"] else ""


def _ours(cache: Cache) -> Dict[str, List[str]]:
    """Everything in the agent's folder that is the agent's, by kind, the agent itself last."""
    found = {kind: [] for kind in KEPT}  # type: Dict[str, List[str]]
    for name in sorted(os.listdir(cache.root)):
        kind = next((kind for kind, pattern in KEPT.items() if pattern.match(name)), None)
        if kind:
            found[kind].append(cache.path(name))
    return found


def _size(path: str) -> int:
    """The bytes of a file, or of all below a folder; what goes meanwhile, as a running launch's files do, has none."""
    if not os.path.isdir(path) or os.path.islink(path):
        return _file_bytes(path)
    return sum(_file_bytes(os.path.join(folder, file)) for folder, _, files in os.walk(path) for file in files)


def _file_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _delete(path: str) -> int:
    """Delete a file or folder; return the bytes freed, of which a file that cannot be deleted gives none."""
    size = _size(path)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        unlink(path)
    return size - _size(path)
