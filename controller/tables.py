"""The tables of the results database."""

import sqlalchemy as sa

SCHEMA = 3
PROFILED = -1  # the round of a launch that timed operations: it is in none of the measured ones

metadata = sa.MetaData()
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("finished_at", sa.String(32)),
    sa.Column("tag", sa.String(64)),
    sa.Column("document", sa.JSON, nullable=False),
)
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)
variants = sa.Table(
    "variants",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("variant", sa.String(128), primary_key=True),
    sa.Column("document", sa.JSON, nullable=False),
)
cells = sa.Table(
    "cells",
    metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("fault", sa.JSON),
)
launches = sa.Table(
    "launches",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), nullable=False, index=True),
    sa.Column("cell_id", sa.String(16), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),  # of STATUSES, or `started` until it has been collected
    sa.Column("document", sa.JSON, nullable=False),
)
samples = sa.Table(
    "samples",
    metadata,
    sa.Column("launch_id", sa.String(64), sa.ForeignKey("launches.id"), primary_key=True),
    sa.Column("metric", sa.String(64), primary_key=True),
    sa.Column("unit", sa.String(64), nullable=False),
    sa.Column("dtype", sa.String(16), nullable=False),
    sa.Column("shape", sa.JSON, nullable=False),
    sa.Column("stride", sa.Integer, nullable=False),
    sa.Column("values", sa.LargeBinary, nullable=False),
)
