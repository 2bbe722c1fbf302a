"""Fake root folders of lab devices: their system files, and scripts that speak as their programs do, with the strings of HARDWARE.md.

An agent probes one with `probe --root DIR`. ``python tests/boards.py KIND DIR`` writes one.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

PROGRAMS = "usr/bin"
TRTEXEC = "usr/src/tensorrt/bin"
PI_4 = "Raspberry Pi 4 Model B Rev 1.4"
PI_5 = "Raspberry Pi 5 Model B Rev 1.0"
NANO = "NVIDIA Jetson Nano Developer Kit"
ORIN_NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
CORAL_DEV_BOARD = "Freescale i.MX8MQ Phanbell"

PMIC = """\
 3V7_WL_SW_A current(0)=0.08002204A
   3V3_SYS_A current(1)=0.07904740A
  VDD_CORE_A current(7)=0.92871990A
 3V7_WL_SW_V volt(8)=3.73071500V
   3V3_SYS_V volt(9)=3.32234000V
  VDD_CORE_V volt(15)=0.72097620V
     EXT5V_V volt(24)=5.15210000V
      BATT_V volt(25)=0.00000000V
"""
NO_VCIO = "Can't open device file: /dev/vcio_gencmd"
GPU_INFORMATION = """\
Model: \t\t NVIDIA GeForce RTX 3060
IRQ:   \t\t 123
GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000
Bus Type: \t PCIe
Bus Location: \t 0000:01:00.0
Device Minor: \t 0
"""


def write(root: Path, files: Mapping[str, str]) -> Path:
    """The root with these files, by their names below it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def program(root: Path, name: str, answers: Mapping[str, str], folder: str = PROGRAMS) -> None:
    """A fake program that prints the answer whose key begins its arguments, joined by spaces, and knows nothing else."""
    cases = "".join(f"{shlex.quote(start)}*) printf %s {shlex.quote(text)} ;;\n" for start, text in answers.items())
    script(root, name, f'case "$*" in\n{cases}*) echo "unknown" >&2; exit 1 ;;\nesac\n', folder)


def script(root: Path, name: str, commands: str, folder: str = PROGRAMS) -> None:
    """A fake program of shell commands."""
    write(root, {f"{folder}/{name}": f"#!/bin/sh\n{commands}"})
    (root / folder / name).chmod(0o755)


def packages(root: Path, versions: Mapping[str, str]) -> None:
    """A fake dpkg-query that knows these packages."""
    rows = "".join(f"{name} {version} installed\n" for name, version in versions.items())
    core = versions.get("nvidia-l4t-core", "dpkg-query: no packages found matching nvidia-l4t-core\n")
    program(root, "dpkg-query", {"--show": core, "-W": rows})


def usb_device(root: Path, port: str, usb_id: str, speed_mbps: int, device: int = 3) -> None:
    """A device on a USB port, with its node."""
    vendor, product = usb_id.split(":")
    bus = int(port.split("-")[0])
    folder = f"sys/bus/usb/devices/{port}"
    files = {"idVendor": vendor, "idProduct": product, "speed": speed_mbps, "busnum": bus, "devnum": device}
    write(root, {f"{folder}/{name}": f"{value}\n" for name, value in files.items()})
    write(root, {f"dev/bus/usb/{bus:03d}/{device:03d}": ""})


def apex(root: Path, number: int, address: str) -> None:
    """An Edge TPU on PCIe with its driver."""
    folder = f"sys/class/apex/apex_{number}"
    write(
        root,
        {
            f"{folder}/temp": "45300\n",
            f"{folder}/trip_point0_temp": "85000\n",
            f"{folder}/trip_point1_temp": "90000\n",
            f"{folder}/trip_point2_temp": "95000\n",
            f"{folder}/driver_version": "1.2\n",
            f"{folder}/status": "ALIVE\n",
            f"dev/apex_{number}": "",
        },
    )
    pci_device(root, address, "0x1ac1", "0x089a")
    (root / folder / "device").symlink_to(f"../../../bus/pci/devices/{address}")


def pci_device(root: Path, address: str, vendor: str, device: str) -> None:
    """A device on PCI Express."""
    folder = f"sys/bus/pci/devices/{address}"
    write(root, {f"{folder}/vendor": f"{vendor}\n", f"{folder}/device": f"{device}\n"})


def system(root: Path, name: str, memory_kb: int = 3_884_416) -> Path:
    """What every Linux has: its name, memory, load, one thermal zone, one frequency governor."""
    return write(
        root,
        {
            "etc/os-release": f'PRETTY_NAME="{name}"\n',
            "proc/meminfo": f"MemTotal: {memory_kb} kB\nMemAvailable: {memory_kb // 2} kB\n",
            "proc/loadavg": "0.25 0.10 0.05 1/150 1234\n",
            "proc/stat": "cpu  100 0 50 800 40 0 10 0 0 0\n",
            "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "39200\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1500000\n",
        },
    )


