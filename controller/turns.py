"""Who measures on a host or a meter first, among the processes of this machine."""

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import IO

from agent.schema import FaultError
from controller import durations, queueing
from controller.laptop import cache_folder
from controller.queueing import Patience
from controller.remote import LeaseState

POLL_S = 1.0


@contextmanager
def turn(keys: Sequence[str], owner: str, patience: Patience, say: Callable[[str], None]) -> Generator[None]:
    """Have all of these for the block, such as "meter plug"; who waits takes them in one order, so that no two wait for each other.

    Raises FaultError `busy` naming who has one unless patience `waits`, `deadline` or `cancelled` where it is over before.
    """
    folder = cache_folder() / "turns"
    with contextlib.ExitStack() as stack:
        for key in sorted(set(keys)):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / hashlib.sha256(key.encode()).hexdigest()).open("a+"))
            _take(file, key, patience, say)
            file.truncate(0)
            file.write(json.dumps({"owner": owner, "since": time.time()}))
            file.flush()
        yield


def _take(file: IO[str], key: str, patience: Patience, say: Callable[[str], None]) -> None:
    def ask() -> LeaseState | None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
        return None

    holder = None if patience.waits else ask()
    if holder is not None:
        held = f"{holder.owner or 'somebody else'} has it, for {durations.shown(holder.age_s)} so far"
        raise FaultError("busy", f"{key}: {held}", "wait, or run without --no-wait", "lease")
    queueing.wait(key, ask, patience, say, POLL_S)


def _holder(file: IO[str]) -> LeaseState:
    """Whoever has it, as they wrote it; nobody's name while they are at it."""
    file.seek(0)
    try:
        written = json.loads(file.read())
        return LeaseState(str(written["owner"]), 0.0, running=True, age_s=max(0.0, time.time() - float(written["since"])))
    except (ValueError, KeyError, TypeError):
        return LeaseState("", 0.0, running=True)
