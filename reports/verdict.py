"""The answer of a run: which valid cell is fastest, which are as fast, and whether the differences are resolved.

METHOD.md, rules 1, 11 and 13: a difference whose interval includes 1 or that is below the floor is a tie, an emulated device is never
ranked against real hardware, and what another program measured is not ranked at all.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.schema import STATUSES
from reports import format as fmt
from reports.cheapest import Gated, gated
from reports.comparison import TIE_FLOOR, Floors, is_twin, judge, known_floors
from reports.foreign import protocol_of
from reports.labels import sentence_name
from reports.metrics import METRICS
from reports.records import RunRecord
from reports.statistics import FEWEST_LAUNCHES, Comparison
from reports.table import Row, by_cell, heads

NOTHING_VALID = "No cell is valid, so there is nothing to rank: the failures say why, and what to do."
NOTHING_OURS = "No cell was measured by fleetmark; what other programs measured is shown, and never ranked."
NOTHING_MEASURED = "The run has no cell."
NOTHING_RANKED = "No valid cell has samples enough for the number it is ranked by: measure longer, for example with --profile standard."


@dataclass(frozen=True, slots=True)
class Standing:
    """A ranked cell by its headline row. `relation` to the best is best, tied, slower or not comparable.

    `comparison` is how many times as long it takes; one that is resolved to be shorter, against the pooled values, is tied too. `floor` is
    the share below which effects are ties, `reasons` are why it is not comparable.
    """

    row: Row
    relation: str
    comparison: Comparison | None = None
    floor: float = TIE_FLOOR
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """The ranking of one model under one workload, best first, of real devices or of emulated ones.

    `faithful` is the best cell whose accuracy shows no resolved loss against the reference, where that is another than the best.
    """

    model: str
    workload: str
    emulated: bool
    standings: tuple[Standing, ...]
    faithful: Standing | None
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts` of cells by status in METHOD.md's order, and one finding per model, workload and kind of device that has valid cells.

    `gated` is what the run's gates come to, where it has any. `foreign` tells whether there are cells that another program measured.
    """

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    gated: Gated
    foreign: bool = False

    def sentences(self) -> list[str]:
        """The verdict in words, what meets the budget first, each finding with its model and workload in front where there are several."""
        answers = [answer.sentence for answer in self.gated.answers]
        if not self.findings:
            return [*answers, self._nothing()]
        several = len(self.findings) > 1
        return answers + [
            (f"{one.model}, {one.workload}: " if several and at == 0 else "") + sentence
            for one in self.findings
            for at, sentence in enumerate(one.sentences)
        ]

    def _nothing(self) -> str:
        """Why there is no finding."""
        if self.counts:
            return NOTHING_RANKED if "valid" in self.counts else NOTHING_VALID
        return NOTHING_OURS if self.foreign else NOTHING_MEASURED


def verdict(run: RunRecord, table: Sequence[Row]) -> Verdict:
    """The verdict on a run from its table."""
    statuses = Counter(record.status for record in run.cells if not protocol_of(record.cell))
    cells = by_cell(table)
    groups: dict[tuple[bool, str, str], list[Row]] = {}
    for head in heads(table):
        if head.status == "valid" and head.value is not None and not is_twin(head) and not head.protocol:
            groups.setdefault((bool(head.emulated), head.model, head.workload), []).append(head)
    floors = known_floors(run, table)
    findings = [_finding(group, cells, floors) for _, group in sorted(groups.items(), key=lambda item: item[0][0])]
    counts = {status: statuses[status] for status in STATUSES if statuses[status]}
    return Verdict(counts, tuple(findings), gated(run, table), foreign=statuses.total() < len(run.cells))


def _finding(group: Sequence[Row], cells: Mapping[str, Mapping[str, Row]], floors: Floors) -> Finding:
    lower = METRICS[group[0].metric].better == "lower"
    ranked = sorted(group, key=lambda row: (row.value or 0.0) * (1 if lower else -1))
    best = ranked[0]
    standings = [Standing(best, "best"), *(_standing(row, best, floors) for row in ranked[1:])]
    faithful = next((one for one in standings if _keeps_accuracy(cells[one.row.cell])), None)
    faithful = None if faithful is standings[0] else faithful
    sentences = [_answer(best), _rivals(standings), _accuracy(cells[best.cell]), _faithful(faithful)]
    kept = tuple(sentence for sentence in sentences if sentence)
    return Finding(best.model, best.workload, bool(best.emulated), tuple(standings), faithful, kept)


def _standing(row: Row, best: Row, floors: Floors) -> Standing:
    judged = judge(row, best, floors)
    return Standing(row, "tied" if judged.verdict == "faster" else judged.verdict, judged.comparison, judged.floor, judged.reasons)


def _keeps_accuracy(metrics: Mapping[str, Row]) -> bool:
    """Whether no loss of accuracy is resolved: the interval of the change reaches zero, or it is the reference itself."""
    change = metrics.get("accuracy_change_pp")
    return change is not None and change.value is not None and (change.high is None or change.high >= 0)


def _answer(best: Row) -> str:
    span = fmt.interval(best.metric, best.value, best.low, best.high)
    how = f"95 % interval {span}" if span else f"no interval: fewer than {FEWEST_LAUNCHES} launches"
    place = "is the fastest valid cell" + (" of the emulated devices, never ranked against hardware" if best.emulated else "")
    return f"{sentence_name(best)} {place}: {METRICS[best.metric].label} {fmt.value(best.metric, best.value)} ({how})."


def _rivals(standings: Sequence[Standing]) -> str:
    """What is as fast, and the first that is resolved to be slower."""
    if len(standings) == 1:
        return "No other valid cell to compare it with."
    tied = [one for one in standings if one.relation == "tied"]
    slower = next((one for one in standings if one.relation == "slower"), None)
    if tied:
        names = ", ".join(sentence_name(one.row) for one in tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
        level = f"Tied with {names}: no difference above {100 * max(one.floor for one in tied):.2g} % is resolved."
        return level + (f" The first resolved one: {_behind(slower)}." if slower else "")
    runner_up = standings[1]
    if runner_up.reasons == ("n too small",):
        return f"Runner-up: {_behind(runner_up)}; not resolved, with fewer than {FEWEST_LAUNCHES} launches there is no interval."
    if runner_up.comparison is None:
        return f"Runner-up: {_behind(runner_up)}; not comparable: {', '.join(runner_up.reasons)}."
    return f"Runner-up: {_behind(runner_up)}: resolved."


def _behind(standing: Standing) -> str:
    row, found = standing.row, standing.comparison
    times = f", {fmt.ratio(found.ratio)} times as long ({fmt.ratio(found.low)} to {fmt.ratio(found.high)})" if found else ""
    return f"{sentence_name(row)}, {fmt.value(row.metric, row.value)}{times}"


def _accuracy(metrics: Mapping[str, Row]) -> str:
    change = metrics.get("accuracy_change_pp")
    if change is None or change.value is None or change.low is None:
        return ""
    loss = "a resolved loss" if (change.high or 0) < 0 else "a resolved gain" if change.low > 0 else "no loss is resolved"
    span = fmt.interval(change.metric, change.value, change.low, change.high)
    return f"Its accuracy changes by {fmt.value(change.metric, change.value)} against fp32 ({span}): {loss}."


def _faithful(standing: Standing | None) -> str:
    if standing is None:
        return ""
    row = standing.row
    return f"Fastest without a resolved loss of accuracy: {sentence_name(row)}, {fmt.value(row.metric, row.value)}."
