"""fleetmark import."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import options
from controller.cli.output import stderr_text, stdout_json


class Tool(StrEnum):
    """Whose files `import` reads."""

    BENCHMARK_APP = "benchmark_app"
    BENCHMARK_MODEL = "benchmark_model"
    TRTEXEC = "trtexec"
    EDGETPU_COMPILER = "edgetpu_compiler"


File = Annotated[Path, typer.Argument(help="What the program wrote, or what it printed, kept in a file.")]
From = Annotated[
    Tool,
    typer.Option(
        "--from",
        help="benchmark_app: OpenVINO's, its report as CSV or JSON (-report_type no_counters) or what it printed, which is finer; "
        "benchmark_model: TensorFlow Lite's, what it printed; trtexec: the file of --exportTimes; "
        "edgetpu_compiler: what it printed, or its .log.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="The device that it ran on, by any name.")]
Model = Annotated[str, typer.Option("--model", help="The model, as its rows here are called.")]
Variant = Annotated[str, typer.Option("--variant", help="Which of the model's variants, such as int8.")]
Backend = Annotated[str, typer.Option("--backend", help="The runtime, if it is not the program's own.")]
Into = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="A finished run to add it to: an id, a tag or latest. Without: a new one.")
]


def import_(
    file: File,
    tool: From,
    device: Device,
    model: Model,
    variant: Variant,
    backend: Backend = "",
    run: Into = None,
    results: options.Results = options.RESULTS,
    url: options.Store = None,
    json: options.Json = False,
) -> None:
    """Show another program's numbers beside ours, marked "foreign protocol".

    They are never ranked or compared with ours: loop, warm-up and statistics are the program's own. Each file is one launch.
    """
    from controller.imports import Measured, bring_in, read

    told = read(file, Measured(tool, device, model, variant, backend))
    run_id = bring_in(options.open_store(results, url, create=run is None), told, run)
    reading = told.reading
    for note in reading.notes:
        stderr_text(f"note: {note}")
    if json:
        stdout_json("imported", {"run": run_id, "told": {name: len(values) for name, values in reading.values.items()}})
        return
    typer.echo(run_id)
    stderr_text(f"imported into run {run_id}; next: fleetmark runs show {run_id}")
