"""Known vulnerabilities of all that is pinned, installed or shipped to devices; fails too where anything was not looked up.

pip-audit calls a package that its service does not know `skipped` and still ends well: a service that cannot be reached, or a version with
a local part such as torch's +cpu, would pass for a clean bill. So every package has to be in its answer, and a release with a published
vulnerability goes along, which has to be found.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from controller import environments

ROOT = Path(__file__).parent.parent
OURS = "fleetmark"
CANARY = ("jinja2", "2.10")  # PYSEC-2019-217
Package = tuple[str, str]  # name and version
MOST_REASONS = 5  # that are told
CLEAN, FOUND, UNAUDITED = range(3)


def main() -> int:
    """Audit; 0 for nothing known, 1 for a known vulnerability, 2 where something could not be looked up."""
    asked = packages()
    found = [answer for sheet in sheets([CANARY, *asked]) for answer in ask(sheet)]
    code, lines = verdict(asked, found)
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return code


def packages() -> list[Package]:
    """Give what constraints.txt pins, what is installed beside it, and the wheels that devices get."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    installed = ((one.name, one.version) for one in metadata.distributions())
    shipped = ((wheel.name, wheel.version) for one in environments.read() for wheel in one.wheels)
    every = {(_normal(name), version.partition("+")[0]) for name, version in (*pinned.items(), *installed, *shipped)}
    return sorted(one for one in every if one[0] != OURS)


def sheets(wanted: Iterable[Package]) -> list[list[Package]]:
    """Give lists that together hold every package; none has two versions of one, which pip-audit would refuse."""
    made: list[dict[str, str]] = []
    for name, version in dict.fromkeys(wanted):
        sheet = next((one for one in made if name not in one), None)
        if sheet is None:
            made.append(sheet := {})
        sheet[name] = version
    return [list(one.items()) for one in made]


def ask(sheet: Iterable[Package]) -> list[Mapping[str, Any]]:
    """Give what pip-audit says of each package, nothing where it fails; its own words go to stderr then."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in sheet))
        file.flush()
        options = ["--requirement", file.name, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.stderr.write(done.stderr)
        return []


def verdict(asked: Iterable[Package], found: Iterable[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Give the exit code and what to tell about answers: skipped or missing packages before vulnerabilities, for they hide some."""
    answers, wanted = list(found), list(asked)
    known = {(_normal(one["name"]), one.get("version")): one.get("vulns", []) for one in answers if "skip_reason" not in one}
    missing = [f"{name}=={version}" for name, version in wanted if (name, version) not in known]
    reasons = [one["skip_reason"] for one in answers if "skip_reason" in one]
    if not known.get(CANARY):
        mute = (
            f"{len(missing)} of {len(wanted)} packages were skipped, and of {'=='.join(CANARY)} no vulnerability is told, though it has one"
        )
        return UNAUDITED, [f"the vulnerability service does not answer, so nothing is audited: {mute}", *reasons[:MOST_REASONS]]
    if missing:
        return UNAUDITED, [f"{len(missing)} packages are not audited: {' '.join(missing)}", *reasons[:MOST_REASONS]]
    lines = [line for package, vulns in known.items() if package != CANARY for line in _told(package, vulns)]
    return (FOUND, lines) if lines else (CLEAN, [f"no known vulnerability in {len(known) - 1} packages"])


def _told(package: Package, vulns: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in vulns:
        yield f"{'=='.join(package)}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version'}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
