"""Model files that are broken or hostile, and a program that gives each to the command line: FOLDER."""

import importlib
import json
import os
import resource
import select
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from compress.techniques import implementations

EXAMPLE = Path(__file__).parent.parent / "examples" / "fashion"
ADDRESS_SPACE_BYTES = 4 << 30
LIMIT_S = 60.0
OWN = ("out", "cache", "said", "results")
HUGE = 2**20
PICKLE = b"cos\nsystem\n(S'touch escaped'\ntR."

INVENTORY = "version: 1\ndevices:\n  laptop:\n    kind: local\n"

CASES: dict[str, Callable[[Path], Path]] = {}


def case(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    CASES[make.__name__] = make
    return make


def written(folder: Path, content: bytes | onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: list[onnx.NodeProto], shape: list[int], tensors: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [value("x", shape)], [value("y", shape)], list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def dense(weights: onnx.TensorProto) -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [1, 4], (weights,))


def outside(location: str, **entries: object) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, entry in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


def beside(folder: Path, make: Callable[[Path, Path], None]) -> Path:
    """A model in a folder of its own, its weights in w.bin beside it, which `make` makes of a secret outside."""
    (folder / "secret").write_bytes(bytes(64))
    (folder / "inner").mkdir()
    make(folder / "inner" / "w.bin", folder / "secret")
    return written(folder / "inner", dense(outside("w.bin")))


def add_truncated(name: str, share: float) -> None:
    def make(folder: Path) -> Path:
        content = (EXAMPLE / name).read_bytes()
        return written(folder, content[: int(share * len(content))], name)

    CASES[f"truncated_{name}_{share}"] = make


for _name in ("model.onnx", "model.tflite"):
    for _share in (0.0, 0.5, 0.999):
        add_truncated(_name, _share)


def add_file(suffix: str, what: str, put: Callable[[Path], object]) -> None:
    def make(folder: Path) -> Path:
        path = folder / f"m.{suffix}"
        put(path)
        return path

    CASES[f"{what}_{suffix}"] = make


for _suffix in ("onnx", "tflite"):
    add_file(_suffix, "directory", Path.mkdir)
    add_file(_suffix, "fifo", os.mkfifo)
    add_file(_suffix, "endless", lambda path: path.symlink_to("/dev/zero"))
    add_file(_suffix, "ten_gigabytes", lambda path: path.touch() or os.truncate(path, 10 << 30))

add_file("onnx", "nowhere", lambda path: path.symlink_to("/nowhere"))
add_file("onnx", "noise", lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)))


@case
def weights_by_absolute_path(folder: Path) -> Path:
    (folder / "secret").write_bytes(bytes(64))
    return written(folder, dense(outside(str(folder / "secret"))))


@case
def weights_in_the_folder_above(folder: Path) -> Path:
    beside(folder, lambda *_: None)
    return written(folder / "inner", dense(outside("../secret")))


@case
def weights_by_symlink(folder: Path) -> Path:
    return beside(folder, lambda path, secret: path.symlink_to(secret))


@case
def weights_by_hard_link(folder: Path) -> Path:
    return beside(folder, lambda path, secret: os.link(secret, path))


@case
def weights_without_end(folder: Path) -> Path:
    return beside(folder, lambda path, _: path.symlink_to("/dev/zero"))


@case
def weights_from_a_fifo(folder: Path) -> Path:
    return beside(folder, lambda path, _: os.mkfifo(path))


@case
def weights_from_a_directory(folder: Path) -> Path:
    return beside(folder, lambda path, _: path.mkdir())


@case
def weights_too_short(folder: Path) -> Path:
    return beside(folder, lambda path, _: path.write_bytes(bytes(8)) and None)


@case
def weights_of_an_exabyte(folder: Path) -> Path:
    beside(folder, lambda path, _: path.write_bytes(bytes(64)) and None)
    return written(folder / "inner", dense(outside("w.bin", length=1 << 60)))


@case
def weights_of_one_file_again_and_again(folder: Path) -> Path:
    """Each of them fits, all of them make three gigabytes of nothing."""
    beside(folder, lambda path, _: path.touch() or os.truncate(path, 1 << 30))
    tensors = [outside("w.bin") for _ in range(3)]
    for at, tensor in enumerate(tensors):
        tensor.name, tensor.dims[:] = f"w{at}", [2**14, 2**14]
    return written(folder / "inner", model([helper.make_node("Relu", ["x"], ["y"])], [1, 4], tuple(tensors)))


