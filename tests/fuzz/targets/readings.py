"""Readings of power: a CSV log that grows, and what a program prints. The first byte says which, then a column's name."""

from collections.abc import Iterator
from unittest import mock

from agent.sensors import MAX_POWER_W, PowerSensor, SensorError, command, csv_log
from agent.system import System
from fuzz import folder

DECLARED = (SensorError,)
WORDS = ("power", "mW", "W", "watt", '"', ",", ";", "1e999", "nan", "inf", "-1", "\ufeff", "²", "\0", "1_0")
FOLDER = folder()
LOG = FOLDER / "log.csv"


def seeds() -> Iterator[bytes]:
    """A log with a header, one whose column has to be named, and a number with its unit."""
    yield b"l\ntime,power (mW),voltage\n1,2500,5.1\n2,2600,5.1\n3,27"
    yield b'lb\n"a","b"\n1,"2.5"\n'
    yield b"c\n4.25 W\n"
    yield b"c\n2500 mW\n"


def one(data: bytes) -> None:
    """A reading is a power; what is none is said in one line."""
    head, _, rest = data.partition(b"\n")
    with mock.patch.object(command, "run", return_value=(rest, 0)):  # a program that is only said to have run
        _read(_log(head[1:], rest) if head[:1] == b"l" else command.Command(System("/"), {"command": ["meter"], "boundary": "board"}), rest)


def _log(column: bytes, content: bytes) -> csv_log.CsvLog:
    LOG.write_bytes(content)
    options = {"path": str(LOG), "boundary": "board", "column": column.decode("utf-8", "replace")}
    return csv_log.CsvLog(System("/"), options)


def _read(sensor: PowerSensor, content: bytes) -> None:
    found = sensor.probe()
    assert found.problem.isprintable()
    readings = [] if found.problem else sensor.read()
    if isinstance(sensor, csv_log.CsvLog) and not found.problem:
        with LOG.open("ab") as file:
            file.write(b"\n" + content[-40:] + b"\n")
        readings += sensor.read()
    assert all(0 <= reading.value < MAX_POWER_W and reading.rail in found.rails for reading in readings)
