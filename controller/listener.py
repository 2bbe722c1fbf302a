"""Who is told how a run goes."""

from collections.abc import Callable
from typing import Protocol

from controller.context import LOG
from controller.session import Job

NEWS = LOG.getChild("run")


class Listener(Protocol):
    """Hears of a run; called from the lanes' threads."""

    def say(self, text: str) -> None:
        """Tell a line of news."""

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Tell what a device is doing, and for which job, if for one; `clock_s` is its monotonic time then, where it said so itself."""

    def landed(self, job: Job, status: str) -> None:
        """Tell that one launch of the plan is over (or will not come)."""


class Planned(Listener, Protocol):
    """Hears of the plan, too."""

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Tell how many launches there are to do; `left_s` gives about how many seconds that takes from when it is asked."""


class Listeners:
    """Passes on what is told to each of several."""

    def __init__(self, *each: Planned) -> None:
        self._each = each

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Tell how many launches there are to do."""
        for one in self._each:
            one.planned(launches, left_s)

    def say(self, text: str) -> None:
        """Tell a line of news."""
        for one in self._each:
            one.say(text)

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Tell what a device is doing."""
        for one in self._each:
            one.phase(device, phase, job, clock_s)

    def landed(self, job: Job, status: str) -> None:
        """Tell that a launch is over."""
        for one in self._each:
            one.landed(job, status)


class Logged:
    """Writes what is told to the log."""

    def planned(self, launches: int, left_s: Callable[[], float]) -> None:
        """Log how many launches there are to do."""
        NEWS.info("%d launches to do", launches, extra={"fields": {"launches": launches, "estimated_s": round(left_s(), 1)}})

    def say(self, text: str) -> None:
        """Log a line of news."""
        NEWS.info("%s", text)

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Log what a device is doing."""
        told = {"device": device, "phase": phase, "cell": job.id if job else "", "clock_s": "" if clock_s is None else clock_s}
        NEWS.info("%s: %s", device, f"{label(job)} {phase}" if job else phase, extra={"fields": told})

    def landed(self, job: Job, status: str) -> None:
        """Log that a launch is over."""
        told = {"device": job.cell.device, "cell": job.id, "status": status}
        NEWS.info("%s: %s: %s", job.cell.device, label(job), status, extra={"fields": told})


def label(job: Job) -> str:
    """Give a job's short name for people."""
    return f"{job.cell.model} {job.cell.variant} {job.cell.backend}"
