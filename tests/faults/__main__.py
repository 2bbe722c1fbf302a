"""``python -m faults [--first N] [--seeds N] [--kind NAME] [--boards] [-v]``: exits 1 if anything was lost, doubled or wrong.

FAULTS_SCALE lengthens every time-out: for emulated boards, whose programs start in seconds, and where others keep this machine busy.
"""

import argparse
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from faults import checks, controller
from faults.campaign import Campaign, Outcome, clock_library
from faults.kinds import KINDS, befalling


def main() -> int:
    """Run campaigns, and tell."""
    parser = argparse.ArgumentParser(prog="faults", description="Inject faults into real runs and see what becomes of them.")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: %(default)s)")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only this fault, or of several one after the other")
    parser.add_argument("--boards", action="store_true", help="on the emulated boards of `make lab`, with FAULTS_SCALE=4")
    parser.add_argument("--cache", type=Path, help="where prepared models are kept for the next time (default: nowhere)")
    parser.add_argument("--results", action="store_true", help="write the counts into benchmarks/RESULTS.md")
    parser.add_argument("-v", action="store_true", dest="verbose", help="show what happened when, also of campaigns without a problem")
    arguments = parser.parse_args()
    where = "board" if arguments.boards else "loopback"
    signal.signal(signal.SIGTERM, _end)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="fleetmark-faults-cache-") as folder:
        cache = arguments.cache or Path(folder)
        controller.begin(clock_library(cache))
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            only = arguments.kind[seed % len(arguments.kind)] if arguments.kind else ""
            outcome = Campaign(seed, cache, only, where).run()
            outcomes.append(outcome)
            tell(outcome, arguments.verbose)
    told = summary(outcomes, where)
    sys.stdout.write(f"{told}\n")
    if arguments.results:
        from benchmarks import results

        section, target = ("faults on emulated boards", "faults-boards") if arguments.boards else ("faults", "faults-long")
        first = f"Seeds from {arguments.first} on, by `make {target}`; how often each fault found what it was for:"
        results.write(section, results.describe(["paramiko", "sqlalchemy"]), f"{first}\n```\n{told}\n```")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _end(*_: object) -> None:
    sys.exit(1)  # which takes away what was mounted


def tell(outcome: Outcome, verbose: bool) -> None:
    """Write a campaign's line, and what happened in it where something was wrong."""
    found = outcome.evidence
    counts = f"{checks.measured(found)} measured, {checks.failed(found)} failed" if found else "nothing found"
    faults = ", ".join(outcome.hit) + (f" (missed: {', '.join(outcome.missed)})" if outcome.missed else "")
    sys.stdout.write(f"seed {outcome.seed}: {counts}, {outcome.seconds:.1f} s: {faults}\n")
    if outcome.problems or verbose:
        sys.stdout.write("\n".join([*outcome.timeline, *(f"  ! {line}" for line in outcome.problems)]) + "\n")
    if outcome.problems:
        sys.stdout.write(f"again: PYTHONPATH=tests python -m faults --first {outcome.seed} --seeds 1 -v\n")
    sys.stdout.flush()


def summary(outcomes: list[Outcome], where: str) -> str:
    """How often each fault befell a run, and what came of all of them."""
    hits = Counter(name for outcome in outcomes for name in outcome.hit)
    lines = [f"{hits[name]:5d} {name}" for name in sorted(kind.name for kind in befalling(where))]
    found = [outcome.evidence for outcome in outcomes if outcome.evidence]
    told = {word: sum(line.startswith(word) for outcome in outcomes for line in outcome.problems) for word in ("lost", "doubled", "wrong")}
    launches = f"{sum(map(checks.measured, found))} launches measured, {sum(map(checks.failed, found))} failed with their true reason"
    return "\n".join([*lines, f"{len(outcomes)} campaigns: {launches}, {', '.join(f'{count} {word}' for word, count in told.items())}"])


if __name__ == "__main__":
    sys.exit(main())
