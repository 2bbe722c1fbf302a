"""The device commands as tests run them: in a folder with an inventory, against real SSH servers, with and without a terminal."""

import functools
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from sshd import Sshd

from controller.cli.__main__ import main

FLEETMARK = Path(sys.executable).with_name("fleetmark")
PYTHON = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
BASE = """\
# The lab.
version: 1   # of the format

defaults:
  agent: {{cache_dir: {cache}}}   # for the tests

devices:

  # this machine
  laptop:
    kind:   local      # no SSH
    # groups: [none]

  # --- rack 2 ---

  # over there
  far:
    kind: generic
    ssh: {{ host: 192.0.2.7,   port: 2222 }}
    enabled: false

# the end
"""


class Ended(NamedTuple):
    """What a command printed and ended with."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def fleetmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in a folder with the inventory BASE, without a terminal; nothing of the real user's is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "inventory.yaml").write_text(BASE.format(cache=tmp_path / "cache"))

    return functools.partial(typed, monkeypatch, capsys)


def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> Ended:
    """What the command line does with these words, in this process: a new one takes a second of imports."""
    monkeypatch.setattr(sys, "argv", ["fleetmark", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    done = Ended(int(ended.value.code or 0), printed.out, printed.err)
    assert done.code == code, done
    assert "Traceback" not in done.err
    return done


@pytest.fixture
def other_sshd() -> Iterator[Sshd]:
    """A second server, as a jump host that lets the first one's key in."""
    server = Sshd()
    try:
        yield server.start()
    finally:
        server.stop()


def unknown(server: Sshd) -> Path:
    """A configuration in which known_hosts knows nobody."""
    config = server.folder / "config_of_a_stranger"
    config.write_text(
        f"IdentityFile {server.client_key}\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n"
    )
    return config


def added(server: Sshd, name: str, *words: object, config: Path | None = None) -> list[object]:
    """The words of a `device add`."""
    return [
        "device",
        "add",
        name,
        f"{server.user}@127.0.0.1:{server.port}",
        "--config",
        config or unknown(server),
        "--python",
        PYTHON,
        *words,
    ]


def at_terminal(*words: object, answer: str | signal.Signals) -> tuple[int, str]:
    """The exit code and what a terminal shows of a command whose question is answered by a text or a signal."""
    ours, theirs = pty.openpty()
    command = [str(FLEETMARK), *map(str, words)]
    environ = {**os.environ, "TERM": "dumb"}
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in a script's background ignores it
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, preexec_fn=heard) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
            if shown.endswith(b"[y/N] "):
                _give(process, ours, answer)
        os.close(ours)
    return process.returncode, shown.decode()


def _give(process: subprocess.Popen[bytes], terminal: int, answer: str | signal.Signals) -> None:
    """Type the text; or send the signal until it is heard: one between the question and the reading of its answer is not."""
    if isinstance(answer, str):
        os.write(terminal, answer.encode())
        return
    process.send_signal(answer)
    while not select.select([terminal], [], [], 1.0)[0]:
        process.send_signal(answer)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # everybody else has closed it
        return b""
