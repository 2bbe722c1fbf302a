"""How a run shows itself: live bars on a terminal, plain lines with a heartbeat elsewhere."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from controller import durations
from controller.errors import printable
from controller.listener import label
from controller.session import Job

HEARTBEAT_S = 60.0


def choose() -> "Bars | Lines":
    """Give bars where stderr is a terminal, lines elsewhere."""
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()


class Bars:
    """One bar for the run, one line per device for what it is doing."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self._console = console
        self._bar = Progress(*columns, console=console)
        self._lines = Progress(TextColumn("{task.description}"), console=console)
        self._live = Live(Group(self._bar, self._lines), console=console, transient=True, refresh_per_second=4)
        self._total = self._bar.add_task("preparing", total=None, left="")
        self._left_s: Callable[[], float] = _none
        self._devices: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Tell how many launches there are to do, and about how long that takes."""
        self._left_s = left_s
        self._bar.update(self._total, description="launches", total=launches, left=_left(left_s))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(Text(printable(text), "dim"))

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Show what a device is doing."""
        del clock_s
        if device not in self._devices:
            self._devices[device] = self._lines.add_task(device)
        doing = escape(printable(f"{device}: {label(job) if job else ''} {phase}"))
        self._lines.update(self._devices[device], description=doing)

    def landed(self, job: Job, status: str) -> None:
        """Count a launch."""
        self._bar.update(self._total, advance=1, left=_left(self._left_s))
        if status != "valid":
            self.say(f"{job.cell.device}: {label(job)}: {status}")


class Lines:
    """A line for each launch that lands and each piece of news, and a heartbeat each minute without any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = self._last = time.monotonic()
        self._total = self._count = 0
        self._left_s: Callable[[], float] = _none
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._heart.join()

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Tell how many launches there are to do, and about how long that takes."""
        self._total, self._left_s = launches, left_s
        self.say(f"{launches} launches to do{_left(left_s, ', ')}")

    def say(self, text: str) -> None:
        """Print a line."""
        with self._lock:
            self._last = time.monotonic()
            sys.stderr.write(f"[{self._last - self._begin:6.1f} s] {printable(text)}\n")
            sys.stderr.flush()

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Phases are too many for lines; connecting and shipping are told."""
        del clock_s
        if job is None and phase != "wait":
            self.say(f"{device}: {phase}")

    def landed(self, job: Job, status: str) -> None:
        """Print that a launch landed."""
        self._count += 1
        self.say(f"{self._count}/{self._total} {job.cell.device}: {label(job)}: {status}{_left(self._left_s, ', ')}")

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            if time.monotonic() - self._last > HEARTBEAT_S:
                self.say(f"still running: {self._count}/{self._total} launches{_left(self._left_s, ', ')}")


def _none() -> float:
    return 0.0


def _left(left_s: Callable[[], float], before: str = "") -> str:
    """About how long the rest takes, nothing where nothing is left."""
    seconds = left_s()
    return f"{before}about {durations.shown(seconds)} left" if seconds >= 1.0 else ""
