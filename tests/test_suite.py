"""suite.yaml is read as strictly as the inventory, and its gates come out in the metrics and units of the report's table."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml_samples import SUITE

from agent import schema as wire
from compress.records import TorchSource
from controller import gates, suite
from controller.errors import ConfigError
from reports.metrics import METRICS

PLAIN = {"version": 1, "models": {"m": {"source": "m.onnx"}}, "recipes": ["fp32"]}

Load = Callable[[str], suite.Suite]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    path = tmp_path / "suite.yaml"

    def from_text(text: str) -> suite.Suite:
        path.write_text(text, encoding="utf-8")
        return suite.load(path)

    return from_text


def with_line(line: str) -> str:
    """The plain suite with one more top-level line, or one in the place of its own."""
    changed = {**{key: json.dumps(value) for key, value in PLAIN.items()}, line.partition(":")[0]: line.partition(":")[2]}
    return "".join(f"{key}: {value}\n" for key, value in changed.items())


def read_gates(load: Load, table: str) -> list[gates.Gate]:
    return list(load(with_line(f"gates: {table}")).gates)


def test_every_key_of_the_format_is_taken(load: Load, tmp_path: Path) -> None:
    """The suite of the interface document loads, typed, with absolute paths and times in seconds."""
    read = load(SUITE)
    model = read.models["fashion-cnn"]
    folder = tmp_path / "examples/fashion"
    assert (model.source, model.tflite, model.data) == (folder / "model.onnx", folder / "model.tflite", folder / "data.npz")
    assert (model.task, model.factory, model.inputs["image"].shape, model.inputs["image"].mean) == (
        "classification",
        "",
        (1, 1, 28, 28),
        0.286,
    )
    assert read.recipes == ("fp32", "fp16", "int8", "prune-50-int8")
    assert [(one.name, dict(one.options)) for one in read.backends] == [
        ("auto", {}),
        ("onnxruntime", {"threads": 4, "providers": ["XNNPACKExecutionProvider"]}),
    ]
    assert [(one.name, dict(one.options)) for one in read.workloads] == [
        ("single_stream", {}),
        ("offline", {"batch": 8}),
        ("server", {"p99_s": 0.02}),
    ]
    assert (read.devices, read.profile, read.launches) == (("all",), "standard", 5)


@pytest.mark.parametrize("said", [True, False])
def test_an_option_may_be_true_or_false(load: Load, said: bool) -> None:
    """Either way."""
    read = load(with_line(f"backends: [{{name: tensorrt, options: {{profile: {str(said).lower()}}}}}]"))
    assert dict(read.backends[0].options) == {"profile": said}


def test_a_suite_needs_little(load: Load) -> None:
    """A model and a recipe do: every device, every backend, single_stream, as many launches as the profile says."""
    read = load(with_line("profile: quick"))
    assert (read.devices, [one.name for one in read.backends], [one.name for one in read.workloads]) == (
        ("all",),
        ["auto"],
        ["single_stream"],
    )
    assert (read.launches, read.gates, read.models["m"].task, read.models["m"].data) == (None, (), "none", None)
    assert (read.rate_per_s, load(with_line("rate_per_s: 0.2")).rate_per_s) == (1.0, 0.2)


def test_options_cross_the_wire(load: Load) -> None:
    """What a choice holds is JSON as the cell's canonical form wants it."""
    for choice in (*load(SUITE).backends, *load(SUITE).workloads):
        assert json.loads(wire.encode(choice.options)) == choice.options


def test_sources_and_recipes_may_be_code_and_files(load: Load, tmp_path: Path) -> None:
    """A python: source is a file beside the suite, with its factory; so is a recipe with a slash or .yaml; a named one is a name."""
    read = load(
        "version: 1\nmodels: {m: {source: 'python:nets.small:build', task: 'python:nets.score:top1'}}\nrecipes: [mine.yaml, int8, /r/x]\n"
    )
    assert read.models["m"].torch == TorchSource(tmp_path / "nets" / "small.py", "build", None)
    assert read.recipes == (str(tmp_path / "mine.yaml"), "int8", "/r/x")


