"""The archive of an environment, as the agent unpacks it: the tar that is in the tar.gz."""

import io
import os
import tarfile
from collections.abc import Iterator

from test_blobs import HOSTILE, member

from agent import blobs
from agent.schema import FaultError

DECLARED = (FaultError, ValueError, EOFError, tarfile.TarError)
WORDS = ("../", "/", "ustar\x0000", "path=", "linkpath=", "size=", "GNU.sparse.major=1", "GNU.sparse.map=", "././@LongLink", "\0")


def seeds() -> Iterator[bytes]:
    """Plain members, each hostile one, and each way in which a tar writes long names."""
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        yield _tar(kind, member("pkg/__init__.py", content=b"A = 1\n"), member("pkg", tarfile.DIRTYPE), member("x/" * 40 + "long"))
    for hostile in HOSTILE.values():
        yield _tar(tarfile.GNU_FORMAT, member("fine"), hostile)


def _tar(kind: int, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()[:-7168]


def one(data: bytes) -> None:
    """A member that may be unpacked is a plain file or folder that stays inside, and no larger than what may be unpacked."""
    total = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for found in blobs._safe_members(tar):
            inside = os.path.normpath(os.path.join("/envs/new", found.name))
            assert inside == "/envs/new" or inside.startswith("/envs/new/")
            assert found.isreg() or found.isdir() or found.type in tarfile.REGULAR_TYPES
            total += found.size
    assert total <= blobs.MAX_UNPACKED_BYTES
