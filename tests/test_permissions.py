"""What lies on a device is its user's alone, whatever umask and login shell it has; a folder that others could change is refused."""

import hashlib
import io
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agents import OWNER, request, tiny_data, tiny_model
from sshd import Sshd, require_root, require_sshd

from agent.cache import Cache
from agent.schema import Artifact, Cell, FaultError, Feed, ModelFile, Workload, cell_id
from compress.records import Data
from controller.cli.output import replacing, write
from controller.dataset import Dataset
from controller.inventory import AgentSettings, Device, Ssh
from controller.profiles import Profile
from controller.provision import Choice
from controller.session import Job, Session
from controller.transport import connect
from controller.visit import ssh_settings, visiting

FAST = Profile("quick", 1, 0.01, 10, 0.001, 2, 0.01, 60.0)
CARELESS = 'ForceCommand umask 000; exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"'
SOMEBODY = 12345


@pytest.fixture(scope="module")
def careless_sshd() -> Iterator[Sshd]:
    """A server whose sessions begin with umask 000."""
    require_sshd()
    server = Sshd(CARELESS)
    try:
        yield server.start()
    finally:
        server.stop()


def wide(folder: Path) -> dict[str, str]:
    """What in a folder, itself among it, others may read or write, or is a file that may be run, with its mode."""
    found: dict[str, str] = {}
    for path in [folder, *folder.rglob("*")]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & (0o077 if stat.S_ISDIR(mode) else 0o177):
            found[str(path.relative_to(folder))] = oct(stat.S_IMODE(mode))
    return found


def device_of(server: Sshd, cache: Path) -> Device:
    settings = {"host": "127.0.0.1", "port": server.port, "user": server.user, "host_key": server.host_key, "config": server.config}
    agent = AgentSettings(python=sys.executable, cache_dir=str(cache), env={"HF_TOKEN": "a secret of this test"})
    return Device(name="board", kind="generic", ssh=Ssh(**settings), agent=agent)


def job_in(folder: Path) -> Job:
    """The tiny model's cell, its files in `folder`."""
    (folder / "model.onnx").write_bytes(tiny_model())
    (folder / "data.npz").write_bytes(tiny_data())
    model, data = (hashlib.sha256(content).hexdigest() for content in (tiny_model(), tiny_data()))
    cell = Cell("board", "tiny", "fp32", "onnx", model, "onnxruntime", {}, Workload("single_stream", {}))
    feeds = {"onnx": (Feed("image", "image", 1.0, [0.0], [1.0], []),)}
    arrays = Data({"x": np.zeros((6, 1), np.float32)}, {}, np.zeros(6, np.int64), {})
    artifact = Artifact(model, "onnx", [ModelFile("model.onnx", model, len(tiny_model()))])
    return Job(cell_id(cell), cell, artifact, folder, Dataset(folder / "data.npz", data, feeds, arrays, random=False))


def environment() -> bytes:
    """An archive that wants everybody to have every right."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, mode in (("package/__init__.py", 0o666), ("package/data", 0o4666), ("package/bin/tool", 0o6777)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = 3, mode
            tar.addfile(member, io.BytesIO(b"x=1"))
    return buffer.getvalue()


def test_what_a_run_leaves_on_a_device_is_its_users_alone(careless_sshd: Sshd, tmp_path: Path) -> None:
    """Over SSH with umask 000: agent, model, data, an environment, a launch with its spec and spool. Only an environment's tool may run."""
    cache = tmp_path / "not there yet" / "agent"
    session = Session(device_of(careless_sshd, cache), OWNER, FAST, tmp_path, say=lambda _: None)
    session._provided["onnxruntime", ""] = Choice("", None)
    job = job_in(tmp_path)
    archive = tmp_path / "archive"
    archive.write_bytes(environment())
    sha256 = hashlib.sha256(environment()).hexdigest()
    try:
        assert session.ship([job], session.open()) == {}
        session.exchange(lambda remote: remote.upload({sha256: archive}))
        session.exchange(lambda remote: remote.install("environment", sha256))
        collected = session.measure(job, "launch-1", True, lambda *_: None)
    finally:
        session.close()
    assert collected.fault is None
    files = {path.name for path in cache.rglob("*")}
    assert files >= {"model.onnx", "spec.json", "events.jsonl", "supervisor.json", "data", "tool", "files"}
    assert wide(cache) == {"envs/environment/package/bin/tool": "0o700"}


