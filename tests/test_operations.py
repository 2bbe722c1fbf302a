"""The per-operation profile: what runtimes tell of their operations, on the wire, in the store and in the report."""

import dataclasses
import html
import json
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from agents import Agent, fault
from factory_runs import cell, launch, run_of
from hypothesis import given
from hypothesis import strategies as st
from test_collect import event, file
from test_fleet import FAST, RUN, Bench

import backends
from agent import operations
from agent.operations import MAX_CHARACTERS, MAX_OPERATIONS, Profiled
from agent.schema import Event, FaultError, dump
from backends import Operation, onnxruntime_profile, openvino_counters
from controller import profiles, suite
from controller.collect import collect
from controller.fleet import Fleet
from controller.inventory import Device
from controller.session import Session
from controller.tables import PROFILED
from reports.metrics import METRICS
from reports.operations import profile_of, share_of
from reports.page import render
from reports.records import CellRecord, RunRecord
from reports.table import by_cell, rows

FASHION = Path(__file__).parent.parent / "examples" / "fashion"
INFERENCES = 7
TIMED = {"onnxruntime": "model.onnx", "openvino": "model.onnx"}
CONV = {"cat": "Node", "name": "conv_kernel_time", "dur": 12, "args": {"op_name": "Conv", "provider": "CPUExecutionProvider"}}
RAN: dict[str, Any] = {"cat": "Session", "name": "model_run", "dur": 20, "args": {}}
HOSTILE = "</table><img src=x onerror=alert(1)>\u202e"


def names_in(model: Path) -> list[str]:
    """The names of an ONNX file's operations and of what they give."""
    nodes: Any = onnx.load_model(model).graph.node  # pyright: ignore[reportUnknownMemberType] - its stub takes any path
    return [name for node in nodes for name in (node.name, *node.output)]


def told_by(backend: str, model: Path) -> operations.Profile:
    """The profile of a model by the real runtime, on zeros."""
    session = backends.get(backend).load(str(model), {"profile": True, "threads": 1})
    session.bind({spec.name: np.zeros([abs(size) for size in spec.shape], spec.dtype) for spec in session.inputs()})
    operations.warm_up(session, lambda: True)
    return operations.profile(session, INFERENCES, lambda: True)


def stored(record: CellRecord, profile: operations.Profile, name: str = "p") -> CellRecord:
    """The cell with a launch that told this profile."""
    values = {"inference_s": np.array(profile.wall_ns) / 1e9, "operations_left_out": np.array([profile.left_out])}
    if profile.operation_ns:
        values["operation_s"] = np.array(profile.operation_ns) / 1e9
    told = dataclasses.replace(launch(name, PROFILED, "valid", values), details={"operations": dump(profile.operations)})
    return dataclasses.replace(record, profiled=told)


def made(*some: tuple[str, str, str, int | None], wall_ns: int = 100_000) -> operations.Profile:
    """A profile of one inference: (type, kernel, device, nanoseconds) of each operation."""
    found = [Profiled(f"op{at}", kind, kernel, device) for at, (kind, kernel, device, _) in enumerate(some)]
    times = [took for *_, took in some if took is not None]
    return operations.Profile(found, array("q", [wall_ns]), array("q", times), 0)


@pytest.mark.parametrize("backend", TIMED)
def test_a_runtimes_times_are_shares_of_the_inference(backend: str) -> None:
    """Each operation's share lies between 0 and 1, all with the unattributed rest are 1, and the names are the model's."""
    model = FASHION / TIMED[backend]
    told = told_by(backend, model)
    profile = profile_of(stored(cell("laptop", "fp32", backend, 1), told))
    assert profile is not None
    assert profile.inferences == len(told.wall_ns) == INFERENCES
    assert all(one.share is not None and 0 <= one.share <= 1 for one in profile.operations)
    assert share_of(profile.operations) > 0
    assert share_of(profile.operations) + profile.unattributed == 1
    assert {one.device for one in profile.operations} == {"cpu"}
    assert all(any(name in one.name for name in names_in(model)) or one.type.startswith("Reorder") for one in profile.operations)
    assert {"Conv", "Convolution"} & {one.type for one in profile.operations}


