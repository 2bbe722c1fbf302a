"""What ships for a person who starts: commented files that load, and the schemas by which an editor completes them."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from yaml_samples import INVENTORY, SUITE

from controller import inventory, scaffold, schemas, suite
from controller.errors import FleetmarkError


def test_the_shipped_schemas_are_those_of_the_records() -> None:
    """What editors read is what the loaders take; `python -m controller.schemas` writes them anew."""
    assert {name: (schemas.FOLDER / name).read_text() for name in schemas.texts()} == dict(schemas.texts())


@pytest.mark.parametrize(
    ("name", "sample", "wrong"),
    [
        ("inventory", INVENTORY, {"devices": {"d": {"kind": "generic", "ssh": {"host": "h", "connect_timeout_ms": 5}}}}),
        ("inventory", INVENTORY, {"meters": {"m": {"driver": "shelly", "boundary": "wal"}}}),
        ("suite", SUITE, {"profil": "quick"}),
        ("suite", SUITE, {"workloads": [{"name": "offline", "bach": 8}]}),
        ("suite", SUITE, {"gates": {"all": {"latency_p9_ms": 3}}}),
    ],
)
def test_a_schema_takes_the_sample_and_refuses_a_mistake(name: str, sample: str, wrong: dict[str, Any]) -> None:
    """An editor with the schema agrees with the loader."""
    schema = json.loads((schemas.FOLDER / f"{name}.schema.json").read_text())
    right = YAML(typ="safe").load(sample)
    jsonschema.validate(right, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**right, **wrong}, schema)


def test_the_shipped_inventory_measures_this_machine() -> None:
    """The inventory at the root is what `init` writes: the laptop, and four boards to fill in."""
    shipped = Path(__file__).parents[1] / "inventory.yaml"
    assert shipped.read_text() == scaffold.INVENTORY
    read = inventory.load(shipped)
    assert [device.name for device in read.devices.values() if device.enabled] == ["laptop"]
    assert [device.kind for device in read.devices.values()] == ["local", "raspberry-pi", "jetson-nano", "ncs2", "coral-usb"]


def test_init_writes_files_that_load_and_overwrites_none(tmp_path: Path) -> None:
    """Both files are right as written; a second time, or where one is there, neither is touched."""
    written = scaffold.write(tmp_path)
    assert [path.name for path in written] == ["inventory.yaml", "suite.yaml"]
    assert next(iter(inventory.load(written[0]).devices)) == "laptop"
    assert list(suite.load(written[1]).models) == ["my-model"]
    written[0].unlink()
    written[1].write_text("mine")
    with pytest.raises(FleetmarkError, match="nothing was written"):
        scaffold.write(tmp_path)
    assert (written[0].exists(), written[1].read_text()) == (False, "mine")


def test_the_suite_that_init_writes_loads_with_its_examples(tmp_path: Path) -> None:
    """The commented lines are right too, once they are switched on."""
    switched_on = re.sub(r"^( *)# ( *[\w\"=-]+: .*|gates:.*)$", r"\1\2", scaffold.SUITE, flags=re.MULTILINE)
    (tmp_path / "suite.yaml").write_text(switched_on)
    read = suite.load(tmp_path / "suite.yaml")
    assert (read.models["my-model"].task, read.models["my-model"].inputs["image"].layout) == ("classification", "NCHW")
    assert [gate.selector for gate in read.gates] == ["all", "all", "kind=raspberry-pi", "kind=raspberry-pi"]
