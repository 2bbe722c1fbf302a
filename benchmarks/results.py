"""Writes RESULTS.md: one section a benchmark, with the date, the machine and the versions that it was measured with."""

import datetime
import os
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from agent.cache import Cache
from agent.probe import probe

PATH = Path(__file__).with_name("RESULTS.md")
TITLE = "# Results\n\nWritten by `make bench`; each section tells when, where and with what it was measured.\n"


def describe(packages: Sequence[str]) -> str:
    """Give today's date, this machine, its load now, and the versions of `packages`."""
    with tempfile.TemporaryDirectory() as folder:
        here = probe(Cache(folder), "/", None)
    machine = f"{here.cpu_model}, {here.cpu_count} cores, {here.memory_bytes / 2**30:.1f} GiB, {here.os}, Python {here.python}"
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{datetime.datetime.now().astimezone():%Y-%m-%d}. {machine}; load average {os.getloadavg()[0]:.2f} before. {versions}."


def write(name: str, machine: str, text: str, path: Path = PATH) -> None:
    """Put the section called `name` into the file, in place of the one that is there."""
    old = path.read_text(encoding="utf-8") if path.exists() else TITLE
    section = f"\n## {name}\n{machine}\n\n{text}\n"
    found = re.search(rf"\n## {re.escape(name)}\n.*?(?=\n## |\Z)", old, re.DOTALL)
    new = old[: found.start()] + section + old[found.end() :] if found else old + section
    path.write_text(new, encoding="utf-8")
