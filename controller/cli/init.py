"""fleetmark init."""

from pathlib import Path
from typing import Annotated

import typer

from controller.cli.output import stderr_text


def init(folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path()) -> None:
    """Write an inventory.yaml and a suite.yaml to start from.

    They are commented; files that exist are left alone.
    """
    from controller import scaffold

    for path in scaffold.write(folder):
        stderr_text(f"wrote {path}")
    stderr_text("next: put your devices and models in, then: fleetmark plan suite.yaml")
