"""What a look into an incident needs: the enrollment of each certificate, revocations at a pace,
the last connections of each device, and CAs that stand on lists of CAs above them.

Revision: 0007, after 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_audit_entries_subject_seq", table_name="audit_entries")
    op.create_index(
        "ix_audit_entries_subject", "audit_entries", [sa.text("lower(subject)"), "at", "seq"]
    )
    op.add_column("authorities", sa.Column("listed_at", sa.BigInteger(), nullable=True))
    op.add_column("certificates", sa.Column("enrollment", sa.Text(), nullable=True))
    # A device gets another generation when it moves to another enrollment, so what has its
    # generation of now was issued under its enrollment of now. Of the rest nobody knows.
    op.execute(
        "UPDATE certificates SET enrollment = (SELECT devices.enrollment FROM devices "
        "WHERE devices.namespace_id = certificates.namespace_id "
        "AND devices.device_key = certificates.device_key "
        "AND devices.generation = certificates.generation)"
    )
    op.create_index("ix_certificates_issued", "certificates", ["authority_id", "issued_at", "id"])
    op.create_index("ix_certificates_enrollment", "certificates", ["enrollment", "issued_at", "id"])
    op.create_table(
        "revocation_jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("pace", sa.Integer(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cursor_at", sa.BigInteger(), nullable=False),
        sa.Column("cursor_id", sa.BigInteger(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_revocation_jobs_namespace_id_namespaces"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revocation_jobs")),
    )
    op.create_index(
        "ix_revocation_jobs_namespace_id", "revocation_jobs", ["namespace_id", "created_at"]
    )
    op.create_table(
        "connections",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("connected_at", sa.BigInteger(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["hub_id", "device_key"],
            ["identities.hub_id", "identities.device_key"],
            name=op.f("fk_connections_hub_id_device_key_identities"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hub_id", "device_key", "slot", name=op.f("pk_connections")),
    )


def downgrade() -> None:
    op.drop_table("connections")
    op.drop_table("revocation_jobs")
    op.drop_index("ix_certificates_enrollment", table_name="certificates")
    op.drop_index("ix_certificates_issued", table_name="certificates")
    op.drop_column("certificates", "enrollment")
    op.drop_column("authorities", "listed_at")
    op.drop_index("ix_audit_entries_subject", table_name="audit_entries")
    op.create_index("ix_audit_entries_subject_seq", "audit_entries", ["subject", "seq"])
