"""Whether environments can be kept in the agent's folder and loaded from there."""

import errno
import mmap
import os

from agent.cache import unlink
from agent.system import clean, user_name

BLOCK_BYTES = 4096
REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left there",
    errno.EDQUOT: "the disk quota is used up",
}


def free_bytes(path: str) -> int:
    """Return how much this user may still write below `path`, which need not be there yet; 0 where nobody can tell."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    try:
        room = os.statvfs(path)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize


def problem(folder: str) -> str:
    """Return why a runtime cannot be written to a folder and loaded from there, in one line; empty if it can.

    Maps a file of the folder for execution, which is what loading a library needs and a file system mounted noexec refuses.
    """
    path = os.path.join(folder, "probe-{}.tmp".format(os.getpid()))
    try:
        with open(path, "wb") as file:  # a network's file system tells of a full quota when it is closed
            file.write(b"\0" * BLOCK_BYTES)
        with open(path, "rb") as file:
            return _mapping_refusal(file.fileno())
    except OSError as error:
        return _refusal(error)
    finally:
        unlink(path)


def _mapping_refusal(descriptor: int) -> str:
    try:
        mmap.mmap(descriptor, BLOCK_BYTES, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    except PermissionError as error:
        why = "it is mounted noexec" if error.errno == errno.EPERM else "the system forbids it"
        return "libraries cannot be loaded from there: {}".format(why)
    return ""


def _refusal(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return "{} may not write there".format(user_name())
    return REASONS.get(error.errno or 0) or clean(error.strerror or str(error))
