"""The least that Python needs for it: one paramiko connection a device, `cat >` for every file, one python3 that starts the launch.

`python -m benchmarks.fleet.bare ORDER`; nothing is verified but the host key, and nothing is tried again.
"""
# paramiko has no type stubs.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import base64
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import paramiko

from benchmarks.fleet import order
from benchmarks.fleet.order import Order, Site


def run(asked: Order) -> int:
    """Start the launch everywhere; give the bytes shipped."""
    files = {name: path.read_bytes() for name, path in asked.files().items()}

    def start(site: Site) -> int:
        with closing(link(asked, site)) as way:
            root = shlex.quote(site.root)
            for at, (name, content) in enumerate(files.items()):
                make = "" if at else f"mkdir -p {root}/blobs; "
                _do(way, f"{make}cat > {root}/{name}", content)
            _do(way, shlex.join([asked.python, "-c", asked.start, site.root]), asked.spec.encode("ascii"))
        return sum(map(len, files.values()))

    with ThreadPoolExecutor(asked.workers) as pool:
        return sum(sum(pool.map(start, wave)) for wave in asked.waves())


def link(asked: Order, site: Site) -> paramiko.Transport:
    """Give a connection to a device that has presented the right key."""
    made = paramiko.Transport(socket.create_connection((site.host, asked.port)))
    blob = Path(asked.known_hosts).read_text(encoding="ascii").split(maxsplit=3)[2]
    made.connect(
        hostkey=paramiko.Ed25519Key(data=base64.b64decode(blob)),
        username=asked.user,
        pkey=paramiko.Ed25519Key.from_private_key_file(asked.key),
    )
    return made


def sftp(way: paramiko.Transport) -> paramiko.SFTPClient:
    """Give a client of the device's SFTP server."""
    client = paramiko.SFTPClient.from_transport(way)
    assert client is not None
    return client


def _do(way: paramiko.Transport, command: str, content: bytes) -> None:
    channel = way.open_session()
    channel.exec_command(command)
    channel.sendall(content)
    channel.shutdown_write()
    assert channel.recv_exit_status() == 0, channel.makefile_stderr("rb").read()


if __name__ == "__main__":
    order.carry_out(run)