def device_tree(root: Path, model: str, *compatible: str) -> None:
    """A device tree's model and its compatible strings, ended by NUL."""
    write(root, {"proc/device-tree/model": f"{model}\0", "proc/device-tree/compatible": "".join(f"{item}\0" for item in compatible)})


def arm_processor(root: Path, part: str, cores: int = 4) -> None:
    """/proc/cpuinfo of a 64-bit ARM kernel, which names the processor by number."""
    core = "processor\t: {}\nBogoMIPS\t: 108.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {}\nCPU revision\t: 3\n\n"
    write(root, {"proc/cpuinfo": "".join(core.format(number, part) for number in range(cores))})


def raspberry_pi(root: Path, model: str, soc: str, part: str) -> None:
    """A Raspberry Pi with Raspberry Pi OS 12."""
    system(root, "Debian GNU/Linux 12 (bookworm)")
    device_tree(root, model, "raspberrypi,board", f"brcm,{soc}")
    arm_processor(root, part)
    write(root, {"proc/cpuinfo": (root / "proc/cpuinfo").read_text() + f"Revision\t: c03114\nModel\t\t: {model}\n"})
    packages(root, {"libusb-1.0-0": "2:1.0.26-1"})


def raspberry_pi_4(root: Path) -> None:
    """A Pi 4: no power sensor, vcgencmd tells heat and throttling."""
    raspberry_pi(root, PI_4, "bcm2711", "0xd08")
    program(root, "vcgencmd", VCGENCMD)


def raspberry_pi_5(root: Path) -> None:
    """A Pi 5, whose power chip vcgencmd reads."""
    raspberry_pi(root, PI_5, "bcm2712", "0xd0b")
    program(root, "vcgencmd", {**VCGENCMD, "measure_clock arm": "frequency(0)=600117184\n", "pmic_read_adc": PMIC})


VCGENCMD = {"measure_temp": "temp=39.2'C\n", "get_throttled": "throttled=0x50000\n", "measure_clock arm": "frequency(48)=600117184\n"}


def jetson_nano(root: Path) -> None:
    """A Jetson Nano with JetPack 4.6.1: Ubuntu 18.04, TensorRT 8.2.1, an ina3221 behind the iio driver."""
    system(root, "Ubuntu 18.04.6 LTS", 4_051_104)
    device_tree(root, NANO, "nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210")
    arm_processor(root, "0xd07")
    release = "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 17:05:08 UTC 2022\n"
    zones = {"AO-therm": 47500, "CPU-therm": 44000, "GPU-therm": 42500, "PLL-therm": 39000, "PMIC-Die": 100000, "thermal-fan-est": -256000}
    monitor = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rails = enumerate({"POM_5V_IN": (4531, 5000, 906), "POM_5V_GPU": (1113, 5000, 222), "POM_5V_CPU": (539, 5000, 107)}.items())
    for number, (rail, (power_mw, voltage_mv, current_ma)) in rails:
        files = {"rail_name_{}": rail, "in_power{}_input": power_mw, "in_voltage{}_input": voltage_mv, "in_current{}_input": current_ma}
        write(root, {f"{monitor}/{name.format(number)}": f"{value}\n" for name, value in files.items()})
    for number, (zone, milli) in enumerate(zones.items()):
        folder = f"sys/class/thermal/thermal_zone{number}"
        write(root, {f"{folder}/type": f"{zone}\n", f"{folder}/temp": f"{milli}\n"})
    write(root, {"etc/nv_tegra_release": release, "usr/local/cuda/version.txt": "CUDA Version 10.2.300\n"})
    packages(root, {"nvidia-l4t-core": "32.7.1-20220219090432", "tensorrt": "8.2.1.8-1+cuda10.2"})
    jetson_programs(root, "MAXN", 0, "v8201")


