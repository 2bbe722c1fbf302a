"""The agent's folder on the device: where things lie, locks on it, and files that appear whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
from typing import Any, Dict, List, Optional

from agent.schema import FaultError, decode, encode

DEFAULT = "~/.cache/fleetmark"
CHUNK_BYTES = 1 << 20
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
MAX_DOCUMENT_BYTES = 16 << 20
RETRY_S = 0.01
FOLDERS = ("blobs", "envs", "launches", "prepared")
KEPT = {
    "launches": re.compile(r"launches\Z"),
    "prepared": re.compile(r"prepared\Z"),
    "environments": re.compile(r"envs\Z"),
    "blobs": re.compile(r"blobs\Z"),
    "state": re.compile(r"((start|busy|install|lease)\.lock|lease\.json(\.\d+\.tmp)?|probe-\d+\.tmp)\Z"),
    "agents": re.compile(r"agent-[0-9a-f]{12}\.pyz(\.\d+)?(\.part)?\Z"),
}  # the order in which they are deleted: an agent that is cut off can go on
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Cache:
    """Paths below the agent's folder; every part that comes from the controller is checked before it becomes a path."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    def blob(self, sha256: str) -> str:
        """Return the path of a content-addressed file."""
        return os.path.join(self.root, "blobs", _checked(SHA256, sha256))

    def partial(self, sha256: str) -> str:
        """Return the path of that file while it is being uploaded."""
        return self.blob(sha256) + ".part"

    def environment(self, name: str) -> str:
        """Return the folder of an unpacked environment."""
        return os.path.join(self.root, "envs", _checked(IDENTIFIER, name))

    def launch(self, launch: str, *parts: str) -> str:
        """Return the folder of a launch, or a path below it."""
        return os.path.join(self.root, "launches", _checked(IDENTIFIER, launch), *parts)

    def path(self, *parts: str) -> str:
        """Return a path below the agent's folder."""
        return os.path.join(self.root, *parts)

    def create(self) -> None:
        """Make the folders, for their owner only.

        Raises FaultError `env_missing` where somebody else could change what is in them, or where the disk refuses.
        """
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            _refuse_open_way(self.root)
            _keep_private(self.root, shared=True)
            for name in FOLDERS:
                os.makedirs(self.path(name), mode=0o700, exist_ok=True)
                _keep_private(self.path(name))
        except OSError as error:
            raise disk_fault(error, self.root) from error

    def names(self, folder: str) -> List[str]:
        """Return the finished entries of envs/ or launches/."""
        try:
            return sorted(name for name in os.listdir(self.path(folder)) if IDENTIFIER.match(name))
        except OSError:
            return []


def _keep_private(folder: str, shared: bool = False) -> None:
    """Take everybody else's rights to our folder away; one that may be `shared` with other things, such as a home, keeps those to read.

    Raises FaultError for a folder of somebody else's, one that somebody else's link leads to, and one that others may write to; OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        strangers = ({found.st_uid} - {os.geteuid()}) | ({os.lstat(folder).st_uid} - {os.geteuid(), 0})
        if strangers:
            from agent.system import user_name

            raise _not_private("{} belongs to {}".format(folder, user_name(strangers.pop())))
        if found.st_mode & 0o077 and not (shared and _has_other_things(descriptor)):
            with contextlib.suppress(OSError):  # a USB stick's file system keeps the rights that it was mounted with
                os.fchmod(descriptor, 0o700)
        if os.fstat(descriptor).st_mode & 0o022:
            raise _not_private("others may write to {}".format(folder))
    finally:
        os.close(descriptor)


def _has_other_things(folder: int) -> bool:
    return not all(any(kind.match(name) for kind in KEPT.values()) for name in os.listdir(folder))


def _refuse_open_way(folder: str) -> None:
    """Raise FaultError where everybody may rename `folder`, or a folder on the way to it, and put another in its place; OSError."""
    for path in {folder, os.path.realpath(folder)}:
        while path != os.path.dirname(path):
            path = os.path.dirname(path)
            mode = os.stat(path).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise _not_private("{} lies in {}, in which everybody may rename and delete".format(folder, path))


def _not_private(what: str) -> FaultError:
    return FaultError("env_missing", what, "set agent.cache_dir in inventory.yaml to a folder that only this user may write to")


def checked_sha256(sha256: str) -> str:
    """Return the sha256 (hex) if it is one; raises FaultError `protocol`."""
    return _checked(SHA256, sha256)


def _checked(pattern: Any, name: str) -> str:
    if not pattern.match(name):
        raise FaultError("protocol", "{!r} is not a name that may become a path".format(name[:80]), "")
    return name


def disk_fault(error: OSError, path: str) -> FaultError:
    """Return the fault that an operating-system error on `path` amounts to."""
    if error.errno in FULL:
        return FaultError(
            "disk_full", "no space left for {}".format(path), "free some space there, or set agent.cache_dir in inventory.yaml"
        )
    return FaultError(
        "env_missing", "cannot write {}: {}".format(path, error.strerror), "set agent.cache_dir in inventory.yaml to a writable folder"
    )


def sha256_of(path: str) -> str:
    """Return the sha256 (hex) of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: str, value: Any) -> None:
    """Write a JSON document under a temporary name, then rename it into place."""
    temporary = "{}.{}.tmp".format(path, os.getpid())
    content = encode(value) + b"\n"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        unlink(temporary)
        raise disk_fault(error, path) from error


def read_json(path: str) -> Any:
    """Return the JSON document at `path`, or None if there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return decode(file.read(MAX_DOCUMENT_BYTES))
    except (OSError, ValueError):
        return None


def unlink(path: str) -> None:
    """Delete a file, if it is there and may be deleted."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def read_object(path: str) -> Dict[str, Any]:
    """Return the JSON object at `path`, or an empty one."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}  # type: ignore[return-value]


class Lock:
    """An flock on a file, held until released or until every process that inherited it has ended."""

    def __init__(self, path: str) -> None:
        try:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_fault(error, path) from error

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock; False if it is held and `wait` is off."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def acquire_within(self, seconds: float) -> bool:
        """Take the lock, or give up after `seconds`: whoever looks whether it is held has it for a moment."""
        end = time.monotonic() + seconds
        while not self.acquire(wait=False):
            if time.monotonic() > end:
                return False
            time.sleep(RETRY_S)
        return True

    def close(self) -> None:
        """Close the file, which releases the lock unless a child process still has it."""
        os.close(self.descriptor)

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def is_held(path: str) -> bool:
    """Tell whether some living process holds the lock at `path`."""
    return not _try_shared(path, fcntl.LOCK_NB)


def wait_until_free(path: str) -> None:
    """Sleep as long as some living process holds the lock at `path`."""
    _try_shared(path, 0)


def _try_shared(path: str, flags: int) -> bool:
    """Take the lock for a moment, shared; False if it is held. A file that is not there is not held, and is not made."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | flags)
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True


def boot_id(root: str = "/") -> str:
    """Return the kernel's id of this boot; a lease or a spool of another boot is void."""
    try:
        with open(os.path.join(root, "proc/sys/kernel/random/boot_id")) as file:
            return file.read(64).strip()
    except OSError:
        return ""


def first_line(path: str) -> Optional[str]:
    """Return a small text file's first line without its end, or None if it cannot be read; NUL-terminated ones too."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).split(b"\n")[0].rstrip(b"\0").decode("utf-8", "replace").strip()
    except OSError:
        return None
