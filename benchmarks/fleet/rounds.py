"""Runs the tools on simulated devices, one after the other in rounds, and checks that each has started every launch."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.fleet import bed, stage
from benchmarks.fleet.bed import Bed
from benchmarks.fleet.order import Cost, Order

WORKERS, WAVE = 64, 100
LIMIT_S = 600.0
PEERS = Path(sys.executable).parents[1] / "peers" / "bin" / "python"
OURS, BARE, ANSIBLE = "fleetmark", "bare paramiko", "Ansible"
TOOLS = {OURS: "ours", BARE: "bare", "ssh, scp": "openssh", "parallel-ssh": "parallel_ssh", ANSIBLE: "ansible"}
OF_PEERS = {"parallel_ssh", "ansible"}


@dataclass(slots=True)
class Taken:
    """What a tool took on so many devices, round by round; None where a round was without it. `open` were connected at most at once."""

    tool: str
    devices: int
    costs: list[Cost | None] = field(default_factory=list["Cost | None"])
    open: int = 0


def start(there: Bed, count: int, workers: int, rounds: Mapping[str, int]) -> list[Taken]:
    """Give what each tool takes to start a launch on `count` devices, empty before, in that many rounds; each goes the other way round."""
    order = stage.order(there, stage.written(there.folder / "model"), count, workers, WAVE)
    taken = {tool: Taken(tool, count) for tool in rounds}
    for at in range(max(rounds.values())):
        for tool in list(rounds)[:: -1 if at % 2 else 1]:
            taken[tool].costs.append(_once(there, order, taken[tool]) if at < rounds[tool] else None)
    return list(taken.values())


def _once(there: Bed, order: Order, taken: Taken) -> Cost:
    try:
        with bed.counted(there.port) as counts:
            cost = Cost(**_run(TOOLS[taken.tool], order))
        taken.open = max(taken.open, *counts)
        begun = there.started(order.sites)
        if begun != len(order.sites):
            raise RuntimeError(f"{taken.tool} has started {begun} of {len(order.sites)} launches")
        print(f"{taken.tool}, {begun} devices: {cost.wall_s:.1f} s", file=sys.stderr)
    finally:
        there.clear()
    return cost


def whole(there: Bed, count: int, window_s: float) -> tuple[dict[str, Any], int]:
    """Give what `benchmarks.fleet.whole` tells of a run over `count` devices, and how many connections were open at once."""
    order = replace(stage.order(there, stage.written(there.folder / "model"), count, WORKERS, WAVE), window_s=window_s)
    try:
        with bed.counted(there.port) as counts:
            told = _run("whole", order)
    finally:
        there.clear()
    return told, max(counts)


def _run(module: str, order: Order) -> dict[str, Any]:
    """Run a module of ours in a process of its own, and give the JSON that it prints."""
    file = Path(order.folder, "order.json")
    order.write(file)
    python = str(PEERS) if module in OF_PEERS else sys.executable
    command: Sequence[str] = [python, "-m", f"benchmarks.fleet.{module}", str(file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIMIT_S, check=True)
    return json.loads(done.stdout.splitlines()[-1])
