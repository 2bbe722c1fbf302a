"""What a device says of itself: the records that a probe is made of. Fields that nothing on the device tells are empty or None."""

from typing import Dict, List, NamedTuple, Optional

from agent.schema import Availability


class Interpreter(NamedTuple):
    """A Python that the device has: its path, and its version as "3.11.2"."""

    path: str
    version: str


class Accelerator(NamedTuple):
    """A processor beside the CPU.

    `path` is where it is plugged in: the USB port (2-1.4), the PCI address, the device node; empty for a part of the SoC. `speed_mbps`
    is that of its USB link. `problem` says in one line why this user cannot open it, empty if it can.
    `details` are what else is known, by name: id, firmware, driver, sm, memory_bytes, ...
    """

    kind: str  # coral-usb | coral-pcie | coral-dev-board | ncs1 | ncs2 | jetson-gpu | nvidia-gpu
    name: str
    path: str
    speed_mbps: Optional[float]
    problem: str
    details: Dict[str, str]


class PowerSource(NamedTuple):
    """A power sensor on the device: the driver that reads it, its boundary, its rails, and why it cannot be read (empty if it can)."""

    driver: str  # ina3221 | ina2xx | pi5_pmic | rapl | nvml
    boundary: str  # wall | board | soc | rail
    rails: List[str]
    problem: str
    details: Dict[str, str]


class Probe(NamedTuple):
    """What a device says it is. A quick probe asks no program and imports nothing: it leaves the fields below `power_mode` empty."""

    agent: str
    hostname: str
    board: str
    soc: str  # the last item of the device tree's `compatible`, without the vendor: tegra210, bcm2711
    machine: str
    bits: int
    page_bytes: int
    kernel: str
    os: str
    glibc: str
    python: str
    python_path: str
    cpu_model: str
    cpu_count: int
    memory_bytes: int
    disk_free_bytes: int
    cache_dir: str
    boot_id: str
    emulated: str  # what emulates the processor, empty on real hardware
    container: str  # docker, lxc, ...; empty outside of one
    user: str
    groups: List[str]
    wall_time_s: float
    monotonic_s: float
    thermal_zones_c: Dict[str, float]
    governors: List[str]
    accelerators: List[Accelerator]
    power_sources: List[PowerSource]
    cache_problem: str  # why environments cannot be kept and loaded there: read-only, noexec, ...; empty if they can
    environments: List[str]
    power_mode: str  # a Jetson's, by name
    interpreters: List[Interpreter]
    versions: Dict[str, str]  # of what the system has, by name: l4t, jetpack, tensorrt, cuda, libedgetpu1-std, libedgetpu, libusb-1.0-0
    tools: Dict[str, str]  # paths of programs, by name: edgetpu_compiler, trtexec, vcgencmd, nvpmodel, nvidia-smi
    backends: List[Availability]
