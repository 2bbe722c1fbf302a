"""Times how fast the commands answer, beside Python itself: `python -m benchmarks.startup`.

Every round runs each command once in a fresh process, in turn, after one round that only fills the page cache; a ratio is the median over
rounds, so that a machine that is busy for a while slows both sides of it.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import results
from benchmarks.ratio import median_ratio
from controller.deploy import build_zipapp

ROUNDS = 10
PACKAGES = ("pydantic", "rich", "ruamel.yaml", "typer")
BASES = ("python -c pass", "python -c 'import typer'")
TARGETS_S = {"fleetmark --help": 0.250, "agent probe --quick": 0.300}
INVENTORY = Path(__file__).parent.parent / "inventory.yaml"


def commands(folder: Path) -> dict[str, list[str]]:
    """Give each command by its name; the agent's zipapp is built in `folder`, which is its cache too."""
    agent = folder / build_zipapp().name
    agent.write_bytes(build_zipapp().content)
    fleetmark = str(Path(sys.executable).with_name("fleetmark"))
    return {
        BASES[0]: [sys.executable, "-c", "pass"],
        BASES[1]: [sys.executable, "-c", "import typer"],
        "fleetmark --help": [fleetmark, "--help"],
        "fleetmark device list": [fleetmark, "device", "list", "--inventory", str(INVENTORY)],
        "agent probe --quick": [sys.executable, "-I", str(agent), "probe", "--quick", "--cache", str(folder)],
    }


def seconds(command: list[str]) -> float:
    """Run a command once and give the time until it has ended; raises CalledProcessError where it failed."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(named: dict[str, list[str]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Give each command's seconds, one value a round."""
    taken: dict[str, list[float]] = {name: [] for name in named}
    for at in range(rounds + 1):
        for name, command in named.items():
            passed = seconds(command)
            if at:
                taken[name].append(passed)
    return taken


def table(taken: dict[str, list[float]]) -> str:
    """Give medians, ratios to Python itself and to the import of typer, and targets as a Markdown table."""
    columns = ("command", "median (ms)", *(f"x `{base}` [95 %]" for base in BASES), "target (ms)")
    rows = [_row(name, values, taken) for name, values in taken.items()]
    return "\n".join((f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows))


def _row(name: str, values: list[float], taken: dict[str, list[float]]) -> str:
    ratios = [median_ratio([value / base for value, base in zip(values, taken[name], strict=True)]) for name in BASES]
    target = TARGETS_S.get(name)
    verdict = "" if target is None else f"{target * 1e3:.0f}: {'met' if median(values) < target else '**missed**'}"
    cells = (f"`{name}`", f"{median(values) * 1e3:.0f}", *(f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" for ratio in ratios))
    return f"| {' | '.join((*cells, verdict))} |"


def main() -> None:
    """Time the commands, print the table and write it to RESULTS.md."""
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(commands(Path(folder))))
    print(text)
    results.write("startup", machine, text)


if __name__ == "__main__":
    main()
