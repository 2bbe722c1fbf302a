"""The tables of the results database."""

import sqlalchemy as sa

SCHEMA = 3  # controller/migrations/versions has the way to it from each earlier one
PROFILED = -1  # the round of a launch that timed operations: it is in none of the measured ones

metadata = sa.MetaData()


def text(length: int) -> sa.String:
    """Give a column's text type; on PostgreSQL of any length and in the order of its bytes, as SQLite has it whatever the length says."""
    return sa.String(length).with_variant(sa.TEXT(collation="C"), "postgresql")


runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", text(64), primary_key=True),
    sa.Column("started_at", text(32), nullable=False),
    sa.Column("finished_at", text(32)),
    sa.Column("tag", text(64)),
    sa.Column("document", sa.JSON, nullable=False),
)
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", text(128), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)
variants = sa.Table(
    "variants",
    metadata,
    sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("sha256", text(64), primary_key=True),
    sa.Column("variant", text(128), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)
cells = sa.Table(
    "cells",
    metadata,
    sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("id", text(16), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("fault", sa.JSON),
)
launches = sa.Table(
    "launches",
    metadata,
    sa.Column("id", text(64), primary_key=True),
    sa.Column("run_id", text(64), sa.ForeignKey("runs.id"), nullable=False, index=True),
    sa.Column("cell_id", text(16), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("status", text(16), nullable=False),  # of STATUSES, or `started` until it has been collected
    sa.Column("document", sa.JSON, nullable=False),
)
samples = sa.Table(
    "samples",
    metadata,
    sa.Column("launch_id", text(64), sa.ForeignKey("launches.id"), primary_key=True),
    sa.Column("metric", text(64), primary_key=True),
    sa.Column("unit", text(64), nullable=False),
    sa.Column("dtype", text(16), nullable=False),
    sa.Column("shape", sa.JSON, nullable=False),
    sa.Column("stride", sa.Integer().with_variant(sa.BigInteger, "postgresql"), nullable=False),
    sa.Column("values", sa.LargeBinary, nullable=False),
)

# Beside the others: Alembic's own, which holds the schema's number.
revision = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
