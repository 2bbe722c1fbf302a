"""device setup: what is shipped to which interpreter, what works there, and what it does to a device that has little to offer."""

import hashlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from factory_runs import probe as synthetic_probe
from sshd import Sshd, account, free_port, require_root, unavailable

from agent.description import Interpreter, Probe
from agent.schema import FaultError
from controller import environments, provision, setup
from controller.environments import Environment, Wheel
from controller.inventory import Device, Usb, load
from controller.local import LocalTransport
from controller.remote import Remote
from controller.setup import Wanted
from controller.visit import visiting

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
FLEETMARK = Path(sys.executable).with_name("fleetmark")
BARE_PYTHON = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))  # it has no runtime
NUMPY_MB = (10, 40)


class Lab:
    """A folder with an inventory; environments are fetched once for all tests of the session."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.devices: dict[str, Any] = {}

    def add(self, name: str, server: Sshd | None = None, *, user: str = "", **agent: Any) -> Path:
        """A device here or behind sshd, under an interpreter without any runtime; give its agent's folder."""
        folder = Path(agent.setdefault("cache_dir", str(self.folder / f"{name}'s agent")))
        agent.setdefault("python", BARE_PYTHON)
        entry: dict[str, Any] = {"kind": "local", "agent": agent}
        if server:
            login = {"host": "127.0.0.1", "port": server.port, "user": user or server.user, "config": str(server.config)}
            entry = {"kind": "generic", "agent": agent, "ssh": {**login, "host_key": server.host_key}}
        self.devices[name] = entry
        (self.folder / "inventory.yaml").write_text(json.dumps({"version": 1, "devices": self.devices}))
        return folder

    def run(self, *words: object, code: int = 0, **environ: str) -> "subprocess.CompletedProcess[str]":
        names = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "FLEETMARK_CACHE": str(self.cache), **environ}
        command = [str(FLEETMARK), *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=names, capture_output=True, text=True, timeout=240, check=False)
        noisy = {3} if words[0] == "run" and code == 0 else set[int]()  # on a machine that others share latencies need not settle
        assert done.returncode in {code} | noisy, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    def setup(self, *words: object, code: int = 0, **environ: str) -> dict[str, Any]:
        """The reports by device."""
        told = json.loads(self.run("device", "setup", *words, "--json", code=code, **environ).stdout)["setup"]["devices"]
        return {report["device"]: report for report in told}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent's folder that several tests share, so that onnxruntime is unpacked and compiled there once."""
    return tmp_path_factory.mktemp("agent")


@pytest.fixture
def lab(tmp_path: Path, shared_cache: Path) -> Lab:
    return Lab(tmp_path, shared_cache)


def local(cache_dir: Path, **agent: Any) -> Device:
    return Device.model_validate({"name": "here", "kind": "local", "agent": {"cache_dir": str(cache_dir), "python": BARE_PYTHON, **agent}})


# What is shipped


def test_a_second_setup_ships_nothing(lab: Lab, installed: Path, shared_sshd: Sshd) -> None:
    """Needs the package index. A dry run foresees what setup then ships; the runtime answers on the device; a second time ships 0 bytes."""
    lab.add("board", shared_sshd, cache_dir=str(installed))
    device, asked = load(lab.folder / "inventory.yaml").devices["board"], [Wanted("onnxruntime")]
    (foreseen,) = setup.foresee(device, asked, lab.cache).outcomes
    assert (foreseen.state, foreseen.works) == ("missing", None)
    assert list((installed / "envs").iterdir()) == list((installed / "blobs").iterdir()) == []
    first = lab.setup("board", "-b", "onnxruntime")["board"]
    (outcome,) = first["outcomes"]
    assert (outcome["state"], outcome["works"], outcome["runtime"]) == ("shipped", True, foreseen.runtime)
    assert outcome["devices"]
    assert first["shipped_bytes"] >= outcome["size_bytes"]
    assert abs(outcome["size_bytes"] / foreseen.size_bytes - 1) < 0.2
    again = setup.set_up(device, asked, "test", lab.cache, None, print)
    assert (again.outcomes[0].state, again.outcomes[0].works) == ("there", True)
    assert again.shipped_bytes == 0
    assert setup.foresee(device, asked, lab.cache).outcomes[0].state == "there"


