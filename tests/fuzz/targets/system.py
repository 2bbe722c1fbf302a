"""A device's system files and what its programs print: what the agent's probe, its conditions and its sensors make of them.

An input is a list of `name NUL content`, RS between them; `!program words` is what a program prints, `@name` what a link leads to.
"""

import fnmatch
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import boards as fake

from agent import boards, conditions, host, software, throttling
from agent.accelerators import accelerators
from agent.power_sources import power_sources
from agent.schema import encode
from agent.sensors import MAX_POWER_W, PowerSensor, SensorError, ina2xx, ina3221, pi5_pmic, rapl
from agent.system import MAX_ENTRIES, System, clean

DECLARED = (SensorError,)
WORDS = (
    *(
        "tegra210",
        "bcm2712",
        "nvidia,",
        "Phanbell",
        "throttled=0x50000",
        "# R32 (release), REVISION: 7.1",
        "passive",
        "soctherm_oc",
        "²",
        "1e400",
    ),
    *(
        "package-0",
        "ina226",
        "POM_5V_IN",
        "VDD_IN",
        "installed",
        "[TensorRT v8201]",
        "MiB",
        "1ac1",
        "089a",
        "0x1ac1",
        "0000:01:00.0",
        "nan",
        "-1",
    ),
)
BETWEEN, BEHIND_NAME = b"\x1e", b"\0\x1f"


class Recorder(System):
    """A system that remembers what it was asked and answered."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.told: dict[str, bytes] = {}

    def content(self, name: str, limit: int = 1 << 16) -> bytes:
        self.told[name] = found = super().content(name, limit)
        return found

    def ask(self, name: str, *arguments: str) -> str:
        found = super().ask(name, *arguments)
        self.told[f"!{' '.join([name, *arguments])}"] = found.encode()
        return found

    def target(self, name: str) -> str:
        found = super().target(name)
        self.told[f"@{name}"] = found.encode()
        return found

    def program(self, name: str) -> str:
        found = super().program(name)
        self.told[f"!{name}"] = b"there" if found else b""
        return found


class FakeSystem(System):
    """A system whose files and programs are an input's."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__("/nowhere")
        self.files = files

    def content(self, name: str, limit: int = 1 << 16) -> bytes:
        return self.files.get(name, b"")[:limit]

    def names(self, pattern: str) -> list[str]:
        depth, parts = pattern.count("/"), set[str]()
        for name in self.files:
            head = "/".join(name.split("/")[: depth + 1])
            if head.count("/") == depth and all(map(fnmatch.fnmatchcase, head.split("/"), pattern.split("/"))):
                parts.add(head)
        return sorted(parts)[:MAX_ENTRIES]

    def exists(self, name: str) -> bool:
        return name in self.files

    def target(self, name: str) -> str:
        return clean(self.files.get(f"@{name}", b"").decode("utf-8", "replace"))

    def refusal(self, name: str, write: bool = False) -> str:  # noqa: ARG002 - as System has it
        return "" if name in self.files else f"/{clean(name)}: no such file"

    def program(self, name: str) -> str:
        return f"/usr/bin/{name}" if self.files.get(f"!{name}") else ""

    def ask(self, name: str, *arguments: str) -> str:
        said = self.files.get(f"!{' '.join([name, *arguments])}", b"")[: 1 << 16]
        return "\n".join(clean(line) for line in said.decode("utf-8", "replace").split("\n"))


def seeds() -> Iterator[bytes]:
    """All that is read of each of the fake boards."""
    for make in fake.KINDS.values():
        with tempfile.TemporaryDirectory(prefix="fleetmark-fuzz-") as folder:
            make(Path(folder))
            system = Recorder(folder)
            look(system)
            yield BETWEEN.join(name.encode() + BEHIND_NAME + content for name, content in system.told.items() if content)


def one(data: bytes) -> None:
    """A description that may cross the wire; sensors give powers, or say in one line why not."""
    parts = (part.partition(BEHIND_NAME) for part in data.split(BETWEEN))
    look(FakeSystem({name.decode("utf-8", "replace"): content for name, _, content in parts}))


def look(system: System) -> None:
    """What a probe, a launch and its sensors read."""
    board = boards.identify(system)
    sources, told = power_sources(system, board), software.versions(system, board)
    found = [board, accelerators(system, board), sources, told, software.tools(system), boards.power_mode(system)]
    found += [host.processor(system), host.os_name(system), host.container(system), host.emulator(system, "aarch64")]
    found += [throttling.flags(system), throttling.unique(throttling.zones(system)), conditions.clocks(system)]
    encode([list(part) if isinstance(part, list) else part for part in found])
    assert all(source.problem.isprintable() for source in sources)
    for kind in (ina2xx.Ina2xx, ina3221.Ina3221, pi5_pmic.Pi5Pmic, rapl.Rapl):
        _read(kind(system, {}))


def _read(sensor: PowerSensor) -> None:
    found = sensor.probe()
    assert found.problem.isprintable()
    if not found.problem:
        readings = sensor.read()
        assert {reading.rail for reading in readings} <= set(found.rails)
        assert all(reading.value >= 0 and (sensor.kind == "energy" or reading.value < MAX_POWER_W) for reading in readings)
