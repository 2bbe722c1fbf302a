"""What sampling costs a latency: launches with sensors against launches without, `python -m benchmarks.sensors [--minutes 10]`.

On: the supervisor's telemetry, and a power sensor in a thread of its own, both at their own rates. Off: neither. The two launches of a
pair follow each other at once, in seeded random order. The system files that are read lie in a folder that stands for a board's: what they
say is fake, reading them is not. A chip on an I2C bus takes longer to answer than a file; the reading thread sleeps meanwhile.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.schema import LaunchSpec, encode
from benchmarks import results
from benchmarks.launching import Example, collected, example, local_agent, upload
from benchmarks.ratio import Ratio, median_ratio
from controller.deploy import build_zipapp
from controller.remote import Remote
from reports.statistics import percentile

STARTER = Path(__file__).parent / "starter.py"
PACKAGES = ("ai-edge-litert", "numpy", "onnxruntime")
SENSORS = {
    "ina226": {"driver": "ina226", "boundary": "board"},
    "command": {"driver": "command", "boundary": "wall", "command": ["/bin/echo", "3.25 W"]},
}
NAMES = {"ina226": "telemetry, INA226 at 10/s", "command": "telemetry, a program at 4/s"}
WINDOW_S = 1.0
FEWEST_PAIRS, WIDTH, LOW, HIGH = 30, 0.007, 0.99, 1.01
SEED = 5
PROCESSORS = 4
NOTE = """On: telemetry about once a second and a power sensor at its own rate, as in any launch; off: neither. What is read is fake, files
of a folder that stands for a board's; that it is read is not. Readings are those of a launch: of telemetry, and of power."""
COLUMNS = ("sensors", "runtime", "on, p50 (us)", "off, p50 (us)", "on / off", "95 % interval", "pairs", f"{LOW} to {HIGH}", "readings")


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over the pairs in seconds, the ratio on / off, and how many readings a launch came with: telemetry, power sensor."""

    sensor: str
    runtime: str
    on_s: float
    off_s: float
    ratio: Ratio
    telemetry: float
    power: float


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch's p50 in seconds, and how many readings of either kind it came with."""

    p50_s: float
    telemetry: int
    power: int


def board(root: Path) -> Path:
    """Give a folder with the system files of a board: clocks of its processors, a thermal zone, an INA226; /proc is the real one."""
    files = {
        "sys/class/hwmon/hwmon0/name": "ina226",
        "sys/class/hwmon/hwmon0/power1_input": "3250000",
        "sys/class/hwmon/hwmon0/shunt_resistor": "10000",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "48312",
    }
    files |= {f"sys/devices/system/cpu/cpu{at}/cpufreq/scaling_cur_freq": "1500000" for at in range(PROCESSORS)}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="ascii")
    (root / "proc").symlink_to("/proc")
    return root


def launch(remote: Remote, root: Path, spec: LaunchSpec, sensors: str) -> Launch:
    """Run one launch with sensors `on` or `off`; raises FaultError where it failed."""
    agent = f"{remote.root}/{build_zipapp().name}"
    command = [remote.python, "-I", str(STARTER), sensors, agent, "start", "--cache", remote.root, "--root", str(root)]
    subprocess.run(command, input=encode(spec), check=True, capture_output=True)
    found = collected(remote, spec).samples
    remote.forget([spec.launch])
    counts = (len(found[name].array) if name in found else 0 for name in ("trace_memory_available_bytes", "power_t_ns"))
    return Launch(percentile(found["latency_ns"].array, 0.5) / 1e9, *counts)


def measure(model: Example, sensor: str, minutes: float, fewest: int = FEWEST_PAIRS, window_s: float = WINDOW_S) -> Cost:
    """Measure pairs until the interval is narrower than WIDTH either way, or the minutes have passed; at least `fewest`."""
    end = time.monotonic() + 60 * minutes
    order = random.Random(SEED)  # noqa: S311 - an order, not a secret
    pairs: list[dict[str, Launch]] = []
    with tempfile.TemporaryDirectory() as name, local_agent(Path(name) / "agent", 60 * minutes + 600) as remote:
        root, spec = board(Path(name) / "root"), upload(remote, model)._replace(min_duration_s=window_s)
        powers = {"on": SENSORS[sensor], "off": None}
        launch(remote, root, spec._replace(launch="unpaired"), "off")
        while True:
            sides = order.sample(["on", "off"], 2)
            specs = {side: spec._replace(launch=f"{side}-{len(pairs)}", power=powers[side]) for side in sides}
            pairs.append({side: launch(remote, root, specs[side], side) for side in sides})
            found = _cost(sensor, model.runtime, pairs)
            if len(pairs) >= fewest and (found.ratio.is_narrower(WIDTH) or time.monotonic() >= end):
                return found
            if len(pairs) % 10 == 0:
                print(_line(found), file=sys.stderr)


def _cost(sensor: str, runtime: str, pairs: list[dict[str, Launch]]) -> Cost:
    on, off = ([pair[side] for pair in pairs] for side in ("on", "off"))
    ratio = median_ratio([one.p50_s / other.p50_s for one, other in zip(on, off, strict=True)])
    on_s, off_s = (median(one.p50_s for one in side) for side in (on, off))
    return Cost(sensor, runtime, on_s, off_s, ratio, median(one.telemetry for one in on), median(one.power for one in on))


def _line(cost: Cost) -> str:
    ratio = cost.ratio
    cells = (
        NAMES[cost.sensor],
        cost.runtime,
        f"{cost.on_s * 1e6:.2f}",
        f"{cost.off_s * 1e6:.2f}",
        f"{ratio.median:.4f}",
        f"{ratio.low:.4f} to {ratio.high:.4f}",
        str(ratio.pairs),
        "inside" if ratio.is_inside(LOW, HIGH) else "**not inside**",
        f"{cost.telemetry:.0f} and {cost.power:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def table(found: list[Cost]) -> str:
    """Give the costs as a Markdown table."""
    return "\n".join((f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(_line, found)))


def main() -> None:
    """Measure each sensor, print the table and write it to RESULTS.md."""
    parser = argparse.ArgumentParser(prog="benchmarks.sensors", description="Median latency with sensors on against off.")
    parser.add_argument("--minutes", type=float, default=10, help="at most, for each sensor (default: %(default)s)")
    parser.add_argument("--runtime", choices=["tflite", "onnxruntime"], default="tflite", help="(default: %(default)s)")
    parser.add_argument("--only", choices=list(SENSORS), help="one sensor; RESULTS.md stays as it is")
    arguments = parser.parse_args()
    machine = results.describe(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        model = example(arguments.runtime, Path(folder))
        found = [measure(model, sensor, arguments.minutes) for sensor in ([arguments.only] if arguments.only else SENSORS)]
    print(table(found))
    if not arguments.only:
        results.write("sensors", machine, f"{table(found)}\n\n{NOTE}")


if __name__ == "__main__":
    main()
