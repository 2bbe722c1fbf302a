"""Fuzzers: what comes from devices, people's files and other programs, mutated under the eyes of a coverage counter (atheris, libFuzzer).

A target is a module of `fuzz.targets` with `seeds()`, inputs that are as they should be; `DECLARED`, the errors that its input may raise;
and `one(data)`, which reads an input and asserts what must hold of what was read. It may have WORDS, which stand in such inputs, and a
`mutate` that keeps their form. Any other error, more than 2 s or more than 500 MB is a finding: `make fuzz`, `make fuzz-long`.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

TARGETS = tuple(sorted(path.stem for path in Path(__file__).with_name("targets").glob("[a-z]*.py")))


def folder() -> Path:
    """A new folder for a target's files, which goes when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="fleetmark-fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