def test_a_refused_device_does_not_keep_the_others_from_it(lab: Lab) -> None:
    """Devices that are off, have no Python, or no wheels for it are told with their reason, the others set up; the gravest code counts."""
    lab.add("good")
    lab.add("pythonless", python="/nowhere/python3")
    old = Path.home() / ".pyenv/versions/3.6.15/bin/python3.6"
    lab.devices["away"] = {"kind": "generic", "ssh": {"host": "127.0.0.1", "port": free_port()}}
    lab.add("old", python=str(old) if old.exists() else BARE_PYTHON)
    told = lab.setup("all", "--dry-run", "-b", "tflite", "-b", "onnxruntime", code=4)
    assert [one["state"] for one in told["good"]["outcomes"]] == ["missing", "missing"]
    assert told["pythonless"]["fault"]["code"] == "no_python"
    assert told["away"]["fault"]["code"] == "unreachable"
    if old.exists():
        tflite, onnxruntime = told["old"]["outcomes"]
        assert (tflite["state"], tflite["fault"]["code"], onnxruntime["state"]) == ("refused", "env_missing", "missing")
        assert "Python 3.6.15" in tflite["fault"]["message"]
        assert onnxruntime["runtime"] == "onnxruntime==1.10.0"
    said = lab.run("device", "setup", "--dry-run", "-l", "!away", "-b", "tflite", code=3).stderr
    assert "error[no_python]: pythonless: /nowhere/python3 cannot be run there" in said
    assert "good: would ship about" in said


def test_what_does_not_run_there_is_told(lab: Lab) -> None:
    """Needs the package index. TensorRT's environment is numpy; on a machine without TensorRT it is refused with what to install."""
    lab.add("board")
    (outcome,) = lab.setup("board", "-b", "tensorrt", code=3)["board"]["outcomes"]
    assert (outcome["state"], outcome["fault"]["code"]) == ("refused", "env_missing")
    assert "TensorRT" in outcome["fault"]["message"]
    assert "python3-libnvinfer" in outcome["fault"]["next"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-b", "caffe"), "no backend is called 'caffe'"),
        (("--runtime", "onnxruntime==0.1"), "no environment of onnxruntime, tflite, openvino has onnxruntime==0.1"),
        (("-b", "openvino", "--runtime", "onnxruntime"), "use one of openvino=="),
        (("--wheelhouse", "nowhere"), "nowhere"),
    ],
)
def test_wrong_words_touch_no_device(words: tuple[str, ...], said: str, lab: Lab) -> None:
    """Unknown backends and runtimes are usage errors before any device is asked."""
    agent = lab.add("board")
    assert said in " ".join(lab.run("device", "setup", *words, code=2).stderr.split())
    assert not agent.exists()


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, a fake tflite-runtime 9.9, whose environment is the only one there is."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    files = {
        "tflite_runtime/__init__.py": "__version__ = '9.9'\n",
        "tflite_runtime/interpreter.py": "Interpreter = None\n",
        "tflite_runtime-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 9.9\n",
        "tflite_runtime-9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["tflite_runtime-9.9.dist-info/RECORD"] = "".join(f"{name},,\n" for name in [*files, "tflite_runtime-9.9.dist-info/RECORD"])
    path = folder / "tflite_runtime-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    wheels = (Wheel("tflite-runtime", "9.9", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size),)
    made = Environment("tflite-runtime", "tflite", wheels, f"3.{sys.version_info.minor}", platform.machine(), "2.17")
    monkeypatch.setattr(environments, "read", lambda: (made,))
    return folder


