"""Jobs over devices, and what came of them for each.

Revision: 0016, after 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column(
            "hub_id", sa.Text(), sa.ForeignKey("hubs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("most_seconds", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
    )
    op.create_index("ix_jobs_hub_id_created_at", "jobs", ["hub_id", "created_at"])
    op.create_index(
        "ix_jobs_start_at",
        "jobs",
        ["start_at"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"])
    op.create_table(
        "job_devices",
        sa.Column("hub_id", sa.Text(), primary_key=True),
        sa.Column("job_id", sa.Text(), primary_key=True),
        sa.Column("device_key", sa.Text(), primary_key=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["hub_id", "job_id"], ["jobs.hub_id", "jobs.id"], ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    op.drop_table("job_devices")
    op.drop_table("jobs")
