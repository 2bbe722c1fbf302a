"""Which launches and cells of a plan fit into a time: fewer launches first, then without the cells that cost most."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controller import durations, lanes, plan
from controller.errors import FleetmarkError
from controller.inventory import Device, Meter
from controller.plan import PlannedCell
from controller.profiles import Profile
from reports.statistics import FEWEST_LAUNCHES

BASELINE = "fp32"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What fits, how many launches of each cell, and what was dropped with the seconds that it would have taken; the costliest first."""

    cells: Sequence[PlannedCell]
    launches: int
    dropped: Sequence[tuple[PlannedCell, float]]


def fit(
    cells: Sequence[PlannedCell], profile: Profile, launches: int, devices: Sequence[Device], meters: Mapping[str, Meter], time_s: float
) -> Fitted:
    """Give what can be measured within `time_s` seconds; lanes work at the same time, so that each is fitted by itself.

    Launches go down to as many as an interval needs. Then each lane too long drops its costliest cell, of equal ones the last, until it
    fits; each device keeps its cheapest fp32 cell and the cheapest other one beside it. Raises FleetmarkError where that is too long, too.
    """
    by_name = {device.name: device for device in devices}

    def cost_s(cell: PlannedCell, count: int) -> float:
        device = by_name[cell.device]
        return 0.0 if cell.fault else plan.cell_s(cell.workload, profile, count, device, meters.get(device.meter or ""))

    groups = [[cell for cell in cells if cell.device in {device.name for device in lane}] for lane in lanes.group(devices)]
    for count in range(launches, min(launches, FEWEST_LAUNCHES) - 1, -1):
        if all(sum(cost_s(cell, count) for cell in lane) <= time_s for lane in groups):
            return Fitted(cells, count, [])
    fewest = min(launches, FEWEST_LAUNCHES)
    dropped = [one for lane in groups for one in _dropped(lane, lambda cell: cost_s(cell, fewest), time_s)]
    gone = {id(cell) for cell, _ in dropped}
    return Fitted([cell for cell in cells if id(cell) not in gone], fewest, sorted(dropped, key=lambda one: -one[1]))


def _dropped(lane: Sequence[PlannedCell], cost_s: Callable[[PlannedCell], float], time_s: float) -> list[tuple[PlannedCell, float]]:
    by_device = [[cell for cell in lane if cell.device == device] for device in dict.fromkeys(cell.device for cell in lane)]
    kept = [cell for cells in by_device for cell in _kept(cells, cost_s)]
    left_s, dropped = sum(map(cost_s, lane)), list[tuple[PlannedCell, float]]()
    costliest = sorted((cell for cell in reversed(lane) if not cell.fault and cell not in kept), key=lambda cell: -cost_s(cell))
    for cell in costliest:
        if left_s <= time_s:
            return dropped
        dropped.append((cell, cost_s(cell)))
        left_s -= cost_s(cell)
    if left_s > time_s:
        names = ", ".join(dict.fromkeys(cell.device for cell in kept))
        raise FleetmarkError(
            f"{durations.shown(time_s)} are too short for {names}",
            why=f"a baseline and one candidate for each take about {durations.shown(left_s)}",
            next="give more --time, name fewer devices, or use --profile quick",
        )
    return dropped


def _kept(cells: Sequence[PlannedCell], cost_s: Callable[[PlannedCell], float]) -> list[PlannedCell]:
    """The cheapest baseline of a device, and the cheapest other recipe, of the same model, backend and workload where there is one."""
    measured = [cell for cell in cells if not cell.fault]
    baseline = min((cell for cell in measured if cell.recipe == BASELINE), key=cost_s, default=None)
    others = [cell for cell in measured if cell.recipe != BASELINE]

    def distance(cell: PlannedCell) -> tuple[int, float]:
        near = baseline and [cell.model == baseline.model, cell.workload == baseline.workload, cell.backend == baseline.backend]
        return (3 - sum(near) if near else 0, cost_s(cell))

    return [cell for cell in (baseline, min(others, key=distance, default=None)) if cell is not None]
