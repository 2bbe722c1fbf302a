"""Who has which device now, asked of all of them at once and briefly."""

from collections.abc import Sequence

from agent.schema import Fault, FaultError
from controller import durations, lanes
from controller.inventory import Device
from controller.links import MAX_OPEN
from controller.remote import LeaseState
from controller.timeouts import Timeouts
from controller.visit import open_remote

CONNECT_S = 3.0
BRIEF = Timeouts(begin_s=5.0, answer_s=5.0)


def ask(devices: Sequence[Device]) -> dict[str, LeaseState | Fault]:
    """Give who holds each device's host, or why it did not tell within seconds, by the device's name."""
    found = lanes.each(devices, _one, MAX_OPEN) if devices else []
    return {device.name: holder for device, holder in zip(devices, found, strict=True)}


def _one(device: Device) -> LeaseState | Fault:
    ssh = device.ssh and device.ssh.model_copy(update={"connect_timeout_s": min(CONNECT_S, device.ssh.connect_timeout_s)})
    try:
        remote = open_remote(device.model_copy(update={"ssh": ssh}), BRIEF)
        try:
            return remote.lease()
        finally:
            remote.close()
    except FaultError as error:
        return error.fault


def shown(holder: LeaseState | Fault | None) -> str:
    """Give the holder for people: who, for how long and whether a launch runs; the reason's code where it is not known."""
    if holder is None:
        return ""
    if isinstance(holder, Fault):
        return f"not known ({holder.code})"
    if not holder.owner:
        return "somebody, measuring" if holder.running else "nobody"
    return f"{holder.owner}, for {durations.shown(holder.age_s)}" + (", measuring" if holder.running else "")
