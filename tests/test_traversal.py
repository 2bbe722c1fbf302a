"""No name leads out of the folder that it belongs to: what a device, an archive, a store, a file or a person calls things."""

import dataclasses
import hashlib
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agents import Agent, request
from device_commands import Command
from factory_runs import cell, run_of
from stored_runs import keep
from test_blobs import archive, member
from yaml_samples import SUITE

from agent import blobs
from agent.cache import Cache
from agent.schema import Artifact, FaultError, ModelFile, SampleFile
from controller import inventory, recipe_file, suite
from controller.deploy import build_zipapp
from controller.errors import ConfigError
from controller.remote import Remote
from controller.transport import LocalTransport
from reports.records import RunRecord

OUT = (
    "../out",
    "../../out",
    "a/../../out",
    "/out",
    "..",
    ".",
    "a/b",
    "..\\out",
    "a\0b",
    "\n",
    "",
    "~/out",
    "-out",
    ".hidden",
    "%2e%2e%2fout",
)
SECRET = b"nobody's but mine"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file beside the folders that are attacked; afterwards it is as it was, and alone there."""
    folder = tmp_path / "victims"
    folder.mkdir()
    (folder / "file").write_bytes(SECRET)
    yield folder / "file"
    assert (folder / "file").read_bytes() == SECRET
    assert os.listdir(folder) == ["file"]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "a" / "b").mkdir(parents=True)
    return Agent(tmp_path / "a" / "b" / "cache")


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(FaultError) as caught:
        action()
    return caught.value.fault.code


# On the device


ASKS: tuple[Callable[[str], tuple[str, object]], ...] = (
    lambda name: ("follow", {"launch": name}),
    lambda name: ("cancel", {"launch": name}),
    lambda name: ("gc", {"launches": [name]}),
    lambda name: ("fetch", {"launch": name, "sha256": "0" * 64}),
    lambda name: ("fetch", {"launch": "launch", "sha256": name}),
    lambda name: ("verify", {"blobs": [name]}),
    lambda name: ("install", {"environment": name, "archive": "0" * 64}),
    lambda name: ("install", {"environment": "env", "archive": name}),
)


def test_no_name_of_a_request_becomes_a_path(agent: Agent, tmp_path: Path) -> None:
    """Launches and environments are identifiers, files are sha256: anything else is `protocol`, and nothing is made or gone."""
    asked = [ask(name) for ask in ASKS for name in OUT]
    before = everything(tmp_path)
    answers = agent.served(*(request(*one) for one in asked))
    assert [answer["fault"]["code"] for answer in answers] == ["protocol"] * len(asked)
    assert everything(tmp_path) - before <= {"a/b/cache/install.lock", "a/b/cache/start.lock"}


@pytest.mark.parametrize("name", OUT[:4])
def test_no_name_of_an_upload_becomes_a_path(agent: Agent, tmp_path: Path, name: str) -> None:
    """Nor what an upload is called."""
    before = everything(tmp_path)
    (answer,) = agent.served(request("put", {"sha256": name, "offset": 0, "size_bytes": 1}) + b"x")
    assert answer["fault"]["code"] == "protocol"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [*OUT[:7], *OUT[8:9], "x" * 300, "é" * 200, "\ud800"])
def test_no_name_of_an_artifact_leaves_its_launch(agent: Agent, tmp_path: Path, name: str, victim: Path) -> None:
    """A file's name is one that a folder can hold, or the launch does not start."""
    spec = agent.spec()
    (file,) = spec.artifact.files
    spec = spec._replace(artifact=Artifact(spec.artifact.sha256, "onnx", [ModelFile(name, file.sha256, file.size_bytes)]))
    assert agent.refusal("start", spec) in ("protocol", "env_missing")
    assert not [path for path in everything(tmp_path) if path.endswith("out")]
    assert agent.cache.names("launches") == []


def test_an_upload_does_not_follow_a_link(agent: Agent, victim: Path) -> None:
    """What somebody planted where an upload goes is refused, and what it leads to is not written to."""
    sha256 = hashlib.sha256(b"x").hexdigest()
    os.symlink(victim, agent.cache.partial(sha256))
    (answer,) = agent.served(request("put", {"sha256": sha256, "offset": 0, "size_bytes": 1}) + b"x")
    assert "fault" in answer


def test_a_blob_that_is_a_link_is_taken_away(agent: Agent, victim: Path) -> None:
    """Not what it leads to; and a file of that content is uploaded anew."""
    sha256 = "0" * 64
    os.symlink(victim, agent.cache.blob(sha256))
    assert agent.call("verify", {"blobs": [sha256]})["blobs"][sha256] == {"present": False, "partial_bytes": 0, "corrupt": True}
    assert not os.path.lexists(agent.cache.blob(sha256))


def test_an_agent_that_is_a_link_is_replaced(tmp_path: Path, victim: Path) -> None:
    """The bootstrap puts the agent where a link was, and leaves alone what it led to."""
    path = tmp_path / "cache" / build_zipapp().name
    path.parent.mkdir(mode=0o700)
    path.symlink_to(victim)
    remote = Remote(LocalTransport("here"), "here", sys.executable, str(path.parent))
    assert remote.deploy() == len(build_zipapp().content)
    remote.close()
    assert not path.is_symlink()
    assert path.read_bytes() == build_zipapp().content


