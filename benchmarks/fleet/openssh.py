"""OpenSSH's own programs, a pool of processes: one `scp -r` and one `ssh` a device: `python -m benchmarks.fleet.openssh ORDER`."""

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

from benchmarks.fleet import order
from benchmarks.fleet.order import Order, Site


def options(asked: Order) -> list[str]:
    """Give the options of ssh and scp: the key, the pinned hosts, nothing of the person's own."""
    known = f"UserKnownHostsFile={asked.known_hosts}"
    return ["-F", "/dev/null", "-i", asked.key, "-o", "IdentitiesOnly=yes", "-o", known, "-o", "BatchMode=yes", "-q"]


def run(asked: Order) -> int:
    """Start the launch everywhere; give the bytes shipped."""
    size = sum(path.stat().st_size for path in asked.files().values())

    def start(site: Site) -> int:
        whom = f"{asked.user}@{site.host}"
        _do(["scp", *options(asked), "-P", str(asked.port), "-r", asked.stage, f"{whom}:{site.root}"], "")
        command = shlex.join([asked.python, "-c", asked.start, site.root])
        _do(["ssh", *options(asked), "-p", str(asked.port), whom, command], asked.spec)
        return size

    with ThreadPoolExecutor(asked.workers) as pool:
        return sum(sum(pool.map(start, wave)) for wave in asked.waves())


def _do(command: list[str], text: str) -> None:
    subprocess.run(command, check=True, input=text, stdout=subprocess.DEVNULL, text=True)


if __name__ == "__main__":
    order.carry_out(run)
