"""How long the controller waits for devices."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; what holds for boards on a lab's network, and what a test of faults makes shorter.

    A link that gives no sign of life for `keepalive_s + reply_s` is closed. One that is lost is made anew until it has been gone for
    `reconnect_s`.
    """

    begin_s: float = 60.0  # for a command to begin, its login shell included
    answer_s: float = 60.0  # for the agent to answer
    work_s: float = 600.0  # for the agent to answer where it reads or writes much first
    transfer_s: float = 60.0  # for a file, beside what its size takes
    keepalive_s: float = 30.0
    reply_s: float = 90.0
    reconnect_s: float = 60.0
    lease_s: float = 300.0
    kill_s: float = 5.0  # for a command to be killed
    close_s: float = 10.0  # for what is closed to be gone


DEFAULT = Timeouts()
