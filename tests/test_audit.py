"""The audit never passes for want of an answer; the bill of materials is CycloneDX and holds what devices get."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from controller import environments

CI = Path(__file__).parent.parent / ".ci"
ASKED = [("numpy", "2.4.6"), ("torch", "2.13.0")]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit, sbom = script("audit"), script("sbom")


def answer(name: str, version: str, *vulnerabilities: str) -> dict[str, Any]:
    vulns = [{"id": one, "fix_versions": ["9.9"], "aliases": [], "description": ""} for one in vulnerabilities]
    return {"name": name, "version": version, "vulns": vulns}


CANARY = answer(*audit.CANARY, "PYSEC-2019-217")
CLEAN = [CANARY, *(answer(*package) for package in ASKED)]


def test_a_clean_answer_passes() -> None:
    """Every package looked up, none with a vulnerability but the one that is known to have it."""
    assert audit.verdict(ASKED, CLEAN) == (audit.CLEAN, ["no known vulnerability in 2 packages"])


def test_a_vulnerability_is_told() -> None:
    """With its version, its name and where it is mended."""
    found = [CANARY, answer("NumPy", "2.4.6", "PYSEC-1", "GHSA-2"), answer("torch", "2.13.0")]
    lines = ["numpy==2.4.6: PYSEC-1, mended in 9.9", "numpy==2.4.6: GHSA-2, mended in 9.9"]
    assert audit.verdict(ASKED, found) == (audit.FOUND, lines)


def test_a_skipped_package_fails() -> None:
    """As pip-audit itself tells it, with exit status 0: the version is not on the index, such as torch's local build."""
    skipped = {"name": "torch", "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0+cpu)"}
    code, lines = audit.verdict(ASKED, [*CLEAN[:2], skipped])
    assert code == audit.UNAUDITED
    assert lines == ["1 packages are not audited: torch==2.13.0", skipped["skip_reason"]]


def test_a_package_without_an_answer_fails() -> None:
    """Neither audited nor skipped: pip-audit failed for it."""
    assert audit.verdict(ASKED, CLEAN[:2])[0] == audit.UNAUDITED


@pytest.mark.parametrize("found", [[], CLEAN[1:], [answer(*audit.CANARY), *CLEAN[1:]], [{"name": "jinja2", "skip_reason": "no"}]])
def test_a_service_that_knows_nothing_fails(found: list[dict[str, Any]]) -> None:
    """One that cannot be reached, or tells no vulnerability of a release that has one, has not audited anything."""
    code, lines = audit.verdict(ASKED, found)
    assert code == audit.UNAUDITED
    assert lines[0].startswith("the vulnerability service does not answer, so nothing is audited: ")


def test_all_that_is_used_is_asked_for() -> None:
    """What is pinned, what is installed and what devices get, all versions of it, by the version that the index knows."""
    asked = audit.packages()
    assert {"paramiko", "torch", "pip"} <= {name for name, _ in asked}
    assert {(wheel.name, wheel.version) for one in environments.read() for wheel in one.wheels} <= set(asked)
    assert not any("+" in version for _, version in asked)
    sheets = audit.sheets(asked)
    assert sorted(package for sheet in sheets for package in sheet) == asked
    assert all(len(dict(sheet)) == len(sheet) for sheet in sheets)


def test_pip_audit_that_fails_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packages are then missing, which the verdict does not pass."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert audit.ask(ASKED) == []


def test_the_bill_is_cyclonedx_and_holds_what_devices_get() -> None:
    """Made of requirements by the real program; each wheel of the data file is there with its sha256 and whom it is for, once."""
    described = sbom.described(f"idna==3.20 --hash=sha256:{'a' * 64}\n")
    text = sbom.merged(described, environments.read())
    assert sbom.problem_of(text) == ""
    bill = json.loads(text)
    assert (bill["metadata"]["component"]["name"], bill["components"][0]["name"]) == ("fleetmark", "idna")
    assert "a" * 64 in json.dumps(bill["components"][0])
    wheels = {(one["name"], one["version"], one["hashes"][0]["content"]) for one in bill["components"][1:]}
    assert wheels == {(wheel.name, wheel.version, wheel.sha256) for one in environments.read() for wheel in one.wheels}
    assert len(wheels) == len(bill["components"]) - 1
    assert all(one["properties"] for one in bill["components"][1:])


def test_a_wrong_bill_is_refused() -> None:
    """The schema that is asked is the real one."""
    assert "nonsense" in sbom.problem_of(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "nonsense": 1}))
