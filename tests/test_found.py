"""What fuzzing found: inputs that once broke their reader with an error that it does not declare."""

from pathlib import Path

import pytest
from test_sensors import sensor

from agent.schema import FaultError
from controller import environments, hostkeys, sshconfig, targets
from controller.inventory import Device


def test_a_log_whose_header_ends_as_no_csv_does_is_a_problem(tmp_path: Path) -> None:
    """A carriage return within the header of a meter's log is told by the probe, which never raises."""
    (tmp_path / "log.csv").write_bytes(b"time\rpower (mW),x\n1,2\n")
    assert "new-line" in sensor(tmp_path, "csv_log", path="/log.csv", boundary="board").probe().problem


@pytest.mark.parametrize("python", ["3.²", "²", "", ".", "3.11" + ".9" * 2000])
def test_a_version_that_no_python_has_is_one_without_wheels(python: str) -> None:
    """A device that tells nonsense of its Python is told that there are no wheels for it."""
    with pytest.raises(FaultError) as caught:
        environments.choose("onnxruntime", None, python, "aarch64", "2.²", 64)
    assert caught.value.fault.code == "env_missing"


def test_a_release_that_is_no_number_is_none() -> None:
    """A suite's runtime of a version that cannot be read is no internal error."""
    device = Device(name="a", kind="local")
    assert targets.format_of(device, "openvino", {"runtime": "openvino==2025.²"}) == "openvino"


def test_an_include_that_names_no_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders, devices, and homes of users whom nobody knows have no aliases."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / "config"
    config.write_text(f"Include /dev/null {tmp_path} ~nobody-of-that-name/config none*\nHost pi\n")
    assert sshconfig.aliases(config) == ("pi",)


def test_a_wildcard_of_many_stars_takes_no_time(tmp_path: Path) -> None:
    """An entry of known_hosts that would try every way of fitting a long name, hours of them, is tried once."""
    (tmp_path / "known_hosts").write_text(f"{'*a' * 100} ssh-ed25519 AAAA\n[pi]:?2* ssh-ed25519 AAAA\n")
    assert hostkeys.known([tmp_path / "known_hosts"], "a" * 200 + "b").is_new
    assert not hostkeys.known([tmp_path / "known_hosts"], "[pi]:2222").is_new


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_no_host_has_is_refused(port: str) -> None:
    """Where a person types a host, with its port."""
    with pytest.raises(ValueError, match="port"):
        sshconfig.parse_target(f"me@pi:{port}")
