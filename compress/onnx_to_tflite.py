"""Converts ONNX models that come without a .tflite: onnx2tf in an environment of its own, its result checked against the ONNX."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import uv
from numpy.typing import NDArray

from agent.schema import FaultError, TensorSpec, fingerprint
from compress import cache, inspect, onnx_model, tflite_model
from compress.original import original, reference
from compress.quiet import quiet
from compress.records import Arrays, Context, Data, Source
from compress.verify import drift

TOOL = "onnx2tf==2.6.9"
CONSTRAINTS = Path(__file__).with_name("onnx2tf_constraints.txt")
PYTHONS = ("3.12", "3.13")
"""Versions of the interpreter that the tool and all that it is pinned to have wheels for, the preferred one first."""

LEAST_OPSET = 13
"""Below this the tool reads a Softmax over channels as one over the last axis."""

TIMEOUT_S = 900.0
TAIL_BYTES = 4000
LEAST_SQNR_DB = 40.0
"""Below this the converted model is refused: float32 arithmetic in another order gives 100 dB and more."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


@dataclass(frozen=True, slots=True)
class Converted:
    """The float32 model as .tflite; `transpose` brings each of the ONNX model's inputs into its layout.

    `seconds` is what the conversion took, 0 where it was there from an earlier one; `sqnr_db` compares its outputs with the ONNX's.
    """

    path: Path
    transpose: Mapping[str, tuple[int, ...]]
    seconds: float
    sqnr_db: float


def convert(model: str, onnx: Path, data: Data, context: Context) -> Converted:
    """Give the .tflite of an ONNX file, converted once for its content, and run on the evaluation samples.

    Raises FaultError: `convert_fail` (no Python that the tool runs under, an operator that it does not know, ...), `verification`
    (other outputs than the ONNX's), `bad_model`, `bad_data`, and what `context.run_model` raises.
    """
    path, seconds = tflite(onnx, context)
    transpose = _transpose(onnx, path, data)
    sqnr_db = _sqnr_db(Source(model, onnx, path), replace(data, transpose=transpose), context)
    return Converted(path, transpose, seconds, sqnr_db)


def tflite(onnx: Path, context: Context) -> tuple[Path, float]:
    """The unchecked .tflite of an ONNX file, and the seconds that it took, 0 where it was there; raises FaultError `convert_fail`."""
    content = onnx_model.self_contained(onnx)
    ours = [hashlib.sha256(part).hexdigest() for part in (content, CONSTRAINTS.read_bytes(), Path(__file__).read_bytes())]
    folder = context.cache / "converted" / fingerprint(ours)
    seconds = [0.0]

    def make(partial: Path) -> None:
        started = time.perf_counter()
        _run_tool(onnx.name, content, partial / "model.tflite")
        seconds[0] = time.perf_counter() - started

    cache.once(folder, lambda kept: (kept / "model.tflite").is_file(), make)
    os.utime(folder)  # tells gc when it was last used
    return folder / "model.tflite", seconds[0]


def interpreter() -> Path:
    """Give a Python that the tool runs under; raises FaultError `convert_fail`."""
    for candidate in _candidates():
        if _version(candidate) in PYTHONS:
            return candidate
    message = f"{TOOL} needs Python {' or '.join(PYTHONS)} to convert to TFLite, and there is none on this machine"
    raise FaultError("convert_fail", message, "install one (uv python install 3.12), or give `tflite:` in the suite", "compress")


def _candidates() -> Iterator[Path]:
    """Interpreters that may be there, by absolute path: a bare version makes uv stumble over pyenv's shims."""
    roots = [
        Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"),
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python"),
    ]
    for version in PYTHONS:
        for folder in os.get_exec_path():
            yield Path(folder, f"python{version}")
        for root in roots:
            yield from sorted([*root.glob(f"versions/{version}.*/bin/python"), *root.glob(f"cpython-{version}.*/bin/python")])


def _version(python: Path) -> str:
    if not os.access(python, os.X_OK):
        return ""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _run_tool(name: str, content: bytes, target: Path) -> None:
    python = interpreter()
    with TemporaryDirectory(prefix="fleetmark-") as work:
        source, made = _raised(name, content, Path(work)), Path(work, "made")
        tool = ["tool", "run", "--python", str(python), "--constraints", str(CONSTRAINTS), "--from", TOOL, "onnx2tf"]
        options = ["-i", str(source), "-o", str(made), "-tb", "flatbuffer_direct", *_fixed_batch(source)]
        status, said = _bounded([uv.find_uv_bin(), *tool, *options], Path(work))
        found = sorted(made.glob("*_float32.tflite"))  # its float16 file is broken
        reason = _unknown_operators(found[0]) if status == 0 and found else _reason(status, said)
        if reason:
            remedy = "give `tflite:` in the suite, or leave the tflite and edgetpu backends out"
            raise FaultError("convert_fail", f"{name}: {TOOL} cannot convert it to TFLite: {reason}", remedy, "compress")
        shutil.move(found[0], target)