MISTAKES = [
    ("modles: {}", "modles", "unknown key `modles`: did you mean `models`?"),
    ("models: {}", "models", "`models` is empty"),
    ("models: {m: {}}", "m:", "`source` is missing in `m`"),
    ("models: {a b: {source: m.onnx}}", "a b", "is not a name"),
    ("models: {m: {source: m.pb}}", "m.pb", "a path ending with .onnx or .tflite expected"),
    ("models: {m: {source: 'python:x'}}", "'python:x'", "a path ending with .onnx or .tflite expected"),
    ("models: {m: {source: 5}}", "5", "a path expected, not a whole number"),
    ("models: {m: {source: '~nobody-of-that-name/m.onnx'}}", "'~nobody", "home directory"),
    ("models: {m: {source: m.onnx, tflite: m.lite}}", "m.lite", "a path ending with .tflite expected"),
    ("models: {m: {source: m.onnx, data: m.csv}}", "m.csv", "a path ending with .npz expected"),
    ("models: {m: {source: m.onnx, task: clasification}}", "clasification", "did you mean `classification`?"),
    ("models: {m: {source: m.onnx, inputs: {x: {shape: [1, 0]}}}}", "0]", "must be greater than or equal to 1"),
    ("models: {m: {source: m.onnx, inputs: {x: {dtype: float}}}}", "float}", "did you mean `float"),
    ("models: {m: {source: m.onnx, inputs: {x: {std: 0}}}}", "x:", "`std` must be greater than 0"),
    ("models: {m: {source: m.onnx, inputs: {x: {mean: [1, a]}}}}", "a]", "`mean`: a number expected, not text"),
    ("models: {m: {source: m.onnx, inputs: {x: {mean: []}}}}", "[]", "`mean` is empty"),
    ("models: {m: {source: m.onnx, inputs: {x: {shape: [1, 3], layout: NCHW}}}}", "x:", "`layout` NCHW has 4 axes, `shape` 2"),
    ("recipes: []", "[]", "`recipes` is empty"),
    ("recipes: [fp32, fp32]", "[fp32", "`fp32` stands here twice"),
    ("recipes: [f p]", "f p", "is not a name"),
    ("recipes: [8]", "8", "text expected, not a whole number; write it in quotes"),
    ("devices: []", "[]", "`devices` is empty"),
    ("devices: ['a b']", "'a b'", "is not a selector"),
    ("backends: []", "[]", "`backends` is empty"),
    ("backends: [onnx-runtime]", "onnx-runtime", "did you mean `onnxruntime`?"),
    ("backends: [tflite, tflite]", "[tflite", "`tflite` stands here twice"),
    ("backends: [{name: tflite, options: {thread: 4}}]", "thread", "unknown option `thread`: did you mean `threads`?"),
    ("backends: [{name: tflite, options: {threads: 0}}]", "0", "`threads`: a whole number from 1 expected"),
    ("backends: [{name: tflite, options: {threads: true}}]", "true", "`threads`: a whole number from 1 expected"),
    ("backends: [{name: tensorrt, options: {profile: 3}}]", "3", "`profile`: true or false expected"),
    ("backends: [{name: onnxruntime, options: {providers: CPU}}]", "CPU", "`providers`: a list expected"),
    ("backends: [{name: auto, options: {providers: [a]}}]", "providers", "unknown option `providers`: known here: runtime, threads"),
    ("backends: [{nam: tflite, name: tflite}]", "nam:", "unknown key `nam`: did you mean `name`?"),
    ("workloads: []", "[]", "`workloads` is empty"),
    ("workloads: [single-stream]", "single-stream", "`single-stream` is not known; did you mean `single_stream`?"),
    ("workloads: [{batch: 8}]", "{batch", "`name` is missing in `workloads`"),
    ("workloads: [{nam: offline, batch: 8}]", "nam", "unknown key `nam`: did you mean `name`?"),
    ("workloads: [{name: offline, bach: 8}]", "bach", "unknown key `bach`: did you mean `batch`?"),
    ("workloads: [{name: offline, batch: -8}]", "-8", "must be greater than or equal to 1"),
    ("workloads: [server]", "server", "`server` needs one bound"),
    ("workloads: [{name: server, p99_ms: 2, p99_s: 1}]", "{name", "`server` needs one bound"),
    ("workloads: [{name: server, p99_ms: 0}]", "0", "must be greater than 0"),
    ("workloads: [{name: sustained, duration_min: 10}]", "duration_min", "did you mean `duration_s`? it is given in seconds"),
    ("workloads: [8]", "8", "expected, not a whole number"),
    ("profile: standrad", "standrad", "did you mean `standard`?"),
    ("rate_per_s: 0", "0", "must be greater than 0"),
    ("rate_per_s: .inf", ".inf", "finite"),
    ("launches: 0", "0", "must be greater than or equal to 1"),
    ("launches: 2.5", "2.5", "a whole number expected, not a decimal number"),
    ("gates: {'a=': {}}", "'a='", "is not a selector"),
    ("gates: {all: {latency_p9_ms: 3}}", "latency_p9_ms", "no metric is called `latency_p9_ms`; did you mean `latency_p99_ms`?"),
    ("gates: {all: {latency_p90: 3}}", "latency_p90", "did you mean `latency_p90_"),
    ("gates: {all: {latency_p90_ms: 3 ms}}", "3 ms", "a number, `{min: ...}` or `{max: ...}` expected"),
    ("gates: {all: {latency_p90_ms: {mx: 3}}}", "mx", "did you mean `max`?"),
    ("gates: {all: {latency_p90_ms: {}}}", "latency_p90_ms", "`min` or `max` is missing"),
    ("gates: {all: {latency_p90_ms: -3}}", "-3", "must be between 0 and inf"),
    ("gates: {all: {size_kb: {min: 3, max: 2}}}", "size_kb", "`min` is above `max`"),
    ("gates: {all: {accuracy: 0.9}}", "0.9", "write `accuracy: {min: 0.9}`"),
    ("gates: {all: {accuracy: {min: 90}}}", "accuracy", "must be between 0 and 1"),
]


