"""The command line `fleetmark` with short time-outs and launches, in a process that is forked for it.

Nothing else differs, but that devices have the runtime already, and that `run` ends without a report, which takes seconds.
"""

import faulthandler
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller import database, timeouts
from faults.limits import DEADLINE_S, PATIENCE_S, TIMEOUTS

timeouts.DEFAULT = TIMEOUTS  # before anybody takes it for a default of their own
database.PATIENCE_S = PATIENCE_S

from controller import gates, profiles, provision  # noqa: E402 - the same
from controller.cli import run as running  # noqa: E402
from controller.cli.__main__ import main  # noqa: E402
from controller.profiles import Profile  # noqa: E402
from controller.provision import Choice  # noqa: E402
from reports.records import RunRecord  # noqa: E402


def _choose(*_: object) -> Choice:
    return Choice("", None)


def _exit_code(record: RunRecord, _: Path, __: Any) -> int:
    return gates.exit_code(record, 0)


for module in ("controller.history", "reports.page"):  # once for all processes
    importlib.import_module(module)
provision.choose = _choose
running._show = _exit_code  # pyright: ignore[reportPrivateUsage] - all that comes after a run
profiles.PROFILES["quick"] = Profile("quick", 2, 0.1, 20, 0.01, 2, 0.05, DEADLINE_S, profiled_inferences=0, reads_meters=False)


def run(words: Sequence[str], folder: str, log: str, environ: Mapping[str, str]) -> None:
    """Be `fleetmark` with these words, in a folder, its output added to a log."""
    os.chdir(folder)
    os.environ.update(environ)
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(out, descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["fleetmark", *words]
    sys.exit(main())
