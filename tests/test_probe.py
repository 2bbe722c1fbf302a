"""What a device is and offers, read from the fake roots of boards.py: every string of HARDWARE.md section 1."""

import json
import os
import platform
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import boards as fake
import pytest
from agents import Agent, liar
from test_agent import interpreter

from agent import boards, host, software
from agent.accelerators import accelerators
from agent.cache import Cache
from agent.description import Probe
from agent.power_sources import power_sources
from agent.probe import probe
from agent.schema import PROTOCOL, FaultError, decode, dump, encode, load
from agent.system import MAX_CHARACTERS, System, output_of
from controller import inventory
from controller.remote import Remote
from controller.transport import connect
from controller.visit import visiting

UNKNOWN = boards.Board("", "", "", "", "")


def full(root: Path) -> Probe:
    """A full probe of a fake root, but for Pythons and runtimes."""
    system = System(str(root))
    board = boards.identify(system)
    found = probe(Cache(str(root / "cache")), str(root), None)
    return found._replace(
        accelerators=accelerators(system, board),
        power_sources=power_sources(system, board),
        power_mode=boards.power_mode(system),
        versions=software.versions(system, board),
        tools=software.tools(system),
    )


# Boards


@pytest.mark.parametrize(
    ("model", "soc"),
    [
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "bcm2837"),
        ("Raspberry Pi 4 Model B Rev 1.4", "bcm2711"),
        ("Raspberry Pi 5 Model B Rev 1.0", "bcm2712"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "bcm2837"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", "bcm2711"),
    ],
)
def test_a_raspberry_pi_says_which_it_is(model: str, soc: str, tmp_path: Path) -> None:
    """The device tree's model without its NUL, and the SoC without its vendor; no Jetson's facts."""
    fake.raspberry_pi(tmp_path, model, soc, "0xd03")
    assert boards.identify(System(str(tmp_path))) == boards.Board(model, soc, "", "", "")
    assert full(tmp_path).cpu_model == "Cortex-A53"


@pytest.mark.parametrize(("soc", "sm"), [("tegra210", "5.3"), ("tegra194", "7.2"), ("tegra234", "8.7"), ("tegra264", "11.0")])
def test_a_jetsons_soc_tells_its_compute_capability(soc: str, sm: str, tmp_path: Path) -> None:
    """Each Tegra has the compute capability that NVIDIA gives it, and its GPU is an accelerator."""
    fake.device_tree(tmp_path, fake.NANO, "nvidia,jetson", f"nvidia,{soc}")
    found = boards.identify(System(str(tmp_path)))
    assert (found.name, found.soc, found.sm) == (fake.NANO, soc, sm)
    (gpu,) = full(tmp_path).accelerators
    assert (gpu.kind, gpu.path, gpu.details) == ("jetson-gpu", "", {"soc": soc, "sm": sm})


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("32.6.1", "4.6"),
        *((f"32.7.{patch}", f"4.6.{patch}") for patch in range(1, 7)),
        ("35.2.1", "5.1"),
        ("35.4.1", "5.1.2"),
        ("35.5.0", "5.1.3"),
        ("36.3.0", "6.0"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("38.2", "7.0"),
        ("38.2.0", "7.0"),
        ("38.4", "7.1"),
        ("39.2", "7.2"),
        ("99.9.9", ""),
        ("", ""),
    ],
)
def test_a_release_of_jetson_linux_is_one_of_jetpack(l4t: str, jetpack: str) -> None:
    """NVIDIA's table, with and without a final .0; nothing is guessed for a release it does not have."""
    assert boards.jetpack(l4t) == jetpack


def test_the_release_is_the_packages_where_its_file_is_missing(tmp_path: Path) -> None:
    """/etc/nv_tegra_release tells the release, without it nvidia-l4t-core does; a broken file counts as none."""
    fake.jetson_nano(tmp_path)
    assert boards.identify(System(str(tmp_path))).l4t == "32.7.1"
    fake.packages(tmp_path, {"nvidia-l4t-core": "32.7.3-20221122092935"})
    (tmp_path / "etc/nv_tegra_release").write_text("# R32 (release)\n")
    assert boards.identify(System(str(tmp_path)))[3:] == ("32.7.3", "4.6.3")
    (tmp_path / "etc/nv_tegra_release").unlink()
    assert boards.identify(System(str(tmp_path)))[3:] == ("32.7.3", "4.6.3")
    fake.packages(tmp_path, {})
    assert boards.identify(System(str(tmp_path)))[3:] == ("", "")


