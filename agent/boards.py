"""Which board this is, by its device tree and by what NVIDIA's releases leave on it."""

import re
from typing import NamedTuple

from agent.system import System, clean

# Compute capability of a Jetson's GPU by its SoC (CUDA programming guide; NVIDIA's list of CUDA GPUs).
SM = {"tegra210": "5.3", "tegra186": "6.2", "tegra194": "7.2", "tegra234": "8.7", "tegra264": "11.0"}
# Jetson Linux to JetPack (NVIDIA's JetPack archive); releases that end in .0 without it.
JETPACK = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.2.1": "5.1",
    "35.4.1": "5.1.2",
    "35.5": "5.1.3",
    "36.3": "6.0",
    "36.4": "6.1",
    "36.4.3": "6.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}
RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
POWER_MODEL = re.compile(r"^< POWER_MODEL ID=(\d{1,6}) NAME=(\S+) >", re.MULTILINE)
POWER_MODE = re.compile(r"^NV Power Mode: *(\S.*)$", re.MULTILINE)


class Board(NamedTuple):
    """A board by its own name; soc, sm, l4t and jetpack are empty where they do not apply or nothing tells."""

    name: str
    soc: str
    sm: str  # compute capability of the SoC's GPU
    l4t: str
    jetpack: str


def identify(system: System) -> Board:
    """Return which board this is: the device tree's model, on a PC the name its firmware gives."""
    compatible = system.items("proc/device-tree/compatible")
    soc = compatible[-1].rpartition(",")[2] if compatible else ""
    name = system.line("proc/device-tree/model") or system.line("sys/class/dmi/id/product_name")
    l4t = _l4t(system, soc)
    return Board(name, soc, SM.get(soc, ""), l4t, jetpack(l4t))


def _l4t(system: System, soc: str) -> str:
    """The release of Jetson Linux as 32.7.1, from its own file or its core package."""
    found = RELEASE.match(system.line("etc/nv_tegra_release"))
    if found:
        return "{}.{}".format(*found.groups())
    if not soc.startswith("tegra"):
        return ""
    package = re.search(r"\d+(?:\.\d+)+", system.ask("dpkg-query", "--show", "--showformat=${Version}", "nvidia-l4t-core"))
    return package.group() if package else ""


def jetpack(l4t: str) -> str:
    """Return the JetPack that a release of Jetson Linux belongs to, empty where the table does not have it."""
    return JETPACK.get(l4t) or JETPACK.get(re.sub(r"\.0$", "", l4t), "")


def power_mode(system: System) -> str:
    """Return the name of a Jetson's power mode: its number means another mode on another board.

    By nvpmodel itself; where it may not be asked or does not answer, by the number that it keeps and the names in its configuration.
    """
    found = POWER_MODE.search(system.ask("nvpmodel", "-q"))
    return found.group(1) if found else _kept_power_mode(system)


def _kept_power_mode(system: System) -> str:
    number = re.match(r"pmode:(\d{1,6})", system.line("var/lib/nvpmodel/status"))
    names = {int(mode): name for mode, name in POWER_MODEL.findall(system.text("etc/nvpmodel.conf"))}
    return clean(names.get(int(number.group(1)), "")) if number else ""
