"""The program `fleetmark`: its commands, and how every error ends it."""

import os
import sys

import typer

from agent import VERSION
from agent.schema import FaultError
from controller.cli import check, compare, compress, device, doctor, export, gc, import_, init, log, report, run, runs
from controller.cli.output import even_if_unread, show, stderr_text
from controller.errors import ExitCode, FleetmarkError, exit_code, render

EXIT_CODES = """Exit codes: 0 ok; 1 gate failed or regression; 2 usage, configuration or inventory invalid; 3 finished with failed or
invalid cells; 4 a selected device is unreachable; 5 nothing selected; 70 internal error; 130 interrupted, partial results kept."""

app = typer.Typer(
    name="fleetmark",
    cls=log.Group,
    help="Which device, with which compressed model, on which runtime, meets my budget, and how sure are we?\n\n"
    "Start with `fleetmark init`, then `fleetmark run suite.yaml`; or `fleetmark run MODEL.onnx` without any file.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help takes 300 ms to import; --help answers within 250
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.add_typer(device.app, name="device")
app.command("doctor")(doctor.doctor)
app.command("compress")(compress.compress)
app.command("plan")(run.plan)
app.command("run")(run.run)
app.add_typer(runs.app, name="runs")
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.command("export")(export.export)
app.command("import")(import_.import_)
app.command("gc")(gc.gc)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fleetmark {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and end."),
    log_file: log.LogFile = None,
    log_level: log.LogLevel = None,
) -> None:
    """Parse what stands before the command."""


def main() -> None:
    """Run the command line; every way out of it is an exit code of INTERFACE."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime 1.31 keeps an id in ~/.cache and sends usage data
    code = ExitCode.OK  # also of `fleetmark ... | head`
    with even_if_unread():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False) or ExitCode.OK
    except typer.Exit as ended:
        code = ended.exit_code
    except SystemExit as ended:  # how typer tells that nobody reads our output any more
        raise BrokenPipeError from ended
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except (FleetmarkError, FaultError) as error:
        stderr_text(render(error), "red", code=error.code if isinstance(error, FleetmarkError) else error.fault.code)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the last place where it can be told in our words
        return _other(error)
    if code == ExitCode.INTERRUPTED:  # by which typer tells a Ctrl-C too
        stderr_text("interrupted", "bold yellow")
    return code


def _other(error: Exception) -> int:
    """Wrong usage is shown as click shows it, anything else as a bug: the traceback without the values of variables."""
    usage = getattr(error, "show", None)
    if usage is not None:
        usage()
        return ExitCode.USAGE
    if isinstance(error, OSError) and error.filename:
        stderr_text(
            render(FleetmarkError(f"{error.filename}: {error.strerror}", next="check the path, its permissions and the free space")), "red"
        )
        return ExitCode.USAGE
    import traceback

    show(told := traceback.format_exc().rstrip("\n"))
    stderr_text("error[internal]: this is a bug in fleetmark; please report it with the lines above", "red", traceback=told)
    return ExitCode.INTERNAL


if __name__ == "__main__":
    main()
