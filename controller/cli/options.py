"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Inventory = Annotated[Path, typer.Option("--inventory", "-i", envvar="FLEETMARK_INVENTORY", help="The devices.")]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", "-l", help="Which devices: names, groups, key=value tags, all; ! negates. Several add up.", metavar="SEL"),
]
Results = Annotated[Path, typer.Option("--results", envvar="FLEETMARK_RESULTS", help="Where results are kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, a unique prefix of one, a tag, or latest.")]
INVENTORY = Path("inventory.yaml")
RESULTS = Path("results")
