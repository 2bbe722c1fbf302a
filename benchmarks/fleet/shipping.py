"""100 MB to one device over a connection made for it: fleetmark, which hashes what arrives, beside scp, a plain channel and SFTP."""
# paramiko has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import hashlib
import random
import shlex
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from agent.cache import unlink
from benchmarks.fleet import bare, openssh, ours
from benchmarks.fleet.order import Cost, Order, cost
from controller.visit import open_remote

SIZE_BYTES = 100_000_000
CHUNK_BYTES = 1 << 20
OURS, SCP = "fleetmark", "scp"


def measure(asked: Order, pairs: int) -> dict[str, list[Cost]]:
    """Give each way's costs, one a round; every round has them in the other order."""
    file = Path(asked.folder, "large")
    file.write_bytes(random.Random(1).randbytes(SIZE_BYTES))  # noqa: S311 - bytes that do not compress
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    blob = Path(asked.sites[0].root, "blobs", sha256)
    ways = _ways(asked, file, sha256, blob)
    ways[OURS]()  # the agent is there from now on
    taken: dict[str, list[Cost]] = {name: [] for name in ways}
    for at in range(pairs):
        for name in list(ways)[:: -1 if at % 2 else 1]:
            unlink(str(blob))
            taken[name].append(cost(ways[name]))
            assert blob.stat().st_size == SIZE_BYTES
    unlink(str(blob))
    return taken


def _ways(asked: Order, file: Path, sha256: str, blob: Path) -> dict[str, Callable[[], int]]:
    site, config = asked.sites[0], ours.ssh_config(asked)

    def upload() -> int:
        remote = open_remote(ours.device(asked, site, config))
        try:
            remote.deploy()
            return remote.upload({sha256: file})
        finally:
            remote.close()

    def scp() -> int:
        target = f"{asked.user}@{site.host}:{blob}"
        command = ["scp", *openssh.options(asked), "-P", str(asked.port), str(file), target]
        subprocess.run(command, check=True)
        return SIZE_BYTES

    return {
        OURS: upload,
        SCP: scp,
        "`cat >` over paramiko": partial(_cat, asked, file, blob),
        "SFTP of paramiko": partial(_sftp, asked, file, blob),
    }


def _cat(asked: Order, file: Path, blob: Path) -> int:
    with closing(bare.link(asked, asked.sites[0])) as link, file.open("rb") as source:
        channel = link.open_session()
        channel.exec_command(f"cat > {shlex.quote(str(blob))}")
        while data := source.read(CHUNK_BYTES):
            channel.sendall(data)
        channel.shutdown_write()
        assert channel.recv_exit_status() == 0
    return SIZE_BYTES


def _sftp(asked: Order, file: Path, blob: Path) -> int:
    with closing(bare.link(asked, asked.sites[0])) as link, closing(bare.sftp(link)) as client:
        client.put(str(file), str(blob), confirm=True)
    return SIZE_BYTES