def test_tflite_tells_what_runs_where_but_no_times() -> None:
    """Every operation is XNNPACK's or built in, the delegate's own nodes are none, and no share of time is made up."""
    told = told_by("tflite", FASHION / "model.tflite")
    assert len(told.operations) == 11
    assert {(one.kernel, one.device) for one in told.operations} == {("XNNPACK", "cpu")}
    assert "DELEGATE" not in {one.type for one in told.operations}
    profile = profile_of(stored(cell("laptop", "fp32", "tflite", 1), told))
    assert profile is not None
    assert not profile.timed
    assert [place.time_share for place in profile.placements()] == [None]


def test_onnxruntimes_file_is_gone_and_a_launch_tells_it(tmp_path: Path) -> None:
    """A whole launch tells operations and their times in all inferences, evaluates nothing, and leaves no file of the profiler."""
    agent = Agent(tmp_path)
    events = agent.run(options={"profile": True}, profiled=INFERENCES, evaluate=False)
    found = collect(
        [Event(**one) for one in events], lambda one: Path(agent.cache.launch("launch-1", "files", one.sha256)).read_bytes(), profiled=True
    )
    assert found.fault is None
    assert found.operations is not None
    assert [one.type for one in found.operations] == ["Flatten", "MatMul"]
    assert len(found.samples["operation_ns"].array) == 2 * len(found.samples["inference_ns"].array) == 2 * INFERENCES
    assert "latency_ns" not in found.samples
    assert list(tmp_path.rglob("*profile*")) == []


def test_a_device_has_its_say_in_the_share_of_a_fallback() -> None:
    """Providers of the CPU, of accelerators, and those that may be either are told apart."""
    known = {name: onnxruntime_profile.device_of(name + "ExecutionProvider") for name in ("CPU", "Xnnpack", "CUDA", "Tensorrt", "OpenVINO")}
    assert known == {"CPU": "cpu", "Xnnpack": "cpu", "CUDA": "accelerator", "Tensorrt": "accelerator", "OpenVINO": ""}


def profile_file(folder: Path, *events: Any) -> str:
    path = folder / "profile.json"
    lines = [one if isinstance(one, str) else json.dumps(one) for one in events]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return str(path)


def test_onnxruntimes_events_are_grouped_by_inference(tmp_path: Path) -> None:
    """What comes before a model_run belongs to it; other events and an inference without its end do not count."""
    other: dict[str, Any] = {"cat": "Node", "name": "conv_fence_before", "dur": 1, "args": {}}
    path = profile_file(tmp_path, {"cat": "Session", "name": "model_loading_uri"}, other, CONV, RAN, {**CONV, "dur": 3}, CONV, RAN, CONV)
    found = onnxruntime_profile.read(path)
    assert [[one.seconds for one in inference] for inference in found] == [[12e-6], [3e-6, 12e-6]]
    assert found[0] == [Operation("conv", "Conv", "CPUExecutionProvider", 12e-6, "cpu")]


