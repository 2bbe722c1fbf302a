"""fleetmark device."""

import typer

from controller.cli import options
from controller.cli.output import pairs, stdout_json, stdout_table

app = typer.Typer(help="The lab's devices, as inventory.yaml names them.", no_args_is_help=True)


@app.callback()
def device() -> None:
    """Group the commands on devices."""


@app.command("list")
def list_devices(inventory: options.Inventory = options.INVENTORY, json: options.Json = False) -> None:
    """List the devices of the inventory, disabled ones too."""
    from controller import inventory as inventories

    devices = list(inventories.load(inventory).devices.values())
    if json:
        stdout_json("devices", [_document(one) for one in devices])
        return
    rows = [
        [
            one.name,
            one.kind,
            one.ssh.host if one.ssh else "this machine",
            ", ".join(one.backends) or "all it offers",
            ", ".join(one.groups),
            pairs(one.tags),
            "yes" if one.enabled else "no",
        ]
        for one in devices
    ]
    stdout_table(["device", "kind", "address", "backends", "groups", "tags", "enabled"], rows)


def _document(one: object) -> object:
    dump = getattr(one, "model_dump", None)
    return dump(mode="json", exclude_none=True) if dump else one
