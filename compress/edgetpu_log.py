"""What edgetpu_compiler says of a compilation, read from its output and its log; neither is trusted."""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from agent.schema import FaultError

MAPPED = "Mapped to Edge TPU"
ONE_SUBGRAPH = "More than one subgraph is not supported"
UNSPECIFIED = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
DATA_TYPE = "Operation is working on an unsupported data type"
VERSION = "Operation version not supported"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
UNSUPPORTED = "Operation not supported"

MAX_CHARACTERS = 1 << 20
MAX_LINE_CHARACTERS = 300
MAX_ROWS = 1000

_COMPILED = re.compile(r"Model compiled successfully in (\d{1,9}) ms\b")
_COMPILER = re.compile(r"Edge TPU Compiler version (\d{1,9}(?:\.\d{1,9}){1,3})")
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(B|KiB|MiB|GiB)")
_ROW = re.compile(r"([\w.-]{1,64})[ \t]+(\d{1,7})[ \t]+([!-~][ -~]*)", re.ASCII)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_TIMER = "Started a compilation timeout timer"
_NO_CAUSE = (_TIMER, "Edge TPU Compiler version", "Compilation child process", "Compilation failed!")
_CAUSES = (
    ("Didn't find op for builtin opcode", "convert the model with an older converter, or leave that operation out of it"),
    ("static-sized tensors", "export the model with fixed shapes and batch 1"),
    ("Compilation timeout", "use a smaller model or input: large activations take it long"),
    ("large activation tensors", "use a smaller model or input"),
    ("Internal compiler error", "cut the model before the operation that it cannot take, or export it in another way"),
    ("could not be parsed", "check that the .tflite runs in TensorFlow Lite, then export it again"),
)
"""What it prints when it gives up, with what mends that."""


@dataclass(frozen=True, slots=True)
class Operators:
    """A row of the log's table: operators of one kind that share a status."""

    name: str
    count: int
    status: str


@dataclass(frozen=True, slots=True)
class Compilation:
    """What the compiler did: operations by where they run, and memory for parameters on the chip and streamed to it, in bytes."""

    version: str
    compile_s: float
    operations: int
    operations_on_edgetpu: int
    operations_on_cpu: int
    on_chip_used_bytes: int
    on_chip_remaining_bytes: int
    off_chip_bytes: int
    subgraphs: int
    operators: tuple[Operators, ...]


def parse(output: str, log: str, status: int) -> Compilation:
    """What the compiler printed, with the table of operators from there or from its log; `status`: its exit status.

    Raises FaultError `compile_fail` with the reason if it failed, or if what it says ends early or contradicts itself.
    """
    text = output[:MAX_CHARACTERS]
    compiled = _COMPILED.search(text)
    if status or not compiled or "Compilation failed" in text:
        raise _failure(text, status)
    operators = tuple(table(text)) or tuple(table(log[:MAX_CHARACTERS]))
    total = _number(text, "Total number of operations")
    on_edgetpu, on_cpu = total, 0
    if "not all operations are supported" in text:
        on_edgetpu = _number(text, "Number of operations that will run on Edge TPU")
        on_cpu = _number(text, "Number of operations that will run on CPU")
    elif total != sum(row.count for row in operators if row.status == MAPPED):
        raise _unreadable("its table of operators ends early")
    if on_edgetpu + on_cpu != total:
        raise _unreadable(f"{on_edgetpu} operations on the Edge TPU and {on_cpu} on the CPU are not {total}")
    return Compilation(
        version=version(text),
        compile_s=int(compiled[1]) / 1000,
        operations=total,
        operations_on_edgetpu=on_edgetpu,
        operations_on_cpu=on_cpu,
        on_chip_used_bytes=_size_bytes(text, "On-chip memory used for caching model parameters"),
        on_chip_remaining_bytes=_size_bytes(text, "On-chip memory remaining for caching model parameters"),
        off_chip_bytes=_size_bytes(text, "Off-chip memory used for streaming uncached model parameters"),
        subgraphs=_number(text, "Number of Edge TPU subgraphs"),
        operators=operators,
    )


def version(output: str) -> str:
    """The compiler's version, as 16.0.384591198; raises FaultError `compile_fail` for what is not its output."""
    found = _COMPILER.search(output[:MAX_CHARACTERS])
    if not found:
        raise _unreadable("it does not tell its version")
    return found[1]


def table(text: str) -> Iterator[Operators]:
    """The rows below the table's head; other lines, as the closing ones, are skipped."""
    _, _, rest = text.partition("\nOperator ")
    for line in rest.split("\n")[: MAX_ROWS + 1]:
        row = _ROW.fullmatch(line.strip()[:MAX_LINE_CHARACTERS])
        if row:
            yield Operators(row[1], int(row[2]), row[3])


def _number(text: str, label: str) -> int:
    value = _value(text, label)
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise _unreadable(f"{label}: {_shown(value) or 'nothing'}")
    return int(value)


def _size_bytes(text: str, label: str) -> int:
    value = _value(text, label)
    size = _SIZE.fullmatch(value)
    if not size:
        raise _unreadable(f"{label}: {_shown(value) or 'nothing'}")
    return round(float(size[1]) * _UNITS[size[2]])


def _value(text: str, label: str) -> str:
    """What stands behind `label:`; empty where that is not a whole line."""
    _, found, rest = text.partition(f"\n{label}: ")
    value, ended, _ = rest.partition("\n")
    return value.strip() if found and ended else ""


def _failure(text: str, status: int) -> FaultError:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for sign, mend in _CAUSES:
        for line in lines:
            if sign in line:
                return _fault(_shown(line), mend)
    causes = [line for line in lines if not line.startswith(_NO_CAUSE)]
    if status > 128:
        return _fault(f"{_signal(status - 128)} ended it", "try a smaller model, or run it by hand on the .tflite to see more")
    if causes:
        return _fault(_shown(causes[-1]), "run it by hand on the .tflite to see more")
    return _fault(f"it gave up without a reason (exit status {status})", "try a smaller model or another export of it")


def _unreadable(why: str) -> FaultError:
    return _fault(f"its output cannot be used: {why}", "run it by hand on the .tflite to see what it says")


def _fault(message: str, mend: str) -> FaultError:
    return FaultError("compile_fail", f"edgetpu_compiler: {message}", mend, "compile")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shown(line: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in " ".join(line.split()))[:MAX_LINE_CHARACTERS]
