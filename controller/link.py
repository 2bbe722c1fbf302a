"""The link to one device during a run, and the lease on its host: each made anew when it is lost."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import tenacity

from agent.lease import MAX_TTL_S
from agent.schema import FaultError
from controller import durations, queueing
from controller.context import LOG
from controller.inventory import Device
from controller.links import Links
from controller.queueing import Patience
from controller.remote import LeaseState, Remote
from controller.retries import PAUSE, Outage, is_passing
from controller.timeouts import Timeouts
from controller.visit import open_remote

T = TypeVar("T")


def _ignore() -> None:
    pass


@dataclass(slots=True)
class Link:
    """One device's agent, over as many connections as it takes; `on_queue` hears when somebody else has the host.

    For one thread at a time but for `give_up`. Every method raises FaultError.
    """

    device: Device
    owner: str
    timeouts: Timeouts
    say: Callable[[str], None]
    patience: Patience = field(default_factory=lambda: Patience(waits=False))
    links: Links = field(default_factory=Links)
    on_queue: Callable[[], None] = _ignore
    queued_s: float = 0.0  # how long it waited for hosts, altogether
    is_ended: bool = False  # a lost link is not made anew any more
    remote: Remote | None = None
    _holds: bool = False
    _held_until_s: float = 0.0  # on the monotonic clock

    def open(self) -> int:
        """Connect and put the agent there; give the bytes shipped. A device out of reach is tried again if the run waits for devices."""
        if self.patience.waits:
            return self.exchange(lambda remote: remote.deploy())
        return self._connected().deploy()

    def exchange(self, exchange: Callable[[Remote], T]) -> T:
        """The exchange's result; it must be one that may be made twice. A lost link is made anew, with growing pauses."""
        gone = Outage(self.timeouts.reconnect_s)
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_passing),
            stop=lambda state: self.is_ended or gone.is_over(state.outcome),
            wait=PAUSE,
            sleep=self.patience.sleep,
            before_sleep=self._lost,
            reraise=True,
        ):
            with attempt:
                return exchange(self._connected())
        raise AssertionError("unreachable: tenacity raises or returns")

    def hold(self, beyond_s: float = 0.0) -> None:
        """Take or renew the host's lease for `beyond_s` more than its usual time.

        Whoever else has it is waited for, without a link; where the run does not wait, `busy` names them.
        """
        ttl_s = min(self.timeouts.lease_s + beyond_s, MAX_TTL_S)

        def acquire(remote: Remote) -> LeaseState | None:
            try:
                remote.acquire(self.owner, ttl_s)
            except FaultError as error:
                if error.fault.code != "busy" or not self.patience.waits:
                    raise
                return remote.lease()
            return None

        def ask() -> LeaseState | None:
            holder = self.exchange(acquire)
            if holder is not None:
                self.on_queue()
                self.drop()
            return holder

        begun_s = time.monotonic()
        queueing.wait(self.device.name, ask, self.patience, self.say)
        self.queued_s += time.monotonic() - begun_s
        self._holds, self._held_until_s = True, time.monotonic() + ttl_s

    def keep(self, beyond_s: float) -> None:
        """Renew the lease if it would not outlast so many seconds, or would outlast them by far."""
        left_s = self._held_until_s - time.monotonic() - beyond_s
        if not self.timeouts.lease_s / 2 <= left_s <= 2 * self.timeouts.lease_s:
            self.hold(beyond_s)

    def rest(self, seconds: float) -> None:
        """Where somebody waits for a link, close this one for so long."""
        if self.links.are_wanted:
            self.drop()
            self.patience.stopped.wait(seconds)

    def close(self) -> None:
        """Give the lease back and hang up."""
        if self._holds or self.remote is not None:
            try:
                self._connected().release(self.owner)
            except FaultError as error:
                self.say(f"{self.device.name}: the lease stays until it expires ({error})")
        self.abandon()

    def abandon(self) -> None:
        """Hang up without a word to the device."""
        self._holds = False
        self.drop()

    def give_up(self) -> None:
        """End what the device is being asked, from another thread: that raises `link_lost`, and what runs there goes on."""
        self.is_ended = True
        remote = self.remote
        if remote is not None:
            remote.give_up()

    def drop(self) -> None:
        """Close the link; the next exchange opens another."""
        if self.remote is not None:
            remote, self.remote = self.remote, None
            try:
                remote.close()
            finally:
                self.links.give_back()

    def _connected(self) -> Remote:
        if self.remote is None:
            self.links.take()
            try:
                self.remote = open_remote(self.device, self.timeouts)
            except BaseException:
                self.links.give_back()
                raise
        return self.remote

    def _lost(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        pause_s = state.next_action.sleep if state.next_action else 0.0
        code = error.fault.code if isinstance(error, FaultError) else ""
        told = {"code": code, "attempt": state.attempt_number, "pause_s": round(pause_s, 3)}
        LOG.warning("%s: %s; it is tried again", self.device.name, error, extra={"fields": {"device": self.device.name, **told}})
        if state.attempt_number == 1:
            self.say(f"{self.device.name}: {error}; it is tried again for {durations.shown(self.timeouts.reconnect_s)}")
        self.drop()
