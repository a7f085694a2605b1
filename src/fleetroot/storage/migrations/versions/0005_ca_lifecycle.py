"""The lifecycle of CAs: credentials, policies that wait for their CA, CAs that follow each other,
and what was deleted and stays for what refers to it.

Revision: 0005, after 0004
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NEW_ETAG = {
    "sqlite": "lower(hex(randomblob(8)))",
    "postgresql": "substr(md5(random()::text || id), 1, 16)",
}


def upgrade() -> None:
    version = op.get_bind().scalar(sa.text("SELECT version FROM configuration"))
    etag = _NEW_ETAG[op.get_bind().dialect.name]
    op.create_table(
        "credentials",
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        _refers("credentials", "namespace_id", "namespaces"),
        _refers("credentials", "authority_id", "authorities"),
        sa.PrimaryKeyConstraint("namespace_id", name=op.f("pk_credentials")),
    )
    op.execute(
        "INSERT INTO credentials "  # noqa: S608
        "(namespace_id, authority_id, tags, etag, created_at, updated_at) "
        f"SELECT namespace_id, id, '{{}}', {etag}, created_at, created_at "
        "FROM authorities WHERE kind = 'root'"
    )

    _add("namespaces", sa.Column("tags", sa.Text()))
    _add("namespaces", sa.Column("etag", sa.Text()))
    _add("namespaces", sa.Column("updated_at", sa.BigInteger()))
    _add("namespaces", sa.Column("deleted_at", sa.BigInteger()))
    op.execute("UPDATE namespaces SET tags = '{}', updated_at = created_at")
    op.execute(f"UPDATE namespaces SET etag = {etag}")  # noqa: S608
    with op.batch_alter_table("namespaces") as table:
        table.alter_column("tags", nullable=False)
        table.alter_column("etag", nullable=False)
        table.alter_column("updated_at", nullable=False)

    _add("authorities", sa.Column("policy_id", sa.Text()))
    _add("authorities", sa.Column("external_chain", sa.LargeBinary()))
    op.execute(
        "UPDATE authorities SET policy_id = "
        "(SELECT policies.id FROM policies WHERE policies.authority_id = authorities.id)"
    )

    _add("policies", sa.Column("authority_key_type", sa.Text()))
    _add("policies", sa.Column("external_root", sa.Boolean()))
    _add("policies", sa.Column("subject", sa.Text()))
    _add("policies", sa.Column("subject_key", sa.Text()))
    _add("policies", sa.Column("deleted_at", sa.BigInteger()))
    op.execute(
        "UPDATE policies SET external_root = false, authority_key_type = (SELECT "
        "authorities.key_type FROM authorities WHERE authorities.id = policies.authority_id)"
    )
    with op.batch_alter_table("policies") as table:
        table.alter_column("authority_id", nullable=True)
        table.alter_column("authority_key_type", nullable=False)
        table.alter_column("external_root", nullable=False)
    _make_triggers_again()
    op.create_index(
        "uq_policies_namespace_id_subject_key",
        "policies",
        ["namespace_id", "subject_key"],
        unique=True,
    )

    op.create_table(
        "authority_requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=False),
        sa.Column("issuer_id", sa.Text(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("key_type", sa.Text(), nullable=False),
        sa.Column("pki_url", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _refers("authority_requests", "namespace_id", "namespaces"),
        _refers("authority_requests", "policy_id", "policies"),
        _refers("authority_requests", "issuer_id", "authorities"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authority_requests")),
        sa.UniqueConstraint("policy_id", name=op.f("uq_authority_requests_policy_id")),
    )
    # Nothing of what it counts has changed.
    op.get_bind().execute(sa.text("UPDATE configuration SET version = :v"), {"v": version})


def downgrade() -> None:
    waiting = op.get_bind().scalar(
        sa.text("SELECT name FROM policies WHERE authority_id IS NULL ORDER BY name LIMIT 1")
    )
    if waiting is not None:
        raise ValueError(f"policy {waiting} has no CA, which the schema before does not know")
    op.drop_table("authority_requests")
    op.drop_index("uq_policies_namespace_id_subject_key", table_name="policies")
    with op.batch_alter_table("policies") as table:
        for name in (
            "deleted_at",
            "subject_key",
            "subject",
            "external_root",
            "authority_key_type",
        ):
            table.drop_column(name)
        table.alter_column("authority_id", nullable=False)
    with op.batch_alter_table("authorities") as table:
        table.drop_column("external_chain")
        table.drop_column("policy_id")
    _make_triggers_again("policies", "authorities")
    with op.batch_alter_table("namespaces") as table:
        for name in ("deleted_at", "updated_at", "etag", "tags"):
            table.drop_column(name)
    op.drop_table("credentials")


def _add(table: str, column: sa.Column[Any]) -> None:
    column.nullable = True
    op.add_column(table, column)


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=op.f(f"fk_{table}_{column}_{to}"))


def _make_triggers_again(*tables: str) -> None:
    """SQLite changes a column by making the table anew, which leaves its triggers (0002) behind."""
    if op.get_bind().dialect.name == "postgresql":
        return
    change = "BEGIN UPDATE configuration SET version = randomblob(16); END"
    for table in tables or ("policies",):
        for write in ("INSERT", "UPDATE", "DELETE"):
            name = f"configuration_{table}_{write.lower()}"
            op.execute(f"CREATE TRIGGER {name} AFTER {write} ON {table} FOR EACH ROW {change}")