@case
def weights_that_are_sparse(folder: Path) -> Path:
    """Four values of a tensor of a tera."""
    values, indices = numpy_helper.from_array(np.ones(4, np.float32), "w"), numpy_helper.from_array(np.arange(4))
    found = dense(numpy_helper.from_array(np.ones(1, np.float32), "unused"))
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [HUGE, HUGE]))
    return written(folder, found)


@case
def weights_before_their_file(folder: Path) -> Path:
    beside(folder, lambda path, _: path.write_bytes(bytes(64)) and None)
    return written(folder / "inner", dense(outside("w.bin", offset=-5)))


@case
def weights_in_a_subgraph(folder: Path) -> Path:
    beside(folder, lambda *_: None)
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["o"])], "s", [], [value("o", [4, 4])], [outside("../secret")])
    nodes = [helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch), helper.make_node("MatMul", ["x", "b"], ["y"])]
    return written(folder / "inner", model(nodes, [1, 4], (numpy_helper.from_array(np.array(True), "c"),)))


@case
def weights_that_are_a_pickle(folder: Path) -> Path:
    """For a torch module: unpickled, they would run a command."""
    (folder / "net.py").write_text("import torch\n\n\ndef Net():\n    return torch.nn.Linear(3, 2)\n")
    np.savez(folder / "data.npz", eval_x=np.zeros((4, 3), np.float32))
    with zipfile.ZipFile(folder / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", PICKLE)
        archive.writestr("m/version", "3")
    return folder / "m.pt"


def add_initializer(what: str, dims: list[int], content: bytes | None, kind: int = TensorProto.FLOAT) -> None:
    tensor = TensorProto(name="w", data_type=kind, dims=dims, raw_data=content)
    CASES[f"initializer_{what}"] = lambda folder: written(folder, dense(tensor))


add_initializer("of_a_tera", [HUGE, HUGE], bytes(64))
add_initializer("of_a_tera_without_data", [HUGE, HUGE], None)
add_initializer("that_overflows", [2**62, 2**62], bytes(64))
add_initializer("below_zero", [-4, -4], bytes(64))
add_initializer("of_no_type", [4, 4], bytes(64), 999)
add_initializer("too_short", [4, 4], bytes(8))


def add_input(what: str, shape: list[int]) -> None:
    CASES[f"input_{what}"] = lambda folder: written(folder, model([helper.make_node("Relu", ["x"], ["y"])], shape))


add_input("of_a_tera", [1, HUGE, HUGE])
add_input("that_overflows", [1, 2**62, 2**62])
add_input("below_zero", [1, -7])
add_input("of_many_axes", [1] * 80)


def add_nodes(what: str, *nodes: onnx.NodeProto) -> None:
    CASES[f"graph_{what}"] = lambda folder: written(folder, model(list(nodes), [1, 4]))


_relu = helper.make_node("Relu", ["x"], ["y"])
add_nodes(
    "cyclic", helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["y"])
)
add_nodes("with_a_name_twice", _relu, helper.make_node("Abs", ["x"], ["y"]))
add_nodes("with_an_unknown_operator", helper.make_node("Frobnicate", ["x"], ["y"]))


@case
def graph_in_graph_3000_deep(folder: Path) -> Path:
    content = b""
    for _ in range(3000):
        content = field(1, field(5, field(6, content)))
    return written(folder, field(7, content + field(12, b"\x0a\x01y")) + field(8, b"\x10\x0d"))


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    return (bytes([number & 0x7F | 0x80]) + varint(number >> 7)) if number > 0x7F else bytes([number])


def add_tflite(what: str, change: Callable[[schema.ModelT], None]) -> None:
    def make(folder: Path) -> Path:
        found = schema.ModelT.InitFromObj(schema.Model.GetRootAs((EXAMPLE / "model.tflite").read_bytes(), 0))
        change(found)
        builder = flatbuffers.Builder()
        builder.Finish(found.Pack(builder), b"TFL3")
        return written(folder, bytes(builder.Output()), "m.tflite")

    CASES[f"tflite_{what}"] = make


def fed(found: schema.ModelT) -> schema.TensorT:
    return found.subgraphs[0].tensors[found.subgraphs[0].inputs[0]]


def reshaped(tensor: schema.TensorT, shape: list[int]) -> None:
    tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None


