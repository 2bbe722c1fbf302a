"""Processors beside the CPU: sticks on USB, the Edge TPU on PCIe, the GPUs of Jetsons and PCs. Identified by where they are plugged in."""

import os
import re
from typing import Dict, Iterator, List, NamedTuple

from agent.boards import Board
from agent.description import Accelerator
from agent.system import System, clean

CORAL_DEV_BOARD = "Freescale i.MX8MQ Phanbell"
EDGE_TPU_ID = "1ac1:089a"
MAX_ACCELERATORS = 64
USB_PORT = re.compile(r"\d+-\d+(?:\.\d+)*\Z")
PCI_ADDRESS = re.compile(r"(?:[0-9a-f]{4})?([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\Z")
SMI_FIELDS = "name,compute_cap,memory.total,driver_version,pci.bus_id"
LUXONIS = "a Luxonis camera has the same USB id: the id alone does not prove that it is a Neural Compute Stick"


class Stick(NamedTuple):
    """What a USB id stands for; sticks change theirs once their firmware is loaded."""

    kind: str
    name: str
    firmware: str


STICKS = {
    "1a6e:089a": Stick("coral-usb", "Coral USB Accelerator", "not loaded"),
    "18d1:9302": Stick("coral-usb", "Coral USB Accelerator", "loaded"),
    "03e7:2485": Stick("ncs2", "Neural Compute Stick 2", "not loaded"),
    "03e7:f63b": Stick("ncs2", "Neural Compute Stick 2", "loaded"),
    "03e7:2150": Stick("ncs1", "Neural Compute Stick", "not loaded"),
}


def accelerators(system: System, board: Board) -> List[Accelerator]:
    """Return all that are plugged in or built in, at most MAX_ACCELERATORS."""
    gpus = _jetson_gpus(system, board) if board.sm else _nvidia_gpus(system)
    return [*_usb_sticks(system), *_edge_tpus(system, board), *gpus][:MAX_ACCELERATORS]


def _usb_sticks(system: System) -> Iterator[Accelerator]:
    for folder in system.names("sys/bus/usb/devices/*"):
        usb_id = "{}:{}".format(system.line(folder + "/idVendor"), system.line(folder + "/idProduct")).lower()
        if usb_id in STICKS and USB_PORT.match(os.path.basename(folder)):
            yield _usb_stick(system, folder, usb_id)


def usb_speeds(system: System) -> Dict[str, float]:
    """Return the USB links' speeds in Mbit/s, by the stick's kind and port."""
    sticks = {"{} {}".format(stick.kind, stick.path): stick.speed_mbps for stick in _usb_sticks(system)}
    return {name: speed for name, speed in sticks.items() if speed is not None}


def _usb_stick(system: System, folder: str, usb_id: str) -> Accelerator:
    stick = STICKS[usb_id]
    bus, device = (int(system.number("{}/{}".format(folder, name)) or 0) for name in ("busnum", "devnum"))
    node = "dev/bus/usb/{:03d}/{:03d}".format(bus, device)
    details = {"id": usb_id, "firmware": stick.firmware, "node": "/" + node}
    details.update(_told(system, folder, {"manufacturer": "manufacturer", "product": "product"}))
    if stick.kind == "ncs2":
        details["caveat"] = LUXONIS
    speed_mbps = system.number(folder + "/speed")
    return Accelerator(stick.kind, stick.name, os.path.basename(folder), speed_mbps, system.refusal(node, write=True), details)


def _edge_tpus(system: System, board: Board) -> List[Accelerator]:
    """Edge TPUs on PCIe: those with a driver, then those that only the bus sees. The Coral Dev Board has its own that way too."""
    kind, name = ("coral-dev-board", "Coral Dev Board Edge TPU") if board.name == CORAL_DEV_BOARD else ("coral-pcie", "Coral PCIe")
    nodes = [os.path.basename(folder) for folder in system.names("sys/class/apex/apex_*") or system.names("dev/apex_*")]
    linked = {node: system.target("sys/class/apex/{}/device".format(node)) for node in nodes}
    unclaimed = [address for address in _edge_tpu_addresses(system) if address not in linked.values()]
    found = [_apex(system, kind, name, node, linked[node] or (unclaimed.pop(0) if unclaimed else "")) for node in nodes]
    missing = "the driver (gasket, apex) is not loaded: there is no /dev/apex_0"
    driverless = [Accelerator(kind, name, address, None, missing, {"id": EDGE_TPU_ID}) for address in unclaimed]
    if not found and not driverless and kind == "coral-dev-board":
        driverless = [Accelerator(kind, name, "", None, missing, {})]
    return found + driverless


