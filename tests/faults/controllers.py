"""Faults of the controller, its clock and its store."""

import signal
import sqlite3
from collections.abc import Generator
from contextlib import closing

from faults.kinds import Missed, Scene, kind
from faults.limits import PATIENCE_S
from faults.links import LINK
from faults.machine import fill

ENDED = ("protocol", "crash", "cancelled", *LINK)  # of launches that the controller had noted and not started, or not followed to the end


def _running(scene: Scene) -> None:
    if not scene.controller.is_running():
        raise Missed


@kind("controller killed", *ENDED, is_shared=True)
def killed(scene: Scene) -> Generator[float]:
    """SIGKILL: nothing is given back."""
    _running(scene)
    scene.controller.signal(signal.SIGKILL)
    yield 0.0


@kind("controller interrupted", *ENDED, is_shared=True)
def interrupted(scene: Scene) -> Generator[float]:
    """Ctrl-C."""
    _running(scene)
    scene.controller.signal(signal.SIGINT)
    yield 0.0


@kind("controller asleep", *LINK, is_shared=True)
def asleep(scene: Scene) -> Generator[float]:
    """A laptop that is closed and opened again."""
    _running(scene)
    scene.controller.signal(signal.SIGSTOP)
    yield scene.stop_s()
    scene.controller.signal(signal.SIGCONT)


@kind("controller's clock an hour ahead", *LINK, is_shared=True)
def clock_ahead(scene: Scene) -> Generator[float]:
    """The wall clock jumps and stays so."""
    scene.controller.clock.write_text("3600")
    yield 0.0


@kind("controller's clock an hour back", *LINK, is_shared=True)
def clock_back(scene: Scene) -> Generator[float]:
    """The wall clock jumps and stays so."""
    scene.controller.clock.write_text("-3600")
    yield 0.0


@kind("store locked", *ENDED, is_shared=True)
def store_locked(scene: Scene) -> Generator[float]:
    """Another program holds the database."""
    scene.wait(scene.controller.store.exists)
    with closing(sqlite3.connect(scene.controller.store, timeout=5.0, isolation_level=None, check_same_thread=False)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            raise Missed from None
        yield 3 * PATIENCE_S
        other.execute("ROLLBACK")


@kind("store's disk full", *ENDED, is_shared=True)
def store_full(scene: Scene) -> Generator[float]:
    """Not a byte is left for results."""
    scene.wait(scene.controller.store.exists)
    fill(scene.controller.filler)
    yield 3 * PATIENCE_S
    scene.controller.filler.unlink(missing_ok=True)