def moved(buffer: schema.BufferT, offset: int) -> None:
    buffer.data, buffer.offset, buffer.size = None, offset, 64


def weights(found: schema.ModelT) -> Iterator[schema.TensorT]:
    return (one for one in found.subgraphs[0].tensors if found.buffers[one.buffer].data is not None)


add_tflite("input_of_exa", lambda found: reshaped(fed(found), [1, 2**30, 2**30, 4]))
add_tflite("input_below_zero", lambda found: reshaped(fed(found), [1, -28, 28, 1]))
add_tflite("weights_of_exa", lambda found: [reshaped(one, [2**30, 2**30]) for one in weights(found)] and None)
add_tflite("tensor_that_is_not_there", lambda found: setattr(found.subgraphs[0].operators[0], "inputs", np.array([10**6], np.int32)))
add_tflite("buffer_that_is_not_there", lambda found: setattr(found.subgraphs[0].tensors[1], "buffer", 4000))
add_tflite("buffer_outside", lambda found: moved(found.buffers[3], 2**50))
add_tflite("buffer_that_overflows", lambda found: moved(found.buffers[3], 2**64 - 8))
add_tflite("unknown_operator", lambda found: setattr(found.operatorCodes[0], "builtinCode", 12345))
add_tflite("no_graph", lambda found: setattr(found, "subgraphs", []))

for _at in (0, 20, 40, 60, 200):

    def _patched(folder: Path, at: int = _at) -> Path:
        content = bytearray((EXAMPLE / "model.tflite").read_bytes())
        content[at : at + 4] = b"\xff\xff\xff\x7f"
        return written(folder, bytes(content), "m.tflite")

    CASES[f"tflite_offset_at_{_at}"] = _patched

RUN = ("fifo_tflite", "weights_in_the_folder_above")
"""Those that are given to `fleetmark run` too."""


def arguments(path: Path) -> list[str]:
    """How `fleetmark compress` is given the model."""
    if path.suffix != ".pt":
        return ["compress", str(path), "-o", "out"]
    given = {"--weights": path, "--data": path.with_name("data.npz"), "-o": "out"}
    return ["compress", "python:given.net:Net", *(str(part) for pair in given.items() for part in pair)]


def tell(folder: Path, told: list[str], path: Path) -> dict[str, object]:
    """What `fleetmark ARGUMENTS`, with that folder as the working folder, says of the model."""
    (folder / "temporary").mkdir(exist_ok=True)
    before, child = snapshot(folder), os.fork()
    if child == 0:
        os.setsid()
        command(folder, told)
    ends = os.pidfd_open(child)
    in_time, _, _ = select.select([ends], [], [], LIMIT_S)
    os.close(ends)
    if not in_time:
        os.killpg(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changed = sorted(str(path) for path, _ in before ^ snapshot(folder))
    return {"status": status, "said": (folder / "said").read_text("utf-8", "replace"), "file": path.name, "changed": changed}


def command(folder: Path, arguments: list[str]) -> None:
    """Never returns."""
    from controller.cli.__main__ import main

    os.chdir(folder)
    os.environ |= {"FLEETMARK_CACHE": str(folder / "cache"), "TMPDIR": str(folder / "temporary"), "NO_COLOR": "1", "COLUMNS": "400"}
    said = os.open(folder / "said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["fleetmark", *arguments]
    status = 99
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def snapshot(folder: Path) -> set[tuple[Path, object]]:
    """All that lies there and beside it, but what is the command's own to write."""
    found = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in OWN]
    stats = ((path, path.lstat()) for path in found)
    seen: set[tuple[Path, object]] = {(path, None if path.is_dir() else (stat.st_size, stat.st_mtime_ns)) for path, stat in stats}
    return seen | {(path, None) for path in folder.parent.iterdir()}


def import_all() -> None:
    """What a command imports, once and not in each child."""
    for name in ("controller.cli.__main__", "controller.single", "controller.bench", "controller.run", "rich.console", "rich.table"):
        importlib.import_module(name)
    implementations()


def main(base: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    import_all()
    told: dict[str, dict[str, object]] = {}
    for name, make in CASES.items():
        folder = base / name
        (folder / "given").mkdir(parents=True)
        path = make(folder / "given")
        told[name] = tell(folder, arguments(path), path)
        if name in RUN:
            (folder / "inventory.yaml").write_text(INVENTORY)
            told[f"run {name}"] = tell(folder, ["run", str(path), "--results", "results"], path)
    (base / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
