"""A metric that its owner wrote: called in a process of its own, from its file, as `python -m compress.own_metric FOLDER`."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from agent.schema import FaultError, decode

LOG_BYTES = 2000
TIMEOUT_S = 600


def score(file: Path, function: str, outputs: NDArray[np.generic], labels: NDArray[np.generic]) -> float:
    """What `function(outputs, labels)` of the file gives: a number from 0 to 1, higher is better. Raises FaultError `bad_data`."""
    with TemporaryDirectory(prefix="fleetmark-") as name:
        folder = Path(name)
        np.savez(folder / "arrays.npz", outputs=outputs, labels=labels)
        (folder / "job.json").write_text(json.dumps({"file": str(file), "function": function}))
        command = [sys.executable, "-P", "-m", "compress.own_metric", name]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _fault(file, f"{function} took more than {TIMEOUT_S} s") from None
        if done.returncode != 0:
            lines = done.stderr[-LOG_BYTES:].decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
            raise _fault(file, f"{function}(outputs, labels) fails: {lines[-1][:300]}")
        value = decode((folder / "score.json").read_bytes())
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise _fault(file, f"{function} gives {value}, not a number from 0 to 1")
    return value


def _fault(file: Path, what: str) -> FaultError:
    return FaultError("bad_data", f"{file.name}: {what}", "mend it, or `task:` in the suite", "verify")


def _main(folder: Path) -> None:
    job = decode((folder / "job.json").read_bytes())
    file = Path(job["file"])
    sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location("fleetmark_metric", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        value = float(getattr(code, job["function"])(arrays["outputs"], arrays["labels"]))
    (folder / "score.json").write_text(json.dumps(value if math.isfinite(value) else str(value)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