BROKEN: list[Any] = [
    "nonsense",
    '{"cat":"Node"',
    [1],
    {**CONV, "dur": -1},
    {**CONV, "dur": 1.5},
    {**CONV, "dur": True},
    {**CONV, "dur": 10**12},
    {**CONV, "args": []},
    {**CONV, "args": {"op_name": "Conv"}},
    {**CONV, "args": {"op_name": 1, "provider": "CPU"}},
    {"cat": "Node", "name": "conv_kernel_time"},
    {**CONV, "more": "x" * onnxruntime_profile.MAX_LINE_BYTES},
    '{"cat":"Node","name":"a"b_kernel_time","dur":1}',
    "[" * 50_000,
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_hostile_profile_is_refused(line: Any, tmp_path: Path) -> None:
    """What is no event, or an operation without a sane time, type and provider, is a fault, never a number."""
    with pytest.raises(FaultError) as caught:
        onnxruntime_profile.read(profile_file(tmp_path, CONV, line, RAN))
    assert (caught.value.fault.code, caught.value.fault.next != "") == ("protocol", True)


def test_a_profile_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more of a file is read than its limit."""
    monkeypatch.setattr(onnxruntime_profile, "MAX_FILE_BYTES", 1000)
    with pytest.raises(FaultError, match="too long"):
        onnxruntime_profile.read(profile_file(tmp_path, *[CONV] * 20))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_a_fault(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Nothing but a FaultError comes of a file that is not the profiler's."""
    path = tmp_path_factory.getbasetemp() / "any-profile.json"
    path.write_bytes(content)
    try:
        found = onnxruntime_profile.read(str(path))
    except FaultError as error:
        found = error.fault.code
    assert found in ([], "protocol")


def test_averages_since_the_load_become_those_of_the_window() -> None:
    """Of averages that a slow first inference has raised, the difference over the window is exact; what never runs is left out."""
    ran: list[int] = []
    costs = [900, *[10] * 20]

    def counters() -> list[openvino_counters.Counter]:
        average = sum(costs[: len(ran)]) / len(ran) / 1e6
        return [
            openvino_counters.Counter(Operation("conv", "Convolution", "jit", average, "cpu"), executed=True),
            openvino_counters.Counter(Operation("input", "Parameter", "", 0.0, "cpu"), executed=False),
        ]

    averages = openvino_counters.Averages(lambda: ran.append(0), counters)
    for _ in range(5):
        averages.infer()
    averages.begin()
    for _ in range(10):
        averages.infer()
    (found,) = averages.end()
    assert found.seconds == pytest.approx(10e-6)


def test_inferences_that_ran_something_else_give_no_times() -> None:
    """The last inference says which operations there are; of an inference with others no time is taken."""
    one, other = Operation("a", "Conv", "k", 1e-6, "cpu"), Operation("b", "Conv", "k", 2e-6, "cpu")
    told = operations.of_inferences([[one, other], [one], [one, other]], array("q", [5, 6, 7]))
    assert [operation.name for operation in told.operations] == ["a", "b"]
    assert list(told.operation_ns) == [1000, 2000, 1000, 2000]


def test_of_too_many_operations_the_slowest_cross_the_wire() -> None:
    """At most MAX_OPERATIONS, in the model's order, with names that fit, and how many others there were; collecting takes them."""
    many = [Operation("é" * 1000 + str(at), "Conv" * 100, "k", at / 1e6, "cpu") for at in range(MAX_OPERATIONS + 5)]
    told = operations.of_inferences([many, many], array("q", [10**9, 10**9]))
    assert (len(told.operations), told.left_out, len(told.operation_ns)) == (MAX_OPERATIONS, 5, 2 * MAX_OPERATIONS)
    assert told.operation_ns[0] == 5000
    assert all(len(part) <= MAX_CHARACTERS and part.isascii() for one in told.operations for part in one)
    parts = [dump(part) for part in operations.parts(told)]
    assert all(len(json.dumps(part)) < 300_000 for part in parts)
    assert len(collected(parts, np.array(told.wall_ns), np.array(told.operation_ns)).operations or ()) == MAX_OPERATIONS


def collected(parts: list[Any], wall_ns: Any, operation_ns: Any = None) -> Any:
    """What the controller makes of a launch that tells this."""
    arrays = {"inference_ns": wall_ns} | ({} if operation_ns is None else {"operation_ns": operation_ns})
    events = [event("operations", part) for part in parts] + [file(name, values) for name, values in arrays.items()]
    return collect([*events, event("end", {})], lambda one: arrays[one.metric].tobytes(), profiled=True)


GOOD = dump(Profiled("conv", "Conv", "jit", "cpu"))
WALL = np.array([10, 20])


@pytest.mark.parametrize(
    "part",
    [
        {"operations": [{**GOOD, "name": "x" * 201}]},
        {"operations": [{**GOOD, "device": "quantum"}]},
        {"operations": [{**GOOD, "seconds": 1.0}]},
        {"operations": [{**GOOD, "type": None}]},
        {"operations": [GOOD] * 2001},
        {"operations": "conv"},
        {},
    ],
)
def test_hostile_operations_are_refused(part: Any) -> None:
    """Too many, too long, of an unknown device or of another form: `protocol`, before anything is stored."""
    with pytest.raises(FaultError) as caught:
        collected([part], WALL)
    assert caught.value.fault.code == "protocol"


MISFITS: list[Any] = [
    ([], WALL, None),
    ([{"operations": [GOOD, GOOD]}], WALL, np.array([1, 2, 3])),
    ([{"operations": []}], WALL, np.array([1])),
    ([{"operations": [GOOD]}], WALL, np.array([1, -2])),
    ([{"operations": [GOOD]}], np.array([-1]), None),
]


@pytest.mark.parametrize(("parts", "wall_ns", "operation_ns"), MISFITS)
def test_times_that_do_not_fit_are_a_fault(parts: list[Any], wall_ns: Any, operation_ns: Any) -> None:
    """A launch whose times are not those of its operations ends as `protocol`."""
    assert collected(parts, wall_ns, operation_ns).fault.code == "protocol"


def test_a_measured_launch_has_no_operations() -> None:
    """A device that tells operations in an ordinary launch is not believed: it stays one without latencies."""
    found = collect([event("operations", {"operations": [GOOD]}), event("end", {})], lambda _: b"")
    assert found.operations is None
    assert found.fault is not None


def fleet_of(bench: Bench, *unprofiled: str) -> Fleet:
    done = {one.id: {each.round: each.id for each in one.launches} for one in bench.store.load_run(RUN).cells}
    return Fleet(RUN, bench.store, 2, bench.listener, profiled_session(bench), {}, done=done, unprofiled=set(unprofiled))


def profiled_session(bench: Bench) -> Callable[[Device], Session]:
    profile = dataclasses.replace(FAST, profiled_inferences=profiles.get("standard").profiled_inferences)
    return lambda device: bench.session(device, profile)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_cell_has_one_launch_more_which_is_in_no_statistic(bench: Bench) -> None:
    """Two rounds and a profile: the store has one launch of operations, the cell its two launches, and figures count no third."""
    job = bench.job()
    fleet_of(bench, job.id).run([bench.device], [job])
    (found,) = bench.store.load_run(RUN).cells
    assert [one.round for one in found.launches] == [0, 1]
    assert bench.store.list_runs()[0].launches == 2
    profile = profile_of(found)
    assert profile is not None
    assert (profile.inferences, [one.type for one in profile.operations]) == (30, ["Flatten", "MatMul"])
    figures = by_cell(rows(bench.store.load_run(RUN)))[job.id]
    plain = by_cell(rows(without_profiles(bench.store.load_run(RUN))))[job.id]
    shares = {"accelerator_operation_share", "accelerator_time_share"}
    assert {name: row for name, row in figures.items() if name not in shares} == plain
    assert [figures[name].value for name in sorted(shares)] == [0.0, 0.0]
    assert bench.left() == []


def without_profiles(run: RunRecord) -> RunRecord:
    return dataclasses.replace(run, cells=tuple(dataclasses.replace(one, profiled=None) for one in run.cells))


def test_a_failed_profile_leaves_the_cell_as_it_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell keeps its status and launches, the report says why; resuming, only the profile is measured."""
    job = bench.job()

    def fail(*_: object) -> None:
        raise FaultError("crash", f"the profiler died {HOSTILE}", "see the log", "profile")

    with monkeypatch.context() as patch:
        patch.setattr("controller.session.Session.profile_operations", fail)
        fleet_of(bench, job.id).run([bench.device], [job])
    (found,) = bench.store.load_run(RUN).cells
    assert (found.status in {"valid", "unsteady"}, len(found.launches), found.fault) == (True, 2, None)
    assert profile_of(found) is None
    assert "the profiler died" in section(render(bench.store.load_run(RUN)))
    assert any("could not be timed" in line for line in bench.listener.news)
    fleet_of(bench, job.id).run([bench.device], [job])
    (again,) = bench.store.load_run(RUN).cells
    assert [one.id for one in again.launches] == [one.id for one in found.launches]
    assert profile_of(again) is not None


def section(page: str) -> str:
    """The report's section of operations as its visible text."""
    found = re.findall(r'<section id="operations">.*?</section>', page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[0])).split()) if found else ""


