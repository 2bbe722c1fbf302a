"""Which wheels a device gets, and the archive of them."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.schema import FaultError
from controller import resolve_environments
from controller.environments import DATA, Environment, Wheel, choose, fetch, read

ROOT = Path(__file__).parent.parent


def test_the_data_file_covers_the_matrix() -> None:
    """Each runtime has wheels for Python 3.9 to 3.13 on both machines; tflite-runtime, which has ended, up to 3.11."""
    covered = {(one.name, one.python, one.machine) for one in read()}
    pythons = ["3.9", "3.10", "3.11", "3.12", "3.13"]
    wanted = {(name, python) for name in ("ai-edge-litert", "onnxruntime", "openvino") for python in pythons}
    wanted |= {("tflite-runtime", python) for python in pythons[:3]}
    assert covered == {(name, python, machine) for name, python in wanted for machine in ("x86_64", "aarch64")}


def test_every_entry_is_a_runtime_with_numpy_and_psutil_alone() -> None:
    """Wheels are pinned by sha256, the runtime first; tflite-runtime has numpy 1; no two entries are for the same target."""
    for one in read():
        assert [wheel.name for wheel in one.wheels] == [one.name, "numpy", "psutil"]
        assert all(re.fullmatch("[0-9a-f]{64}", wheel.sha256) for wheel in one.wheels)
        assert one.name != "tflite-runtime" or one.wheels[1].version.startswith("1.")
    targets = [(one.name, one.python, one.machine, one.libc_floor) for one in read()]
    assert len(set(targets)) == len(targets)


def test_the_data_file_is_as_the_resolver_writes_it() -> None:
    """Reading and writing again gives the same text, which names no host."""
    text = DATA.read_text(encoding="utf-8")
    assert text == resolve_environments.written(read())
    assert "//" not in text


def test_a_device_of_today_gets_the_versions_that_the_controller_has() -> None:
    """With Python 3.11 and glibc 2.36 or newer the runtimes are those of constraints.txt, on both machines."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for backend in ("onnxruntime", "openvino", "tflite"):
        for machine in ("x86_64", "aarch64"):
            assert choose(backend, None, "3.11.2", machine, "2.36", 64).runtime in pinned


@pytest.mark.parametrize(
    ("runtime", "python", "machine", "glibc", "version"),
    [
        ("tflite-runtime", "3.9.2", "aarch64", "2.31", "2.13.0"),  # Raspberry Pi OS bullseye
        ("tflite-runtime", "3.11.2", "aarch64", "2.36", "2.14.0"),  # bookworm
        ("tflite-runtime==2.13.0", "3.9.2", "aarch64", "2.36", "2.13.0"),
        ("tflite-runtime", "3.11.7", "x86_64", "2.17", "2.14.0"),
        ("openvino", "3.9.2", "aarch64", "2.31", "2025.2.0"),
        ("onnxruntime", "3.9.2", "aarch64", "2.31", "1.19.2"),
        ("onnxruntime", "3.9.2", "aarch64", "2.17", "1.16.3"),
        (None, "3.13.5", "aarch64", "2.41", "2.3.0"),  # trixie: ai-edge-litert
    ],
)
def test_choose_takes_the_newest_that_the_glibc_can_load(runtime: str | None, python: str, machine: str, glibc: str, version: str) -> None:
    """The runtime's version follows Python, machine and glibc as HARDWARE.md section 2 lists them."""
    backend = {"onnxruntime": "onnxruntime", "openvino": "openvino"}.get(runtime or "", "tflite")
    chosen = choose(backend, runtime, python, machine, glibc, 64)
    assert chosen.wheels[0].version == version
    assert chosen.backend == backend


@pytest.mark.parametrize(
    ("backend", "runtime", "device", "message", "remedy"),
    [
        ("tflite", None, ("3.11.2", "armv7l", "2.36", 32), "32-bit userland", "64-bit operating system"),
        ("tflite", None, ("3.11.2", "aarch64", "2.36", 32), "32-bit userland", "64-bit operating system"),
        ("tflite", "tflite-runtime", ("3.12.3", "x86_64", "2.39", 64), "tflite-runtime for Python 3.12.3 on x86_64", "3.11 (glibc 2.17)"),
        ("onnxruntime", None, ("3.6.9", "aarch64", "2.27", 64), "onnxruntime for Python 3.6.9", "3.9 (glibc 2.17), 3.10 (glibc 2.17)"),
        ("onnxruntime", None, ("3.11.2", "aarch64", "", 64), "no glibc", "3.11 (glibc 2.17)"),
        ("onnxruntime", None, ("3.11.2", "riscv64", "2.36", 64), "on riscv64", "another backend"),
        ("tflite", "tflite-runtime==1.0", ("3.11.2", "aarch64", "2.36", 64), "tflite-runtime==1.0", "another backend or runtime"),
        ("tensorrt", None, ("3.11.2", "aarch64", "2.36", 64), "no wheels of tensorrt", "another backend"),
    ],
)
def test_a_device_without_wheels_is_told_what_there_is(
    backend: str, runtime: str | None, device: tuple[str, str, str, int], message: str, remedy: str
) -> None:
    """env_missing says what was looked for, and which Python or system would do."""
    with pytest.raises(FaultError) as caught:
        choose(backend, runtime, *device)
    assert caught.value.fault.code == "env_missing"
    assert message in caught.value.fault.message
    assert remedy in caught.value.fault.next


