"""How many links to devices are open at once: a lane whose launch runs closes its own where others wait for one."""

import threading

MAX_OPEN = 64


class Links:
    """At most `limit` open links; whoever holds one must not wait for another."""

    def __init__(self, limit: int = MAX_OPEN) -> None:
        self.limit = limit
        self._room = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._waiting = 0

    def take(self) -> None:
        """Wait until a link may be opened."""
        with self._lock:
            self._waiting += 1
        try:
            self._room.acquire()  # not a block: `give_back` releases it, once the link is closed
        finally:
            with self._lock:
                self._waiting -= 1

    def give_back(self) -> None:
        """Let somebody else open one."""
        self._room.release()

    @property
    def are_wanted(self) -> bool:
        """Whether somebody waits."""
        return self._waiting > 0
