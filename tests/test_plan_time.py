"""A plan that is to fit into a time: fewer launches, then without the cells that take longest."""

import dataclasses
from pathlib import Path

import pytest
from device_commands import Command
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.schema import Fault, Workload
from controller import fitting, plan
from controller.cli import run
from controller.errors import FleetmarkError
from controller.inventory import Device, Settle
from controller.plan import PlannedCell
from controller.profiles import Profile

PROFILE = Profile("quick", 5, 10.0, 1, 0.0, 0, 0.0, 60.0, profiled_inferences=0)
EACH_S = 10.0 + plan.LAUNCH_OVERHEAD_S


def cell(device: str, recipe: str, backend: str = "tflite", duration_s: float = 0.0) -> PlannedCell:
    workload = Workload("sustained", {"duration_s": duration_s}) if duration_s else Workload("single_stream", {})
    return PlannedCell(device, "lenet", recipe, "tflite", backend, {}, workload, None)


def device(name: str) -> Device:
    return Device.model_validate({"name": name, "kind": "generic", "ssh": {"host": f"192.0.2.{ord(name)}"}})


def fit(cells: list[PlannedCell], time_s: float, launches: int = 5) -> fitting.Fitted:
    return fitting.fit(cells, PROFILE, launches, [device(name) for name in dict.fromkeys(one.device for one in cells)], {}, time_s)


def test_what_fits_stays_whole() -> None:
    """With time enough nothing changes."""
    cells = [cell("a", "fp32"), cell("a", "int8")]
    found = fit(cells, 10 * EACH_S)
    assert (found.cells, found.launches, found.dropped) == (cells, 5, [])


def test_launches_go_first_and_no_lower_than_an_interval_needs() -> None:
    """Four cells of five launches in the time of twelve launches: three each; in less, a cell goes."""
    cells = [cell("a", recipe) for recipe in ("fp32", "fp16", "int8", "prune-50")]
    assert (fit(cells, 12 * EACH_S).launches, fit(cells, 12 * EACH_S).dropped) == (3, [])
    less = fit(cells, 11 * EACH_S)
    assert (less.launches, [one.recipe for one, _ in less.dropped]) == (3, ["prune-50"])
    assert fit(cells[:2], 4 * EACH_S, launches=2).launches == 2


def test_the_costliest_goes_and_each_device_keeps_a_baseline_and_a_candidate() -> None:
    """Lanes are fitted by themselves: the quick device keeps all that it has."""
    slow = [cell("a", "fp32"), cell("a", "int8"), cell("a", "fp32", duration_s=600.0), cell("a", "int8", duration_s=300.0)]
    quick = [cell("b", "fp32"), cell("b", "fp16"), cell("b", "int8")]
    found = fit([*slow, *quick], 9 * EACH_S)
    assert found.cells == [*slow[:2], *quick]
    assert [round(seconds) for _, seconds in found.dropped] == [round(3 * (plan.LAUNCH_OVERHEAD_S + duration)) for duration in (600, 300)]


def test_what_cannot_fit_says_what_it_takes() -> None:
    """A baseline and one candidate are the least."""
    with pytest.raises(FleetmarkError, match="30 s are too short for a") as refused:
        fit([cell("a", "fp32"), cell("a", "int8"), cell("a", "fp16")], 30.0)
    assert "about 67 s" in refused.value.why


def test_a_start_gate_counts() -> None:
    """A device is taken to cool for as long as it works, and never longer than it may wait."""
    one, workload = device("a"), Workload("single_stream", {})
    for timeout_s, gate_s in ((600.0, EACH_S), (4.0, 4.0)):
        cooled = one.model_copy(update={"settle": Settle(max_temp_c=50.0, timeout_s=timeout_s)})
        assert plan.launch_s(workload, PROFILE, cooled) == pytest.approx(EACH_S + gate_s)
    timed = dataclasses.replace(PROFILE, profiled_inferences=30)
    assert plan.cell_s(workload, timed, 3, one) - plan.cell_s(workload, PROFILE, 3, one) == pytest.approx(plan.LAUNCH_OVERHEAD_S)


CELLS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["fp32", "int8", "fp16"]), st.sampled_from([0.0, 30.0, 300.0])), max_size=9
)


@settings(deadline=None)
@given(CELLS, st.floats(1.0, 4000.0))
def test_what_is_chosen_fits(chosen: list[tuple[str, str, float]], time_s: float) -> None:
    """Nothing is lost between kept and dropped, cells that cannot be measured stay, and every device takes at most the time."""
    fault = Fault("convert_fail", "plan", "no", "")
    cells = [cell(name, recipe, str(at), duration) for at, (name, recipe, duration) in enumerate(chosen)]
    cells += [dataclasses.replace(cell(name, "int8", "none"), fault=fault) for name in {one.device for one in cells}]
    try:
        found = fit(cells, time_s)
    except FleetmarkError:
        return
    assert sorted(map(str, [*found.cells, *(one for one, _ in found.dropped)])) == sorted(map(str, cells))
    assert sum(one.fault is not None for one in found.cells) == len({one.device for one in cells})
    for name in {one.device for one in cells}:
        its = [one for one in found.cells if one.device == name]
        assert plan.estimated_s(its, PROFILE, found.launches, [device(name)]) <= time_s + 1e-6


def test_the_plan_shows_what_is_left_out_and_the_command_that_does_it(fleetmark: Command, tmp_path: Path) -> None:
    """Each cell left out has its time; a request made again for --resume has the same cells."""
    suite = "version: 1\nmodels:\n  net: {source: net.onnx}\nrecipes: [fp32, fp16, int8]\ndevices: [laptop]\nbackends: [onnxruntime]\n"
    (tmp_path / "suite.yaml").write_text(suite)
    (tmp_path / "net.onnx").write_bytes(b"")
    found = fleetmark("plan", "suite.yaml", "-l", "laptop", "--time", "40s")
    assert (found.out.count("time: about 18 s"), "3 cells, 1 of them left out; 3 launches each" in found.err) == (1, True)
    assert "fleetmark run suite.yaml --select laptop --time 40s" in found.err
    asked = run._ask(tmp_path / "suite.yaml", None, tmp_path / "inventory.yaml", None, None) | {"time_s": 40.0}
    requests = [run._request(dict(asked), None) for _ in range(2)]
    assert [(one.launches, [cell.recipe for cell in one.planned]) for one in requests] == [(3, ["fp32", "fp16"])] * 2
    with pytest.raises(FleetmarkError, match="--time and --aa"):
        run._request(asked | {"aa": True}, None)
