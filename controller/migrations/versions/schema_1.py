"""The tables, as they were at first."""

import sqlalchemy as sa
from alembic import op

from controller.tables import text

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "runs",
        sa.Column("id", text(64), primary_key=True),
        sa.Column("started_at", text(32), nullable=False),
        sa.Column("finished_at", text(32)),
        sa.Column("tag", text(64)),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("name", text(128), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "variants",
        sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("sha256", text(64), primary_key=True),
        sa.Column("variant", text(128), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "cells",
        sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("id", text(16), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("fault", sa.JSON),
    )
    op.create_table(
        "launches",
        sa.Column("id", text(64), primary_key=True),
        sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), nullable=False, index=True),
        sa.Column("cell_id", text(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("status", text(16), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_table(
        "samples",
        sa.Column("launch_id", text(64), sa.ForeignKey("launches.id"), primary_key=True),
        sa.Column("metric", text(64), primary_key=True),
        sa.Column("unit", text(64), nullable=False),
        sa.Column("dtype", text(16), nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("stride", sa.Integer().with_variant(sa.BigInteger, "postgresql"), nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
    )
