"""Gates from a file of their own: a suite's `gates:` alone, under that key or without it, or a whole suite."""

from dataclasses import replace
from pathlib import Path

from pydantic import Field

from controller import gates, strict, suite, yamlfile
from controller.errors import FleetmarkError
from controller.gates import GateTable, Limits
from controller.strict import Record, Version
from controller.yamlfile import Document
from reports.records import Gate


class _Alone(Record):
    """A file that has gates and nothing else."""

    version: Version = 1
    gates: GateTable = Field(default_factory=dict[str, Limits])


def load(path: Path) -> tuple[Gate, ...]:
    """Give the gates in the file; raises ConfigError with every problem that is in it, FleetmarkError where it has none."""
    document = yamlfile.read(path)
    if "models" in document.data:
        found = suite.load(path).gates
    else:
        found = gates.parse(strict.validate(document if "gates" in document.data else _under_key(document), _Alone).gates)
    if not found:
        raise FleetmarkError(f"{path} has no gates", next="write some, such as `all: {latency_p90_ms: 20}`")
    return found


def _under_key(document: Document) -> Document:
    """The document as if it stood below `gates:`."""
    return replace(
        document,
        data={"gates": document.data},
        refused=frozenset(("gates", *place) for place in document.refused),
        keys={("gates", *place): at for place, at in document.keys.items()},
        values={("gates", *place): at for place, at in document.values.items()},
    )
