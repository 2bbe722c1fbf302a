"""fleetmark device."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import add, options, probe, setup, trust
from controller.cli.output import pairs, stderr_text, stdout_json, stdout_table

if TYPE_CHECKING:
    from agent.schema import Fault
    from controller.inventory import Device, Inventory
    from controller.remote import LeaseState

app = typer.Typer(help="The lab's devices, as inventory.yaml names them.", no_args_is_help=True)
app.command("add")(add.add)


@app.callback()
def device() -> None:
    """Group the commands on devices."""


@app.command("list")
def list_devices(
    selectors: options.Selectors = None,
    select: options.Select = None,
    inventory: options.Inventory = options.INVENTORY,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no device: leave out who has it.")] = False,
    json: options.Json = False,
) -> None:
    """List the devices of the inventory, disabled ones too, with who has each of the others now.

    Each is asked for a few seconds, all at once. While somebody measures there, the question is a moment's work for their device.
    """
    from controller import holders
    from controller import inventory as inventories
    from controller import selectors as selecting

    loaded = inventories.load(inventory)
    wanted = [*(selectors or ()), *(select or ())]
    enabled = {name: one.model_copy(update={"enabled": True}) for name, one in loaded.devices.items()}
    names = [one.name for one in selecting.select(replace(loaded, devices=enabled), wanted)] if wanted else list(loaded.devices)
    devices = [loaded.devices[name] for name in names]
    found = {} if offline else holders.ask([one for one in devices if one.enabled])
    if json:
        stdout_json("devices", [_document(one) | _holder(found.get(one.name)) for one in devices])
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
            *([] if offline else [holders.shown(found.get(one.name))]),
        ]
        for one in devices
    ]
    stdout_table(["device", "kind", "address", "backends", "groups", "tags", "enabled", *([] if offline else ["held by"])], rows)


@app.command("show")
def show(name: trust.Name, inventory: options.Inventory = options.INVENTORY, json: options.Json = False) -> None:
    """Show what holds for a device: its entry with the defaults filled in, where each value comes from, and where it leads.

    Nothing is connected. Devices whose lane is the same address never run at the same time.
    """
    from controller import inventory as inventories
    from controller import registry

    loaded = inventories.load(inventory)
    found = registry.device(loaded, name)
    document, lane = _document(found), _lane(found)
    sources = _sources(loaded, name, document)
    if json:
        stdout_json("device", {**document, "lane": lane, "sources": sources})
        return
    rows = [[key, _shown(value), sources[key]] for key, value in _leaves({"name": name, "kind": found.kind, **document})]
    stdout_table(["setting", "value", "from"], [*rows, *([f"lane.{key}", value, "worked out"] for key, value in lane.items())])


app.command("probe")(probe.probe)
app.command("trust")(trust.trust)


@app.command("remove")
def remove(
    name: trust.Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    inventory: options.Inventory = options.INVENTORY,
) -> None:
    """Take a device out of the inventory, with its own comments.

    Its results stay. Suite files that name it are not searched.
    """
    from controller import inventory as inventories
    from controller import registry

    found = registry.device(inventories.load(inventory), name)
    if not yes:
        trust.consent(f"Take {name} ({found.kind}) out of {inventory}?", f"fleetmark device remove {name} --yes")
    mentions = registry.remove(inventory, name)
    stderr_text(f"took {name} out of {inventory}; its results stay, and suites that name it have to be changed")
    for mention in mentions:
        stderr_text(f"{inventory}:{mention.line} still names it: {mention.text}")


app.command("import")(add.import_devices)
app.command("setup")(setup.setup)


def _holder(found: "LeaseState | Fault | None") -> dict[str, Any]:
    """What the list's document has of who holds a device; nothing for one that was not asked."""
    from agent.schema import Fault, dump

    return {} if found is None else {"fault": dump(found)} if isinstance(found, Fault) else {"lease": dump(found)}


def _document(one: "Device") -> dict[str, Any]:
    return one.model_dump(mode="json", exclude_none=True)


def _leaves(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of what is set."""
    for key, each in value.items():
        if isinstance(each, Mapping):
            yield from _leaves(each, f"{above}{key}.")  # pyright: ignore[reportUnknownArgumentType] - JSON
        elif each != []:
            yield above + key, each


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON


def _sources(inventory: "Inventory", name: str, document: Mapping[str, Any]) -> dict[str, str]:
    """Where each setting stands: in the device's entry, in `defaults`, or nowhere."""
    from controller import yamlfile

    read = yamlfile.read(inventory.path)

    def source(key: str) -> str:
        if key == "name":
            return f"line {read.keys['devices', name][0]}"
        for above, where in ((("devices", name), "line"), (("defaults",), "defaults, line")):
            if at := read.values.get((*above, *key.split("."))):
                return f"{where} {at[0]}"
        return "built in"

    return {key: source(key) for key, _ in _leaves(document)}


def _lane(one: "Device") -> dict[str, str]:
    from agent.schema import FaultError
    from controller.transport import resolve
    from controller.visit import ssh_settings

    settings = ssh_settings(one)
    if settings is None:
        return {"address": "this machine"}
    try:
        found = resolve(settings)
    except FaultError as error:
        return {"error": str(error)}
    jumps = {"through": ", ".join(f"{hop.user}@{hop.address}" for hop in found.jumps)} if found.jumps else {}
    return {"address": found.address, "user": found.user, **jumps}
