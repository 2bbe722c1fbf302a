"""``python -m fuzz [TARGET...] [--seconds N] [--jobs N] [--results]``: exits 1 if there is a finding."""

import argparse
import sys

from . import TARGETS, campaign


def main() -> int:
    """Fuzz, and tell."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz what reads hostile input.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; none given: all")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where chance begins (default: elsewhere each time)")
    parser.add_argument("--results", action="store_true", help="write the table into benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.targets) - set(TARGETS))
    if unknown:
        parser.error(f"no target is called {', '.join(unknown)}")
    outcomes = campaign.run(arguments.targets or TARGETS, arguments.seconds, arguments.jobs, arguments.seed)
    sys.stdout.write(campaign.table(outcomes) + "\n")
    bad = [one for one in outcomes if one.failed]
    for one in bad:
        again = f"python -m fuzz.worker {one.target} {next(iter(one.findings), '')}"
        sys.stderr.write(f"{one.target}: see {one.log}; again: {again}\n")
    if arguments.results:
        from benchmarks import results

        machine = results.describe(["atheris", "pydantic", "ruamel.yaml"])
        results.write("fuzzing", machine, f"{campaign.table(outcomes)}\n\n{arguments.seconds} s of each target, by `make fuzz-long`.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
