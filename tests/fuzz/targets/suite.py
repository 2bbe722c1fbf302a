"""suite.yaml."""

from collections.abc import Iterator
from pathlib import Path

from yaml_samples import SUITE

from controller import scaffold, suite
from controller.errors import ConfigError
from fuzz import folder

DECLARED = (ConfigError,)
WORDS = (
    *("version: 1", "models:", "source: m.onnx", "python:a.b:c", "recipes: [fp32]", "devices: [all]", "backends: [auto]", "workloads:"),
    *("gates: {all: {latency_p90_ms: 20}}", "{min: 0.9}", "inputs: {x: {shape: [1]}}", "mean: [0.5]", "std: 0", "task: none", "~user/x"),
    *("{name: server, p99_ms: 20}", "options: {threads: 4}", "!pis", "kind=coral-usb", "launches: 1", ".inf", "1e400", "&a", "*a", "- "),
)
FILE = Path(folder(), "suite.yaml")


def seeds() -> Iterator[bytes]:
    """The interface document's, and the one that `init` writes."""
    yield SUITE.encode()
    yield scaffold.SUITE.encode()
    yield b"version: 1\nmodels: {m: {source: 'python:pkg.mod:make', weights: w.pt}}\nrecipes: [./r.yaml]\n"


def one(data: bytes) -> None:
    """What loads loads the same again, its paths absolute."""
    FILE.write_bytes(data)
    found = suite.load(FILE)
    assert suite.load(FILE) == found
    assert all(model.source.is_absolute() or model.factory.startswith("/") for model in found.models.values())
