"""The agent's folder on the device: where things lie, locks on it, and files that appear whole or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from typing import Any, Dict, List, Optional

from agent.schema import FaultError, decode, encode

DEFAULT = "~/.cache/fleetmark"
CHUNK_BYTES = 1 << 20
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


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
        """Make the folders, readable by their owner only; raises FaultError where the disk refuses."""
        for name in ("blobs", "envs", "launches", "prepared"):
            try:
                os.makedirs(self.path(name), mode=0o700, exist_ok=True)
            except OSError as error:
                raise disk_fault(error, self.root) from error

    def names(self, folder: str) -> List[str]:
        """Return the finished entries of envs/ or launches/."""
        try:
            return sorted(name for name in os.listdir(self.path(folder)) if IDENTIFIER.match(name))
        except OSError:
            return []


def _checked(pattern: Any, name: str) -> str:
    if not pattern.match(name):
        raise FaultError("protocol", "{!r} is not a name that may become a path".format(name[:80]), "")
    return name


def disk_fault(error: OSError, path: str) -> FaultError:
    """Return the fault that an operating-system error on `path` amounts to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
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
    try:
        with open(temporary, "wb") as file:
            file.write(encode(value) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _unlink(temporary)
        raise disk_fault(error, path) from error


def read_json(path: str) -> Any:
    """Return the JSON document at `path`, or None if there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return decode(file.read(CHUNK_BYTES))
    except (OSError, ValueError):
        return None


def _unlink(path: str) -> None:
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

    def acquire(self, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock; False if it is held and `wait` is off."""
        try:
            fcntl.flock(self.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self) -> None:
        """Give the lock back but keep the file open."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

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
    if not os.path.exists(path):
        return False
    lock = Lock(path)
    try:
        return not lock.acquire(shared=True, wait=False)
    finally:
        lock.close()


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
