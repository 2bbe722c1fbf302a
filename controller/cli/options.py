"""Options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from controller.inventory import Device
    from controller.store import Store as Opened

Inventory = Annotated[Path, typer.Option("--inventory", "-i", envvar="FLEETMARK_INVENTORY", help="The devices.")]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", "-l", help="Which devices: names, groups, key=value tags, all; ! negates. Several add up.", metavar="SEL"),
]
Selectors = Annotated[
    list[str] | None, typer.Argument(metavar="[SEL]...", help="Which devices: names, groups, key=value tags; all if none.")
]
Results = Annotated[Path, typer.Option("--results", envvar="FLEETMARK_RESULTS", help="Where results are kept, reports and all.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="FLEETMARK_STORE",
        metavar="URL",
        show_default="fleetmark.db below the results",
        help="The database: postgresql+psycopg://user@host/database for a team, its password in ~/.pgpass or PGPASSWORD; or sqlite:///PATH.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it; - is stdout.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of one, a tag, or latest.")]
INVENTORY = Path("inventory.yaml")
RESULTS = Path("results")


def duration(text: str) -> float:
    """Give the seconds of 90s, 15m, 2h or 1h30m, for an option."""
    from controller import durations

    try:
        return durations.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def open_store(results: Path, url: str | None, *, create: bool = False) -> "Opened":
    """Give the results, made where there are none if `create`; a database that is brought up to date is told. Raises FleetmarkError."""
    from controller.cli.output import stderr_text
    from controller.store import Store as Opened

    return Opened(results, url, create=create, say=stderr_text)


def devices(inventory: Path, *selectors: Sequence[str] | None) -> "list[Device]":
    """Give the devices that are to be asked; one that is named although it is disabled is asked too. Raises FleetmarkError."""
    from controller import inventory as inventories
    from controller import selectors as selecting

    return selecting.select(inventories.load(inventory), [text for each in selectors for text in each or ()], disabled_if_named=True)
