"""The JSON Schemas of inventory.yaml, suite.yaml and `export --to json`; `python -m controller.schemas` writes them from the records."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller import inventory, suite
from reports.table_schema import table_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent


def texts() -> Mapping[str, str]:
    """Each schema's file name with what should be in it."""
    records = {"inventory": inventory.json_schema(), "suite": suite.json_schema(), "table": table_schema()}
    return {f"{name}.schema.json": _text(name, schema) for name, schema in records.items()}


def write() -> None:
    """Write the files anew."""
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def _text(name: str, schema: Mapping[str, Any]) -> str:
    head = {"$schema": DIALECT, "title": f"fleetmark {name}"}
    return json.dumps({**schema, **head}, indent=2, sort_keys=True) + "\n"
