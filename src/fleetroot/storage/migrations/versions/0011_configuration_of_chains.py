"""What decides about devices' chains is configuration, too: uploaded CAs, and lists of other CAs.

Revision: 0011, after 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_WRITES = ("INSERT", "UPDATE", "DELETE")
_TABLES = ("third_party_lists", "uploaded_certificates")
_ON_CHANGE = {
    "sqlite": "BEGIN UPDATE configuration SET version = randomblob(16); END",
    "postgresql": "EXECUTE FUNCTION configuration_changed()",
}


def upgrade() -> None:
    change = _ON_CHANGE[op.get_bind().dialect.name]
    for table in _TABLES:
        for write in _WRITES:
            op.execute(
                f"CREATE TRIGGER {_trigger(table, write)} AFTER {write} ON {table} "
                f"FOR EACH ROW {change}"
            )


def downgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _TABLES:
        for write in _WRITES:
            op.execute(
                f"DROP TRIGGER {_trigger(table, write)}{f' ON {table}' if postgresql else ''}"
            )


def _trigger(table: str, write: str) -> str:
    return f"configuration_{table}_{write.lower()}"