def test_a_jetson_nano_introduces_itself(tmp_path: Path) -> None:
    """Board, JetPack, power mode, TensorRT, CUDA, tools, GPU, the rails with their total, and zones without placeholders."""
    fake.jetson_nano(tmp_path)
    found = full(tmp_path)
    assert (found.board, found.soc, found.power_mode, found.cpu_model) == (fake.NANO, "tegra210", "MAXN", "Cortex-A57")
    assert found.versions == {"l4t": "32.7.1", "jetpack": "4.6.1", "tensorrt": "8.2.1.8", "cuda": "10.2.300"}
    assert [gpu.details for gpu in found.accelerators] == [{"soc": "tegra210", "sm": "5.3", "l4t": "32.7.1", "jetpack": "4.6.1"}]
    assert found.tools == {
        "trtexec": str(tmp_path / "usr/src/tensorrt/bin/trtexec"),
        "nvpmodel": str(tmp_path / "usr/sbin/nvpmodel"),
        "jetson_clocks": str(tmp_path / "usr/bin/jetson_clocks"),
    }
    (power,) = found.power_sources
    assert (power.boundary, power.rails, power.problem) == ("board", ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"], "")
    assert power.details == {"layout": "iio", "total": "POM_5V_IN", "folders": "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"}
    assert found.thermal_zones_c == {"AO-therm": 47.5, "CPU-therm": 44.0, "GPU-therm": 42.5, "PLL-therm": 39.0}


def test_a_jetson_orin_nano_introduces_itself(tmp_path: Path) -> None:
    """The hwmon layout: no rail without a name, none for the sum of the shunts, VDD_IN the total."""
    fake.jetson_orin_nano(tmp_path)
    found = full(tmp_path)
    assert (found.board, found.soc, found.power_mode) == (fake.ORIN_NANO, "tegra234", "25W")
    assert found.versions == {"l4t": "36.4.3", "jetpack": "6.2", "tensorrt": "10.3.0.30", "cuda": "12.6.11"}
    (power,) = found.power_sources
    assert (power.boundary, power.rails, power.details["layout"]) == ("board", ["VDD_IN", "VDD_CPU_GPU_CV"], "hwmon")
    assert power.details["total"] == "VDD_IN"


def test_a_power_mode_is_found_among_warnings(tmp_path: Path) -> None:
    """The mode's name, whatever nvpmodel says before; where it refuses, by the number it keeps; none where that has no name."""
    fake.program(tmp_path, "nvpmodel", {"-q": "NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_15W_6CORE\n2\n"}, "usr/sbin")
    assert boards.power_mode(System(str(tmp_path))) == "MODE_15W_6CORE"
    fake.script(tmp_path, "nvpmodel", "echo 'NVPM ERROR: no permission' >&2; exit 1\n", "usr/sbin")
    assert boards.power_mode(System(str(tmp_path))) == ""
    fake.write(
        tmp_path, {"var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n", "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"}
    )
    assert boards.power_mode(System(str(tmp_path))) == "MAXN_SUPER"
    fake.write(tmp_path, {"var/lib/nvpmodel/status": "pmode:0003\n"})
    assert boards.power_mode(System(str(tmp_path))) == ""


# TensorRT and libraries

OLD_HEADER = """\
#define NV_TENSORRT_MAJOR 8 //!< TensorRT major version.
#define NV_TENSORRT_MINOR 2 //!< TensorRT minor version.
#define NV_TENSORRT_PATCH 1 //!< TensorRT patch version.
#define NV_TENSORRT_BUILD 8 //!< TensorRT build number.
"""
NEW_HEADER = "".join(
    f"#define TRT_{part}_ENTERPRISE {number}\n#define NV_TENSORRT_{part} TRT_{part}_ENTERPRISE //!< TensorRT version.\n"
    for part, number in (("MAJOR", 10), ("MINOR", 13), ("PATCH", 0), ("BUILD", 35))
)


@pytest.mark.parametrize(
    ("header", "version"),
    [(OLD_HEADER, "8.2.1.8"), (NEW_HEADER, "10.13.0.35"), ("#define NV_TENSORRT_MAJOR MAJOR\n", ""), ("", "")],
)
def test_tensorrt_without_its_package_is_found_by_its_header(header: str, version: str, tmp_path: Path) -> None:
    """NvInferVersion.h with numbers, or with the names of 10.13 for them; anything else is no version."""
    fake.write(tmp_path, {"usr/include/aarch64-linux-gnu/NvInferVersion.h": header})
    assert software.tensorrt_of_header(System(str(tmp_path))) == version


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("[TensorRT v8201]", "8.2.1"),
        ("[TensorRT v8502]", "8.5.2"),
        ("[TensorRT v100300]", "10.3.0"),
        ("[TensorRT v101305]", "10.13.5"),
        ("v8201", ""),
    ],
)
def test_trtexecs_banner_has_two_numbering_schemes(banner: str, version: str) -> None:
    """Below 10 major*1000 + minor*100 + patch, from 10 on major*10000 + minor*100 + patch."""
    assert software.tensorrt_of_banner(f"&&&& RUNNING TensorRT.trtexec {banner} # trtexec --help\n") == version


