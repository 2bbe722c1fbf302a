"""All that a device says of itself, with each of its runtimes tried in what a run would give it."""

from agent.description import Probe
from agent.schema import FaultError
from controller import provision, setup, targets
from controller.inventory import Device
from controller.provision import Choice
from controller.remote import Remote


def survey(device: Device, remote: Remote) -> Probe:
    """Give the full probe of a device; a runtime that is not installed yet is tried without it, and says so. Raises FaultError."""
    quick = remote.probe()
    chosen = {backend: choice for backend in targets.offered(device) if (choice := _installed(device, backend, quick, remote))}
    probe = remote.probe({backend: choice.folder for backend, choice in chosen.items() if not choice.python})
    elsewhere = [(backend, choice) for backend, choice in chosen.items() if choice.python]
    told = {one.backend: one for one in setup.try_runtimes(lambda exchange: exchange(remote), elsewhere) if one}
    return probe._replace(backends=[told.get(one.backend, one) for one in probe.backends])


def _installed(device: Device, backend: str, probe: Probe, remote: Remote) -> Choice | None:
    """What the backend would run in, if that is there."""
    try:
        choice = provision.choose(device, backend, {}, probe, remote)
    except FaultError:  # its own probe says what is missing
        return None
    return choice if choice.folder in ("", *probe.environments) else None
