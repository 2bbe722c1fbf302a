"""Measures what a fleet costs the controller and writes it to RESULTS.md: `make bench-fleet`, which makes the peers' environment too."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import results
from benchmarks.fleet import bed, rounds, shipping, stage
from benchmarks.fleet.order import Cost
from benchmarks.fleet.rounds import ANSIBLE, BARE, OURS, WORKERS, Taken
from benchmarks.ratio import Ratio, median_ratio

ROUNDS = {
    10: {OURS: 3, BARE: 3, "ssh, scp": 1, "parallel-ssh": 3},
    500: {OURS: 1, BARE: 1, "parallel-ssh": 1},
    100: {OURS: 6, BARE: 6, "ssh, scp": 1, "parallel-ssh": 2},
}
SLOW = 20
SLOW_ROUNDS = {OURS: 2, BARE: 2, ANSIBLE: 2}
SHIPMENTS = 9
WINDOW_S = 5.0
PACKAGES = ("paramiko", "cryptography")
CPU_S, WALL, FASTER, MEMORY_BYTES = 0.05, 2.0, 10.0, 400e6
NOTE = f"""
Simulated devices: each is a loopback address of real OpenSSH servers (all on this machine, as is the controller, which shares its cores
with them) and an empty folder. Connect, ship and start: every tool puts the same agent, stub model and data there and has the agent's own
supervisor started, detached; its worker is a stub that sleeps. At most {WORKERS} at once (Ansible's row: {SLOW}), 500 in waves of 100.
Wall: median of the rounds, which go through the tools forwards and backwards in turn; the ratios are medians over rounds. CPU is the
tool's own process's, beside that of the processes it starts; peak memory is the own process's. What Python imports before it begins is
not counted. parallel-ssh checks no host key and opens a connection to each device of a wave; only fleetmark and Ansible verify what
arrived, and only fleetmark asks the device what it is.
Whole run: one launch a device of a stub runtime that sleeps, by the real lanes, worker and store; own time is the launch by the device's
clock, which the other devices on these cores lengthen; the bound is what {WORKERS} at a time could do at best: the larger of the slowest
device's own time and all own times / {WORKERS}. ssh and scp are not run with 500 devices, Ansible only with {SLOW}: they take long."""


def start_table(taken: Sequence[Taken]) -> str:
    """Give what the tools took as a Markdown table."""
    columns = (
        "devices",
        "tool",
        "wall (s)",
        "x bare [95 %]",
        "CPU (ms a device)",
        "of its processes",
        "peak (MB)",
        "shipped (kB)",
        "open at once",
    )
    return _table(columns, [_start_row(one, _of(taken, BARE, one.devices)) for one in taken])


def _start_row(one: Taken, bare: Taken) -> tuple[str, ...]:
    costs = _costs(one)
    return (
        str(one.devices),
        one.tool,
        f"{median(cost.wall_s for cost in costs):.2f}",
        "" if one is bare else _text(_ratio(one, bare)),
        f"{median(cost.own_cpu_s for cost in costs) / one.devices * 1e3:.1f}",
        f"{median(cost.children_cpu_s for cost in costs) / one.devices * 1e3:.1f}",
        f"{max(cost.peak_bytes for cost in costs) / 1e6:.0f}",
        f"{costs[0].shipped_bytes / one.devices / 1e3:.0f}",
        str(one.open),
    )


def whole_table(found: Sequence[tuple[int, dict[str, Any], int]]) -> str:
    """Give the whole runs as a Markdown table."""
    columns = ("devices", "valid", "wall (s)", "slowest own (s)", "x bound", "CPU (ms a device)", "peak (MB)", "open at once")
    return _table(columns, [_whole_row(*one) for one in found])


def _whole_row(count: int, told: dict[str, Any], opened: int) -> tuple[str, ...]:
    cost, own = Cost(**told["cost"]), told["own_s"]
    bound = max(max(own), sum(own) / WORKERS)
    cpu = (cost.own_cpu_s + cost.children_cpu_s) / count
    return (
        str(count),
        str(told["valid"]),
        f"{cost.wall_s:.1f}",
        f"{max(own):.1f}",
        f"{cost.wall_s / bound:.2f}",
        f"{cpu * 1e3:.1f}",
        f"{cost.peak_bytes / 1e6:.0f}",
        str(opened),
    )


def shipping_table(taken: dict[str, list[Cost]]) -> str:
    """Give the ways to ship one large file as a Markdown table."""
    columns = ("100 MB by", "wall (s)", "scp's wall / this [95 %]", "CPU (s)", "of its processes")
    return _table(columns, [_shipping_row(name, costs, taken[shipping.SCP]) for name, costs in taken.items()])


def _shipping_row(name: str, costs: Sequence[Cost], scp: Sequence[Cost]) -> tuple[str, ...]:
    ratio = median_ratio([theirs.wall_s / cost.wall_s for cost, theirs in zip(costs, scp, strict=True)])
    own, children = median(cost.own_cpu_s for cost in costs), median(cost.children_cpu_s for cost in costs)
    return name, f"{median(cost.wall_s for cost in costs):.2f}", _text(ratio), f"{own:.2f}", f"{children:.2f}"


def verdicts(taken: Sequence[Taken], runs: Sequence[tuple[int, dict[str, Any], int]], shipped: dict[str, list[Cost]]) -> str:
    """Give what has to hold, what was measured and whether it holds, as a Markdown table."""
    ours = _of(taken, OURS, 100)
    cpu_s = median(cost.own_cpu_s + cost.children_cpu_s for cost in _costs(ours)) / ours.devices
    wall = _ratio(ours, _of(taken, BARE, 100))
    faster = _ratio(_of(taken, ANSIBLE, SLOW), _of(taken, OURS, SLOW))
    scp = median_ratio([theirs.wall_s / cost.wall_s for cost, theirs in zip(shipped[shipping.OURS], shipped[shipping.SCP], strict=True)])
    peak = max(
        [cost.peak_bytes for cost in _costs(_of(taken, OURS, 500))]
        + [told["cost"]["peak_bytes"] for count, told, _ in runs if count == 500]
    )
    opened = max([one.open for one in taken if one.tool == OURS] + [most for _, _, most in runs])
    rows = [
        ("CPU, 100 devices", f"at most {CPU_S * 1e3:.0f} ms a device", f"{cpu_s * 1e3:.1f} ms", _met(cpu_s <= CPU_S)),
        ("wall, 100 devices", f"at most {WALL:g} x bare paramiko", _text(wall), _met(wall.median <= WALL)),
        (f"wall, {SLOW} devices", f"at least {FASTER:g} x faster than Ansible", _text(faster), _met(faster.median >= FASTER)),
        ("100 MB, hashed on arrival", "at least as fast as scp", _text(scp), _met(scp.median >= 1)),
        ("peak memory, 500 devices", f"under {MEMORY_BYTES / 1e6:.0f} MB", f"{peak / 1e6:.0f} MB", _met(peak < MEMORY_BYTES)),
        ("open connections", f"at most {WORKERS}", str(opened), _met(opened <= WORKERS)),
    ]
    return _table(("of fleetmark", "has to be", "measured", ""), rows)


def _met(good: bool) -> str:
    return "met" if good else "**missed**"


def _of(taken: Sequence[Taken], tool: str, devices: int) -> Taken:
    return next(one for one in taken if (one.tool, one.devices) == (tool, devices))


def _costs(taken: Taken) -> list[Cost]:
    return [cost for cost in taken.costs if cost is not None]


def _ratio(one: Taken, other: Taken) -> Ratio:
    return median_ratio([ours.wall_s / theirs.wall_s for ours, theirs in zip(one.costs, other.costs, strict=True) if ours and theirs])


def _text(ratio: Ratio) -> str:
    interval = f" [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio.low == ratio.low else ""  # NaN below 6 pairs
    return f"{ratio.median:.2f}{interval}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _peers() -> str:
    pins = Path(__file__).with_name("peers.txt").read_text(encoding="utf-8").split("\n")
    return ", ".join(line.replace("==", " ") for line in pins if "==" in line)


def main() -> None:
    """Measure, print the tables and write them to RESULTS.md."""
    machine = results.describe(PACKAGES)
    taken: list[Taken] = []
    runs: list[tuple[int, dict[str, Any], int]] = []
    with bed.devices(max(ROUNDS)) as there:
        made = stage.write(there.folder / "model")
        for count, plan in ROUNDS.items():
            taken += rounds.start(there, count, WORKERS, plan)
            runs.append((count, *rounds.whole(there, count, WINDOW_S)))
        taken += rounds.start(there, SLOW, SLOW, SLOW_ROUNDS)
        shipped = shipping.measure(stage.order(there, made, 1, 1, 1), SHIPMENTS)
    taken.sort(key=lambda one: one.devices)
    runs.sort(key=lambda one: one[0])
    parts = (verdicts(taken, runs, shipped), start_table(taken), whole_table(runs), shipping_table(shipped), NOTE.strip())
    text = "\n\n".join(parts)
    print(text)
    results.write("fleet", f"{machine} {_peers()}; load average {os.getloadavg()[0]:.2f} after.", text)


if __name__ == "__main__":
    main()
