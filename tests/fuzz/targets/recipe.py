"""A recipe file, and a file of gates: the first byte says which."""

from collections.abc import Iterator

from controller import gate_file, recipe_file
from controller.errors import FleetmarkError
from fuzz import folder

DECLARED = (FleetmarkError,)
WORDS = (
    *(
        "version: 1",
        "name: x",
        "about: ",
        "steps: [int8-static]",
        "- prune: {ratio: 0.5}",
        "target: {size_bytes: 20000}",
        "{latency_ms: 5, device: a}",
    ),
    *(
        "accuracy_drop_pp: 1",
        "gates:",
        "all: {latency_p90_ms: 20}",
        "{min: 0.9}",
        "{max: 1}",
        "kind=coral-usb",
        ".inf",
        "1e400",
        "&a",
        "*a",
        "[]",
    ),
)
FOLDER = folder()


def seeds() -> Iterator[bytes]:
    """Recipes with parameters and a target, gates with and without their key."""
    yield b"rversion: 1\nname: mine\nabout: smaller\nsteps: [{prune: {ratio: 0.5}}, int8-static]\naccuracy_drop_pp: 1.0\n"
    yield b"rversion: 1\nname: b\nsteps:\n  - prune: {target: {size_bytes: 20000}}\n"
    yield b'gall: {latency_p90_ms: 20, accuracy_drop_pp: 1.0}\n"kind=coral-usb": {accelerator_time_share: {min: 0.9}, energy_net_mj: 5}\n'
    yield b"gversion: 1\ngates: {pis: {latency_p90_ms: {max: 20}}}\n"


def one(data: bytes) -> None:
    """A recipe is written as a file that gives the same recipe; gates have a limit each."""
    path = FOLDER / "file.yaml"
    path.write_bytes(data[1:])
    if data[:1] == b"g":
        assert gate_file.load(path)
        return
    found = recipe_file.find(str(path))
    if not any(step.target for step in found.steps):
        path.write_text(recipe_file.text(found), encoding="utf-8")
        assert recipe_file.find(str(path)) == found
