"""The registrations of an enrollment group are found without walking through all.

Revision: 0012, after 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_OF_GROUPS = sa.text("enrollment_kind = 'group'")


def upgrade() -> None:
    op.create_index(
        "ix_registrations_group",
        "registrations",
        ["service_id", sa.text("lower(enrollment_id)"), "registration_key"],
        sqlite_where=_OF_GROUPS,
        postgresql_where=_OF_GROUPS,
    )


def downgrade() -> None:
    op.drop_index("ix_registrations_group", table_name="registrations")
