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
from controller.environments import DATA, Environment, Wheel, choose, fetch, numbers, read, size_bytes, unpacked_bytes

ROOT = Path(__file__).parent.parent


PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
COVERED = {
    ("onnxruntime", "x86_64"): PYTHONS,
    ("onnxruntime", "aarch64"): PYTHONS,
    ("openvino", "x86_64"): PYTHONS,
    ("openvino", "aarch64"): PYTHONS[2:],
    ("ai-edge-litert", "x86_64"): PYTHONS[3:],
    ("ai-edge-litert", "aarch64"): PYTHONS[3:],
    ("tflite-runtime", "x86_64"): PYTHONS[1:6],
    ("tflite-runtime", "aarch64"): PYTHONS[1:6],
    ("numpy", "x86_64"): PYTHONS,
    ("numpy", "aarch64"): PYTHONS,
}


def test_the_data_file_covers_the_matrix() -> None:
    """Every runtime has wheels for all Pythons from 3.6 to 3.14 that its makers ever built it for, on both machines."""
    covered: dict[tuple[str, str], set[str]] = {}
    for one in read():
        covered.setdefault((one.name, one.machine), set()).add(one.python)
    assert covered == {key: set(pythons) for key, pythons in COVERED.items()}


def test_every_entry_is_a_runtime_with_numpy_and_psutil_alone() -> None:
    """Wheels are pinned by sha256, the runtime first; runtimes of before numpy 2 have numpy 1; no two entries are for the same target."""
    for one in read():
        assert [wheel.name for wheel in one.wheels] == list(dict.fromkeys([one.name, "numpy", "psutil"]))
        assert all(re.fullmatch("[0-9a-f]{64}", wheel.sha256) and 50_000 < wheel.size_bytes < 10**9 for wheel in one.wheels)
        numpy = next(wheel.version for wheel in one.wheels if wheel.name == "numpy")
        assert one.name != "tflite-runtime" or numpy.startswith("1.")
        assert one.runtime != "openvino==2021.4.2" or numpy.startswith(("1.16", "1.17", "1.18", "1.19"))
        assert (one.python, one.machine) != ("3.6", "aarch64") or numpy == "1.19.4"  # 1.19.5 is an illegal instruction on a Jetson
    targets = [(one.runtime, one.python, one.machine, one.libc_floor) for one in read()]
    assert len(set(targets)) == len(targets)


def test_an_alternate_is_older_than_what_is_taken_without_it() -> None:
    """Of the same device, an alternate is never newer than the preferred one, and without its version it is never chosen."""
    for one in read():
        for runtime in (None, one.name):
            try:
                chosen = choose(one.backend, runtime, one.python, one.machine, one.libc_floor, 64)
            except FaultError:
                assert one.alternate  # its glibc is too old for all others
                continue
            assert not chosen.alternate
            assert not (one.alternate and chosen.name == one.name) or numbers(chosen.wheels[0].version) > numbers(one.wheels[0].version)


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
        ("onnxruntime", "3.6.9", "aarch64", "2.27", "1.10.0"),  # Jetson Nano
        ("onnxruntime", "3.6.15", "x86_64", "2.36", "1.10.0"),
        ("onnxruntime", "3.8.10", "aarch64", "2.31", "1.19.2"),  # JetPack 5
        ("onnxruntime==1.22.1", "3.11.2", "aarch64", "2.36", "1.22.1"),
        ("openvino==2025.2.0", "3.11.2", "aarch64", "2.36", "2025.2.0"),
        ("openvino==2021.4.2", "3.9.2", "x86_64", "2.31", "2021.4.2"),
        ("openvino==2022.3.1", "3.10.13", "x86_64", "2.36", "2022.3.1"),
        ("openvino", "3.6.15", "x86_64", "2.27", "2021.4.2"),
        ("openvino", "3.7.16", "x86_64", "2.31", "2023.1.0"),
        ("openvino==2022.3.1", "3.7.16", "x86_64", "2.31", "2022.3.1"),
        (None, "3.13.5", "aarch64", "2.41", "2.3.0"),  # trixie: ai-edge-litert
    ],
)
def test_choose_takes_the_newest_that_the_glibc_can_load(runtime: str | None, python: str, machine: str, glibc: str, version: str) -> None:
    """The runtime's version follows Python, machine and glibc as HARDWARE.md section 2 lists them."""
    backend = {"onnxruntime": "onnxruntime", "openvino": "openvino"}.get((runtime or "").partition("==")[0], "tflite")
    chosen = choose(backend, runtime, python, machine, glibc, 64)
    assert chosen.wheels[0].version == version
    assert chosen.backend == backend


