"""What a tool is to do on simulated devices, and what that cost; each tool runs in a process of its own and reads and writes JSON."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Site:
    """One simulated device: an address of its own, and a folder that is its disk."""

    name: str
    host: str
    root: str


@dataclass(frozen=True, slots=True)
class Order:
    """Copy what is in the folder `stage` to every site's root and start its launch; at most `workers` at once, in waves of `wave`.

    `start` is the source of the Python script that peers run there for it, `spec` the launch that it reads from standard input. What a
    tool itself has to write goes to `folder`. A whole run measures for `window_s`.
    """

    folder: str
    sites: Sequence[Site]
    port: int
    user: str
    key: str
    known_hosts: str
    host_key: str
    python: str
    stage: str
    spec: str
    start: str
    workers: int
    wave: int
    window_s: float = 0.0

    def write(self, path: Path) -> None:
        """Put the order into a file for `read`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "Order":
        """Give the order in the file."""
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        told["sites"] = [Site(**site) for site in told["sites"]]
        return Order(**told)

    def waves(self) -> Iterator[Sequence[Site]]:
        """Give the sites wave by wave."""
        for at in range(0, len(self.sites), self.wave):
            yield self.sites[at : at + self.wave]

    def files(self) -> dict[str, Path]:
        """Give what is staged, by its path below a root."""
        stage = Path(self.stage)
        return {path.relative_to(stage).as_posix(): path for path in sorted(stage.rglob("*")) if path.is_file()}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all sites together; the processor's time of the tool's own process and of those it started, the own process's peak memory."""

    wall_s: float
    own_cpu_s: float
    children_cpu_s: float
    peak_bytes: int
    shipped_bytes: int


def carry_out(tool: Callable[[Order], int]) -> None:
    """Have `tool` do the order in the file that the command line names, and print its cost as JSON; it returns the bytes it shipped."""
    order = Order.read(Path(sys.argv[1]))
    print(json.dumps(asdict(cost(lambda: tool(order)))))


def cost(work: Callable[[], int]) -> Cost:
    """Give what `work` costs, imports before it not counted."""
    begin, before = time.perf_counter(), os.times()
    shipped = work()
    wall_s, after = time.perf_counter() - begin, os.times()
    own = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, abs(round(own, 2)), abs(round(children, 2)), peak_bytes(), shipped)  # the kernel counts hundredths of a second


def peak_bytes() -> int:
    """Give the most memory that this process has had resident."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
