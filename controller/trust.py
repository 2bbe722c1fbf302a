"""The way to a device, host by host, for a person to say which host keys to believe."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.schema import FaultError
from controller import hostkeys, sshconfig
from controller.hostkeys import HostKey, Known, Pinned
from controller.sshconfig import Resolved, SshSettings
from controller.transport import presented_key, resolve


@dataclass(frozen=True, slots=True)
class Meeting:
    """A host on the way presented a key.

    `field` is where the inventory pins it: host_key, jump_host_key, or empty for a jump host before the last: only known_hosts knows those.
    """

    label: str
    field: str
    key: HostKey
    pinned: Pinned | None
    known: Known

    @property
    def refusal(self) -> str:
        """Why the key is not believed by what is pinned, or else known; empty if it is."""
        return (self.pinned or self.known).refusal(self.key)


def meet(name: str, settings: SshSettings, judge: Callable[[Meeting], None]) -> tuple[Meeting, ...]:
    """Go the way to a device without logging in there; `judge` raises for a key that it does not take. Give the meetings, the device last.

    Raises FaultError `unreachable`, and `auth` for a jump host.
    """
    target = resolve(settings)
    behind: list[Resolved] = []
    meetings: list[Meeting] = []
    for hop in sshconfig.way(target):
        meeting = _meet(name, replace(hop, jumps=tuple(behind)), target, settings.connect_timeout_s)
        judge(meeting)
        behind.append(replace(hop, host_key=meeting.key.pin, jumps=()))
        meetings.append(meeting)
    return tuple(meetings)


def _meet(name: str, hop: Resolved, target: Resolved, timeout_s: float) -> Meeting:
    is_jump = len(hop.jumps) < len(target.jumps)
    label = f"the jump host {hop.address} of {name}" if is_jump else f"{name} ({hop.address})"
    known = hostkeys.known(hop.known_hosts, hop.known_as)
    pinned = hostkeys.parse_pin(hop.host_key) if hop.host_key else None
    key = _presented(f"the jump host of {name}" if is_jump else name, hop, timeout_s, (pinned or known).kinds)
    field = "host_key" if not is_jump else "jump_host_key" if len(hop.jumps) + 1 == len(target.jumps) else ""
    return Meeting(label, field, key, pinned, known)


def _presented(name: str, hop: Resolved, timeout_s: float, kinds: tuple[str, ...]) -> HostKey:
    """The key of an expected kind; any other if it has none of that kind."""
    try:
        return presented_key(name, hop, timeout_s, kinds)
    except FaultError as error:
        if error.fault.code != "host_key" or not kinds:
            raise
        return presented_key(name, hop, timeout_s)