@pytest.mark.parametrize(
    ("backend", "runtime", "device", "message", "remedy"),
    [
        ("tflite", None, ("3.11.2", "armv7l", "2.36", 32), "32-bit userland", "64-bit operating system"),
        ("tflite", None, ("3.11.2", "aarch64", "2.36", 32), "32-bit userland", "64-bit operating system"),
        ("tflite", "tflite-runtime", ("3.12.3", "x86_64", "2.39", 64), "tflite-runtime for Python 3.12.3 on x86_64", "3.11 (glibc 2.17)"),
        ("tflite", None, ("3.6.9", "aarch64", "2.27", 64), "tflite for Python 3.6.9", "3.9 (glibc 2.17), 3.10 (glibc 2.17)"),
        ("openvino", "openvino==2021.4.2", ("3.9.2", "aarch64", "2.31", 64), "openvino==2021.4.2 for Python 3.9.2", "another backend"),
        ("onnxruntime", None, ("3.11.2", "aarch64", "", 64), "no glibc", "3.11 (glibc 2.17)"),
        ("onnxruntime", None, ("3.11.2", "riscv64", "2.36", 64), "on riscv64", "another backend"),
        ("tflite", "tflite-runtime==1.0", ("3.11.2", "aarch64", "2.36", 64), "tflite-runtime==1.0", "another backend or runtime"),
        ("caffe", None, ("3.11.2", "aarch64", "2.36", 64), "no wheels of caffe", "another backend"),
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


@pytest.mark.parametrize(
    ("python", "machine", "glibc", "numpy"),
    [("3.6.9", "aarch64", "2.27", "1.19.4"), ("3.8.10", "aarch64", "2.31", "1.23.5"), ("3.10.12", "aarch64", "2.35", "1.23.5")],
)
def test_tensorrt_gets_a_numpy_that_its_bindings_take(python: str, machine: str, glibc: str, numpy: str) -> None:
    """The runtime is the device's own, whichever is asked for: JetPack 4.6, 5 and 6 get numpy and psutil."""
    for runtime in (None, "tensorrt==8.2.1"):
        chosen = choose("tensorrt", runtime, python, machine, glibc, 64)
        assert [wheel.name for wheel in chosen.wheels] == ["numpy", "psutil"]
        assert chosen.wheels[0].version == numpy


def test_edgetpu_borrows_the_tflite_environments() -> None:
    """tflite-runtime, which libedgetpu is known to load in, where there is one; its successor otherwise, or where it is asked for."""
    for python, runtime, name in (
        ("3.11.2", None, "tflite-runtime"),
        ("3.13.1", None, "ai-edge-litert"),
        ("3.11.2", "ai-edge-litert", "ai-edge-litert"),
    ):
        assert choose("edgetpu", runtime, python, "aarch64", "2.36", 64) == choose("tflite", name, python, "aarch64", "2.36", 64)


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
    return Environment(
        "tiny", "tflite", (Wheel("tiny", "1.0", hashlib.sha256(content).hexdigest(), len(content)),), "3.9", "aarch64", "2.17"
    )


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


def test_sizes_are_known_before_an_archive_is(wheelhouse: Path, tmp_path: Path) -> None:
    """The size is the wheels' until there is an archive, and the archive's then; unpacked it is that of its files."""
    one = environment(wheelhouse)
    assert size_bytes(one, tmp_path / "cache") == one.wheels[0].size_bytes > 0
    archive = fetch(one, tmp_path / "cache", wheelhouse=wheelhouse)
    assert size_bytes(one, tmp_path / "cache") == archive.stat().st_size
    with tarfile.open(archive) as tar:
        assert unpacked_bytes(archive) == sum(len(tar.extractfile(member).read()) for member in tar.getmembers())  # type: ignore[union-attr]


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
