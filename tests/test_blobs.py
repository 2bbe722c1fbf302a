"""Content-addressed files and environments on the device."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import blobs
from agent.cache import Cache, Lock
from agent.schema import Artifact, Fault, FaultError, LaunchSpec, ModelFile, Workload

CONTENT = b"content " * 1000
NAME = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(str(tmp_path / "cache"))
    made.create()
    return made


def put(cache: Cache, content: bytes) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    Path(cache.blob(sha256)).write_bytes(content)
    return sha256


def fault_of(action: Callable[[], object]) -> Fault:
    with pytest.raises(FaultError) as error:
        action()
    return error.value.fault


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"x", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


# Uploads


def test_a_blob_is_rehashed(cache: Cache) -> None:
    """verify says what is here by its content: whole, missing, or changed, which is deleted and called corrupt."""
    whole, changed, missing = put(cache, b"whole"), put(cache, b"before"), "0" * 64
    Path(cache.blob(changed)).write_bytes(b"after")
    answer = blobs.verify(cache, [whole, changed, missing])
    assert [answer[name]["present"] for name in (whole, changed, missing)] == [True, False, False]
    assert [answer[name]["corrupt"] for name in (whole, changed, missing)] == [False, True, False]
    assert not os.path.exists(cache.blob(changed))


@pytest.mark.parametrize("size", [0, 1, 4096, len(CONTENT) - 1])
def test_an_unfinished_upload_goes_on_where_it_stopped(cache: Cache, size: int) -> None:
    """verify gives the bytes that are here of an upload; once complete it is the blob, and no part of it is left."""
    partial = Path(cache.partial(NAME))
    partial.write_bytes(CONTENT[:size])
    assert blobs.verify(cache, [NAME])[NAME] == {"present": False, "partial_bytes": size, "corrupt": False}
    with partial.open("ab") as file:
        file.write(CONTENT[size:])
    assert blobs.verify(cache, [NAME])[NAME] == {"present": True, "partial_bytes": 0, "corrupt": False}
    assert os.listdir(cache.path("blobs")) == [NAME]


def test_a_corrupt_upload_never_becomes_a_blob(cache: Cache) -> None:
    """A part that is complete but wrong, or too long, stays a part."""
    for wrong in (CONTENT[::-1], CONTENT + b"x"):
        Path(cache.partial(NAME)).write_bytes(wrong)
        assert blobs.verify(cache, [NAME])[NAME] == {"present": False, "partial_bytes": len(wrong), "corrupt": False}


@pytest.mark.parametrize(
    "name", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "../" + "0" * 61, "0" * 64 + "\n", "0" * 32 + "/" + "0" * 31, "\0"]
)
def test_only_a_sha256_names_a_blob(cache: Cache, name: str) -> None:
    """Anything else is refused before it becomes a path, and so is anything but an identifier for launches and environments."""
    assert fault_of(lambda: blobs.verify(cache, [name])).code == "protocol"
    assert fault_of(lambda: blobs.install(cache, "name", name)).code == "protocol"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a" * 65, "a\n", "a\0", "é", "a b"])
def test_only_an_identifier_names_a_launch_or_an_environment(cache: Cache, name: str) -> None:
    """No name leads out of the agent's folder."""
    assert fault_of(lambda: cache.launch(name)).code == "protocol"
    assert fault_of(lambda: cache.environment(name)).code == "protocol"
    assert fault_of(lambda: blobs.delete_launches(cache, [name])).code == "protocol"


# Environments