def test_tensorrt_is_asked_of_trtexec_last(tmp_path: Path) -> None:
    """Without package and header, trtexec's banner tells, though it is not on the PATH."""
    fake.jetson_nano(tmp_path)
    fake.packages(tmp_path, {})
    system = System(str(tmp_path))
    assert software.versions(system, boards.identify(system))["tensorrt"] == "8.2.1"


def test_libusb_is_found_with_and_without_a_package(tmp_path: Path) -> None:
    """Its package's version, else its path by the linker's cache, else the library itself; none where there is none."""

    def found() -> str:
        return software.versions(System(str(tmp_path)), UNKNOWN).get("libusb-1.0-0", "")

    assert found() == ""
    fake.write(tmp_path, {"usr/lib/x86_64-linux-gnu/libusb-1.0.so.0": ""})
    assert found() == "/usr/lib/x86_64-linux-gnu/libusb-1.0.so.0"
    fake.write(tmp_path, {"etc/ld.so.cache": "glibc-ld.so.cache1.1\0libusb-1.0.so.0\0/lib/libusb-1.0.so.0\0libz.so.1\0"})
    assert found() == "/lib/libusb-1.0.so.0"
    fake.write(tmp_path, {"etc/ld.so.cache": "/" * 2_000_000})  # a search that goes back at each of them would take hours
    assert found() == "/usr/lib/x86_64-linux-gnu/libusb-1.0.so.0"
    fake.packages(tmp_path, {"libusb-1.0-0": "2:1.0.26-1"})
    assert found() == "2:1.0.26-1"


def test_removed_packages_are_not_installed(tmp_path: Path) -> None:
    """A package of which only the settings are left does not count."""
    fake.program(tmp_path, "dpkg-query", {"-W": "libedgetpu1-std 16.0 config-files\nlibedgetpu1-max 16.0 installed\n"})
    assert software.versions(System(str(tmp_path)), UNKNOWN) == {"libedgetpu1-max": "16.0"}


# The computer around


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({}, ""),
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": 'engine="podman-4.3.1"\n'}, "podman"),
        ({"run/systemd/container": "lxc\n"}, "lxc"),
        ({"proc/1/environ": "PATH=/bin\0container=systemd-nspawn\0"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "12:cpu:/docker/0123\n"}, "docker"),
        ({"proc/1/cgroup": "0::/kubepods/burstable/pod1\n"}, "kubepods"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, ""),
    ],
)
def test_a_container_is_found_out(files: dict[str, str], container: str, tmp_path: Path) -> None:
    """By the marks that each leaves, and none where there are none."""
    assert host.container(System(str(fake.write(tmp_path, files)))) == container


