"""Which devices are meant: names, groups, `key=value` tags (`kind=...` too) and `all`; a leading `!` takes devices away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from controller.errors import NothingSelectedError, SelectorError
from controller.inventory import Device, Inventory
from controller.strict import NAME, nearest, quoted

if TYPE_CHECKING:
    from reports.records import DeviceRecord

_SYNTAX = re.compile(rf"(?P<negated>!?)(?:(?P<key>{NAME})=(?P<value>.+)|(?P<name>{NAME}))")


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector, taken apart: `key` is empty for a name, a group or `all`."""

    key: str
    value: str
    negated: bool = False

    def matches(self, device: "Device | DeviceRecord") -> bool:
        """Whether it names this device, one of its groups or one of its tags."""
        if self.key:
            return self.value == (device.kind if self.key == "kind" else device.tags.get(self.key))
        return self.value in ("all", device.name, *device.groups)


def parse(text: str) -> Selector:
    """Give the selector that `text` is; raises ValueError."""
    match = _SYNTAX.fullmatch(text)
    if not match:
        raise ValueError(f"{quoted(text)} is not a selector: a name, a group, key=value or `all`, `!` in front takes away")
    return Selector(match["key"] or "", match["value"] or match["name"], bool(match["negated"]))


def select(inventory: Inventory, selectors: Sequence[str], *, disabled_if_named: bool = False) -> list[Device]:
    """Give the devices that are meant, in the inventory's order; no selector, or only negated ones, start from all.

    A disabled device is left out, and a selector that names it is an error: it must not go unmeasured unnoticed; with
    `disabled_if_named` it is meant then, as the inventory has it.
    Raises SelectorError for a selector that nothing in the inventory answers to, NothingSelectedError where no device is left.
    """
    parsed = [_known(inventory, text, disabled_if_named) for text in selectors]
    wanted = [one for one in parsed if not one.negated] or [Selector("", "all")]
    unwanted = [one for one in parsed if one.negated]
    found = [device for device in inventory.devices.values() if _any(wanted, device) and not _any(unwanted, device)]
    enabled = [device for device in found if device.enabled or (disabled_if_named and device.name in selectors)]
    if not enabled:
        why = f"disabled: {', '.join(device.name for device in found)}" if found else "nothing is left"
        raise NothingSelectedError(f"no device is selected by {' '.join(selectors) or 'all'}", why, f"see the devices in {inventory.path}")
    return enabled


def _any(selectors: Sequence[Selector], device: Device) -> bool:
    return any(one.matches(device) for one in selectors)


def _known(inventory: Inventory, text: str, disabled_if_named: bool) -> Selector:
    """The selector, which something in the inventory answers to."""
    try:
        selector = parse(text)
    except ValueError as error:
        raise SelectorError(str(error)) from None
    devices = inventory.devices
    named = devices.get(selector.value) if not selector.key and not selector.negated else None
    if named and not named.enabled and not disabled_if_named:
        raise SelectorError(
            f"{named.name} is disabled", f"{inventory.path} says `enabled: false`", "say `enabled: true` there to measure it"
        )
    if selector != Selector("", "all", selector.negated) and not any(selector.matches(device) for device in devices.values()):
        raise _unknown(list(devices.values()), selector)
    return selector


def _unknown(devices: Sequence[Device], selector: Selector) -> SelectorError:
    key, value = selector.key, selector.value
    if not key:
        names = {"all", *(name for device in devices for name in (device.name, *device.groups))}
        return SelectorError(f"no device or group is called {quoted(value)}", next=nearest(value, names))
    tags = [{**device.tags, "kind": device.kind} for device in devices]
    values = {each[key] for each in tags if key in each}
    if values:
        return SelectorError(f"no device has {quoted(f'{key}={value}')}", next=nearest(value, values))
    return SelectorError(
        f"no device has a tag called {quoted(key)}", next=nearest(key, {"kind", *(name for each in tags for name in each)})
    )


def _check(text: str) -> str:
    parse(text)
    return text


SelectorText = Annotated[str, AfterValidator(_check)]