def test_the_report_shows_the_slowest_the_others_and_the_rest() -> None:
    """Of 15 operations twelve by name, three as other, and what is unattributed; all shares together are the inference."""
    profile = made(*[("Conv", "jit", "cpu", 1000 * (at + 1)) for at in range(15)], wall_ns=200_000)
    shown = section(render(run_of((stored(cell("laptop", "fp32", "onnxruntime", 1), profile),))))
    assert "op14 Conv jit 15.0 µs 7.5 %" in shown
    assert "op2 " not in shown
    assert "other (3 operations) 6.00 µs 3.0 %" in shown
    assert "unattributed 80.0 µs 40 %" in shown


def test_operations_that_ran_at_once_leave_less_than_nothing() -> None:
    """A sum above the inference's time is a negative rest, and is said to be so."""
    profile = made(("Conv", "jit", "cpu", 80_000), ("Conv", "jit", "cpu", 60_000))
    shown = section(render(run_of((stored(cell("laptop", "fp32", "openvino", 1), profile),))))
    assert "unattributed negative: operations ran at the same time -40.0 µs -40 %" in shown


def test_averages_are_shares_of_the_average_inference() -> None:
    """Where the runtime tells averages a stalled inference counts in both, and the report gives the median beside it."""
    told = made(("Conv", "jit", "cpu", 50_000))._replace(wall_ns=array("q", [100_000, 100_000, 400_000]))
    record = stored(cell("laptop", "fp32", "openvino", 1), told)
    profile = profile_of(record)
    assert profile is not None
    assert (profile.averages, profile.unattributed) == (True, 0.75)
    assert "Averages over 3 inferences; an inference took 200 µs (median 100 µs" in section(render(run_of((record,))))