@pytest.mark.parametrize(("line", "at", "said"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_is_said_with_its_place(load: Load, line: str, at: str, said: str) -> None:
    """One mistake gives one problem, at the line and column where it stands, with the way out."""
    text = with_line(line)
    with pytest.raises(ConfigError) as caught:
        load(text)
    found = caught.value.problems
    assert [said in one.message for one in found] == [True], found
    there = text.splitlines()[found[0].line - 1]
    assert there.replace(" ", "") == line.replace(" ", "")
    assert there[found[0].column - 1 :].startswith(at), found


def test_all_mistakes_are_told_at_once(load: Load) -> None:
    """Mistakes of models, choices and gates are listed together, in the file's order."""
    text = "version: 1\nmodels: {m: {sorce: x}}\nrecipes: [fp32]\nworkloads: [{name: offline, bach: 1}]\n"
    text += "gates:\n  all: {sizes_kb: 1}\n  b: {accuracy: 1}\n"
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert [one.line for one in caught.value.problems] == [2, 2, 4, 6, 7]


@pytest.mark.parametrize(
    ("written", "metric", "at_most", "at_least"),
    [
        ("latency_p90_ms: 20", "latency_p90_s", 0.02, None),
        ("latency_p50_us: 35", "latency_p50_s", 0.000035, None),
        ("latency_p99_s: {max: 2}", "latency_p99_s", 2.0, None),
        ("cold_start_ms: 300", "cold_start_s", 0.3, None),
        ("energy_net_mj: 5", "energy_net_j", 0.005, None),
        ("power_at_rate_mw: 2500", "power_at_rate_w", 2.5, None),
        ("energy_gross_uj: 7", "energy_gross_j", 0.000007, None),
        ("size_kb: 67.3", "size_bytes", 67300.0, None),
        ("peak_memory_mb: 3", "peak_memory_bytes", 3e6, None),
        ("throughput_per_s: {min: 100}", "throughput_per_s", None, 100.0),
        ("accuracy: {min: 0.9}", "accuracy", None, 0.9),
        ("accuracy_drop_pp: 1", "accuracy_change_pp", None, -1.0),
        ("accuracy_drop_pp: {min: -5, max: 1}", "accuracy_change_pp", 5.0, -1.0),
        ("accelerator_time_share: {min: 0.9}", "accelerator_time_share", None, 0.9),
        ("drift_sqnr_db: {min: 20}", "drift_sqnr_db", None, 20.0),
    ],
)
def test_a_gate_is_brought_to_the_tables_unit(load: Load, written: str, metric: str, at_most: float | None, at_least: float | None) -> None:
    """Any unit of the quantity, correctly rounded to the table's; a drop of at most 1 is a change of at least -1."""
    (gate,) = read_gates(load, f"{{all: {{{written}}}}}")
    assert (gate.selector, gate.metric, gate.at_most, gate.at_least) == ("all", metric, at_most, at_least)
    assert gate.written.startswith(written.partition(":")[0])


def test_gates_keep_their_order_and_words(load: Load) -> None:
    """They are evaluated and told in the order in which they stand, each as a person would say it."""
    assert [(gate.selector, gate.written) for gate in load(SUITE).gates] == [
        ("all", "latency_p90_ms <= 20"),
        ("all", "accuracy_drop_pp <= 1"),
        ("kind=coral-usb", "accelerator_time_share >= 0.9"),
        ("kind=coral-usb", "energy_net_mj <= 5"),
    ]


def test_gates_speak_of_metrics_that_the_table_has() -> None:
    """A gate's metric is one of the report's, with the same better side; energy and accelerator share come with their sensors."""
    later = {"energy_net_j", "energy_gross_j", "accelerator_time_share"}
    for key, measure in gates.MEASURES.items():
        if measure.metric not in later:
            better = METRICS[measure.metric].better
            assert (better == "lower") == (measure.lower_is_better == (measure.sign > 0)), key


@given(number=st.floats(0, 1e9), key=st.sampled_from(sorted(gates.MEASURES)))
def test_units_of_one_quantity_agree(number: float, key: str) -> None:
    """A limit in a larger unit is that in the table's unit times the power of ten, to the last bit that floats have."""
    measure = gates.MEASURES[key]
    assert measure.si(number) == pytest.approx(measure.sign * number * 10.0**measure.exponent, rel=1e-15)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_renamed_key_is_a_problem_with_its_place(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whichever key of a right file is renamed, ConfigError tells line and column of the new name, and nothing else is ever raised."""
    path = tmp_path_factory.getbasetemp() / "renamed.yaml"
    path.write_text(SUITE)
    text, at, name = data.draw(yaml_samples.renamed(path, suite.json_schema()))
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        suite.load(path)
    assert at in [(one.line, one.column) for one in caught.value.problems if f"`{name}`" in one.message]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PLAIN, "name", "options", "all", "source"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PLACES = [
    ("models",),
    ("models", "m"),
    ("models", "m", "source"),
    *[(key,) for key in ("recipes", "devices", "backends", "workloads", "gates")],
]


@given(place=st.sampled_from(PLACES), value=VALUES)
@settings(max_examples=120, deadline=None)
def test_a_value_of_any_shape_loads_or_is_a_problem(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], value: object
) -> None:
    """Whatever stands in the place of a value, the loader takes it or says ConfigError with a line."""
    path = tmp_path_factory.getbasetemp() / "shapes.yaml"
    document = json.loads(json.dumps(PLAIN))
    parent = document
    for part in place[:-1]:
        parent = parent[part]
    parent[place[-1]] = value
    path.write_text(json.dumps(document))
    try:
        assert suite.load(path).models
    except ConfigError as error:
        if not all(one.line for one in error.problems):
            raise
