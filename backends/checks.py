"""What every backend checks in the same way: the options, the runtime that was imported, the feeds; and how a refusal is told."""

import glob
import importlib
import os
import sys
from typing import Any, Dict, List, Sequence, Tuple

from agent.schema import FaultError, TensorSpec

MESSAGE_LENGTH = 300
INSTALL = "fleetmark device setup puts the runtime on the device"


def one_line(error: Any) -> str:
    """Return an error's text in one line, its middle left out where it is longer than MESSAGE_LENGTH characters."""
    text, half = " ".join(str(error).split()) or type(error).__name__, MESSAGE_LENGTH // 2
    return text if len(text) <= MESSAGE_LENGTH else text[:half] + " ... " + text[-half:]


def check_options(backend: str, options: Dict[str, Any], known: Dict[str, type]) -> None:
    """Raise FaultError bad_data unless every option is one of `known` (name -> type); a number is at least 1."""
    for name, value in options.items():
        if name not in known:
            raise FaultError("bad_data", "{} has no option {!r}".format(backend, name), "use one of " + ", ".join(sorted(known)), "load")
        if type(value) is not known[name] or (known[name] is int and value < 1):
            remedy = "use one of 1, 2, 3, ..." if known[name] is int else "use a {}".format(known[name].__name__)
            raise FaultError("bad_data", "{} option {} cannot be {!r}".format(backend, name, value), remedy, "load")


def import_runtime(module: str) -> Any:
    """Return the runtime's module; raises FaultError env_missing where it is absent or its import fails in any way."""
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken runtime may raise anything
        message = "{} cannot be imported: {}".format(module, one_line(error))
        raise FaultError("env_missing", message, INSTALL, "import") from None


def installed(distributions: Sequence[str], module: Any) -> Tuple[str, str]:
    """Return name and version of the first of `distributions` that has metadata, else the first and what `module` says."""
    for name in distributions:
        version = _metadata_version(name)
        if version:
            return name, version
    return distributions[0], str(getattr(module, "__version__", ""))


def _metadata_version(name: str) -> str:
    """A distribution's version, empty if there is none; before Python 3.8, which cannot tell, by the name of its .dist-info folder."""
    try:
        return str(importlib.import_module("importlib.metadata").version(name))
    except ImportError:
        folder_name = name.replace("-", "_") + "-*.dist-info"
        found = [path for folder in sys.path for path in glob.glob(os.path.join(glob.escape(folder), folder_name))]
        return os.path.basename(found[0])[len(name) + 1 : -len(".dist-info")] if found else ""


def check_runtime(options: Dict[str, Any], name: str, version: str) -> None:
    """Raise FaultError env_missing unless the `runtime` option, name[==version], is what was imported."""
    wanted, _, wanted_version = options.get("runtime", name).partition("==")
    if wanted != name or (wanted_version and version and wanted_version != version):
        message = "{} is wanted, {} {} was imported".format(options["runtime"], name, version).rstrip()
        raise FaultError("env_missing", message, INSTALL, "import")


def refusal(path: str, error: Any, unknown_operator: Sequence[str]) -> FaultError:
    """Return the FaultError for a model that a runtime refused: unsupported_op where its words contain one of `unknown_operator`."""
    text = str(error)
    code, remedy = "bad_model", "check the file; export or compress it again"
    if "bad_alloc" in text or isinstance(error, MemoryError):
        code, remedy = "oom", "use a smaller model or a device with more memory"
    elif any(word in text for word in unknown_operator):
        code, remedy = "unsupported_op", "export the model without this operator, or use another backend or a newer runtime"
    return FaultError(code, one_line("{}: {}".format(os.path.basename(path), text)), remedy, "load")


def check_file(path: str) -> None:
    """Raise FaultError bad_model where `path` is no readable file."""
    if not os.access(path, os.R_OK) or not os.path.isfile(path):
        raise FaultError("bad_model", "{}: not a readable file".format(path), "give the path of a model file", "load")


def check_feeds(specs: List[TensorSpec], feeds: Dict[str, Any]) -> None:
    """Raise FaultError bad_data unless there is one array for each input, of its dtype and of its shape where that is fixed."""
    wanted = [spec.name for spec in specs]
    if set(feeds) != set(wanted):
        raise _bad_feed("the model's inputs are {}, not {}".format(wanted, sorted(feeds)))
    for spec in specs:
        array = feeds[spec.name]
        shape, dtype = list(array.shape), array.dtype.name
        fits = len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape))
        if not fits or dtype != spec.dtype:
            raise _bad_feed("input {} takes {} {}, not {} {}".format(spec.name, spec.dtype, spec.shape, dtype, shape))


def _bad_feed(message: str) -> FaultError:
    return FaultError("bad_data", message, "give the data file arrays with the names, shapes and dtypes of the model's inputs", "bind")
