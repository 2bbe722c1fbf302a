"""Jobs of tests for engines, in a module that imports nothing heavy: each worker imports it anew."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.schema import FaultError


def double(number: int) -> int:
    """A job; 3 is at fault, 4 too large."""
    if number == 3:
        raise FaultError("bad_data", "three", "take another")
    if number == 4:
        raise MemoryError
    return 2 * number


def die_once(marker: Path) -> str:
    """A job whose process dies the first time that it runs."""
    if not marker.exists():
        marker.write_text("dead")
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die(_: int) -> int:
    """A job that kills whoever runs it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def linger(fifo: Path) -> None:
    """A job that starts a program which writes a byte to the pipe and holds it open; the next job would do so again."""
    with fifo.open("wb") as held:
        subprocess.run([sys.executable, "-c", "import time; print(flush=True); time.sleep(1000)"], stdout=held, check=False)
