"""One short conversation with the agent on a device, outside of a run."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

from controller import redaction
from controller.inventory import Device
from controller.remote import Remote
from controller.sshconfig import SshSettings
from controller.timeouts import DEFAULT, Timeouts
from controller.transport import connect, resolve


def ssh_settings(device: Device) -> SshSettings | None:
    """Give how to reach a device by SSH, None for this machine."""
    if device.ssh is None:
        return None
    ssh = device.ssh
    return SshSettings(ssh.host, ssh.user, ssh.port, ssh.jump, ssh.host_key, ssh.jump_host_key, ssh.connect_timeout_s, ssh.config)


def lane_address(device: Device) -> str:
    """Give the host and port that a device's launches run on, ~/.ssh/config considered; raises FaultError."""
    settings = ssh_settings(device)
    return resolve(settings).address if settings else "this machine"


def open_remote(device: Device, timeouts: Timeouts = DEFAULT) -> Remote:
    """Connect to a device and give its agent, which may not be there yet; whoever asked closes `transport`. Raises FaultError."""
    transport = connect(device.name, ssh_settings(device), timeouts)
    python = device.agent.python or ("python3" if device.ssh else sys.executable)
    try:
        return Remote(transport, device.name, python, device.agent.cache_dir, redaction.revealed(device.agent.env))
    except BaseException:
        transport.close()
        raise


@contextmanager
def visiting(device: Device) -> Generator[Remote]:
    """Connect to a device, put the agent there and hang up in the end. Raises FaultError."""
    remote = open_remote(device)
    try:
        remote.deploy()
        yield remote
    finally:
        remote.close()
