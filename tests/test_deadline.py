"""Times as people write them, how long a run still takes, and where that is shown."""

from contextlib import suppress

import pytest
from device_commands import Command
from hypothesis import given
from hypothesis import strategies as st
from test_fleet import Bench, bench

from controller import durations
from controller.cli.progress import Lines
from controller.durations import parse, shown
from controller.estimate import Estimate

__all__ = ["bench"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("2h 30", 0), ("1.5h", 5400), ("", 0)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Hours, minutes and seconds in that order, each once; anything else is refused with what to write."""
    if seconds:
        assert parse(text) == seconds
    else:
        with pytest.raises(ValueError, match="write 90s, 15m, 2h or 1h30m"):
            parse(text)


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,30}[hms]", fullmatch=True))
def test_no_text_is_a_strange_duration(text: str) -> None:
    """Whatever is typed is refused or is more than nothing and at most a year."""
    with suppress(ValueError):
        assert 0 < parse(text) <= durations.LONGEST_S


def test_durations_are_shown() -> None:
    """To two figures or so."""
    assert [shown(seconds) for seconds in (0.4, 45, 720, 7500, 180000)] == ["0 s", "45 s", "12 min", "2 h 05 min", "2 d 02 h"]


def test_the_estimate_follows_what_was_measured_and_the_longest_lane() -> None:
    """It begins with the plan; a cell that was measured counts by the median of its launches."""
    estimate = Estimate({"a": 100.0, "b": 10.0})
    estimate.has_left("one", ["a", "a"])
    estimate.has_left("two", ["b"])
    assert 190 < estimate.left_s() <= 200
    for seconds in (7.0, 9.0, 1000.0):
        estimate.took("a", seconds)
    assert (estimate.launch_s("a"), estimate.launch_s("b")) == (9.0, 10.0)
    estimate.has_left("one", ["a"])
    assert 9 < estimate.left_s() <= 10
    estimate.has_left("one", [])
    estimate.has_left("two", [])
    assert estimate.left_s() == 0.0


def test_lines_tell_how_long_it_takes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """When the plan is known and with each launch; nothing once nothing is left."""
    left = [840.0]
    with Lines() as lines:
        lines.planned(2, lambda: left[0])
        lines.landed(bench.job(), "valid")
        left[0] = 0.0
        lines.landed(bench.job(), "valid")
    told = capsys.readouterr().err.splitlines()
    assert "2 launches to do, about 14 min left" in told[0]
    assert told[1].endswith("1/2 laptop: tiny fp32 onnxruntime: valid, about 14 min left")
    assert told[2].endswith("2/2 laptop: tiny fp32 onnxruntime: valid")


def test_a_deadline_that_is_none_is_refused(fleetmark: Command) -> None:
    """Before anything is made."""
    assert "write 90s, 15m, 2h or 1h30m" in fleetmark("run", "model.onnx", "--deadline", "soon", code=2).err
