"""All that a device says of itself, with each of its runtimes tried in what a run would give it."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.description import Probe
from agent.schema import Fault, FaultError
from controller import provision, setup, targets
from controller.inventory import Device
from controller.provision import Choice
from controller.remote import Remote


@dataclass(frozen=True, slots=True)
class Survey:
    """The full probe of a device, and by backend why there is nothing for it to run in, which `device setup` cannot mend."""

    probe: Probe
    refusals: Mapping[str, Fault]


def survey(device: Device, remote: Remote) -> Survey:
    """Ask a device all; a runtime that is not installed yet is tried without it, and says so. Raises FaultError."""
    quick = remote.probe()
    chosen: dict[str, Choice] = {}
    refusals: dict[str, Fault] = {}
    for backend in targets.offered(device):
        try:
            choice = provision.choose(device, backend, {}, quick, remote)
        except FaultError as error:
            if error.fault.code != "env_missing":
                raise
            refusals[backend] = error.fault
            continue
        if choice.folder in ("", *quick.environments):
            chosen[backend] = choice
    return Survey(_tried(chosen, remote), refusals)


def _tried(chosen: Mapping[str, Choice], remote: Remote) -> Probe:
    probe = remote.probe({backend: choice.folder for backend, choice in chosen.items() if not choice.python})
    elsewhere = [(backend, choice) for backend, choice in chosen.items() if choice.python]
    told = {one.backend: one for one in setup.try_runtimes(lambda exchange: exchange(remote), elsewhere) if one}
    return probe._replace(backends=[told.get(one.backend, one) for one in probe.backends])
