"""Revocation lists, OCSP responders, and lists of third-party CAs.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_certificates_revoked",
        "certificates",
        ["authority_id", sa.text("substr(serial, length(serial))"), "serial"],
        sqlite_where=sa.text("revoked_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_table(
        "revocation_lists",
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("covers", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("list", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_revocation_lists_authority_id_authorities"),
        ),
        sa.PrimaryKeyConstraint("authority_id", "shard", name=op.f("pk_revocation_lists")),
    )
    op.create_table(
        "ocsp_responders",
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_ocsp_responders_authority_id_authorities"),
        ),
        sa.PrimaryKeyConstraint("authority_id", name=op.f("pk_ocsp_responders")),
    )
    op.create_table(
        "third_party_lists",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("authority", sa.LargeBinary(), nullable=False),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=True),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("uploaded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_third_party_lists_namespace_id_namespaces"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_third_party_lists")),
    )
    op.create_index(
        "uq_third_party_lists_namespace_id_issuer_scope",
        "third_party_lists",
        ["namespace_id", "issuer", "scope"],
        unique=True,
    )
    op.create_table(
        "third_party_revocations",
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["list_id"],
            ["third_party_lists.id"],
            name=op.f("fk_third_party_revocations_list_id_third_party_lists"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("list_id", "serial", name=op.f("pk_third_party_revocations")),
    )


def downgrade() -> None:
    op.drop_table("third_party_revocations")
    op.drop_index("uq_third_party_lists_namespace_id_issuer_scope", table_name="third_party_lists")
    op.drop_table("third_party_lists")
    op.drop_table("ocsp_responders")
    op.drop_table("revocation_lists")
    op.drop_index("ix_certificates_revoked", table_name="certificates")
