"""One fuzzer in a process of its own: ``python -m fuzz.worker TARGET [FLAG OF LIBFUZZER...] FOLDER``, or a file, to see it fail again."""

import functools
import importlib
import resource
import sys
import time
from types import ModuleType
from typing import Any

import atheris

from agent.schema import REASONS, FaultError

INSTRUMENTED = ["agent", "backends", "compress", "controller", "http", "ruamel.yaml", "tarfile"]
MAX_CPU_S = 2.0
MAX_GROWTH_KB = 500 << 10
MAX_MESSAGE = 20_000


class TooMuchError(Exception):
    """An input took more time or memory than one of its size may."""


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    name, *flags = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz.targets.{name}")
    mutator: dict[str, Any] = {"custom_mutator": target.mutate} if hasattr(target, "mutate") else {}
    atheris.Setup([name, *flags], functools.partial(run, target), **mutator)
    atheris.Fuzz()


def run(target: ModuleType, data: bytes) -> bool:
    """Give an input to a target; tell whether it was accepted, not refused by a declared error. Raises whatever is a finding."""
    begin, memory_kb = time.process_time(), _peak_kb()
    accepted = True
    try:
        target.one(data)
    except target.DECLARED as error:
        accepted = False
        _check_told(error)
    used_s, grown_kb = time.process_time() - begin, _peak_kb() - memory_kb
    if used_s > MAX_CPU_S or grown_kb > MAX_GROWTH_KB:
        raise TooMuchError(f"{len(data)} bytes took {used_s:.1f} s of CPU time and {grown_kb >> 10} MiB")
    return accepted


def _check_told(error: Exception) -> None:
    """What a declared error tells has a bounded length, and a fault one of the known codes."""
    assert len(str(error)) <= MAX_MESSAGE, "a message without bounds"
    if isinstance(error, FaultError):
        assert error.fault.code in REASONS


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
