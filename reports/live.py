"""What the page's scripts need beside the table: how cells and figures are shown, and by what rules they are compared."""

from collections.abc import Sequence
from dataclasses import asdict

from agent.power import METER
from reports import format as fmt
from reports.comparison import TIE_FLOOR, is_twin, known_floors
from reports.duty_cycle import BATTERY_WH, duty_cycles
from reports.labels import sentence_name
from reports.metrics import ENERGIES, METRICS, PERCENTILES, headline
from reports.records import RunRecord
from reports.statistics import FEWEST_LAUNCHES
from reports.table import Row, by_cell


def live(run: RunRecord, table: Sequence[Row]) -> dict[str, object]:
    """A JSON-ready document; numbers are in it as `reports.format` shows them, so that scripts show none in another form.

    `cells` by id: `name` as sentences have it, `head` the metric it is ranked by, `twin` whether it is a second label. `shown` by cell
    and metric: value and interval. `floors` by device: the noise floor, a share. `duty_cycles` as of `reports.duty_cycle`.
    """
    cells = by_cell(table)
    wanted = {*PERCENTILES, *ENERGIES, *(f"{METER}_{energy}" for energy in ENERGIES), "accuracy_change_pp"}
    return {
        "cells": {cell: _cell(next(iter(metrics.values()))) for cell, metrics in cells.items()},
        "shown": {
            cell: {row.metric: _shown(row) for row in metrics.values() if row.metric in {*wanted, headline(row.workload)}}
            for cell, metrics in cells.items()
        },
        "metrics": {
            name: {"label": METRICS[name].label, "better": METRICS[name].better}
            for name in {**dict.fromkeys(ENERGIES), **{row.metric: None for row in table}}
        },
        "floors": {device: floor.share for device, floor in known_floors(run, table).items()},
        "tie_floor": TIE_FLOOR,
        "fewest_launches": FEWEST_LAUNCHES,
        "duty_cycles": [asdict(duties) for duties in duty_cycles(table)],
        "battery_wh": BATTERY_WH,
    }


def _cell(row: Row) -> dict[str, object]:
    return {"name": sentence_name(row), "head": headline(row.workload), "twin": is_twin(row)}


def _shown(row: Row) -> tuple[str, str]:
    return fmt.value(row.metric, row.value), fmt.interval(row.metric, row.value, row.low, row.high)
