"""Reads the file that onnxruntime's profiler wrote: one event a line, in the order in which they ended; trusts nothing in it.

Times are whole microseconds. Names of nodes are the model's, and releases differ in whether they escape them.
"""

import json
from typing import Any, Dict, Iterator, List

from agent.schema import FaultError
from backends import ACCELERATOR, CPU, Operation

MAX_FILE_BYTES = 256 << 20
MAX_LINE_BYTES = 1 << 16
MAX_DURATION_US = 10**10
SUFFIX = "_kernel_time"
INFERENCE = "model_run"  # a session's event that ends each inference
ON_CPU = ("cpu", "xnnpack", "dnnl", "acl", "armnn")
ON_EITHER = ("openvino", "qnn", "nnapi", "coreml", "azure")  # which of their devices ran a node is not told


def read(path: str) -> List[List[Operation]]:
    """Return the operations of each inference in the file, in order; raises FaultError protocol for a file that is not as it should be."""
    found = []  # type: List[List[Operation]]
    current = []  # type: List[Operation]
    try:
        for event in _events(path):
            if event.get("cat") == "Node" and str(event.get("name")).endswith(SUFFIX):
                current.append(_operation(event))
            elif event.get("cat") == "Session" and event.get("name") == INFERENCE:
                found.append(current)
                current = []
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        message = "onnxruntime's profile cannot be read: {}".format(str(error)[:100])
        raise FaultError("protocol", message, "the cell's other figures stand; try another release of onnxruntime", "profile") from None
    return found


def _events(path: str) -> Iterator[Dict[str, Any]]:
    """The file's events; raises ValueError for a line that is none, and for a file or line that is too long."""
    left = MAX_FILE_BYTES
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""):
            left -= len(line)
            if left < 0 or len(line) > MAX_LINE_BYTES:
                raise ValueError("it is too long")
            text = line.strip().rstrip(b",")
            if text not in (b"[", b"]", b""):
                event = json.loads(text.decode("utf-8"))
                if not isinstance(event, dict):
                    raise ValueError("an event is no object")
                yield event  # pyright: ignore[reportUnknownVariableType] - JSON


def _operation(event: Dict[str, Any]) -> Operation:
    name, duration_us, told = event["name"], event["dur"], event["args"]
    if type(duration_us) is not int or not 0 <= duration_us <= MAX_DURATION_US:
        raise ValueError("a duration is {!r}".format(duration_us))
    kind, provider = told["op_name"], told["provider"]
    if not isinstance(kind, str) or not isinstance(provider, str):
        raise ValueError("an operation without its type or provider")
    return Operation(name[: -len(SUFFIX)], kind, provider, duration_us / 1e6, device_of(provider))


def device_of(provider: str) -> str:
    """Return where an execution provider runs its nodes: CPU, ACCELERATOR, or empty where it may be either."""
    name = provider.lower()
    return CPU if name.startswith(ON_CPU) else "" if name.startswith(ON_EITHER) else ACCELERATOR
