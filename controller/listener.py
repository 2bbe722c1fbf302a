"""Who is told how a run goes."""

from typing import Protocol

from controller.session import Job


class Listener(Protocol):
    """Hears of a run; called from the lanes' threads."""

    def say(self, text: str) -> None:
        """Tell a line of news."""

    def phase(self, device: str, phase: str, job: Job | None = None, clock_s: float | None = None) -> None:
        """Tell what a device is doing, and for which job, if for one; `clock_s` is its monotonic time then, where it said so itself."""

    def landed(self, job: Job, status: str) -> None:
        """Tell that one launch of the plan is over (or will not come)."""


def label(job: Job) -> str:
    """Give a job's short name for people."""
    return f"{job.cell.model} {job.cell.variant} {job.cell.backend}"