def test_the_hash_is_of_the_wheels_alone() -> None:
    """Order, Python and floor do not matter to it; one digit of a wheel does."""
    one = read()[0]
    assert re.fullmatch("[0-9a-f]{16}", one.hash)
    assert replace(one, wheels=one.wheels[::-1], python="3.99", libc_floor="9.9").hash == one.hash
    assert replace(one, wheels=(replace(one.wheels[0], sha256="0" * 64), *one.wheels[1:])).hash != one.hash


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """A folder with one wheel, which has a module, its bytecode and a script."""
    folder = tmp_path / "wheelhouse"
    folder.mkdir()
    files = {
        "tiny/__init__.py": "VERSION = 1\n",
        "tiny/__pycache__/old.pyc": "",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nLicense: Apache-2.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny = tiny:main\n",
    }
    files["tiny-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in [*files, "tiny-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return folder


def environment(wheelhouse: Path) -> Environment:
    content = (wheelhouse / "tiny-1.0-py3-none-any.whl").read_bytes()
    return Environment("tiny", "tflite", (Wheel("tiny", "1.0", hashlib.sha256(content).hexdigest()),), "3.9", "aarch64", "2.17")


def test_an_archive_holds_the_wheels_own_files_and_nothing_of_this_machine(wheelhouse: Path, tmp_path: Path) -> None:
    """Members are regular files in order, without owner and time; scripts, bytecode and the installer's records are left out."""
    with tarfile.open(fetch(environment(wheelhouse), tmp_path / "cache", wheelhouse=wheelhouse)) as archive:
        members = archive.getmembers()
    information = [f"tiny-1.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt")]
    assert [member.name for member in members] == [*information, "tiny/__init__.py"]
    assert all(member.isreg() for member in members)
    assert {(member.uid, member.gid, member.uname, member.gname, member.mtime, member.mode) for member in members} == {
        (0, 0, "", "", 0, 0o644)
    }


def test_two_builds_are_the_same_bytes(wheelhouse: Path, tmp_path: Path) -> None:
    """An archive is determined by its wheels, and named by their hash."""
    one = environment(wheelhouse)
    first, second = (fetch(one, tmp_path / name, wheelhouse=wheelhouse) for name in ("a", "b"))
    assert first.name == f"{one.hash}.tar.gz"
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_is_built_once(wheelhouse: Path, tmp_path: Path) -> None:
    """Once it is in the cache, neither index nor wheelhouse is asked."""
    one = environment(wheelhouse)
    built = fetch(one, tmp_path / "cache", wheelhouse=wheelhouse)
    (wheelhouse / "tiny-1.0-py3-none-any.whl").unlink()
    assert fetch(one, tmp_path / "cache", wheelhouse=wheelhouse) == built


@pytest.mark.parametrize(
    ("wheel", "words"),
    [
        (Wheel("tiny", "1.0", "0" * 64), "Hash mismatch"),
        (Wheel("tiny", "2.0", "0" * 64), "tiny==2.0"),
        (Wheel("absent", "1", "0" * 64), "absent"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(wheel: Wheel, words: str, wheelhouse: Path, tmp_path: Path) -> None:
    """A wheel of another hash, another version or no wheel is env_missing in one line, and leaves nothing in the cache."""
    one = replace(environment(wheelhouse), name=wheel.name, wheels=(wheel,))
    with pytest.raises(FaultError) as caught:
        fetch(one, tmp_path / "cache", wheelhouse=wheelhouse)
    fault = caught.value.fault
    assert fault.code == "env_missing"
    assert words in fault.message
    assert "\n" not in fault.message
    assert f"{wheel.name}=={wheel.version}" in fault.next
    assert list((tmp_path / "cache").iterdir()) == []


RUN = """
import json, sys
import numpy, psutil
import backends
session = backends.get("tflite").load(sys.argv[1], {"runtime": sys.argv[2]})
correct = 0
with numpy.load(sys.argv[3]) as data:
    for image, label in zip(data["eval_image"][:200], data["eval_labels"]):
        session.bind({"image": ((image.reshape(1, 28, 28, 1) / 255 - 0.2860) / 0.3530).astype("float32")})
        session.infer()
        correct += int(session.outputs()["logits"].argmax() == label)
print(json.dumps([session.details()["runtime"], numpy.__version__, numpy.__file__, psutil.__file__, correct / 200]))
"""


def test_tflite_runtime_runs_with_numpy_1_beside_the_controllers_numpy_2(tmp_path: Path) -> None:
    """Needs the package index. The unpacked environment, first on PYTHONPATH, is what this very interpreter then imports."""
    chosen = choose("tflite", "tflite-runtime", platform.python_version(), platform.machine(), platform.libc_ver()[1], 64)
    site = tmp_path / "site"
    with tarfile.open(fetch(chosen, tmp_path / "cache")) as archive:
        archive.extractall(site, filter="data")
    fashion = ROOT / "examples" / "fashion"
    arguments = [str(fashion / "model.tflite"), chosen.runtime, str(fashion / "data.npz")]
    environ = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], env=environ, capture_output=True, text=True, check=True)
    runtime, numpy_version, numpy_file, psutil_file, accuracy = json.loads(done.stdout)
    assert (runtime, numpy_version) == ("tflite-runtime", "1.26.4")
    assert Path(numpy_file).is_relative_to(site)
    assert Path(psutil_file).is_relative_to(site)
    assert abs(accuracy - 0.925) < 0.05
    assert np.__version__.startswith("2.")
