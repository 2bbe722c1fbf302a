"""What edgetpu_compiler prints: parsed whole, refused when it is cut, contradictory or hostile."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.schema import FaultError
from compress import edgetpu_log
from compress.edgetpu_log import MAPPED, Compilation, Operators, parse, version

STATUSES = (
    "Mapped to Edge TPU",
    "More than one subgraph is not supported",
    "Operation is otherwise supported, but not mapped due to some unspecified limitation",
    "Operation is working on an unsupported data type",
    "Operation version not supported",
    "Tensor has unsupported rank (up to 3 innermost dimensions mapped)",
    "Operation not supported",
)
HEAD = "Operator                       Count      Status\n\n"
NOT_ALL = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will instead run on the "
    "CPU, which is slower. If possible, consider updating your model to use only operations supported by the Edge TPU. For details, visit "
    "g.co/coral/model-reqs.\n"
)
YOLO = f"""Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3438 ms.

Input model: yolov5s-int8.tflite
Input size: 7.31MiB
Output model: yolov5s-int8_edgetpu.tflite
Output size: 7.52MiB
On-chip memory used for caching model parameters: 6.89MiB
On-chip memory remaining for caching model parameters: 1.00KiB
Off-chip memory used for streaming uncached model parameters: 175.00KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 229
Operation log: yolov5s-int8_edgetpu.log

{NOT_ALL}Number of operations that will run on Edge TPU: 222
Number of operations that will run on CPU: 7

{HEAD}RESHAPE                        15         Mapped to Edge TPU
"""


def rendered(sizes, rows, mapped_ms=17):
    """The output for a table of (name, count, status) and three (hundredths, unit)."""
    total, mapped = sum(row[1] for row in rows), sum(row[1] for row in rows if row[2] == MAPPED)
    used, remaining, streamed = (f"{size / 100:.2f}{unit}" for size, unit in sizes)
    counts = f"Number of operations that will run on Edge TPU: {mapped}\nNumber of operations that will run on CPU: {total - mapped}\n"
    table = HEAD + "".join(f"{name:<30} {count:<10} {status}\n" for name, count, status in rows)
    return (
        f"Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n\n"
        f"Model compiled successfully in {mapped_ms} ms.\n\nInput model: m.tflite\nInput size: 1.00KiB\n"
        f"Output model: m_edgetpu.tflite\nOutput size: 2.00KiB\n"
        f"On-chip memory used for caching model parameters: {used}\n"
        f"On-chip memory remaining for caching model parameters: {remaining}\n"
        f"Off-chip memory used for streaming uncached model parameters: {streamed}\n"
        f"Number of Edge TPU subgraphs: 1\nTotal number of operations: {total}\nOperation log: m_edgetpu.log\n\n"
        f"{NOT_ALL + counts + chr(10) if mapped < total else ''}{table}"
        "Compilation child process completed within timeout period.\nCompilation succeeded! \n"
    )


def outcome(output, log):
    """What is read, or the code of the fault."""
    try:
        return parse(output, log, 0)
    except FaultError as error:
        return error.fault.code


SIZES = st.tuples(st.integers(0, 99_999), st.sampled_from(["B", "KiB", "MiB"]))
NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{1,29}", fullmatch=True)
ROWS = st.lists(
    st.tuples(NAMES, st.integers(1, 500), st.sampled_from(STATUSES)), min_size=1, max_size=12, unique_by=lambda row: (row[0], row[2])
)


def test_the_output_of_a_known_model_is_read():
    """HARDWARE.md's example: 222 of 229 operations mapped, sizes in bytes, the version."""
    assert parse(YOLO, "", 0) == Compilation(
        version="16.0.384591198",
        compile_s=3.438,
        operations=229,
        operations_on_edgetpu=222,
        operations_on_cpu=7,
        on_chip_used_bytes=round(6.89 * 1024 * 1024),
        on_chip_remaining_bytes=1024,
        off_chip_bytes=175 * 1024,
        subgraphs=1,
        operators=(Operators("RESHAPE", 15, MAPPED),),
    )


def test_a_wholly_mapped_model_omits_the_counts():
    """Without the two lines every operation runs on the Edge TPU, as the table says too."""
    found = parse(rendered([(0, "B")] * 3, [("CONV_2D", 3, MAPPED), ("SOFTMAX", 1, MAPPED)]), "", 0)
    assert (found.operations, found.operations_on_edgetpu, found.operations_on_cpu) == (4, 4, 0)


@given(st.tuples(SIZES, SIZES, SIZES), ROWS)
def test_what_is_printed_is_what_is_read(sizes, rows):
    """Counts, statuses and sizes of any table come back, from the output or from the log."""
    text = rendered(sizes, rows)
    found = parse(text, "", 0)
    assert found.operators == tuple(Operators(*row) for row in rows)
    units = {"B": 1, "KiB": 1024, "MiB": 1024**2}
    expected = [round(size * units[unit] / 100) for size, unit in sizes]
    got = [found.on_chip_used_bytes, found.on_chip_remaining_bytes, found.off_chip_bytes]
    assert all(abs(one - other) <= 1 for one, other in zip(got, expected, strict=True))
    assert found.operations_on_edgetpu == sum(count for _, count, status in rows if status == MAPPED)
    before, table = text.split(HEAD)
    assert parse(before, f"Edge TPU Compiler version 16.0.384591198\nInput: m\nOutput: n\n\n{HEAD}{table}", 0) == found


