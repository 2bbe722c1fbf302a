"""A run's table in MLflow: one MLflow run a cell, with its names as parameters, its numbers as metrics and its rows as an artifact."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from controller.errors import FleetmarkError
from reports.figures import counted
from reports.labels import sentence_name
from reports.metrics import headline
from reports.records import RunRecord
from reports.table import Row, by_cell, to_csv

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_LOGGING_LEVEL": "WARNING"}
"""What MLflow is told unless its user said otherwise: no usage data to its makers, and an answer soon if the server is not there."""

_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_MOST_CELLS = 10_000
_NAMES = ("run", "device", "model", "variant", "backend", "workload", "status", "emulated", "protocol")


def log(run: RunRecord, table: Sequence[Row], tracking_uri: str, experiment: str) -> list[str]:
    """Write every cell that the experiment does not have; give the ids of the new MLflow runs, in the table's order.

    Raises ImportError without mlflow, FleetmarkError.

    Metrics have the table's names and units, the ends of their intervals `.low` and `.high` behind them. A cell that gave no number is
    there too, as a failed run.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        found = client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else client.create_experiment(experiment)
        there = _cells_there(client, place, run.id)
        measured = {record.id for record in run.cells if counted(record)}
        cells = [(cell, rows) for cell, rows in by_cell(table).items() if cell not in there]
        return [_log_cell(client, place, run, rows, finished=cell in measured) for cell, rows in cells]
    except (MlflowException, OSError) as error:
        why = _CREDENTIALS.sub("//", str(error).partition("\n")[0])[:300]
        raise FleetmarkError("MLflow did not take the run", why, "check the tracking URI; sqlite:///mlflow.db needs no server") from error


def _cells_there(client: "MlflowClient", experiment: str, run_id: str) -> set[str]:
    """The cells of the run that were written whole: an export that was cut off is ended by the next."""
    found: list[Any] = client.search_runs([experiment], f"params.run = '{run_id}'", max_results=_MOST_CELLS)
    return {one.data.params["cell"] for one in found if one.info.status in ("FINISHED", "FAILED")}


def _log_cell(client: "MlflowClient", experiment: str, run: RunRecord, rows: Mapping[str, Row], *, finished: bool) -> str:
    from mlflow.entities import Metric, Param, RunTag

    any_row = next(iter(rows.values()))
    head = rows[headline(any_row.workload)]
    started, ended = _milliseconds(run.started_at), _milliseconds(run.finished_at or run.started_at)
    made: Any = client.create_run(experiment, start_time=started, run_name=sentence_name(head))
    identity: str = made.info.run_id
    names = {name: str(getattr(head, name)) for name in _NAMES} | {"profile": run.profile, "suite": run.suite, "cell": head.cell}
    client.log_batch(
        identity,
        metrics=[Metric(name, value, ended, 0) for name, value in _numbers(rows).items()],
        params=[Param(name, value) for name, value in names.items() if value],
        tags=[RunTag("fleetmark.reason", head.reason)] if head.reason else [],
    )
    client.log_text(identity, to_csv(list(rows.values())), "table.csv")
    client.set_terminated(identity, "FINISHED" if finished else "FAILED", ended)
    return identity


def _numbers(rows: Mapping[str, Row]) -> dict[str, float]:
    each = {(name, bound): getattr(row, bound) for name, row in rows.items() for bound in ("value", "low", "high")}
    return {name if bound == "value" else f"{name}.{bound}": value for (name, bound), value in each.items() if value is not None}


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