def _edge_tpu_addresses(system: System) -> List[str]:
    folders = system.names("sys/bus/pci/devices/*")
    ids = {folder: (system.line(folder + "/vendor"), system.line(folder + "/device")) for folder in folders}
    return [clean(os.path.basename(folder)) for folder, pair in ids.items() if pair == ("0x1ac1", "0x089a")]


def _apex(system: System, kind: str, name: str, node: str, address: str) -> Accelerator:
    folder = "sys/class/apex/{}/".format(node)
    details = {"id": EDGE_TPU_ID, "node": "/dev/" + clean(node)}
    details.update(_told(system, folder, {"driver": "driver_version", "status": "status"}))
    for detail, file in (("temp_c", "temp"), *(("trip_point_{}_c".format(at), "trip_point{}_temp".format(at)) for at in range(3))):
        milli = system.number(folder + file)
        if milli is not None:
            details[detail] = "{:g}".format(milli / 1000)
    return Accelerator(kind, name, address or "/dev/" + clean(node), None, system.refusal("dev/" + node, write=True), details)


def _told(system: System, folder: str, files: Dict[str, str]) -> Dict[str, str]:
    """What the files of a device's folder say, by the name of the detail; without those that say nothing."""
    lines = {detail: system.line(os.path.join(folder, file)) for detail, file in files.items()}
    return {detail: line for detail, line in lines.items() if line}


def _jetson_gpus(system: System, board: Board) -> List[Accelerator]:
    """The SoC's GPU; /dev/nvmap is what every CUDA process opens first."""
    problem = system.refusal("dev/nvmap", write=True) if system.exists("dev/nvmap") else ""
    known = {"soc": board.soc, "sm": board.sm, "l4t": board.l4t, "jetpack": board.jetpack}
    details = {name: value for name, value in known.items() if value}
    return [Accelerator("jetson-gpu", "NVIDIA {} GPU".format(board.soc), "", None, problem, details)]


def _nvidia_gpus(system: System) -> List[Accelerator]:
    """By nvidia-smi; by what the driver leaves in /proc where that is missing or fails, which becomes the problem."""
    said = _smi(system, SMI_FIELDS)
    if '"compute_cap" is not a valid field' in said:  # drivers before 510 do not know it
        said = _smi(system, SMI_FIELDS.replace("compute_cap", "index"))
    rows = [[field.strip() for field in line.split(",")] for line in said.splitlines()]
    found = [_nvidia_gpu(*row) for row in rows if len(row) == 5 and PCI_ADDRESS.match(row[4].lower())]
    failure = "nvidia-smi: {}".format(said.strip().split("\n")[0]) if said.strip() else ""
    return found or [_driver_gpu(system, name, failure) for name in system.names("proc/driver/nvidia/gpus/*/information")]


def _smi(system: System, fields: str) -> str:
    return system.ask("nvidia-smi", "--query-gpu=" + fields, "--format=csv,noheader")


def _nvidia_gpu(name: str, sm: str, memory: str, driver: str, address: str) -> Accelerator:
    details = {"driver": driver}
    if re.match(r"\d+\.\d+\Z", sm):
        details["sm"] = sm
    mebibytes = re.match(r"(\d{1,9}) MiB\Z", memory)
    if mebibytes:
        details["memory_bytes"] = str(int(mebibytes.group(1)) << 20)
    return Accelerator("nvidia-gpu", name, _pci(address), None, "", details)


def _driver_gpu(system: System, information: str, failure: str) -> Accelerator:
    lines = [line.split(":", 1) for line in system.text(information).splitlines() if ":" in line]
    told = {name.strip(): clean(value) for name, value in lines}
    driver = re.search(r"Kernel Module(?: for \S+)? +([\d.]+)", system.text("proc/driver/nvidia/version"))
    problem = failure or system.refusal("dev/nvidia{}".format(told.get("Device Minor", "0")), write=True)
    address = told.get("Bus Location") or clean(information.split("/")[-2])
    return Accelerator(
        "nvidia-gpu", told.get("Model") or "NVIDIA GPU", _pci(address), None, problem, {"driver": driver.group(1)} if driver else {}
    )


def _pci(address: str) -> str:
    """A PCI address as Linux writes it: nvidia-smi gives its domain eight digits."""
    found = PCI_ADDRESS.match(address.lower())
    return found.group(1) if found else address
