"""What a device would take in a day at a given rate of inferences, idle in between, and how long a battery would last."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.power import METER
from reports import format as fmt
from reports.labels import ordered_cells
from reports.table import Row

RATES_PER_H = (1, 60, 3600)
BATTERY_WH = 10.0

_SECONDS_PER_H = 3600


@dataclass(frozen=True, slots=True)
class Duty:
    """What the duty cycle of a cell rests on, means over launches. `most_per_h` is its measured throughput, None where there is none."""

    cell: str
    idle_w: float
    net_j: float
    most_per_h: float | None

    def daily_wh(self, rate_per_h: float) -> float | None:
        """Idle power all day and the net energy of each inference; None where it does not keep the rate."""
        if self.most_per_h is not None and rate_per_h > self.most_per_h:
            return None
        return 24 * (self.idle_w + self.net_j * rate_per_h / _SECONDS_PER_H)

    def told(self, rate_per_h: float, battery_wh: float = BATTERY_WH) -> tuple[str, str]:
        """(the energy of a day, how long a battery lasts, in hours below two days), or that it cannot keep the rate and which it can.

        Not known where the inferences are said to take so much less than idling that nothing is left.
        """
        daily_wh = self.daily_wh(rate_per_h)
        if daily_wh is None:
            return "cannot keep it", f"at most {fmt.ratio(self.most_per_h or 0.0)}/h"
        if daily_wh <= 0:
            return "not known", "-"
        days = battery_wh / daily_wh
        return f"{fmt.ratio(1000 * daily_wh)} mWh", f"{fmt.ratio(days)} days" if days >= 2 else f"{fmt.ratio(24 * days)} h"


@dataclass(frozen=True, slots=True)
class Duties:
    """The cells of one power boundary; those of different ones are not compared."""

    boundary: str
    cells: tuple[Duty, ...]


def duty_cycles(table: Sequence[Row]) -> list[Duties]:
    """One for each boundary within which idle power and net energy were measured, by the device's sensor or by a meter."""
    found: dict[str, list[Duty]] = {}
    for rows in ordered_cells(table):
        for prefix in ("", f"{METER}_"):
            idle, net = rows.get(f"{prefix}power_idle_w"), rows.get(f"{prefix}energy_net_j")
            if idle and net and idle.value is not None and net.value is not None:
                most = (row := rows.get("throughput_per_s")) and row.value
                duty = Duty(net.cell, idle.value, net.value, most and most * _SECONDS_PER_H)
                found.setdefault(net.boundary, []).append(duty)
    return [Duties(boundary, tuple(cells)) for boundary, cells in sorted(found.items())]
