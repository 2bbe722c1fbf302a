"""Probes tell more: accelerators, power sensors, interpreters, software, permissions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

NOT_TOLD: dict[str, Any] = {
    "soc": "",
    "page_bytes": 0,
    "container": "",
    "user": "",
    "groups": [],
    "thermal_zones_c": {},
    "governors": [],
    "accelerators": [],
    "power_sources": [],
    "cache_problem": "",
    "power_mode": "",
    "interpreters": [],
    "versions": {},
    "tools": {},
}
devices = sa.table("devices", sa.column("run_id"), sa.column("name"), sa.column("document", sa.JSON))


def upgrade() -> None:
    """Earlier probes did not tell it."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(devices)).all():
        if row.document["probe"] is not None:
            document = {**row.document, "probe": {**NOT_TOLD, **row.document["probe"]}}
            where = (devices.c.run_id == row.run_id) & (devices.c.name == row.name)
            connection.execute(devices.update().where(where).values(document=document))