def test_a_run_without_profiles_has_no_such_section() -> None:
    """Neither section nor link, and no row of the table."""
    page = render(run_of((cell("laptop", "fp32", "tflite", 1),)))
    assert section(page) == ""
    assert "#operations" not in page


def test_many_cells_and_hostile_names_are_read_as_text() -> None:
    """Thirty cells are thirty rows; names of operations never become elements."""
    profile = made((HOSTILE, HOSTILE, "cpu", 1000), ("Conv", "jit", "cpu", None))._replace(operation_ns=array("q", [1000, 2000]))
    cells = tuple(stored(cell(f"d{at}", "fp32", "tflite", at), profile) for at in range(30))
    page = render(run_of(cells))
    assert section(page).count("the slowest operations") == 30
    assert "<img" not in re.findall(r'<section id="operations">.*?</section>', page, re.DOTALL)[0]
    assert "\u202e" not in page
    assert len(page.encode()) < 2_000_000


def test_a_fallback_is_in_the_report() -> None:
    """Where an accelerator ran a part, its shares of operations and time stand beside each cell; a time that nobody tells is said."""
    found = stored(cell("laptop", "fp32", "onnxruntime", 1), made((*CPU, 10_000), (*GPU, 30_000)), "a")
    untold = stored(cell("board", "int8", "tflite", 2), made((*CPU, None), (*GPU, None)), "b")
    page = render(run_of((found, untold)))
    assert "50.00 % time: 75.00 %" in section(page)
    assert "50.00 % time: not observable" in section(page)
    assert "No operation is known to have run on an accelerator" not in section(page)