def pax(name: str) -> tuple[tarfile.TarInfo, bytes]:
    """A member whose name stands in an extended header."""
    info, content = member("fine")
    info.pax_headers = {"path": name}
    return info, content


ARCHIVES = {
    "a name twice": [member("pkg/a"), member("pkg/a", content=b"other")],
    "a name twice, written otherwise": [member("pkg/a"), member("pkg/./a", content=b"other")],
    "a file where a folder is": [member("pkg", tarfile.DIRTYPE), member("pkg")],
    "a folder where a file is": [member("pkg"), member("pkg/a")],
    "a link, then a file through it": [member("pkg", tarfile.SYMTYPE, "../../../../victims"), member("pkg/file", content=b"mine now")],
    "a hard link, then a file": [member("file", tarfile.LNKTYPE, "../../../victims/file"), member("file", content=b"mine now")],
    "a name that no folder can hold": [member("x" * 300)],
    "a way that no system can go": [member("x/" * 3000 + "a")],
    "another name in an extended header": [pax("../../../../victims/file")],
    "an absolute one there": [pax("/tmp/fleetmark-out")],
}


@pytest.mark.parametrize("members", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_an_archive_lands_in_its_folder_or_nowhere(tmp_path: Path, victim: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    """Names twice, links and names of any length are refused; nothing of the archive stays."""
    cache = Cache(str(tmp_path / "cache"))
    cache.create()
    content = archive(*members)
    sha256 = hashlib.sha256(content).hexdigest()
    Path(cache.blob(sha256)).write_bytes(content)
    assert refused(lambda: blobs.install(cache, "env", sha256)) in ("protocol", "env_missing")
    assert os.listdir(cache.path("envs")) == []


# On the laptop


def run_called(name: str) -> RunRecord:
    return dataclasses.replace(run_of((cell("laptop", "fp32", "onnxruntime", 1, samples=50),)), id=name)


def test_no_sample_file_is_asked_for_by_a_path(agent: Agent) -> None:
    """What a device calls its sample files goes back to it alone, and its agent refuses what is no sha256."""
    remote = Remote(LocalTransport("here"), "here", sys.executable, agent.cache.root)
    for name in OUT:
        file = SampleFile("latency_ns", "ns", "int64", [1], 1, name, 8)
        assert refused(lambda file=file: remote.fetch("launch", file)) == "protocol"
    remote.close()


@pytest.mark.parametrize("name", [name for name in OUT if name.isprintable()])
def test_no_name_of_a_file_that_people_write_is_a_path(tmp_path: Path, name: str) -> None:
    """Devices, meters, models and recipes are called as files may be: no slash, and no dot at the beginning."""
    quoted = "'" + name + "'"
    (tmp_path / "inventory.yaml").write_text(f"version: 1\ndevices: {{{quoted}: {{kind: local}}}}\n")
    (tmp_path / "meters.yaml").write_text(f"version: 1\nmeters: {{{quoted}: {{driver: shelly, url: 'http://192.0.2.1'}}}}\n")
    (tmp_path / "suite.yaml").write_text(SUITE.replace("fashion-cnn", quoted))
    (tmp_path / "recipe.yaml").write_text(f"version: 1\nname: {quoted}\nsteps: [int8-static]\n")
    for load in (
        lambda: inventory.load(tmp_path / "inventory.yaml"),
        lambda: inventory.load(tmp_path / "meters.yaml"),
        lambda: suite.load(tmp_path / "suite.yaml"),
        lambda: recipe_file.find(str(tmp_path / "recipe.yaml")),
    ):
        with pytest.raises(ConfigError):
            load()


@pytest.mark.parametrize("name", ["../../victims", "../victims", "/tmp", ".."])
def test_a_run_of_a_shared_store_names_no_other_folder(fleetmark: Command, tmp_path: Path, victim: Path, name: str) -> None:
    """A run whose id is a path, as a colleague could write it, is refused by every command that makes a folder of it."""
    keep(run_called(name), tmp_path / "results")
    for words in (("report", "latest"), ("report", name), ("run", "--resume", name)):
        done = fleetmark(*words, "--results", tmp_path / "results", code=2)
        assert "no folder may be" in done.err


@pytest.mark.parametrize("words", [("run", "--resume", "../../victims"), ("report", "../../victims"), ("runs", "show", "../victims")])
def test_a_run_is_asked_for_by_name_only(fleetmark: Command, tmp_path: Path, victim: Path, words: tuple[str, ...]) -> None:
    """What is no run of the store is none, whatever folder is called so."""
    keep(run_called("20260101-000000-abcd"), tmp_path / "results")
    assert "there is no run" in fleetmark(*words, "--results", tmp_path / "results", code=2).err


def test_what_is_imported_gives_no_file_its_name(fleetmark: Command, tmp_path: Path, victim: Path) -> None:
    """Device, model and variant of an import are what a person says: they are stored, shown and no path. A tag is a name."""
    (tmp_path / "told.csv").write_text("Execution results\ntotal number of iterations;10\nthroughput;5\n")
    names = ("--device", "../victims/x", "--model", "../../victims", "--variant", "/victims")
    results = tmp_path / "results"
    run = fleetmark("import", tmp_path / "told.csv", "--from", "benchmark_app", *names, "--results", results).out.strip()
    fleetmark("runs", "tag", run, "../../victims/tag", "--results", results, code=2)
    fleetmark("report", run, "--results", results)
    assert everything(results) == {"fleetmark.db", run, f"{run}/report.html"}
