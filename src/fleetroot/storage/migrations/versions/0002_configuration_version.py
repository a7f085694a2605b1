"""The configuration's version, and the triggers that change it.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WRITES = ("INSERT", "UPDATE", "DELETE")
_TABLES = (
    "authorities",
    "enrollments",
    "hubs",
    "linked_hubs",
    "policies",
    "provisioning_services",
)
_ON_CHANGE = {
    "sqlite": "BEGIN UPDATE configuration SET version = randomblob(16); END",
    "postgresql": "EXECUTE FUNCTION configuration_changed()",
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.create_table(
        "configuration",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration")),
    )
    if dialect == "postgresql":
        op.execute("INSERT INTO configuration VALUES (1, uuid_send(gen_random_uuid()))")
        op.execute(
            "CREATE FUNCTION configuration_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "UPDATE configuration SET version = uuid_send(gen_random_uuid()); RETURN NULL; END $$"
        )
    else:
        op.execute("INSERT INTO configuration VALUES (1, randomblob(16))")
    for table in _TABLES:
        for write in _WRITES:
            op.execute(
                f"CREATE TRIGGER {_trigger(table, write)} AFTER {write} ON {table} "
                f"FOR EACH ROW {_when(table, write)} {_ON_CHANGE[dialect]}"
            )


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _TABLES:
        for write in _WRITES:
            op.execute(
                f"DROP TRIGGER {_trigger(table, write)}{f' ON {table}' if postgresql else ''}"
            )
    if postgresql:
        op.execute("DROP FUNCTION configuration_changed()")
    op.drop_table("configuration")


def _trigger(table: str, write: str) -> str:
    return f"configuration_{table}_{write.lower()}"


def _when(table: str, write: str) -> str:
    """Individual enrollments are many, and read each time."""
    if table != "enrollments":
        return ""
    return f"WHEN ({'OLD' if write == 'DELETE' else 'NEW'}.kind = 'group')"