def jetson_orin_nano(root: Path) -> None:
    """A Jetson Orin Nano with JetPack 6.2: Ubuntu 22.04, TensorRT 10.3, an ina3221 behind hwmon."""
    system(root, "Ubuntu 22.04.5 LTS", 7_802_944)
    device_tree(root, ORIN_NANO, "nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234")
    arm_processor(root, "0xd42", 6)
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    monitor = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    for number, (rail, current_ma) in enumerate({"VDD_IN": 942, "VDD_CPU_GPU_CV": 96, "NC": 0}.items(), 1):
        files = {f"in{number}_label": rail, f"in{number}_input": 5032, f"curr{number}_input": current_ma}
        write(root, {f"{monitor}/{name}": f"{value}\n" for name, value in files.items()})
    write(root, {f"{monitor}/in7_label": "sum of shunt voltages\n", f"{monitor}/in7_input": "5\n"})
    overcurrent = "sys/class/hwmon/hwmon4"
    write(root, {f"{overcurrent}/name": "soctherm_oc\n", **{f"{overcurrent}/oc{number}_event_cnt": "0\n" for number in (1, 2, 3)}})
    write(root, {"etc/nv_tegra_release": release, "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}'})
    packages(root, {"nvidia-l4t-core": "36.4.3-20250107174145", "tensorrt": "10.3.0.30-1+cuda12.5"})
    jetson_programs(root, "25W", 1, "v100300")


def jetson_programs(root: Path, power_mode: str, number: int, banner: str) -> None:
    """The programs that JetPack brings, and what nvpmodel keeps."""
    modes = (
        f"< POWER_MODEL ID={number} NAME={power_mode} >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=7 NAME=OTHER >\n< PM_CONFIG DEFAULT=7 >\n"
    )
    write(root, {"etc/nvpmodel.conf": modes, "var/lib/nvpmodel/status": f"pmode:{number:04d}\n"})
    program(root, "nvpmodel", {"-q": f"NV Power Mode: {power_mode}\n{number}\n"}, "usr/sbin")
    script(root, "jetson_clocks", 'echo "must be root" >&2; exit 1\n')
    program(root, "trtexec", {"--help": f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec --help\n"}, TRTEXEC)


def plain_pc(root: Path) -> None:
    """A PC with nothing plugged in: an x86 processor whose energy counters only root reads."""
    system(root, "Debian GNU/Linux 12 (bookworm)", 16_000_000)
    write(
        root,
        {
            "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Core(TM) i5-8259U CPU @ 2.30GHz\n",
            "sys/class/dmi/id/product_name": "NUC8i5BEH\n",
        },
    )
    for domain, name in {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram"}.items():
        folder = f"sys/class/powercap/{domain}"
        write(root, {f"{folder}/name": f"{name}\n", f"{folder}/energy_uj": "123456\n", f"{folder}/max_energy_range_uj": "262143328850\n"})
        (root / folder / "energy_uj").chmod(0o400)
    packages(root, {"libusb-1.0-0": "2:1.0.26-1"})


def ncs2_host(root: Path) -> None:
    """A PC with a Neural Compute Stick 2, its firmware not loaded."""
    plain_pc(root)
    usb_device(root, "2-1.3", "03e7:2485", 5000)


def coral_usb_host(root: Path) -> None:
    """A PC with a Coral USB Accelerator, its firmware loaded, and the slower of the two runtimes."""
    plain_pc(root)
    usb_device(root, "2-1.4", "18d1:9302", 5000)
    packages(root, {"libusb-1.0-0": "2:1.0.26-1", "libedgetpu1-std": "16.0"})
    script(root, "edgetpu_compiler", 'echo "Edge TPU Compiler version 16.0.384591198"\n')


def coral_pcie_host(root: Path) -> None:
    """A PC with a Coral on PCI Express."""
    plain_pc(root)
    apex(root, 0, "0000:02:00.0")
    packages(root, {"libedgetpu1-max": "16.0"})


def coral_dev_board(root: Path) -> None:
    """A Coral Dev Board."""
    system(root, "Mendel GNU/Linux 5 (Eagle)", 1_000_000)
    device_tree(root, CORAL_DEV_BOARD, "fsl,imx8mq-phanbell", "fsl,imx8mq")
    arm_processor(root, "0xd03")
    apex(root, 0, "0000:01:00.0")


def nvidia_pc(root: Path) -> None:
    """A PC with an NVIDIA GPU and its driver."""
    plain_pc(root)
    write(root, {"proc/driver/nvidia/gpus/0000:01:00.0/information": GPU_INFORMATION, "dev/nvidia0": ""})
    write(root, {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"})
    gpu = "NVIDIA GeForce RTX 3060, 8.6, 12288 MiB, 550.54.15, 00000000:01:00.0\n"
    program(root, "nvidia-smi", {"--query-gpu=name": gpu, "--query-gpu=pci.bus_id,power.draw": "00000000:01:00.0, 17.31 W\n"})


KINDS: dict[str, Callable[[Path], None]] = {
    maker.__name__.replace("_", "-"): maker
    for maker in (
        raspberry_pi_4,
        raspberry_pi_5,
        jetson_nano,
        jetson_orin_nano,
        ncs2_host,
        coral_usb_host,
        coral_pcie_host,
        coral_dev_board,
        nvidia_pc,
        plain_pc,
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the fake root folder of a lab device.")
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    KINDS[arguments.kind](arguments.folder)


if __name__ == "__main__":
    main()
