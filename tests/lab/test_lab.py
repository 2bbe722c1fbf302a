"""A lab engineer's first day with two emulated boards: real SSH, real aarch64 runtimes, one report. For `make test-lab`."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

LAB = Path(os.environ.get("FLEETMARK_LAB", "/var/lib/fleetmark-lab"))
SUITE = Path(__file__).with_name("suite.yaml")
FLEETMARK = Path(sys.executable).with_name("fleetmark")
TIMEOUT_S = 900.0
ADDRESSES = {"pi4": "192.0.2.11", "nano": "192.0.2.13"}
RUNTIMES = ("tflite-runtime", "onnxruntime==1.16.3")  # that qemu 7.2 runs
MEASURED = ("valid", "unsteady")  # on an emulated processor, which others share, latencies need not settle


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with an inventory, in which fleetmark is called."""

    folder: Path

    def call(self, *words: object, code: int = 0) -> str:
        environ = {**os.environ, "FLEETMARK_CACHE": str(self.folder / "cache"), "COLUMNS": "200", "NO_COLOR": "1"}
        command = [str(FLEETMARK), *map(str, words)]
        done = subprocess.run(
            command, cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run over all devices left: its words, its report and its table."""

    said: str
    report: str
    rows: list[dict[str, Any]]

    def heads(self, device: str) -> dict[str, dict[str, Any]]:
        """The row of the 90th percentile of each of the device's cells, by runtime."""
        mine = [row for row in self.rows if row["device"] == device and row["metric"] == "latency_p90_s"]
        return {row["backend"].partition("runtime=")[2]: row for row in mine}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk that had no inventory, with this machine and both boards added to it."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.call("device", "add", "laptop", "--kind", "local")
    for name, address in ADDRESSES.items():
        pin = (LAB / name / "host_key").read_text().strip()
        desk.call("device", "add", name, f"bench@{address}", "--config", LAB / "ssh_config", "--yes", "--host-key", pin)
    return desk


@pytest.fixture(scope="module")
def outcome(desk: Desk) -> Outcome:
    """The lab's suite, run over both boards and this machine at once."""
    said = desk.call("run", SUITE, code=3)
    report = desk.folder / said.strip().splitlines()[-1].removeprefix("report: ")
    return Outcome(said, report.read_text(), json.loads(desk.call("export", "latest", "--to", "json"))["rows"])


def probe(desk: Desk, name: str) -> dict[str, Any]:
    return json.loads(desk.call("device", "probe", name, "--quick", "--json"))["probes"][name]["probe"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "board", "python", "glibc"),
    [("pi4", "Raspberry Pi 4 Model B", "3.11", "2.36"), ("nano", "NVIDIA Jetson Nano Developer Kit", "3.9", "2.31")],
)
def test_a_board_introduces_itself(desk: Desk, name: str, board: str, python: str, glibc: str) -> None:
    """Each has the device tree, userland and name of its kind, and never hides that it is emulated."""
    found = probe(desk, name)
    assert found["board"].startswith(board)
    assert found["python"].startswith(python + ".")
    assert (found["glibc"], found["machine"], found["bits"], found["hostname"]) == (glibc, "aarch64", 64, name)
    assert found["emulated"] == "qemu-user"


def set_up(desk: Desk, *words: str) -> list[dict[str, Any]]:
    """What `device setup` reports of both boards, asked for the runtimes that qemu runs."""
    asked = [word for name in ("tflite", "onnxruntime") for word in ("--backend", name)]
    asked += [word for name in RUNTIMES for word in ("--runtime", name)]
    reports = json.loads(desk.call("device", "setup", *ADDRESSES, *asked, *words, "--json"))["setup"]["devices"]
    assert [report["device"] for report in reports] == list(ADDRESSES)
    return [one for report in reports for one in report["outcomes"]]


def test_setup_installs_runtimes_that_work_there(desk: Desk) -> None:
    """Each board gets aarch64 wheels for its Python and glibc, and both runtimes answer on it; then nothing is left to ship."""
    found = set_up(desk)
    assert [(one["state"], one["works"]) for one in found] == [("shipped", True)] * 4
    assert [one["runtime"] for one in found] == [
        *("tflite-runtime==2.14.0", "onnxruntime==1.16.3"),
        *("tflite-runtime==2.13.0", "onnxruntime==1.16.3"),
    ]
    assert [one["state"] for one in set_up(desk, "--dry-run")] == ["there"] * 4


def test_doctor_finds_the_boards_fit_to_be_measured(desk: Desk) -> None:
    """All that the Pi must have is there; the Jetson lacks TensorRT alone, which cannot be emulated."""
    checks = json.loads(desk.call("doctor", *ADDRESSES, "--json", code=1))["doctor"]
    failed = {name: [one["name"] for one in found if one["level"] == "required" and not one["ok"]] for name, found in checks.items()}
    assert failed == {"pi4": [], "nano": ["tensorrt"]}


def test_one_report_holds_both_boards_and_this_machine(outcome: Outcome) -> None:
    """tflite-runtime and onnxruntime measure int8 on all three, with the same accuracy; every emulated number says so."""
    for device in ("laptop", *ADDRESSES):
        heads = outcome.heads(device)
        for runtime in RUNTIMES:
            assert heads[runtime]["status"] in MEASURED, heads[runtime]
            assert heads[runtime]["value"] > 0
        assert f">{device}<" in outcome.report
    valued = [row for row in outcome.rows if row["value"] is not None]
    assert {("emulated" in row["reason"]) == (row["device"] in ADDRESSES) for row in valued} == {True}
    accuracies = [row["value"] for row in valued if row["metric"] == "accuracy"]
    assert len(accuracies) == 7
    assert max(accuracies) - min(accuracies) < 0.005


def test_emulated_boards_are_labelled_and_not_ranked_against_this_machine(outcome: Outcome) -> None:
    """The report labels both boards; the verdict's fastest is this machine's, and no sentence on it names a board."""
    assert outcome.report.count("emulated: qemu-user") >= len(ADDRESSES)
    for name in ADDRESSES:
        assert f"{name} (emulated)" in outcome.said
    sentences = [line for line in outcome.said.splitlines() if "fastest valid cell" in line or "times as long" in line]
    assert any("laptop" in sentence for sentence in sentences)
    assert not any("laptop" in sentence and re.search("pi4|nano", sentence) for sentence in sentences)


def test_a_runtime_that_crashes_fails_its_cell_alone(outcome: Outcome) -> None:
    """onnxruntime 1.31.1 dies under emulation: the Pi's cell is a crash that names the signal. Python 3.9 has no such wheel."""
    forced = "onnxruntime==1.31.1"
    assert (outcome.heads("pi4")[forced]["status"], outcome.heads("pi4")[forced]["reason"]) == ("failed", "crash")
    assert re.search(r"SIG(SEGV|ILL|BUS|ABRT)", outcome.heads("pi4")[forced]["message"])
    assert outcome.heads("nano")[forced]["reason"] == "env_missing"
    assert "3.9" in outcome.heads("nano")[forced]["message"]
    assert outcome.heads("laptop")[forced]["status"] in MEASURED
