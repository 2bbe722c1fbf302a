"""What edgetpu_compiler printed, a NUL, its log; its exit status is the first byte."""

from collections.abc import Iterator

from test_edgetpu_log import HEAD, MAPPED, NOT_ALL, STATIC, TIMER, YOLO, rendered

from agent.schema import Fault, FaultError
from compress import edgetpu_log

DECLARED = (FaultError,)
WORDS = (*HEAD.split(), MAPPED, NOT_ALL, "MiB", "KiB", "Total number of operations: ", "Compilation failed!", "\nOperator ", "\0")


def seeds() -> Iterator[bytes]:
    """Outputs with and without a log, of models that were mapped, in part, and not at all."""
    for status, output, log in (
        (0, YOLO, ""),
        (0, rendered([(123, "KiB")] * 3, [("CONV_2D", 3, MAPPED), ("SOFTMAX", 1, MAPPED)]), ""),
        (
            0,
            rendered([(9, "B")] * 3, [("CONV_2D", 3, MAPPED), ("EXP", 1, "Operation not supported")]).split(HEAD)[0],
            f"x\n{HEAD}EXP 1 Mapped\n",
        ),
        (1, TIMER + STATIC, ""),
        (137, TIMER, ""),
    ):
        yield bytes([status]) + f"{output}\0{log}".encode()


def one(data: bytes) -> None:
    """Counts that add up, or one printable line of why not."""
    status, text = (data[0] if data else 0), data[1:].decode("utf-8", "replace")
    output, _, log = text.partition("\0")
    try:
        found = edgetpu_log.parse(output, log, status)
    except FaultError as error:
        _check(error.fault)
        raise
    assert found.operations == found.operations_on_edgetpu + found.operations_on_cpu
    assert all(row.name.isascii() and row.status.isprintable() for row in found.operators)
    assert edgetpu_log.version(output) == found.version


def _check(fault: Fault) -> None:
    assert fault.code == "compile_fail"
    assert fault.message.isprintable()
