"""What services see of twins beside their sections: a revision, metadata and the model.

Revision: 0014, after 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Columns that come with a default, one by one: no table is written anew.
    op.add_column(
        "twins", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1")
    )
    for name in ("desired_metadata", "reported_metadata"):
        op.add_column("twins", sa.Column(name, sa.Text(), nullable=False, server_default="{}"))
    op.add_column("twins", sa.Column("model_id", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("model_id", "reported_metadata", "desired_metadata", "revision"):
        op.drop_column("twins", name)
