"""The per-operation profile of a model: some inferences with the runtime's profiling on, in a launch of its own (METHOD.md, rule 4)."""

from array import array
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from agent import workloads
from backends import Operation, Session

MAX_OPERATIONS = 2000
MAX_CHARACTERS = 200
WARM_UP = 10  # inferences, a fixed number: onnxruntime's profiler keeps all that there were
AT_ONCE = 250  # operations in an event, which stays far below what a line may hold


class Profiled(NamedTuple):
    """An operation as it crosses the wire, without its times: those of all inferences are a file of their own.

    `kernel` is the kernel or execution provider that ran it; `device` is cpu, accelerator, or empty where that is not known.
    """

    name: str
    type: str
    kernel: str
    device: str


class Profile(NamedTuple):
    """`operations` in the model's order; `wall_ns` of each inference; `operation_ns` of the operations, one inference after the other.

    Where the runtime tells averages, `operation_ns` has one for each operation; where it tells no times, none. `left_out` are the
    operations beyond MAX_OPERATIONS, the fastest ones.
    """

    operations: List[Profiled]
    wall_ns: "array[int]"
    operation_ns: "array[int]"
    left_out: int


def warm_up(session: Session, has_time: Callable[[], bool]) -> None:
    """Run WARM_UP inferences, fewer where time runs out."""
    for _ in range(WARM_UP):
        if has_time():
            session.infer()


def profile(session: Session, inferences: int, has_time: Callable[[], bool]) -> Profile:
    """Run so many inferences, fewer where time runs out, on a session that was loaded with option `profile`."""
    wall_ns = array("q")
    told = []  # type: List[List[Operation]]
    session.begin_profile()
    with workloads.collection_off():
        while not wall_ns or (len(wall_ns) < inferences and has_time()):
            begin = workloads.clock_ns()
            session.infer()
            wall_ns.append(workloads.clock_ns() - begin)
            if not session.told_at_end:
                told.append(session.operations())
    return of_inferences(session.end_profile()[-len(wall_ns) :] if session.told_at_end else told, wall_ns)


def of_inferences(told: List[List[Operation]], wall_ns: "array[int]") -> Profile:
    """The profile of inferences that took `wall_ns`; those that ran other operations than the last one give no times."""
    names = [operation.name for operation in told[-1]] if told else []
    same = [one for one in told if [operation.name for operation in one] == names]
    timed = all(operation.seconds is not None for one in same for operation in one)
    kept = _slowest(same, timed)
    times = array("q", [round((one[at].seconds or 0.0) * 1e9) for one in same for at in kept] if timed else [])
    return Profile([_profiled(told[-1][at]) for at in kept], wall_ns, times, len(names) - len(kept))


def _slowest(told: List[List[Operation]], timed: bool) -> List[int]:
    """Which operations to tell, in the model's order: those that took longest over all inferences, where there are too many."""
    count = len(told[-1]) if told else 0
    if count <= MAX_OPERATIONS or not timed:
        return list(range(min(count, MAX_OPERATIONS)))
    took = [sum(one[at].seconds or 0.0 for one in told) for at in range(count)]
    return sorted(sorted(range(count), key=lambda at: -took[at])[:MAX_OPERATIONS])


def _profiled(operation: Operation) -> Profiled:
    return Profiled(_clean(operation.name), _clean(operation.type), _clean(operation.kernel), operation.device)


def _clean(text: str) -> str:
    """ASCII of at most MAX_CHARACTERS, the end of a longer name: names of layers differ there."""
    return text.encode("ascii", "replace").decode("ascii")[-MAX_CHARACTERS:]


def parts(told: Profile) -> Iterator[Dict[str, Any]]:
    """The operations as the data of events; at least one, empty where the runtime tells of none."""
    for at in range(0, max(1, len(told.operations)), AT_ONCE):
        yield {"operations": told.operations[at : at + AT_ONCE]}
