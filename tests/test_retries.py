"""For how long what fails is tried again."""

from collections.abc import Callable

import pytest
import tenacity

from agent.schema import FaultError
from controller import retries
from controller.retries import Outage

FOLLOWER_S = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that outages see."""
    now = [0.0]
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def failed(code: str) -> tenacity.Future:
    outcome = tenacity.Future(1)
    outcome.set_exception(FaultError(code, "", ""))
    return outcome


def test_an_answer_that_never_came_is_asked_for_again(clock: Callable[[float], None]) -> None:
    """Waiting for it takes as long as a link may be gone: the outage begins where that wait ends, and then has its whole time."""
    outage = Outage(60.0)
    clock(60.1)
    assert not outage.is_over(failed("timeout"))
    clock(120.0)
    assert not outage.is_over(failed("unreachable"))
    clock(120.2)
    assert outage.is_over(failed("unreachable"))


def test_a_link_that_had_held_for_long_begins_anew(clock: Callable[[float], None]) -> None:
    """A follower that was cut, came back and was cut again after a long while has the whole time again; a short one has not."""
    outage = Outage(60.0)
    clock(1.0)
    assert not outage.is_over(failed("link_lost"))
    clock(FOLLOWER_S)
    assert not outage.is_over(failed("link_lost"))
    clock(FOLLOWER_S + 59.0)
    assert not outage.is_over(failed("link_lost"))
    clock(FOLLOWER_S + 61.0)
    assert outage.is_over(failed("link_lost"))
