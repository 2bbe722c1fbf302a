"""What `export --to json` writes, as a JSON Schema: it ships as controller/schemas/table.schema.json."""

from typing import Any

from agent.schema import STATUSES
from reports.metrics import METRICS
from reports.table import JSON_SCHEMA, JSON_VERSION

_TEXT = {"type": "string"}
_NUMBER = {"type": ["number", "null"]}
_WHOLE = {"type": "integer", "minimum": 0}


def table_schema() -> dict[str, Any]:
    """The schema of version JSON_VERSION; documents of that version may gain properties, and lose none."""
    return {
        "type": "object",
        "required": ["schema", "version", "run", "rows"],
        "properties": {
            "schema": {"const": JSON_SCHEMA},
            "version": {"const": JSON_VERSION},
            "run": _record(_RUN),
            "rows": {"type": "array", "items": _record(_ROW), "description": "Every cell has at least one row, whatever became of it."},
        },
    }


def _record(properties: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _said(description: str, kind: dict[str, Any] = _TEXT) -> dict[str, Any]:
    return {**kind, "description": description}


_RUN = {
    "id": _TEXT,
    "started_at": _said("ISO 8601, UTC"),
    "finished_at": _said("ISO 8601, UTC; null: something is left to do", {"type": ["string", "null"]}),
    "fleetmark": _said("the version that measured"),
    "profile": _TEXT,
    "suite": _said("its path or the model's, as given"),
    "launches_planned": _WHOLE,
}

_ROW = {
    "run": _TEXT,
    "device": _TEXT,
    "model": _TEXT,
    "variant": _TEXT,
    "backend": _said("with every option that was set"),
    "workload": _said("with every option that was set"),
    "metric": _TEXT,
    "value": _said("in `unit`; null where there is no number, for which see `reason`", _NUMBER),
    "unit": {"enum": sorted({metric.unit for metric in METRICS.values()})},
    "low": _said("lower end of the 95 % interval; null where there is none", _NUMBER),
    "high": _said("upper end of the 95 % interval", _NUMBER),
    "n": _said("samples of a percentile, evaluation samples of an accuracy, launches of the rest", _WHOLE),
    "status": _said("the cell's", {"enum": list(STATUSES)}),
    "reason": _said("why there is no value, or what is to be known of it"),
    "message": _said("the same in a sentence"),
    "emulated": _said("what emulates the device; empty for real hardware"),
    "cell": _said("the cell's identity: the same in every run"),
    "per_launch": {
        "type": "array",
        "description": "[round, statistic] of each launch that the value rests on",
        "items": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "number"}], "minItems": 2, "maxItems": 2},
    },
    "usb_mbps": _said("speed of the accelerator's USB link", _NUMBER),
    "boundary": _said("what a power or energy value covers: wall, board, soc, rail or stick"),
    "protocol": _said("the program that measured it; empty: fleetmark. Never to be ranked with ours"),
}
