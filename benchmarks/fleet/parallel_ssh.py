"""parallel-ssh, in the peers' environment: SFTP for the files, one command a device: `python -m benchmarks.fleet.parallel_ssh ORDER`.

Its client verifies no host key, and opens a connection to every device of a wave.
"""
# parallel-ssh is not in our environment.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import shlex
from collections.abc import Sequence

from gevent import joinall
from pssh.clients import ParallelSSHClient

from benchmarks.fleet import order
from benchmarks.fleet.order import Order, Site


def run(asked: Order) -> int:
    """Start the launch everywhere; give the bytes shipped."""
    size = sum(path.stat().st_size for path in asked.files().values())
    return sum(_wave(asked, wave) * size for wave in asked.waves())


def _wave(asked: Order, sites: Sequence[Site]) -> int:
    client = ParallelSSHClient(
        [site.host for site in sites],
        user=asked.user,
        port=asked.port,
        pkey=asked.key,
        pool_size=asked.workers,
        allow_agent=False,
        identity_auth=False,
    )
    roots = [{"root": site.root, "stage": asked.stage} for site in sites]
    joinall(client.copy_file("%(stage)s", "%(root)s", recurse=True, copy_args=roots), raise_error=True)
    commands = [_command(asked, site) for site in sites]
    outputs = client.run_command("%s", host_args=commands)
    client.join(outputs, consume_output=True)
    assert all(output.exit_code == 0 for output in outputs), [output.exit_code for output in outputs]
    return len(sites)


def _command(asked: Order, site: Site) -> str:
    start = shlex.join([asked.python, "-c", asked.start, site.root])
    return f"printf %s {shlex.quote(asked.spec)} | {start}"


if __name__ == "__main__":
    order.carry_out(run)
