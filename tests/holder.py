"""A controller that takes a device's host as a run does, for tests: `python holder.py OWNER LEASE_S PORT USER HOST_KEY CONFIG FOLDER`.

It tells its news and `held`, a line each, and gives the host back when its standard input ends.
"""

import sys
from pathlib import Path

from controller.inventory import AgentSettings, Device, Ssh
from controller.link import Link
from controller.queueing import Patience
from controller.timeouts import Timeouts


def board(port: str, user: str, host_key: str, config: str, folder: str) -> Device:
    """This machine by SSH, with an agent's folder of its own."""
    ssh = Ssh(host="127.0.0.1", port=int(port), user=user, host_key=host_key, config=Path(config))
    return Device(name="board", kind="generic", ssh=ssh, agent=AgentSettings(python=sys.executable, cache_dir=folder))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    owner, lease_s, *where = sys.argv[1:]
    link = Link(board(*where), owner, Timeouts(lease_s=float(lease_s)), say, Patience())
    link.open()
    link.hold()
    say("held")
    sys.stdin.read()
    link.close()
