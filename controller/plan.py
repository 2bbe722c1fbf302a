"""Devices x models x recipes x backends x workloads -> cells, or a reason for each one left out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import backends
from agent.schema import Fault, Workload, fingerprint
from compress.original import kind_of
from compress.recipes import Recipe
from controller import lanes, recipe_file, targets
from controller.choices import BackendChoice, WorkloadChoice
from controller.errors import FleetmarkError
from controller.inventory import Device, Meter
from controller.profiles import IDLE_READINGS, Profile, metered, unread, window_s
from controller.suite import Model, Suite
from reports.comparison import TWIN, UNSENSED

LAUNCH_OVERHEAD_S = 1.2  # process start, import and load of a small model; measured on a laptop


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A square of the matrix before its artifact is made; `fault` says why it will not be measured.

    `label` is appended to the recipe where the same is measured under two names; the device sees none of it.
    """

    device: str
    model: str
    recipe: str
    format: str
    backend: str
    options: Mapping[str, Any]
    workload: Workload
    fault: Fault | None
    label: str = ""


def plan(suite: Suite, devices: Sequence[Device]) -> list[PlannedCell]:
    """Give every cell of the suite on these devices, in the order of the files; raises FleetmarkError for a recipe that nobody has.

    A backend that `auto` stands for has cells only of models that it fits; one that was named has them with the reason.
    """
    recipes = recipes_of(suite)
    found = [
        (automatic, _cell(device, name, model, recipe, backend, workload))
        for device in devices
        for name, model in suite.models.items()
        for recipe in recipes.values()
        for automatic, backend in _backends(suite, device)
        for workload in suite.workloads
    ]
    wanted = [cell for automatic, cell in found if not (automatic and cell.fault and cell.fault.code == "convert_fail")]
    unique: dict[str, PlannedCell] = {}
    for cell in wanted:
        unique.setdefault(_identity(cell), cell)
    return list(unique.values())


def doubled(cells: Sequence[PlannedCell], sensed: Collection[str] = ()) -> list[PlannedCell]:
    """Give each cell under two labels, for the noise floor of its device: what differs between the two is noise.

    Those of the devices in `sensed`, which have a power sensor, once more without it: what differs then is what the sampling costs.
    """
    labels = {True: ("", TWIN, UNSENSED), False: ("", TWIN)}
    return [replace(cell, label=label) for cell in cells for label in labels[cell.device in sensed]]


def _identity(cell: PlannedCell) -> str:
    """What tells cells apart; a suite may ask for one twice, such as by `auto` and by the backend's name."""
    return fingerprint([cell.device, cell.model, cell.recipe, cell.backend, dict(cell.options), cell.workload])


def recipes_of(suite: Suite) -> dict[str, Recipe]:
    """The suite's recipes by name; raises ConfigError for a recipe file, FleetmarkError for a name that nobody has or that two have."""
    found: dict[str, Recipe] = {}
    for text in suite.recipes:
        recipe = recipe_file.find(text)
        if recipe.name in found:
            raise FleetmarkError(f"two recipes are called {recipe.name!r}", next="give the recipe file another `name:`")
        found[recipe.name] = recipe
    return found


def launch_s(workload: Workload, profile: Profile, device: Device, meter: Meter | None = None) -> float:
    """Give about how long a launch takes, in seconds. At its start gate a device is taken to cool for as long as it works in a launch."""
    period_s = meter.period_s if meter and not unread(profile, workload) else 0.0
    busy_s = LAUNCH_OVERHEAD_S + profile.warmup_min_s + window_s(metered(profile, period_s), workload)
    gate_s = min(device.settle.timeout_s, busy_s) if device.settle.max_temp_c is not None else 0.0
    return busy_s + gate_s + 2 * IDLE_READINGS * period_s


def cell_s(workload: Workload, profile: Profile, launches: int, device: Device, meter: Meter | None = None) -> float:
    """Give about how long a cell takes, in seconds: its launches, and the one that times its operations."""
    operations_s = LAUNCH_OVERHEAD_S + profile.warmup_min_s if profile.profiled_inferences else 0.0
    return launches * launch_s(workload, profile, device, meter) + operations_s


def estimated_s(
    cells: Sequence[PlannedCell], profile: Profile, launches: int, devices: Sequence[Device], meters: Mapping[str, Meter] | None = None
) -> float:
    """Give about how long the slowest lane takes, in seconds; compression and shipping not included. `meters` are by their names."""
    by_name = {device.name: device for device in devices}
    by_device = dict.fromkeys(by_name, 0.0)
    for cell in cells:
        if cell.fault is None:
            device = by_name[cell.device]
            by_device[cell.device] += cell_s(cell.workload, profile, launches, device, (meters or {}).get(device.meter or ""))
    return max((sum(by_device[device.name] for device in lane) for lane in lanes.group(devices)), default=0.0)


def _backends(suite: Suite, device: Device) -> Iterator[tuple[bool, BackendChoice]]:
    """The backends to measure on a device, each with whether `auto` stands for it; of named ones those that the device has."""
    for choice in suite.backends:
        if choice.name == "auto":
            yield from ((True, BackendChoice(name=name, options=_known(choice.options, name))) for name in targets.offered(device))
        elif not device.backends or choice.name in device.backends:
            yield False, choice


def _known(options: Mapping[str, Any], backend: str) -> Mapping[str, Any]:
    """Those of the options of `auto` that the backend has: an accelerator has no threads."""
    return {key: value for key, value in options.items() if backend not in backends.NAMES or key in backends.get(backend).options}


def _cell(device: Device, name: str, model: Model, recipe: Recipe, backend: BackendChoice, workload: WorkloadChoice) -> PlannedCell:
    known = backend.name in backends.NAMES
    format_ = targets.format_of(device, backend.name, backend.options) if known else ""
    fault = targets.refusal(device, backend.name, backend.options, recipe)
    if not known:
        fault = Fault("env_missing", "plan", f"backend {backend.name} is not in this version", f"use {', '.join(backends.NAMES)}")
    elif kind_of(format_) == "tflite" and model.tflite is None and not (model.torch or model.source.suffix in (".tflite", ".onnx")):
        fault = Fault("convert_fail", "plan", f"{name} has no .tflite", f"give `tflite:` beside `source:` of {name} in the suite")
    elif kind_of(format_) == "onnx" and not (model.torch or model.source.suffix == ".onnx"):
        fault = Fault("convert_fail", "plan", f"{name} has no .onnx, which {backend.name} needs", f"give an .onnx as `source:` of {name}")
    return PlannedCell(
        device.name, name, recipe.name, format_, backend.name, backend.options, Workload(workload.name, dict(workload.options)), fault
    )
