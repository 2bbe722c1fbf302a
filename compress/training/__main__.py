"""The process that trains: `python -m compress.training FOLDER` reads job.json there, and writes model.onnx and result.json."""
# torch is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import importlib.util
import json
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from agent.schema import FaultError, decode, dump
from compress.recipes import step_names
from compress.records import Samples
from compress.techniques import TORCH, find


def main(folder: Path) -> None:
    """Carries out the job; whatever goes wrong becomes the fault of result.json."""
    try:
        result = _run(folder, decode((folder / "job.json").read_bytes()))
    except FaultError as error:
        result = {"fault": dump(error.fault)}
    (folder / "result.json").write_text(json.dumps(result, allow_nan=False))


def _run(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise FaultError("env_missing", f"torch cannot be imported: {error}", "install fleetmark[train]", "compress") from None

    from compress.training import export, session

    torch.manual_seed(session.SEED)
    np.random.seed(session.SEED)
    torch.set_num_threads(1)  # the sums of several threads are not the same each time
    file = Path(job["file"])
    code, model = _module(file, job["factory"], Path(job["weights"]) if job["weights"] else None)
    parts = {name: _samples(folder / f"{name}.npz") for name in ("train", "held_out", "calibration")}
    here = session.Session(model, job["task"], **parts)
    here.code = code
    names = step_names([step["technique"] for step in job["steps"]])
    for name, step in zip(names, job["steps"], strict=True):
        technique: Any = find(step["technique"], TORCH)
        here.step = name
        try:
            model = technique.train(model, technique.check(step["params"]), here)
        except (FaultError, MemoryError):
            raise
        except Exception as error:
            traceback.print_exc()
            message = f"{file.name}: {here.step}: {_line(error)}"
            raise FaultError("convert_fail", message, "see whether the module, its task and the labels go together", "compress") from error
    try:
        export.to_onnx(model, here.example(), folder / "model.onnx")
    except Exception as error:
        traceback.print_exc()
        message = f"{file.name}: the module cannot be exported to ONNX: {_line(error)}"
        raise FaultError("bad_model", message, "see whether torch.onnx.export(..., dynamo=False) takes it", "compress") from error
    return {"notes": here.notes, "told": here.told}


def _module(file: Path, factory: str, weights: Path | None) -> tuple[ModuleType, Any]:
    """The file's code, and what its `factory` makes, with its weights; modules beside the file can be imported by it."""
    sys.path.append(str(file.parent))
    try:
        spec = importlib.util.spec_from_file_location(f"fleetmark_source_{file.stem}", file)
        assert spec is not None  # noqa: S101 - it is a .py file
        assert spec.loader is not None  # noqa: S101 - the same
        code = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = code
        spec.loader.exec_module(code)
        model = getattr(code, factory)()
        if weights is not None:
            model.load_state_dict(_weights(weights))
        return code, model.eval()
    except FaultError:
        raise
    except Exception as error:
        traceback.print_exc()
        message = f"{file.name}: {factory}() gives no model: {_line(error)}"
        raise FaultError("bad_model", message, "correct `source:` and `weights:` in the suite", "compress") from error


def _weights(path: Path) -> Any:
    """A state_dict, by an unpickler that makes tensors and runs nothing."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        traceback.print_exc()
        # torch's own message tells people to run what is in the file
        why = "it holds more than tensors" if isinstance(error, pickle.UnpicklingError) else _line(error)
        raise FaultError(
            "bad_model", f"{path.name}: not a state_dict ({why})", "torch.save(module.state_dict(), FILE)", "compress"
        ) from error


def _samples(path: Path) -> Samples | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        feeds = {name.removeprefix("feed_"): arrays[name] for name in arrays.files if name.startswith("feed_")}
        return Samples(feeds, arrays["labels"] if "labels" in arrays.files else None)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
