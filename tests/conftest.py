"""Fixtures that several test modules share."""

from collections.abc import Iterator

import pytest
from device_commands import fleetmark as fleetmark
from device_commands import other_sshd as other_sshd
from postgres import shared_postgres as shared_postgres
from postgres import team_url as team_url
from sshd import Sshd, require_sshd


@pytest.fixture(scope="session")
def shared_sshd() -> Iterator[Sshd]:
    """A running OpenSSH server for all tests that leave it as it is."""
    require_sshd()
    server = Sshd()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """A running OpenSSH server of the test's own, to be cut, killed, frozen or given another host key."""
    require_sshd()
    server = Sshd()
    try:
        yield server.start()
    finally:
        server.stop()
