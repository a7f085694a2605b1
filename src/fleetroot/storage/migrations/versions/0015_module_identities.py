"""Identities of modules, and what services say of identities.

Revision: 0015, after 0014
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


_ABOUT_IDENTITIES = (
    "subscriptions",
    "connections",
    "twins",
    "credential_requests",
    "commands",
    "identities",
)


def upgrade() -> None:
    # Columns that come with a default, one by one: no table is written anew.
    for column in _of_identities():
        op.add_column("identities", column)
    op.execute("UPDATE identities SET pin_etag = etag")
    op.create_index(
        "ix_identities_parent_key",
        "identities",
        ["hub_id", "parent_key"],
        sqlite_where=sa.text("parent_key IS NOT NULL"),
        postgresql_where=sa.text("parent_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_identities_parent_key", "identities")
    # The schema before would take modules for devices. Only their keys have a slash.
    for table in _ABOUT_IDENTITIES:
        op.execute(f"DELETE FROM {table} WHERE device_key LIKE '%/%'")  # noqa: S608
    for column in _of_identities():
        op.drop_column("identities", column.name)


def _of_identities() -> Iterable[sa.Column[object]]:
    return (
        sa.Column("module_id", sa.Text(), nullable=True),
        sa.Column("parent_key", sa.Text(), nullable=True),
        sa.Column("pin_etag", sa.Text(), nullable=False, server_default="0"),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("status_changed_at", sa.BigInteger(), nullable=True),
        sa.Column("iot_edge", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("device_scope", sa.Text(), nullable=True),
        sa.Column("parent_scopes", sa.Text(), nullable=True),
        sa.Column("managed_by", sa.Text(), nullable=True),
    )
