"""How often ssh is asked where a device is."""

import shutil
from pathlib import Path

import pytest
from sshd import unavailable

from controller import sshconfig
from controller.sshconfig import Target


def test_ssh_is_asked_once_until_its_configuration_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second question costs no process; another target, or the file changed, is asked about anew."""
    real = shutil.which("ssh") or unavailable("no ssh: install openssh-client")
    asked, config = tmp_path / "asked", tmp_path / "config"
    program = tmp_path / "ssh"
    program.write_text(f'#!/bin/sh\necho >> {asked}\nexec {real} "$@"\n')
    program.chmod(0o755)
    config.write_text("Host *\nUser first\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def user(host: str) -> str:
        return sshconfig.ask_ssh(Target(host), config)["user"][0]

    assert [user("one"), user("one"), user("two"), user("one")] == ["first"] * 4
    assert len(asked.read_text()) == 2
    config.write_text("Host *\nUser somebody-else\n")
    assert user("one") == "somebody-else"
