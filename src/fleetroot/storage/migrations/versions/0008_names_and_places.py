"""Where namespaces are, and what their roots are called.

Revision: 0008, after 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "namespaces", sa.Column("location", sa.Text(), nullable=False, server_default="local")
    )
    op.add_column(
        "credentials", sa.Column("root_name", sa.Text(), nullable=False, server_default="root")
    )


def downgrade() -> None:
    op.drop_column("credentials", "root_name")
    op.drop_column("namespaces", "location")
