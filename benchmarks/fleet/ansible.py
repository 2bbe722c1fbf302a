"""Ansible, in the peers' environment: a playbook of two tasks, copy and command: `python -m benchmarks.fleet.ansible ORDER`."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.fleet import openssh, order
from benchmarks.fleet.order import Order

QUIET = {"ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_RETRY_FILES_ENABLED": "0"}


def run(asked: Order) -> int:
    """Start the launch everywhere; give the bytes shipped."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hosts.json").write_text(json.dumps(_inventory(asked)), encoding="utf-8")
        (Path(folder) / "play.json").write_text(json.dumps(_playbook(asked)), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.json", "-f", str(asked.workers), "play.json"]
        environ = {**os.environ, **QUIET, "ANSIBLE_HOME": folder, "ANSIBLE_LOCAL_TEMP": folder}
        subprocess.run(command, check=True, cwd=folder, stdout=sys.stderr, env=environ)
    return len(asked.sites) * sum(path.stat().st_size for path in asked.files().values())


def _inventory(asked: Order) -> object:
    hosts = {site.name: {"ansible_host": site.host, "root": site.root} for site in asked.sites}
    told = {
        "ansible_port": asked.port,
        "ansible_user": asked.user,
        "ansible_ssh_common_args": shlex.join(openssh.options(asked)),
        "ansible_python_interpreter": asked.python,
    }
    return {"all": {"hosts": hosts, "vars": told}}


def _playbook(asked: Order) -> object:
    tasks = [
        {"copy": {"src": f"{asked.stage}/", "dest": "{{ root }}/"}},
        {"command": {"argv": [asked.python, "-c", asked.start, "{{ root }}"], "stdin": asked.spec}},
    ]
    return [{"hosts": "all", "gather_facts": False, "tasks": tasks}]


if __name__ == "__main__":
    order.carry_out(run)
