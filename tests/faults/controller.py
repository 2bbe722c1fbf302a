"""The controller under test: one process after the other of the real command line, with a results folder that is a small disk."""

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from faults.machine import mount, unmount

FORKS = multiprocessing.get_context("forkserver")  # each controller is a process of its own; what it imports is imported once


def begin(clock_library: Path) -> None:
    """Start the process that controllers are forked from, with a clock that can jump."""
    FORKS.set_forkserver_preload(["faults.short_controller"])
    os.environ["LD_PRELOAD"] = str(clock_library)
    ensure_running()
    del os.environ["LD_PRELOAD"]


def _be(words: Sequence[str], folder: str, log: str, environ: Mapping[str, str]) -> None:
    from faults import short_controller  # changes what it imports: in the controllers' processes alone

    short_controller.run(words, folder, log, environ)


class Controller:
    """Runs `fleetmark` in `folder`; `log` is what all of its processes have said."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.log = folder / "controller.log"
        self.clock = folder / "clock"
        self.results.mkdir(parents=True)
        mount(self.results)
        self.clock.write_text("0")
        self._environ = {"FLEETMARK_CACHE": str(cache), "NO_COLOR": "1", "COLUMNS": "200", "FAULTS_CLOCK": str(self.clock)}
        self.process: ForkServerProcess | None = None
        self.goes_on = True  # whether there are more processes to come, or one is at work

    def start(self, *words: str) -> None:
        """Begin a command; the one before has ended."""
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(words)}\n")
        self.process = FORKS.Process(target=_be, args=(words, str(self.folder), str(self.log), self._environ))
        self.process.start()

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, None for one that does not end; it is killed."""
        assert self.process
        self.process.join(timeout_s)
        if self.process.exitcode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGABRT)  # Python says where it was
            self.process.join()
            return None
        return self.process.exitcode

    def is_running(self) -> bool:
        """Whether a command is at work."""
        return self.process is not None and self.process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal, if it runs."""
        if self.process is not None and self.process.pid and self.process.is_alive():
            os.kill(self.process.pid, number)

    @property
    def store(self) -> Path:
        """The database's file."""
        return self.results / "fleetmark.db"

    @property
    def filler(self) -> Path:
        """A file that fills the results' disk."""
        return self.results / "filler"

    def close(self) -> None:
        """End everything."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.join()
        unmount(self.results)