def test_the_compilers_log_says_what_the_edge_tpu_runs() -> None:
    """To the runtime all that is mapped is one operation: 222 of 229 are what edgetpu_compiler counted, with or without a profile."""
    record = cell("coral", "int8", "tflite", 1)
    record = dataclasses.replace(record, cell=record.cell._replace(backend="edgetpu", artifact="c" * 64))
    run = run_of((record,))
    told = {"edgetpu": {"operations": 229, "operations_on_edgetpu": 222}}
    variant = dataclasses.replace(run.variants[0], sha256="c" * 64, manifest=told)
    run = dataclasses.replace(run, variants=(variant,))
    (found,) = by_cell(rows(run)).values()
    assert found["accelerator_operation_share"].value == 222 / 229
    assert "not timed 96.94 % time: not observable" in section(render(run))
    assert (found["accelerator_time_share"].value, found["accelerator_time_share"].reason) == (None, "not observable")


CPU, GPU = ("Conv", "CPU", "cpu"), ("Conv", "GPU", "accelerator")


@pytest.mark.parametrize(
    ("backend", "profile", "by_operations", "by_time"),
    [
        ("onnxruntime", made((*CPU, 10), (*GPU, 30)), 0.5, 0.75),
        ("onnxruntime", made((*CPU, 10)), 0.0, 0.0),
        ("tflite", made((*CPU, None)), 0.0, 0.0),
        ("tensorrt", made((*GPU, 10)), 1.0, 1.0),
        ("edgetpu", made((*GPU, None)), 1.0, 1.0),
        ("edgetpu", made((*GPU, None), (*CPU, None)), None, None),
        ("onnxruntime", made(("Conv", "QNN", "", 10)), "absent", "absent"),
    ],
)
def test_what_ran_on_the_accelerator(backend: str, profile: operations.Profile, by_operations: Any, by_time: Any) -> None:
    """Both shares where the runtime tells; what one node of an Edge TPU stands for, or a time that nobody tells, is not observable."""
    record = stored(cell("board", "int8", "tflite", 1), profile)
    record = dataclasses.replace(record, cell=record.cell._replace(backend=backend))
    (found,) = by_cell(rows(run_of((record,)))).values()
    for metric, expected in (("accelerator_operation_share", by_operations), ("accelerator_time_share", by_time)):
        row = found.get(metric)
        assert (row.value if row else "absent") == expected
        assert row is None or row.value is not None or row.reason == "not observable"
        assert metric in METRICS


def test_a_fault_of_the_profiler_is_the_launchs(tmp_path: Path) -> None:
    """A launch that is asked to profile with an option that its backend does not take says so."""
    code, _, message = fault(Agent(tmp_path).run(options={"profile": 3}, profiled=2, evaluate=False))
    assert (code, "profile" in message) == ("bad_data", True)


@pytest.mark.parametrize(
    ("more", "inferences"),
    [
        ({"profile": "quick"}, 0),
        ({"profile": "standard"}, 30),
        ({"profile": "strict"}, 30),
        ({"profile": "quick", "operations": True}, 30),
        ({"profile": "standard", "operations": False}, 0),
    ],
)
def test_a_suite_decides_where_its_profile_does_not_suit(more: dict[str, Any], inferences: int, tmp_path: Path) -> None:
    """Operations are timed by default, but not in profile quick; `operations` in the suite decides otherwise."""
    path = tmp_path / "suite.yaml"
    path.write_text(json.dumps({"version": 1, "models": {"m": {"source": "m.onnx"}}, "recipes": ["fp32"], **more}))
    assert profiles.of_suite(suite.load(path)).profiled_inferences == inferences