def _raised(name: str, content: bytes, folder: Path) -> Path:
    """The model in `folder`, in operator set LEAST_OPSET at least."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    if onnx_model.opset(onnx_model.parse(content, name)) >= LEAST_OPSET:
        return path
    try:
        with quiet():
            return onnx_model.prepare(path, folder, LEAST_OPSET)[0]
    except Exception as error:
        message = (
            f"{name}: its operator set cannot be raised to {LEAST_OPSET}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        )
        raise FaultError("convert_fail", message[:400], "export it with a newer operator set", "compress") from error


def _reason(status: int, said: str) -> str:
    """The last line of the output that tells of an error, else the last one, without colours and progress bars."""
    if status == -signal.SIGKILL:
        return f"it was killed, as it is after {TIMEOUT_S:.0f} s"
    lines = [line.strip() for line in re.split(r"[\r\n]+", _COLOURS.sub("", said)) if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines or ["it said nothing"]
    return f"status {status}: {ascii(telling[-1])[1:-1][-300:]}"


def _fixed_batch(onnx: Path) -> list[str]:
    """An open batch would become operators that compute shapes on the device."""
    return ["-b", "1"] if any(spec.shape and spec.shape[0] == -1 for spec in inspect.inputs(onnx, "onnx")) else []


def _unknown_operators(tflite: Path) -> str:
    """What the tool wrote as custom operators, which no runtime has, for want of better; empty if there are none."""
    codes = tflite_model.read(tflite).operatorCodes
    custom = sorted(tflite_model.text(code.customCode).removeprefix("ONNX_") for code in codes if code.customCode)
    return f"TFLite has no operator for {', '.join(custom)}"[:300] if custom else ""


def _bounded(command: list[str], folder: Path) -> tuple[int, str]:
    """The exit status and the last of the output; all its processes are ended after TIMEOUT_S."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    tail = b""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        alarm = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            while chunk := os.read(process.stdout.fileno(), 65536):
                tail = (tail + chunk)[-TAIL_BYTES:]
            return process.wait(), tail.decode("utf-8", "replace")
        finally:
            alarm.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _transpose(onnx: Path, tflite: Path, data: Data) -> dict[str, tuple[int, ...]]:
    """The axes by input, told from the shapes; where both layouts fit, as the suite has it."""
    ours, theirs = inspect.inputs(onnx, "onnx"), inspect.inputs(tflite, "tflite")
    if len(ours) != len(theirs):
        raise FaultError("verification", f"{onnx.name} has {len(ours)} inputs, converted {len(theirs)}", "give `tflite:` in the suite")
    return {before.name: _axes(before, after, data.transpose.get(before.name, ())) for before, after in zip(ours, theirs, strict=True)}


def _axes(before: TensorSpec, after: TensorSpec, expected: tuple[int, ...]) -> tuple[int, ...]:
    for axes in (expected, CHANNELS_LAST.get(len(before.shape), ()), ()):
        turned = [before.shape[axis] for axis in axes] if axes else before.shape
        if len(turned) == len(after.shape) and all(-1 in (want, got) or want == got for want, got in zip(turned, after.shape, strict=True)):
            return axes
    message = f"input {before.name} of shape {before.shape} was converted to {after.shape}"
    raise FaultError("verification", message, "give `tflite:` in the suite", "compress")


def _sqnr_db(source: Source, data: Data, context: Context) -> float:
    """The worst output's SQNR; raises FaultError `verification` below LEAST_SQNR_DB."""
    expected: Arrays = reference(original(source, "onnx", data), context)
    got: Arrays = reference(original(source, "tflite", data), context)
    if len(expected) != len(got):
        raise FaultError("verification", f"{len(got)} outputs where the ONNX has {len(expected)}", "give `tflite:` in the suite", "verify")
    same_names = set(expected) == set(got)
    pairs = [(one, got[name] if same_names else other) for (name, one), other in zip(expected.items(), got.values(), strict=True)]
    worst = min(drift(one, _as(one.shape, other)).sqnr_db for one, other in pairs)
    if worst < LEAST_SQNR_DB:
        message = f"converted to TFLite it gives other outputs than the ONNX: SQNR {worst:.1f} dB, {LEAST_SQNR_DB:.0f} needed"
        raise FaultError("verification", message, "give `tflite:` in the suite", "verify")
    return worst


def _as(shape: tuple[int, ...], outputs: NDArray[np.generic]) -> NDArray[np.generic]:
    """Outputs with the channels last as the ONNX has them, first; others as they are."""
    if outputs.shape != shape and outputs.ndim > 2:
        turned = np.moveaxis(outputs, -1, 1)
        return turned if turned.shape == shape else outputs
    return outputs
