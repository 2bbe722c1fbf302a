"""fleetmark: connect, ship and start by its own sessions: `python -m benchmarks.fleet.ours ORDER`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.schema import LaunchSpec, load
from benchmarks.fleet import order
from benchmarks.fleet.order import Order, Site
from controller.inventory import AgentSettings, Device, Ssh
from controller.profiles import PROFILES
from controller.remote import Remote
from controller.session import Session

CONNECT_S = 120.0  # the servers share this machine's cores


def device(asked: Order, site: Site, config: Path, environ: dict[str, str] | None = None) -> Device:
    """Give a simulated device as the inventory would; `config` is its ssh_config."""
    ssh = Ssh(host=site.host, user=asked.user, port=asked.port, host_key=asked.host_key, config=config, connect_timeout_s=CONNECT_S)
    return Device(name=site.name, kind="generic", ssh=ssh, agent=AgentSettings(python=asked.python, cache_dir=site.root, env=environ or {}))


def ssh_config(asked: Order) -> Path:
    """Write an ssh_config that uses nothing of the person's own."""
    path = Path(asked.folder, "ssh_config")
    path.write_text(f"IdentityFile {asked.key}\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n")
    return path


def run(asked: Order) -> int:
    """Start the launch everywhere; give the bytes shipped."""
    spec: LaunchSpec = load(LaunchSpec, json.loads(asked.spec))
    config = ssh_config(asked)
    stage = {path.name: path for name, path in asked.files().items() if name.startswith("blobs/")}

    def start(site: Site) -> int:
        session = Session(device(asked, site, config), spec.owner, PROFILES["quick"], Path(asked.stage))
        try:
            session.open()
            shipped = session.exchange(lambda remote: remote.upload(stage))

            def begin(remote: Remote) -> bool:
                return remote.start(spec)

            assert session.exchange(begin)
            return session.shipped.agent + shipped
        finally:
            session.abandon()

    with ThreadPoolExecutor(asked.workers) as pool:
        return sum(sum(pool.map(start, wave)) for wave in asked.waves())


if __name__ == "__main__":
    order.carry_out(run)