def test_a_root_that_pretends_to_be_a_board_does_not_hide_emulation(tmp_path: Path) -> None:
    """Where uname says aarch64, this machine's own processor counts, whatever /proc/cpuinfo of the root says."""
    fake.raspberry_pi_4(tmp_path)
    emulator = "qemu-user" if platform.machine() in host.X86_MACHINES else ""
    assert host.emulator(System(str(tmp_path)), "aarch64") == emulator
    assert host.emulator(System(str(tmp_path)), "x86_64") == ""


def test_qemus_own_processor_is_emulated(tmp_path: Path) -> None:
    """Later releases of qemu-user make up /proc/cpuinfo, and virtual machines have it from the processor: implementer 0, part Q."""
    fake.arm_processor(tmp_path, "0x051")
    cpuinfo = tmp_path / "proc/cpuinfo"
    assert host.emulator(System(str(tmp_path)), "x86_64") == ""
    cpuinfo.write_text(cpuinfo.read_text().replace("0x41", "0x00"))
    assert host.emulator(System(str(tmp_path)), "x86_64") == "qemu"


def test_a_processors_name_is_whole_however_many_there_are(tmp_path: Path) -> None:
    """What is read of /proc/cpuinfo ends anywhere, here within every possible character of its last line."""
    core = "processor\t: 7\nmodel name\t: AMD EPYC 7763 64-Core Processor\n\n"
    for length in range(3 * len(core), 4 * len(core)):
        fake.write(tmp_path, {"proc/cpuinfo": (core * 4)[:length]})
        assert host.processor(System(str(tmp_path))) == "AMD EPYC 7763 64-Core Processor"


def test_pythons_are_found_once_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to one interpreter count once, the agent's own comes first, what is too old, hangs or breaks is none."""
    monkeypatch.setattr("agent.software.output_of", lambda argv: output_of(argv, timeout_s=0.5))
    for name, commands in {
        "python3.6": "echo 3.6.9\n",
        "python3.8": "echo 3.5.2\n",
        "python3.9": "sleep 60\n",
        "python3.10": "kill -SEGV $$\n",
        "python3.12": 'case "$*" in "-I -S -c "*) echo 3.12.1 ;; esac\n',
    }.items():
        fake.script(tmp_path, name, commands)
    (tmp_path / "usr/bin/python3").symlink_to("python3.6")
    found = software.interpreters(System(str(tmp_path)))
    own, bin_folder = os.path.realpath(sys.executable), os.path.realpath(tmp_path / "usr/bin")
    assert [one.path for one in found] == [own, f"{bin_folder}/python3.6", f"{bin_folder}/python3.12"]
    assert [one.version for one in found[1:]] == ["3.6.9", "3.12.1"]


def test_this_machines_pythons_are_found() -> None:
    """On the real root the running interpreter is there, each path once, each with a version."""
    found = software.interpreters(System())
    assert found[0].path == os.path.realpath(sys.executable)
    assert len({one.path for one in found}) == len(found)


# The verb


@pytest.mark.parametrize("kind", fake.KINDS)
def test_the_agent_probes_a_fake_root(kind: str, tmp_path: Path) -> None:
    """Each board by the agent itself with --root, quick: a record that loads, with nothing that a program would have told."""
    fake.KINDS[kind](tmp_path / "root")
    found = load(Probe, Agent(tmp_path / "cache").call("probe", None, "--quick", "--root", str(tmp_path / "root")))
    assert found.board == boards.identify(System(str(tmp_path / "root"))).name
    assert (found.interpreters, found.versions, found.tools, found.backends) == ([], {}, {}, [])
    assert found.power_mode == {"jetson-nano": "MAXN", "jetson-orin-nano": "25W"}.get(kind, "")
    assert (found.cache_problem, found.user != "", found.groups != []) == ("", True, True)


