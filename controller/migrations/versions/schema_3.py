"""Conditions tell more: throttling, limits, peaks, USB links, power mode."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"

NOT_TOLD: dict[str, Any] = {"limits_c": {}, "peaks_c": {}, "throttle": {}, "usb_mbps": {}, "power_mode": "", "shared_gpu_bytes": None}
launches = sa.table("launches", sa.column("id"), sa.column("document", sa.JSON))


def upgrade() -> None:
    """Earlier launches did not tell it; those that were only begun have no conditions."""
    connection = op.get_bind()
    for row in connection.execute(sa.select(launches)).all():
        told = {when: {**NOT_TOLD, **row.document[when]} for when in ("before", "after") if row.document.get(when)}
        if told:
            connection.execute(launches.update().where(launches.c.id == row.id).values(document={**row.document, **told}))