def test_an_environment_is_unpacked_once(cache: Cache) -> None:
    """Files, folders and the executable bit arrive, modules are compiled, the archive is deleted, and a second time it is there already."""
    content = archive(
        member("pkg/__init__.py", content=b"A = 1\n"), member("bin/tool", mode=0o755), member("data", mode=0o600), member("pkg/broken.py")
    )
    assert blobs.install(cache, "env", put(cache, content)) is True
    folder = Path(cache.environment("env"))
    assert (folder / "pkg/__init__.py").read_text() == "A = 1\n"
    assert os.access(folder / "bin/tool", os.X_OK)
    assert not os.access(folder / "data", os.X_OK)
    assert list((folder / "pkg/__pycache__").glob("__init__.*.pyc"))
    assert os.listdir(cache.path("blobs")) == []
    assert os.listdir(cache.path("envs")) == ["env"]
    assert blobs.install(cache, "env", "0" * 64) is False


HOSTILE = {
    "climbs out": member("../evil"),
    "climbs out from within": member("a/../../evil"),
    "absolute": member("/tmp/fleetmark-evil"),
    "backslashes": member("..\\evil"),
    "symbolic link": member("link", tarfile.SYMTYPE, "/etc"),
    "hard link": member("link", tarfile.LNKTYPE, "/etc/passwd"),
    "device": member("null", tarfile.CHRTYPE),
    "block device": member("disk", tarfile.BLKTYPE),
    "fifo": member("fifo", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_archive_that_would_leave_its_folder_is_refused(cache: Cache, hostile: tuple[tarfile.TarInfo, bytes]) -> None:
    """Path escapes, links and devices are a protocol fault; nothing of the archive stays, not even what came before."""
    sha256 = put(cache, archive(member("fine"), hostile))
    assert fault_of(lambda: blobs.install(cache, "env", sha256)).code == "protocol"
    assert os.listdir(cache.path("envs")) == []
    assert not os.path.exists(cache.path("evil"))
    assert not os.path.exists("/tmp/fleetmark-evil")


def test_an_archive_out_of_bounds_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are added up from the headers before anything is written; a header's huge size and too many members are refused."""
    huge = tarfile.TarInfo("huge")
    huge.size = 5 << 30
    bomb = put(cache, gzip.compress(huge.tobuf() + bytes(1024)))
    assert fault_of(lambda: blobs.install(cache, "env", bomb)).code == "protocol"
    monkeypatch.setattr(blobs, "MAX_MEMBERS", 3)
    many = put(cache, archive(*(member(str(at)) for at in range(4))))
    assert fault_of(lambda: blobs.install(cache, "env", many)).code == "protocol"
    assert os.listdir(cache.path("envs")) == []


def test_a_broken_archive_is_said_to_be_broken(cache: Cache) -> None:
    """Truncated at any of many places, garbled, or no archive at all: env_missing, never a traceback, and nothing stays."""
    whole = archive(*(member(f"file{at}", content=hashlib.sha256(bytes([at])).digest() * 9) for at in range(5)))
    garbled = gzip.compress(gzip.decompress(whole).replace(b"ustar", b"raust"))
    cuts = [whole[:cut] for cut in range(1, len(whole) // 2, 31)]
    for broken in [b"", b"not an archive", gzip.compress(b"not a tar"), garbled[:300] + garbled[350:], *cuts]:
        sha256 = put(cache, broken)
        fault = fault_of(lambda sha256=sha256: blobs.install(cache, "env", sha256))
        assert (fault.code, fault.phase) == ("env_missing", "install"), fault
        assert "cannot be unpacked" in fault.message
    assert os.listdir(cache.path("envs")) == []


def test_an_archive_that_is_not_here_or_not_whole_is_not_unpacked(cache: Cache) -> None:
    """The archive's content is compared with its name first."""
    damaged = put(cache, archive(member("file")))
    Path(cache.blob(damaged)).write_bytes(archive(member("other")))
    for sha256 in ("1" * 64, damaged):
        assert fault_of(lambda sha256=sha256: blobs.install(cache, "env", sha256)).code == "protocol"
    assert os.listdir(cache.path("envs")) == []


def test_two_installs_at_once_make_one_environment(cache: Cache) -> None:
    """Of several that install the same at the same time, one unpacks and the others find it there."""
    sha256 = put(cache, archive(*(member(f"file{at}") for at in range(200))))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: blobs.install(cache, "env", sha256), range(4)))
    assert sorted(answers) == [False, False, False, True]
    assert len(os.listdir(cache.environment("env"))) == 200


def test_what_a_killed_install_left_is_cleared(cache: Cache) -> None:
    """The next install takes half-unpacked folders away."""
    Path(cache.path("envs", ".unpacking-old")).mkdir()
    blobs.install(cache, "env", put(cache, archive(member("file"))))
    assert os.listdir(cache.path("envs")) == ["env"]


# What a launch needs


def launch(cache: Cache, files: list[tuple[str, bytes]], **changes: object) -> LaunchSpec:
    made = [ModelFile(name, put(cache, content), len(content)) for name, content in files]
    artifact = Artifact("0" * 64, "onnx", made)
    spec = LaunchSpec("l", "o", artifact, "b", {}, Workload("w", {}), "", "", {}, put(cache, b"data"), [], False, 0, 0, 0, 0, 0, 1, 1.0)
    return spec._replace(**changes)


@pytest.mark.parametrize("names", [[], [""], ["."], [".."], ["a/b"], ["/a"], ["a\0"], ["a", "a"]])
def test_a_model_file_is_named_as_a_file_is(cache: Cache, names: list[str]) -> None:
    """No name of an artifact's file leads out of the launch's folder, none is there twice, and there is at least one."""
    assert fault_of(lambda: blobs.check(cache, launch(cache, [(name, b"x") for name in names]))).code == "protocol"


def test_what_is_missing_is_named_before_a_launch(cache: Cache) -> None:
    """A launch whose model, data or environment is not here, or whose bounds are none, does not start."""
    good = launch(cache, [("m.xml", b"xml"), ("m.bin", b"bin")])
    blobs.check(cache, good)
    missing = good.artifact._replace(files=[*good.artifact.files, ModelFile("other", "1" * 64, 1)])
    assert "'other' was not uploaded" in fault_of(lambda: blobs.check(cache, good._replace(artifact=missing))).message
    assert "'the data' was not uploaded" in fault_of(lambda: blobs.check(cache, good._replace(data="1" * 64))).message
    assert fault_of(lambda: blobs.check(cache, good._replace(environment="other"))).code == "env_missing"
    for change in ({"deadline_s": 0.0}, {"deadline_s": 1e300}, {"max_samples": -1}, {"max_samples": 1 << 40}, {"environment": "../x"}):
        assert fault_of(lambda change=change: blobs.check(cache, good._replace(**change))).code == "protocol"


# Taking away


def test_only_what_is_named_and_does_not_run_is_deleted(cache: Cache) -> None:
    """gc deletes the named launches but a running one, counts their own bytes only, and follows no link out of them."""
    model = put(cache, CONTENT)
    for name in ("done", "running", "other"):
        Path(cache.launch(name, "model")).mkdir(parents=True)
        Path(cache.launch(name, "spool")).write_bytes(b"x" * 100)
        os.symlink(cache.blob(model), cache.launch(name, "model", "model.onnx"))
        os.symlink("/nowhere", cache.launch(name, "model", "dangling"))
    alive = Lock(cache.launch("running", "alive.lock"))
    alive.acquire()
    freed = blobs.delete_launches(cache, ["done", "running", "never"])
    assert 100 <= freed < 1000
    assert cache.names("launches") == ["other", "running"]
    assert os.path.exists(cache.blob(model))
    alive.close()


def test_what_goes_while_it_is_counted_has_no_size(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running launch renames and deletes files: whoever looks meanwhile is told the rest."""
    put(cache, CONTENT)
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda path: [(folder, folders, [*files, "gone"]) for folder, folders, files in walk(path)])
    assert blobs.garbage(cache)["size_bytes"]["blobs"] == len(CONTENT)