def test_a_wheelhouse_serves_a_laptop_without_index(wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With uv offline and --wheelhouse, its wheels are shipped, installed and answer; edgetpu then finds the same environment there."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    device = local(tmp_path / "agent")
    asked = [Wanted("tflite"), Wanted("edgetpu")]
    without = setup.set_up(device, asked[:1], "test", tmp_path / "cache", None, print)
    assert [fault.code for fault in setup.faults(without)] == ["env_missing"]
    assert "--wheelhouse" in next(setup.faults(without)).next
    report = setup.set_up(device, asked, "test", tmp_path / "cache", wheelhouse, print)
    assert [one.state for one in report.outcomes] == ["shipped", "there"]
    assert (report.outcomes[0].works, report.outcomes[0].runtime) == (True, "tflite-runtime==9.9")


# Which interpreter


class FakeRemote:
    """A device whose full probe tells of other interpreters, some of which have TensorRT."""

    name = "fake"

    def __init__(self, probe: Probe, tensorrt: dict[str, str]) -> None:
        self._probe, self._tensorrt = probe, tensorrt
        self.asked: list[str] = []
        self.transport = SimpleNamespace(run=self._run)

    @property
    def interpreters(self) -> list[Interpreter]:
        self.asked.append("probe")
        return self._probe.interpreters

    def _run(self, argv: list[str], *, timeout_s: float) -> SimpleNamespace:
        self.asked.append(argv[0])
        version = self._tensorrt.get(argv[0])
        return SimpleNamespace(stdout=f"{version} True\n".encode() if version else b"3.9.1 False\n", status=0, timeout_s=timeout_s)


def choose(
    backend: str, kind: str = "generic", *, tensorrt: dict[str, str] | None = None, agent: dict[str, Any] | None = None, **probe: Any
) -> tuple[provision.Choice, list[str]]:
    """The choice for a device of this kind with such a probe, and what was asked of it."""
    told = synthetic_probe("fake")._replace(**probe)
    remote: Any = FakeRemote(told, tensorrt or {})
    usb = Usb(path="2-1.3") if kind in ("ncs2", "coral-usb") else None
    device = Device.model_validate({"name": "fake", "kind": kind, "ssh": {"host": "fake"}, "agent": agent or {}, "usb": usb})
    return provision.choose(device, backend, {}, told, remote), remote.asked


def test_the_pythons_of_a_device_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many backends look for one: a full probe tries every runtime."""
    probes: list[object] = []

    def probe(_: Remote, environments: object) -> Probe:
        probes.append(environments)
        return synthetic_probe("fake")._replace(interpreters=OTHERS)

    monkeypatch.setattr(Remote, "probe", probe)
    remote = Remote(LocalTransport("fake"), "fake")
    assert list(remote.interpreters) == list(remote.interpreters) == OTHERS
    assert probes == [{}]


OTHERS = [
    Interpreter("/usr/bin/python3.8", "3.8.18"),
    Interpreter("/opt/py/bin/python3.9", "3.9.2"),
    Interpreter("/usr/bin/python2", "2.7.18"),
]


def test_the_agents_interpreter_is_taken_if_it_can_be() -> None:
    """Nothing else is asked of the device, whatever other interpreters it has."""
    choice, asked = choose("onnxruntime", interpreters=OTHERS)
    assert (choice.python, choice.environment and choice.environment.python, asked) == ("", "3.11", [])


def test_another_interpreter_is_taken_where_only_that_has_wheels() -> None:
    """An NCS2 needs openvino 2021.4.2, which ends at Python 3.9: it runs under the device's 3.9 though the agent does under 3.11."""
    choice, _ = choose("openvino", "ncs2", machine="x86_64", interpreters=OTHERS)
    assert choice.environment
    assert (choice.python, choice.environment.runtime) == ("/opt/py/bin/python3.9", "openvino==2021.4.2")


def test_the_inventorys_interpreter_is_taken_whatever_there_is() -> None:
    """With agent.python no other interpreter is looked for: no wheels for it is env_missing, which names the Pythons that would do."""
    with pytest.raises(FaultError) as caught:
        choose("openvino", "ncs2", machine="x86_64", interpreters=OTHERS, agent={"python": "/usr/bin/python3"})
    assert caught.value.fault.code == "env_missing"
    assert "there are wheels for Python 3.6 (glibc 2.17), 3.7 (glibc 2.17)" in caught.value.fault.next


def test_no_interpreter_with_wheels_is_told() -> None:
    """Where no interpreter has wheels, and on a 32-bit userland, the reason is the agent's interpreter's."""
    with pytest.raises(FaultError, match=r"Python 3\.5\.2"):
        choose("onnxruntime", python="3.5.2", interpreters=OTHERS[2:])
    with pytest.raises(FaultError, match="32-bit userland"):
        choose("tensorrt", "jetson-nano", bits=32, machine="armv7l")


@pytest.mark.parametrize(
    ("has", "agent", "python", "numpy"),
    [
        ({"/usr/bin/python3": "3.6.9", "/opt/py/bin/python3.9": "3.9.2"}, {}, "/usr/bin/python3", "1.19.4"),
        ({"/opt/py/bin/python3.9": "3.9.2"}, {}, "/opt/py/bin/python3.9", "1.23.5"),
        ({"/opt/own": "3.8.10", "/usr/bin/python3": "3.6.9"}, {"python": "/opt/own"}, "/opt/own", "1.23.5"),
    ],
)
def test_tensorrt_runs_where_its_bindings_are(has: dict[str, str], agent: dict[str, Any], python: str, numpy: str) -> None:
    """The distro's Python first, then the agent's and the others; agent.python alone where it is set. numpy follows that Python."""
    choice, _ = choose(
        "tensorrt", "jetson-nano", tensorrt=has, agent=agent, interpreters=OTHERS, python_path="/home/bench/python", glibc="2.27"
    )
    assert choice.environment
    assert (choice.python, choice.environment.wheels[0].version) == (python, numpy)


def test_a_device_without_tensorrt_is_told_which_pythons_were_asked() -> None:
    """env_missing, with the package that brings the bindings."""
    with pytest.raises(FaultError, match=r"asked /usr/bin/python3, /usr/bin/python3\.8, /opt/py/bin/python3\.9"):
        choose("tensorrt", "jetson", interpreters=OTHERS)


def test_python_3_6_measures_the_example(lab: Lab) -> None:
    """Needs the package index. onnxruntime 1.10.0 in an unpacked environment, under the interpreter of a Jetson Nano's age."""
    python = Path.home() / ".pyenv/versions/3.6.15/bin/python3.6"
    if not python.exists():
        unavailable("no Python 3.6.15 of pyenv")
    lab.add("nano", python=str(python))
    lab.run("run", EXAMPLE / "model.onnx", "--data", EXAMPLE / "data.npz", "-b", "onnxruntime", "--launches", 1, "-l", "nano")
    with closing(sqlite3.connect(lab.folder / "results" / "fleetmark.db")) as database:
        ((status, launch),) = database.execute("select status, document from launches")
        ((device,),) = database.execute("select document from devices")
    assert status in ("valid", "unsteady")
    assert json.loads(launch)["details"]["version"] == "1.10.0"
    assert json.loads(device)["probe"]["python"] == "3.6.15"


@pytest.mark.parametrize("version", ["3.6.15", "3.11.7"])
def test_a_runtimes_version_is_told_by_any_python(version: str, tmp_path: Path) -> None:
    """Python 3.6, which has no importlib.metadata, reads it from the environment's folder, not from a module that may say anything."""
    python = Path.home() / ".pyenv/versions" / version / "bin/python3"
    if not python.exists():
        unavailable(f"no Python {version} of pyenv")
    metadata = tmp_path / "tiny_runtime-1.2.3.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tiny-runtime\nVersion: 1.2.3\n")
    (tmp_path / "tiny_runtime.py").write_text("__version__ = '0.0.0.dev0'\n")
    program = "import tiny_runtime; from backends import checks; print(*checks.installed(('absent', 'tiny-runtime'), tiny_runtime))"
    environ = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{EXAMPLE.parent.parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "tiny-runtime 1.2.3\n"


# Devices that have little to offer


@contextmanager
def mounted(folder: Path, options: str) -> Generator[Path]:
    """A tmpfs; needs root and the right to mount."""
    require_root()
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def put(remote: Remote, archive: Path) -> None:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    remote.upload({sha256: archive})
    remote.install("environment", sha256)


def fault_code(action: Callable[[], object]) -> str:
    with pytest.raises(FaultError) as caught:
        action()
    return caught.value.fault.code


def random_archive(path: Path, size_bytes: int) -> None:
    """A .tar.gz with one file that is not compressed."""
    content = path.with_suffix(".bin")
    content.write_bytes(os.urandom(size_bytes))
    with tarfile.open(path, "w:gz", compresslevel=0) as tar:
        tar.add(content, "file")


def test_a_disk_of_50_mb_is_told_and_left_as_it_was(lab: Lab, tmp_path: Path) -> None:
    """Needs root and the package index. What has no room is not even shipped; what fills the disk all the same goes again, all of it."""
    with mounted(tmp_path / "small", "size=50m") as disk:
        (outcome,) = setup.set_up(local(disk / "agent"), [Wanted("onnxruntime")], "test", lab.cache, None, print).outcomes
        assert outcome.fault
        assert (outcome.state, outcome.fault.code) == ("refused", "disk_full")
        assert "MB are free" in outcome.fault.message
        archive = tmp_path / "archive.tar.gz"
        for size_bytes in (30_000_000, 60_000_000):  # no room for archive and files; none for the archive
            random_archive(archive, size_bytes)
            with visiting(local(disk / "agent")) as remote:
                assert fault_code(lambda remote=remote: put(remote, archive)) == "disk_full"
            assert list((disk / "agent" / "envs").iterdir()) == list((disk / "agent" / "blobs").iterdir()) == []


def test_a_read_only_home_is_told(lab: Lab, tmp_path: Path) -> None:
    """Needs root. env_missing names the folder and agent.cache_dir."""
    with mounted(tmp_path / "home", "ro") as home:
        fault = setup.set_up(local(home / ".cache/fleetmark"), [Wanted("onnxruntime")], "test", lab.cache, None, print).fault
    assert fault
    assert fault.code == "env_missing"
    assert "Read-only file system" in fault.message
    assert "agent.cache_dir" in fault.next


FULL_TMP = """#!/bin/sh
exec unshare -m sh -c 'mount -t tmpfs -o size=4k,mode=1777 t /tmp && mount --bind /tmp /var/tmp && mount --bind /tmp /dev/shm &&
head -c 4096 /dev/zero >/tmp/full; exec "$0" "$@"' %s "$@"
"""


def test_a_full_tmp_is_in_nobodys_way(wheelhouse: Path, tmp_path: Path) -> None:
    """Needs root. With /tmp, /var/tmp and /dev/shm full on the device an environment is installed, and its runtime answers."""
    require_root()
    with TemporaryDirectory(dir=Path.home()) as folder:
        python = script(Path(folder, "python"), FULL_TMP % BARE_PYTHON)
        free = told(python, "import os; print([os.statvfs(path).f_bavail for path in ('/tmp', '/var/tmp', '/dev/shm')])")
        if free != "[0, 0, 0]":
            pytest.skip("/tmp cannot be filled here")
        device = local(Path(folder, "agent"), python=str(python))
        (outcome,) = setup.set_up(device, [Wanted("tflite")], "test", tmp_path / "cache", wheelhouse, print).outcomes
        assert (outcome.state, outcome.works) == ("shipped", True)


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def told(python: Path | str, program: str) -> str:
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=False).stdout.strip()


