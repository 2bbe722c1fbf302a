"""The log, and what a thread is at: the run, device, cell and launch that the log's lines and the trace's slices are of."""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

LOG = logging.getLogger("fleetmark")  # `extra={"fields": {...}}` are a line's further fields
LOG.addHandler(logging.NullHandler())  # --log-file adds the other; without it the log goes nowhere
LOG.propagate = False
_IDS: ContextVar[Mapping[str, str] | None] = ContextVar("ids", default=None)


def ids() -> Mapping[str, str]:
    """Give the ids by kind: any of run, device, cell and launch."""
    return _IDS.get() or {}


@contextmanager
def at(**more: str) -> Generator[None]:
    """Be at these too, in this thread, until the block ends."""
    token = _IDS.set({**ids(), **more})
    try:
        yield
    finally:
        _IDS.reset(token)
