"""--log-file and --log-level, which every command takes, and which may stand before it."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


def _open(ctx: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not ctx.resilient_parsing:
        from controller import log_file
        from controller.cli.output import show

        log_file.attach(log_file.LogFile(path, show))
    return path


def _set_level(ctx: typer.Context, level: str | None) -> str | None:
    if level is not None and not ctx.resilient_parsing:
        from controller import log_file

        if level not in log_file.LEVELS:
            raise typer.BadParameter(f"{level!r} is none of {', '.join(log_file.LEVELS)}")
        log_file.set_level(level)
    return level


LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        envvar="FLEETMARK_LOG_FILE",
        metavar="PATH",
        callback=_open,
        help="Append what happens as JSON lines, each with its run, device, cell and launch. Of any command.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        callback=_set_level,
        show_default="info",
        help="What --log-file takes: debug (every question to a device, and SSH's own log), info, warning or error.",
    ),
]


class Group(TyperGroup):
    """The program's commands, each with the options of the log as its own."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        mine = [copy.copy(one) for one in self.params if one.name in ("log_file", "log_level")]
        for option in mine:
            option.envvar, option.expose_value = None, False
        for command in _commands(self):
            command.params.extend(mine)


def _commands(group: TyperGroup) -> Iterator[Any]:
    for command in group.commands.values():
        if isinstance(command, TyperGroup):
            yield from _commands(command)
        else:
            yield command
