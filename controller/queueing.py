"""Waiting for a host that somebody else has. Asking costs the device a process, which the holder's numbers feel: it is asked seldom."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import tenacity

from agent.schema import FaultError
from controller import durations
from controller.remote import LeaseState

FIRST_S = 0.5
SELDOM_S = 60.0
RESUME = "fleetmark run --resume"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a run waits for devices: not at all unless `waits`, until `until_s` on the monotonic clock, or until `stopped`."""

    waits: bool = True
    until_s: float = math.inf
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def is_over(self) -> bool:
        """Whether waiting has to end."""
        return self.stopped.is_set() or time.monotonic() >= self.until_s

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until it is over."""
        self.stopped.wait(max(0.0, min(seconds, self.until_s - time.monotonic())))


def in_seconds(seconds: float | None) -> float:
    """Give the time so long from now, on the monotonic clock; never for None."""
    return math.inf if seconds is None else time.monotonic() + seconds


def wait(
    what: str, ask: Callable[[], LeaseState | None], patience: Patience, say: Callable[[str], None], seldom_s: float = SELDOM_S
) -> None:
    """Return once `ask` gives no holder any more; `say` hears of the first and of every other one, `what` being what is waited for.

    Raises FaultError `deadline` or `cancelled` where the patience is over before, and what `ask` raises.
    """
    told: list[str] = []

    def tell(state: tenacity.RetryCallState) -> None:
        holder = _holder(state)
        if holder.owner not in told[-1:]:
            told.append(holder.owner)
            say(f"{what}: waiting for {_name(holder)}, who has had it for {durations.shown(holder.age_s)}")

    def give_up(state: tenacity.RetryCallState) -> None:
        code, why = ("cancelled", "the run was ended") if patience.stopped.is_set() else ("deadline", "the run's deadline came")
        raise FaultError(code, f"{what}: {why} while it waited for {_name(_holder(state))}", RESUME, "lease")

    tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda holder: holder is not None),
        wait=tenacity.wait_exponential_jitter(multiplier=FIRST_S, max=seldom_s, jitter=FIRST_S),
        stop=lambda _: patience.is_over,
        sleep=patience.sleep,
        before_sleep=tell,
        retry_error_callback=give_up,
    )(ask)


def _holder(state: tenacity.RetryCallState) -> LeaseState:
    holder: LeaseState | None = state.outcome.result() if state.outcome else None
    return holder or LeaseState("", 0.0, running=False)


def _name(holder: LeaseState) -> str:
    return holder.owner or "somebody else"
