"""--log-file: JSON lines with their ids, secrets redacted, and nothing that goes wrong with the file harms the command."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import context, log_file
from controller.context import LOG
from controller.errors import FleetmarkError
from controller.log_file import LogFile
from controller.redaction import REDACTOR

FLEETMARK = Path(sys.executable).with_name("fleetmark")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def log(tmp_path: Path, told: list[str]) -> Iterator[Path]:
    """A log file that is attached."""
    path = tmp_path / "log.jsonl"
    yield from _attached(LogFile(path, told.append), path)


def _attached(handler: LogFile, path: Path) -> Iterator[Path]:
    log_file.set_level("info")
    log_file.attach(handler)
    yield path
    for logger in (LOG, log_file.PARAMIKO):
        logger.removeHandler(handler)
    handler.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fleetmark(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FLEETMARK, *words], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


def test_a_line_has_its_time_level_module_message_and_ids(log: Path) -> None:
    """One object: ISO time in UTC to the millisecond, level, logger, message, the thread's ids and the record's fields."""
    with context.at(run="r1", device="pi"), context.at(cell="c1", launch="l1"):
        LOG.warning("%s is away", "pi", extra={"fields": {"code": "link_lost", "attempt": 2}})
    LOG.getChild("cli").info("bye")
    first, second = lines(log)
    assert first.pop("time")[10] == "T"
    assert first == {
        "level": "warning",
        "logger": "fleetmark.test_log_file",
        "message": "pi is away",
        "run": "r1",
        "device": "pi",
        "cell": "c1",
        "launch": "l1",
        "code": "link_lost",
        "attempt": 2,
    }
    assert len(second["time"]) == len("2026-01-01T00:00:00.000Z")
    assert second["time"].endswith("Z")
    assert {key: second[key] for key in second if key != "time"} == {"level": "info", "logger": "fleetmark.cli", "message": "bye"}


def test_it_is_appended_to_and_for_its_owner_only(tmp_path: Path) -> None:
    """The file is made 0600 whatever the umask; a second command goes on in it."""
    before = os.umask(0)
    try:
        for _ in range(2):
            for _ in _attached(LogFile(tmp_path / "log", print), tmp_path / "log"):
                LOG.info("once")
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert [line["message"] for line in lines(tmp_path / "log")] == ["once", "once"]


def test_secrets_are_redacted_in_every_part(log: Path) -> None:
    """A secret that has been learned is in no part of a line: not in the message, a field, nor a traceback."""
    REDACTOR.learn("hunter2-hunter2")
    try:
        raise ValueError("hunter2-hunter2")
    except ValueError:
        LOG.exception("password %s", "hunter2-hunter2", extra={"fields": {"url": "https://me:hunter2-hunter2@there"}})
    (line,) = lines(log)
    assert "hunter2" not in json.dumps(line)
    assert "ValueError" in line["traceback"]


@given(st.text(st.characters()))
def test_any_text_is_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Newlines, control characters and halves of characters leave one line, from which the text comes back."""
    path = tmp_path_factory.mktemp("log") / "log"
    for _ in _attached(LogFile(path, print), path):
        LOG.info("%s", text, extra={"fields": {"text": text}})
    assert path.read_bytes().count(b"\n") == 1
    assert json.loads(path.read_text())["message"] == REDACTOR.redact(text)


def test_a_full_disk_is_told_once_and_harms_nothing(told: list[str]) -> None:
    """What cannot be written is lost; the first time is told."""
    for _ in _attached(LogFile(Path("/dev/full"), told.append), Path("/dev/full")):
        LOG.info("one")
        LOG.info("two")
    assert told == ["the log /dev/full is not complete: No space left on device"]


def test_a_closed_file_and_a_broken_record_harm_nothing(tmp_path: Path, told: list[str]) -> None:
    """Neither a descriptor that is gone nor a message that does not fit its arguments reaches who logs."""
    handler = LogFile(tmp_path / "log", told.append)
    for _ in _attached(handler, tmp_path / "log"):
        handler.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        handler.close()
        LOG.info("later")
    assert len(told) == 1
    assert "is not complete" in told[0]


def test_a_pipe_that_nobody_reads_does_not_block(tmp_path: Path) -> None:
    """A named pipe without a reader is refused at once, not waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FleetmarkError, match="cannot write the log"):
        LogFile(tmp_path / "pipe", print)


def test_ssh_tells_warnings_unless_everything_is_asked_for(log: Path) -> None:
    """paramiko's own log is in it from warnings on, with --log-level debug as a whole, each with its device."""
    ssh = logging.getLogger("paramiko.pi.local")
    ssh.info("kex")
    ssh.warning("odd")
    log_file.set_level("debug")
    ssh.debug("packet")
    assert [(line["logger"], line["device"], line["message"]) for line in lines(log)] == [
        ("paramiko", "pi.local", "odd"),
        ("paramiko", "pi.local", "packet"),
    ]


@pytest.mark.parametrize("words", [("--log-file", "log", "init"), ("init", "--log-file", "log")])
def test_it_may_stand_before_the_command_and_after(tmp_path: Path, words: tuple[str, ...]) -> None:
    """--log-file is the program's and every command's; errors are in it with their code, and on stderr as without it."""
    (tmp_path / "inventory.yaml").touch()
    done = fleetmark(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr == fleetmark(tmp_path, "init").stderr
    (line,) = lines(tmp_path / "log")
    assert (line["level"], line["code"]) == ("error", "usage")
    assert line["message"] == done.stderr.rstrip("\n")


def test_the_environment_names_it_too(tmp_path: Path) -> None:
    """FLEETMARK_LOG_FILE stands for --log-file, which wins; what commands tell a person is in it."""
    assert fleetmark(tmp_path, "init", FLEETMARK_LOG_FILE="log").returncode == 0
    assert lines(tmp_path / "log")[0]["message"].startswith("wrote ")
    assert fleetmark(tmp_path, "init", "--log-file", "other", FLEETMARK_LOG_FILE="third").returncode == 2
    assert len(lines(tmp_path / "other")) == 1
    assert lines(tmp_path / "third") == []


def test_a_file_that_cannot_be_opened_is_wrong_usage(tmp_path: Path) -> None:
    """A folder that is not there, a level that is none: told before anything begins."""
    done = fleetmark(tmp_path, "--log-file", "none/log", "init")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error[usage]: cannot write the log none/log: No such file or directory")
    assert fleetmark(tmp_path, "init", "--log-level", "all").returncode == 2