A_YEAR_OFF = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *found) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, found);
    if (clock == CLOCK_REALTIME) found->tv_sec -= 31536000;
    return status;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
"""


def test_a_clock_a_year_off_is_in_nobodys_way(lab: Lab, installed: Path, wheelhouse: Path, tmp_path: Path) -> None:
    """Needs a C compiler and the package index. With a clock of last year an environment is installed, and another measures the example."""
    source, library, python = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "python"
    source.write_text(A_YEAR_OFF)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    except FileNotFoundError:
        unavailable("no C compiler")
    script(python, f'#!/bin/sh\nLD_PRELOAD="{library}" exec {BARE_PYTHON} "$@"\n')
    now_s = "import time; print(time.time())"
    assert float(told(BARE_PYTHON, now_s)) - float(told(python, now_s)) > 31_000_000
    (outcome,) = setup.set_up(
        local(installed, python=str(python)), [Wanted("tflite")], "test", tmp_path / "cache", wheelhouse, print
    ).outcomes
    assert (outcome.state, outcome.works) == ("shipped", True)
    lab.add("board", python=str(python), cache_dir=str(installed))
    lab.run("run", EXAMPLE / "model.onnx", "-b", "onnxruntime", "--launches", 1)


# What is touched


def files_of(user: str) -> list[str]:
    """Every folder of a user, and every file with its size and time, but for the agent's."""
    kinds = ["(", "-type", "d", "-printf", "%p\\n", "-o", "-printf", "%p %s %T@\\n", ")"]
    find = ["find", "/home", "/tmp", "/var/tmp", "/dev/shm", "/run", "-user", user, "-not", "-path", "*/.cache/fleetmark*", *kinds]
    return sorted(subprocess.run(find, capture_output=True, text=True, check=False).stdout.splitlines())


def test_nothing_outside_the_agents_folder_is_touched(lab: Lab, shared_sshd: Sshd) -> None:
    """Needs root and the package index. Setup and a run as a user over sshd, then gc: the home folder and /tmp are as they were."""
    require_root()
    if not Path("/usr/bin/python3").exists():
        unavailable("no /usr/bin/python3 that other users may run")
    with account("/bin/sh", {".profile": "", ".cache/thesis.txt": "mine"}) as user:
        home = Path(f"~{user}").expanduser()
        lab.add("board", shared_sshd, user=user, python="/usr/bin/python3", cache_dir="~/.cache/fleetmark")
        before = files_of(user)
        assert any("thesis.txt" in line for line in before)
        lab.run("run", EXAMPLE / "model.onnx", "-b", "onnxruntime", "--launches", 1)
        assert (home / ".cache/fleetmark/envs").is_dir()
        assert files_of(user) == before
        lab.run("gc", "--remote", "--yes")
        assert [path.name for path in (home / ".cache").rglob("*")] == ["thesis.txt"]
