"""Which device meets the budget: of the cells that keep every gate, the cheapest by price, or the fastest where prices are not known."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports import format as fmt
from reports.comparison import Floors, Judgement, judge, known_floors
from reports.gates import Judged, Ruling, rulings
from reports.labels import sentence_name
from reports.metrics import METRICS
from reports.records import Price, RunRecord
from reports.table import Row, heads
from reports.text import line


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gates of one selector come to for one model under one workload.

    `best` and `runner_up` are headline rows, with a value, of cells that keep every gate that means them; None where there is none.
    `price` is the best's where it was chosen by price; the runner-up is then of another device, where there is one. `judgement` is on the
    runner-up against the best. Of `judged` valid cells, `missing` fail a gate; emulated devices count only where the gates mean no
    others, then `emulated`. `sentence` is the whole in words, of which `details` are what follows the best cell.
    """

    selector: str
    model: str
    workload: str
    best: Row | None
    runner_up: Row | None
    price: Price | None
    judgement: Judgement | None
    judged: int
    missing: int
    emulated: bool
    details: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Gated:
    """A run before its gates: each gate's ruling in the gates' order, and for each selector, model and workload the answer."""

    rulings: tuple[Ruling, ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def failures(self) -> list[tuple[Ruling, Judged]]:
        """Every cell that breaks a gate, or lacks the number that it asks for, by gate."""
        return [(ruling, one) for ruling in self.rulings for one in ruling.failing]

    def failed_by(self, cell: str) -> list[str]:
        """The gates that a cell fails, as they are written."""
        return [ruling.gate.written for ruling, one in self.failures if one.row.cell == cell]

    def leading(self, model: str, workload: str, *, emulated: bool) -> Answer | None:
        """The answer that rests on most cells of a model under a workload, on real or on emulated devices; None where no gate means any."""
        found = [one for one in self.answers if (one.model, one.workload, one.emulated) == (model, workload, emulated)]
        return max(found, key=lambda one: one.judged, default=None)


def gated(run: RunRecord, table: Sequence[Row]) -> Gated:
    """The run's gates on its table."""
    found = tuple(rulings(run, table))
    by_cell: dict[str, list[Judged]] = {}
    for one in (one for ruling in found for one in ruling.cells):
        by_cell.setdefault(one.row.cell, []).append(one)
    groups = _groups(found, {head.cell: head for head in heads(table) if head.status == "valid"})
    several = len({key[1:] for key in groups}) > 1
    floors = known_floors(run, table)
    answers = [_answer(run, key, list(group.values()), by_cell, floors, several) for key, group in groups.items()]
    return Gated(found, tuple(answers))


def price(price: Price) -> str:
    """An amount with its currency, cents only where there are any: 60 USD, 59.90 USD."""
    return f"{price.amount:,.{2 if price.amount % 1 else 0}f} {line(price.currency, 20)}"


def _groups(found: Iterable[Ruling], valid: Mapping[str, Row]) -> dict[tuple[str, str, str], dict[str, Row]]:
    """By selector, model and workload: the headline rows of the valid cells that the gates mean."""
    groups: dict[tuple[str, str, str], dict[str, Row]] = {}
    for ruling in found:
        for head in (valid[one.row.cell] for one in ruling.cells if one.row.cell in valid):
            groups.setdefault((ruling.gate.selector, head.model, head.workload), {})[head.cell] = head
    return groups


def _answer(
    run: RunRecord,
    key: tuple[str, str, str],
    group: Sequence[Row],
    by_cell: Mapping[str, Sequence[Judged]],
    floors: Floors,
    several: bool,
) -> Answer:
    judged = [head for head in group if not head.emulated] or group
    kept = [head for head in judged if not any(one.fails for one in by_cell[head.cell])]
    able = [head for head in kept if head.value is not None]
    prices = _prices(run, able)
    ranked = sorted(able, key=lambda head: (prices[head.device].amount if prices else 0.0, _cost(head)))
    best = ranked[0] if ranked else None
    elsewhere = [head for head in ranked if best and prices and head.device != best.device]
    runner_up = next(iter(elsewhere or ranked[1:]), None)
    judgement = judge(runner_up, best, floors) if best and runner_up else None
    missing = len(judged) - len(kept)
    parts = [_unsure(by_cell[best.cell]) if best else "", _runner_up(runner_up, judgement, prices)]
    of_what = "valid cells" + (" of real devices" if len(judged) < len(group) else "")
    parts += [f"{missing} of {len(judged)} {of_what} {'fails' if missing == 1 else 'fail'} a gate."] if best and missing else []
    unranked = len(kept) - len(able)
    parts += (
        [f"{unranked} more {'keeps' if unranked == 1 else 'keep'} every gate without a number to rank by."] if best and unranked else []
    )
    priced = any(run.devices[head.device].price for head in able if head.device in run.devices)
    parts += ["Prices do not decide: not every such device has one in the same currency."] if priced and not prices else []
    details = tuple(part for part in parts if part)
    sentence = f"{line(', '.join(key if several else key[:1]))}: " + " ".join([_best(best, prices, kept), *details])
    cost = prices.get(best.device) if best else None
    return Answer(*key, best, runner_up, cost, judgement, len(judged), missing, bool(judged[0].emulated), details, sentence)


def _prices(run: RunRecord, heads: Sequence[Row]) -> Mapping[str, Price]:
    """The prices of the cells' devices; none unless all are known, in one currency."""
    devices = {head.device for head in heads}
    prices = {name: device.price for name, device in run.devices.items() if name in devices and device.price}
    whole = len(prices) == len(devices) and len({price.currency for price in prices.values()}) == 1
    return prices if whole else {}


def _cost(head: Row) -> float:
    """What cells are ranked by, less is better."""
    value = math.inf if head.value is None else head.value
    return value if METRICS[head.metric].better == "lower" else -value


def _best(best: Row | None, prices: Mapping[str, Price], kept: Sequence[Row]) -> str:
    if best is None:
        return "what keeps every gate has no number to rank by." if kept else "no valid cell keeps every gate."
    how = "cheapest" if prices else "fastest"
    return f"the {how} that keeps every gate is {_named(best, prices)}, {METRICS[best.metric].label} {_value(best)}."


def _unsure(judged: Iterable[Judged]) -> str:
    """The gates that the best keeps without that being resolved."""
    names = [line(one.gate.written) for one in judged if one.resolved is False]
    return f"That it keeps {' and '.join(names)} is not resolved: the interval reaches over the limit." if names else ""


def _runner_up(row: Row | None, found: Judgement | None, prices: Mapping[str, Price]) -> str:
    if row is None or found is None:
        return ""
    if found.comparison is None:
        difference = f"not comparable: {', '.join(found.reasons)}"
    else:
        ratio, low, high = (fmt.ratio(number) for number in (found.comparison.ratio, found.comparison.low, found.comparison.high))
        difference = f"{ratio} times as long ({low} to {high}), {'not resolved' if found.verdict == 'tied' else 'resolved'}"
    return f"Runner-up: {_named(row, prices)}, {_value(row)}; {difference}."


def _named(row: Row, prices: Mapping[str, Price]) -> str:
    return sentence_name(row) + (f" for {price(prices[row.device])}" if prices else "")


def _value(row: Row) -> str:
    span = fmt.interval(row.metric, row.value, row.low, row.high)
    return fmt.value(row.metric, row.value) + (f" ({span})" if span else "")