def test_runtimes_are_tried_with_the_devices_own_variables(tmp_path: Path) -> None:
    """A runtime that dies unless `agent.env` has what a launch's fault told to put there is well in the probe too."""
    agent = {"cache_dir": str(tmp_path / "agent"), "python": sys.executable}
    dies = "import os, signal\nos.environ.get('OPENBLAS_CORETYPE') == 'ARMV8' or os.kill(os.getpid(), signal.SIGILL)\n"
    fake.write(tmp_path, {"agent/envs/numpy119/onnxruntime.py": dies + "get_available_providers = list\n"})
    reasons: list[str] = []
    for env in ({}, {"OPENBLAS_CORETYPE": "ARMV8"}):
        devices = {"board": {"kind": "local", "agent": {**agent, "env": env}}}
        (tmp_path / "inventory.yaml").write_text(json.dumps({"version": 1, "devices": devices}))
        with visiting(inventory.load(tmp_path / "inventory.yaml").devices["board"]) as remote:
            reasons += [one.reason for one in remote.probe({"onnxruntime": "numpy119"}).backends if one.backend == "onnxruntime"]
    assert reasons == ["its import ended without an answer, by SIGILL", ""]


@pytest.mark.parametrize("version", ["3.6", ""])
def test_a_full_probe_asks_programs(version: str, tmp_path: Path) -> None:
    """Under Python 3.6 and this one: what programs tell is there, and every backend has an answer."""
    fake.jetson_nano(tmp_path / "root")
    python = interpreter(version) if version else sys.executable
    agent = Agent(tmp_path / "cache", python, {"PYTHONPATH": ""})
    found = load(Probe, agent.call("probe", {"environments": {}}, "--root", str(tmp_path / "root")))
    assert (found.power_mode, found.versions["tensorrt"]) == ("MAXN", "8.2.1.8")
    assert found.interpreters[0].path == os.path.realpath(python)
    assert {one.backend for one in found.backends} >= {"onnxruntime", "tflite", "openvino"}


ONE = {"kind": "ncs2", "name": "n", "path": "1-1", "speed_mbps": None, "problem": "", "details": {}}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"accelerators": [ONE] * 64}, ""),
        ({"accelerators": [ONE] * 10_000}, "protocol"),
        ({"accelerators": [{**ONE, "details": dict.fromkeys(map(str, range(10_000)), "")}]}, "protocol"),
        ({"accelerators": [{**ONE, "details": {"x" * 5000: ""}}]}, "protocol"),
        ({"board": "x" * 5000}, "protocol"),
        ({"governors": {}}, "protocol"),
    ],
)
def test_a_probe_larger_than_a_devices_is_refused(changes: dict[str, Any], code: str, tmp_path: Path) -> None:
    """The controller takes a probe of a device's size and refuses ten thousand accelerators or details and texts without end."""
    answer = {"v": PROTOCOL, "ok": {**dump(full(fake.write(tmp_path / "root", {}))), **changes}}
    with closing(Remote(connect("liar", None), "liar", str(liar(tmp_path, encode(answer))), str(tmp_path))) as remote:
        try:
            assert len(remote.probe().accelerators) == len(changes.get("accelerators", []))
            told = ""
        except FaultError as error:
            told = error.fault.code
    assert told == code


@pytest.mark.parametrize("text", [b"", b"\0" * 5000, b"\xff\xfe\x1b]0;x\x07", b"nan", b"1e999", b"-1", b"A" * 100_000, b"\xed\xa0\x80"])
def test_damaged_files_break_nothing(text: bytes, tmp_path: Path) -> None:
    """Every file of a board replaced by rubbish: the probe is a record that crosses the wire, none of its strings is long."""
    for maker in (fake.jetson_nano, fake.jetson_orin_nano, fake.coral_usb_host, fake.coral_pcie_host, fake.nvidia_pc):
        root = tmp_path / maker.__name__
        maker(root)
        for path in root.rglob("*"):
            if path.is_file() and "bin" not in path.parts:
                path.chmod(0o600)
                path.write_bytes(text)
        found = load(Probe, decode(encode(full(root))))
        assert len(found.board) <= MAX_CHARACTERS
        assert found.accelerators == [] or maker is fake.coral_pcie_host or maker is fake.nvidia_pc
