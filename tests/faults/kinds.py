"""The kinds of fault. Each is a generator that does it, says for how long it lasts, and undoes it."""

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from agent.schema import REASONS
from faults.board import Board
from faults.controller import Controller
from faults.device import Device
from faults.limits import SCALE, STOP_S
from faults.machine import Machine

PATIENCE_S = 15.0 * SCALE
POLL_S = 0.005
T = TypeVar("T")


class Missed(Exception):  # noqa: N818 - no error
    """What a fault was meant for did not come, or is not there any more."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault may touch."""

    device: Machine
    controller: Controller
    rng: random.Random

    @property
    def loopback(self) -> Device:
        """The device of a fault that befalls loopback devices alone."""
        assert isinstance(self.device, Device)
        return self.device

    @property
    def board(self) -> Board:
        """The device of a fault that befalls emulated boards alone."""
        assert isinstance(self.device, Board)
        return self.device

    def wait(self, question: Callable[[], T]) -> T:
        """The first true answer; raises Missed where none comes."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self.controller.goes_on:
            try:
                if found := question():
                    return found
            except OSError:  # what it looks at comes and goes
                pass
            time.sleep(POLL_S)
        raise Missed

    def stop_s(self) -> float:
        """Three times what the controller waits for a sign of life."""
        return STOP_S


class Kind(NamedTuple):
    """A fault: `reasons` are those that launches and cells may truly have for it, on every device if it `is_shared`.

    `prepare` is done to the device before the run begins; an `is_early` one does not wait for a moment, but for what it is meant for.
    One with `where` befalls only such devices: loopback or board.
    """

    name: str
    reasons: frozenset[str]
    do: Callable[[Scene], Generator[float]]
    is_shared: bool = False
    prepare: Callable[[Machine], None] | None = None
    is_early: bool = False
    where: str = ""


KINDS: dict[str, Kind] = {}


def befalling(where: str) -> list[Kind]:
    """The faults that befall loopback devices, or boards."""
    return [kind for kind in KINDS.values() if kind.where in ("", where)]


def kind(
    name: str,
    *reasons: str,
    is_shared: bool = False,
    prepare: Callable[[Machine], None] | None = None,
    is_early: bool = False,
    where: str = "",
) -> Callable[[Callable[[Scene], Generator[float]]], Callable[[Scene], Generator[float]]]:
    """Register a fault."""
    assert set(reasons) <= set(REASONS), name

    def register(do: Callable[[Scene], Generator[float]]) -> Callable[[Scene], Generator[float]]:
        assert name not in KINDS
        KINDS[name] = Kind(name, frozenset(reasons), do, is_shared, prepare, is_early, where)
        return do

    return register