@given(ROWS, st.booleans())
def test_output_cut_after_any_line_is_refused_or_complete(rows, has_log):
    """No cut makes a partly mapped model a wholly mapped one, or loses a figure unnoticed; only rows of the table may be missing."""
    text = rendered([(123, "KiB")] * 3, rows)
    whole, log = parse(text, "", 0), f"Input: m\n\n{HEAD}{text.split(HEAD)[1]}" if has_log else ""
    lines = text.splitlines(keepends=True)
    for length in range(len(lines)):
        found = outcome("".join(lines[:length]), log)
        if found != "compile_fail":
            assert found.operators == whole.operators[: len(found.operators)]
            assert replace(found, operators=whole.operators) == whole


@given(st.text(), st.text(), st.integers(0, 255))
def test_any_text_is_refused_in_one_bounded_printable_line(output, log, status):
    """Whatever a broken or hostile compiler prints."""
    with pytest.raises(FaultError) as caught:
        parse(output, log, status)
    assert caught.value.fault.code == "compile_fail"
    assert caught.value.fault.message.isprintable()
    assert len(caught.value.fault.message) < 400


@given(st.text(max_size=100), st.integers(0, 30))
def test_a_hostile_line_changes_no_figure(line, at):
    """Anything between the lines is refused, or leaves bounded printable rows and consistent counts."""
    lines = YOLO.splitlines()
    lines.insert(at, line)
    found = outcome("\n".join(lines) + "\n", "")
    if found != "compile_fail":
        assert found.operations == found.operations_on_edgetpu + found.operations_on_cpu
        assert all(row.name.isascii() and row.status.isprintable() and len(row.status) <= 300 for row in found.operators)


def test_a_flood_is_bounded():
    """Neither endless rows nor endless lines get through."""
    many = YOLO + "".join(f"OP_{at} 1 Mapped to Edge TPU\n" for at in range(50_000))
    assert len(parse(many, "", 0).operators) <= edgetpu_log.MAX_ROWS
    wide = YOLO + "X 1 " + "y" * 3_000_000 + "\n"
    assert all(len(row.status) <= edgetpu_log.MAX_LINE_CHARACTERS for row in parse(wide, "", 0).operators)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("operations: 229", "operations: 230"), "are not 230"),
        (("6.89MiB", "6.89XB"), "6.89XB"),
        (("subgraphs: 1", "subgraphs: 99999999999"), "subgraphs"),
        (("run on CPU: 7", "run on CPU: -7"), "-7"),
    ],
)
def test_figures_that_cannot_be_are_refused(change, why):
    """The message has what was wrong."""
    with pytest.raises(FaultError, match=why):
        parse(YOLO.replace(*change), "", 0)


TIMER = "Edge TPU Compiler version 16.0.384591198\nStarted a compilation timeout timer of 180 seconds.\n"
STATIC = "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors."


@pytest.mark.parametrize(
    ("output", "status", "message", "mend"),
    [
        (TIMER + "\nInternal compiler error. Aborting! \n", 1, "Internal compiler error. Aborting!", "cut the model"),
        (TIMER + STATIC + "\nCompilation failed! \n", 1, "static-sized tensors", "fixed shapes"),
        (TIMER + STATIC + "\nCompilation failed! \n", 0, "static-sized tensors", "fixed shapes"),
        (TIMER + "Compilation timeout. This is usually caused by large activations.\n", 1, "Compilation timeout", "smaller"),
        (TIMER, 137, "SIGKILL ended it", "smaller"),
        (TIMER, 139, "SIGSEGV ended it", "smaller"),
        (TIMER, 255, "signal 127 ended it", "smaller"),
        (TIMER, 1, "without a reason", "smaller"),
        (TIMER + "libc++abi: terminating with uncaught exception of type std::out_of_range: vector\n", 1, "out_of_range", "by hand"),
        ("ERROR: Didn't find op for builtin opcode 'EXP' version '2'.\nERROR: Registration failed.\n", 1, "'EXP' version '2'", "older"),
    ],
)
def test_each_failure_is_told_with_its_mend(output, status, message, mend):
    """The compiler's own words where it has some, the signal where it was killed."""
    with pytest.raises(FaultError) as caught:
        parse(output, "", status)
    assert caught.value.fault.code == "compile_fail"
    assert message in caught.value.fault.message
    assert mend in caught.value.fault.next


def test_the_version_is_read_or_refused():
    """It is part of what artifacts are kept by."""
    assert version("Edge TPU Compiler version 16.0.384591198\n") == "16.0.384591198"
    with pytest.raises(FaultError, match="version"):
        version("command not found")
