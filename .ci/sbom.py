"""A bill of materials (CycloneDX JSON): what an installation takes, with the hashes of its files, and the wheels that devices get."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from controller import environments
from controller.environments import Environment

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "dist" / "sbom.cdx.json"
EXTRAS = ("tflite", "openvino")  # those of `make demo`
VERSION = SchemaVersion.V1_6


def main() -> int:
    """Write the bill to OUTPUT."""
    bill = merged(described(requirements()), environments.read())
    problem = problem_of(bill)
    if problem:
        sys.stderr.write(f"the bill is not valid CycloneDX {VERSION.to_version()}: {problem}\n")
        return 1
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(bill)
    sys.stdout.write(f"{OUTPUT}\n")
    return 0


def requirements() -> str:
    """Give every distribution of an installation as name==version with the hashes of its files, by uv from the package index."""
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    options = ["--constraints", "constraints.txt", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *extras, *options]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def described(lines: str) -> dict[str, Any]:
    """Give the requirements as a CycloneDX document."""
    options = ["--pyproject", "pyproject.toml", "--sv", VERSION.to_version(), "--of", "JSON", "--output-reproducible", "-"]
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", *options]
    return json.loads(subprocess.run(command, cwd=ROOT, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout)


def merged(document: Mapping[str, Any], shipped: Iterable[Environment]) -> str:
    """Give the document, as text, with the devices' wheels among its components: each file once, and which devices get it."""
    return json.dumps({**document, "components": [*document.get("components", ()), *_wheels(shipped)]}, indent=2) + "\n"


def _wheels(shipped: Iterable[Environment]) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for one in shipped:
        for wheel in one.wheels:
            target = f"{one.backend}, Python {one.python}, {one.machine}, glibc {one.libc_floor}"
            found.setdefault((wheel.name, wheel.version, wheel.sha256), []).append(target)
    for (name, version, sha256), targets in sorted(found.items()):
        yield {
            "type": "library",
            "bom-ref": f"device-wheel-{sha256}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "hashes": [{"alg": "SHA-256", "content": sha256}],
            "properties": [{"name": "fleetmark:shipped-to", "value": target} for target in sorted(set(targets))],
        }


def problem_of(bill: str) -> str:
    """Give what the CycloneDX schema finds wrong with the bill; empty if nothing."""
    found = JsonStrictValidator(VERSION).validate_str(bill)
    return "" if found is None else str(found)


if __name__ == "__main__":
    sys.exit(main())