def test_an_upload_that_was_cut_off_is_its_users_alone(careless_sshd: Sshd, tmp_path: Path) -> None:
    """What had arrived by then lies there for the next attempt, in a file of mode 0600."""
    device, cache = device_of(careless_sshd, tmp_path / "agent"), tmp_path / "agent"
    with visiting(device):
        (zipapp,) = cache.glob("agent-*.pyz")
    begun = request("put", {"sha256": "a" * 64, "offset": 0, "size_bytes": 1000}) + bytes(400)
    with connect("board", ssh_settings(device)) as transport:
        transport.run([sys.executable, "-I", str(zipapp), "serve", "--cache", str(cache)], stdin=begun, timeout_s=60)
    (part,) = (cache / "blobs").iterdir()
    assert part.stat().st_size == 400
    assert wide(cache) == {}


def test_a_folder_that_is_ours_is_closed(tmp_path: Path) -> None:
    """One that an older agent, or a person with mkdir, left open to all is its user's alone from the next command on."""
    cache = Cache(str(tmp_path / "agent"))
    cache.create()
    for folder in (cache.root, cache.path("blobs"), cache.path("launches")):
        Path(folder).chmod(0o777)
    cache.create()
    assert wide(Path(cache.root)) == {}


def test_a_home_stays_as_readable_as_it_was(tmp_path: Path) -> None:
    """In a folder with other things only ours are closed."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "thesis.txt").touch()
    Cache(str(home)).create()
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert wide(home / "blobs") == {}


def refusal(folder: Path) -> str:
    """What an agent says to a folder that it does not take."""
    with pytest.raises(FaultError) as caught:
        Cache(str(folder)).create()
    assert caught.value.fault.code == "env_missing"
    assert "agent.cache_dir" in caught.value.fault.next
    return caught.value.fault.message


def test_a_folder_that_everybody_writes_to_is_refused(tmp_path: Path) -> None:
    """Such as /tmp itself, whose rights are not ours to change."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "somebody's").touch()
    assert refusal(shared) == f"others may write to {shared}"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    assert os.listdir(shared) == ["somebody's"]


def test_a_way_on_which_everybody_may_rename_is_refused(tmp_path: Path) -> None:
    """Who can rename a folder on the way can put another agent in its place; below a sticky one, as /tmp is, nobody else can."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert refusal(shared / "ours" / "agent").startswith(f"{shared / 'ours' / 'agent'} lies in {shared}, ")
    shared.chmod(0o1777)
    Cache(str(shared / "ours" / "agent")).create()


def test_a_way_behind_a_link_is_looked_at_too(tmp_path: Path) -> None:
    """A link of ours to another disk is taken, if nobody else can change what it leads to."""
    disk = tmp_path / "disk"
    (disk / "agent").mkdir(parents=True)
    (tmp_path / "link").symlink_to(disk / "agent")
    Cache(str(tmp_path / "link")).create()
    disk.chmod(0o777)
    assert f" lies in {disk}, " in refusal(tmp_path / "link")


@pytest.mark.parametrize("part", ["", "blobs", "envs"])
def test_somebody_elses_folder_is_refused(part: str, tmp_path: Path) -> None:
    """Of a shared board a colleague, or whoever came first, made the folder: the fault says whose it is."""
    require_root()
    root = tmp_path / "agent"
    (root / part).mkdir(parents=True)
    os.chown(root / part, SOMEBODY, SOMEBODY)
    assert refusal(root) == f"{root / part if part else root} belongs to {SOMEBODY}"


@pytest.mark.parametrize("owner", [SOMEBODY, 0])
def test_no_agent_is_looked_for_where_somebody_else_could_put_one(owner: int, careless_sshd: Sshd, tmp_path: Path) -> None:
    """What stands there is not run, not even to say so."""
    require_root()
    cache = tmp_path / "agent"
    cache.mkdir()
    cache.chmod(0o777)
    os.chown(cache, owner, owner)
    with pytest.raises(FaultError, match="somebody else can write to it") as caught, visiting(device_of(careless_sshd, cache)):
        pass
    assert caught.value.fault.code == "env_missing"
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("part", ["", "launches"])
def test_somebody_elses_link_is_refused(part: str, tmp_path: Path) -> None:
    """It could lead somewhere else tomorrow."""
    require_root()
    (tmp_path / "ours").mkdir(mode=0o700)
    link = tmp_path / "agent" / part if part else tmp_path / "agent"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "ours")
    os.lchown(link, SOMEBODY, SOMEBODY)
    assert refusal(tmp_path / "agent") == f"{link} belongs to {SOMEBODY}"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_what_is_written_here_has_the_rights_that_its_person_wants(umask: int, mode: int, tmp_path: Path) -> None:
    """A report is read by others where the umask lets them, and by nobody else where not; one that failed leaves nothing."""
    before = os.umask(umask)
    try:
        write("report", tmp_path / "results" / "report.html")
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / "results" / "other.html") as file:
            file.write(bytes(1 // 0))
    finally:
        os.umask(before)
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "results").iterdir()] == [("report.html", mode)]
