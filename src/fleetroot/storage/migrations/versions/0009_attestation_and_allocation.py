"""Attestation by certificates and TPMs, allocation, quarantine, and registrations that wait.

Revision: 0009, after 0008
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in _of_enrollments():
        op.add_column("enrollments", column)
    connection = op.get_bind()
    version = connection.scalar(sa.text("SELECT version FROM configuration"))
    connection.execute(
        sa.text(
            "UPDATE enrollments SET hub_ids = '[\"' || hub_id || '\"]', allocation = 'static' "
            "WHERE hub_id IS NOT NULL"
        )
    )
    with op.batch_alter_table("enrollments") as table:
        table.drop_constraint("fk_enrollments_hub_id_hubs", type_="foreignkey")
        table.drop_column("hub_id")
    _make_triggers_again()
    # Nothing of what it counts has changed.
    connection.execute(sa.text("UPDATE configuration SET version = :v"), {"v": version})
    for column in _of_registrations():
        op.add_column("registrations", column)
    for column in _of_identities():
        op.add_column("identities", column)
    op.create_table(
        "pending_registrations",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("registration_key", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("enrollment_kind", sa.Text(), nullable=False),
        sa.Column("enrollment_id", sa.Text(), nullable=False),
        sa.Column("waits_for", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "service_id", "registration_key", name=op.f("pk_pending_registrations")
        ),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_pending_registrations_service_id_provisioning_services"),
        ),
    )


def downgrade() -> None:
    connection = op.get_bind()
    lost = connection.scalar(
        sa.text("SELECT enrollment_id FROM enrollments WHERE attestation <> 'symmetricKey' LIMIT 1")
    )
    if lost is not None:
        raise ValueError(f"enrollment {lost} attests in a way that the schema before does not know")
    op.drop_table("pending_registrations")
    for column in _of_identities():
        op.drop_column("identities", column.name)
    for column in _of_registrations():
        op.drop_column("registrations", column.name)
    op.add_column("enrollments", sa.Column("hub_id", sa.Text(), nullable=True))
    version = connection.scalar(sa.text("SELECT version FROM configuration"))
    connection.execute(
        sa.text("UPDATE enrollments SET hub_id = substr(hub_ids, 3, 36) WHERE hub_ids <> '[]'")
    )
    with op.batch_alter_table("enrollments") as table:
        table.create_foreign_key("fk_enrollments_hub_id_hubs", "hubs", ["hub_id"], ["id"])
        for column in _of_enrollments():
            table.drop_column(column.name)
    _make_triggers_again()
    connection.execute(sa.text("UPDATE configuration SET version = :v"), {"v": version})


def _of_enrollments() -> Iterable[sa.Column[object]]:
    return (
        sa.Column("primary_certificate", sa.LargeBinary(), nullable=True),
        sa.Column("secondary_certificate", sa.LargeBinary(), nullable=True),
        sa.Column("primary_ca", sa.Text(), nullable=True),
        sa.Column("secondary_ca", sa.Text(), nullable=True),
        sa.Column("endorsement_key", sa.LargeBinary(), nullable=True),
        sa.Column("storage_root_key", sa.LargeBinary(), nullable=True),
        sa.Column("allocation", sa.Text(), nullable=True),
        sa.Column("hub_ids", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("webhook_url", sa.Text(), nullable=True),
        sa.Column("webhook_api_version", sa.Text(), nullable=True),
        sa.Column("iot_edge", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("device_information", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("quarantine", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def _of_registrations() -> Iterable[sa.Column[object]]:
    return (
        sa.Column("attestation", sa.Text(), nullable=False, server_default="symmetricKey"),
        sa.Column("credential_slot", sa.Text(), nullable=True),
        sa.Column("certificate_info", sa.Text(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
    )


def _of_identities() -> Iterable[sa.Column[object]]:
    return (
        sa.Column("primary_thumbprint", sa.Text(), nullable=True),
        sa.Column("secondary_thumbprint", sa.Text(), nullable=True),
    )


def _make_triggers_again() -> None:
    """SQLite changes a column by making the table anew, which leaves its triggers (0002) behind."""
    if op.get_bind().dialect.name == "postgresql":
        return
    change = "BEGIN UPDATE configuration SET version = randomblob(16); END"
    for write, row in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
        op.execute(
            f"CREATE TRIGGER configuration_enrollments_{write} AFTER {write} ON enrollments "
            f"FOR EACH ROW WHEN ({row}.kind = 'group') {change}"
        )
