"""First light.

Revision: 0001, after None
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("enqueued_at", sa.BigInteger(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("system_properties", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_end_offset", "events", ["end_offset"], unique=False)
    op.create_index("ix_events_enqueued_at", "events", ["enqueued_at"], unique=False)
    op.create_index(
        "ix_events_hub_id_device_key_seq", "events", ["hub_id", "device_key", "seq"], unique=False
    )
    op.create_index("ix_events_hub_id_seq", "events", ["hub_id", "seq"], unique=False)

    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_installation")),
    )
    op.create_table(
        "namespaces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("resource_group", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_namespaces")),
        sa.UniqueConstraint("name_key", name=op.f("uq_namespaces_name_key")),
    )
    op.create_table(
        "outbox",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shared_access_policies",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rights", sa.Text(), nullable=False),
        sa.Column("sealed_primary", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_secondary", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "name", name=op.f("pk_shared_access_policies")),
    )
    op.create_table(
        "authorities",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer_id", sa.Text(), nullable=True),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("key_type", sa.Text(), nullable=False),
        sa.Column("pki_url", sa.Text(), nullable=False),
        sa.Column("crl_shards", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["issuer_id"], ["authorities.id"], name=op.f("fk_authorities_issuer_id_authorities")
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_authorities_namespace_id_namespaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
        sa.UniqueConstraint("sha256", name=op.f("uq_authorities_sha256")),
    )
    op.create_index("ix_authorities_namespace_id", "authorities", ["namespace_id"], unique=False)

    op.create_table(
        "hubs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("host_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_hubs_namespace_id_namespaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hubs")),
        sa.UniqueConstraint("host_name", name=op.f("uq_hubs_host_name")),
        sa.UniqueConstraint("name_key", name=op.f("uq_hubs_name_key")),
    )
    op.create_table(
        "provisioning_services",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("id_scope", sa.Text(), nullable=False),
        sa.Column("host_name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_provisioning_services_namespace_id_namespaces"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provisioning_services")),
        sa.UniqueConstraint("id_scope", name=op.f("uq_provisioning_services_id_scope")),
        sa.UniqueConstraint("name_key", name=op.f("uq_provisioning_services_name_key")),
    )
    op.create_table(
        "hub_authorities",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("synchronized_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_hub_authorities_authority_id_authorities"),
        ),
        sa.ForeignKeyConstraint(
            ["hub_id"], ["hubs.id"], name=op.f("fk_hub_authorities_hub_id_hubs")
        ),
        sa.PrimaryKeyConstraint("hub_id", "authority_id", name=op.f("pk_hub_authorities")),
    )
    op.create_table(
        "linked_hubs",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_linked_hubs_hub_id_hubs")),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_linked_hubs_service_id_provisioning_services"),
        ),
        sa.PrimaryKeyConstraint("service_id", "hub_id", name=op.f("pk_linked_hubs")),
    )
    op.create_table(
        "policies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("leaf_validity_seconds", sa.BigInteger(), nullable=False),
        sa.Column("leaf_key_types", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["authority_id"], ["authorities.id"], name=op.f("fk_policies_authority_id_authorities")
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_policies_namespace_id_namespaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
    )
    op.create_index(
        "uq_policies_namespace_id_name_key", "policies", ["namespace_id", "name_key"], unique=True
    )

    op.create_table(
        "registrations",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("registration_key", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("enrollment_kind", sa.Text(), nullable=False),
        sa.Column("enrollment_id", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("substatus", sa.Text(), nullable=True),
        sa.Column("hub_id", sa.Text(), nullable=True),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("certificate_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_registrations_hub_id_hubs")),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_registrations_service_id_provisioning_services"),
        ),
        sa.PrimaryKeyConstraint("service_id", "registration_key", name=op.f("pk_registrations")),
    )
    op.create_table(
        "certificates",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("authority_id", sa.Text(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expired_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revocation_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["authority_id"],
            ["authorities.id"],
            name=op.f("fk_certificates_authority_id_authorities"),
        ),
        sa.ForeignKeyConstraint(
            ["namespace_id"],
            ["namespaces.id"],
            name=op.f("fk_certificates_namespace_id_namespaces"),
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_certificates_policy_id_policies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificates")),
        sa.UniqueConstraint("sha256", name=op.f("uq_certificates_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_certificates_alive",
        "certificates",
        ["not_after"],
        unique=False,
        sqlite_where=sa.text("expired_at IS NULL"),
        postgresql_where=sa.text("expired_at IS NULL"),
    )
    op.create_index(
        "ix_certificates_device", "certificates", ["namespace_id", "device_key", "id"], unique=False
    )
    op.create_index(
        "uq_certificates_serial_authority_id",
        "certificates",
        ["serial", "authority_id"],
        unique=True,
    )

    op.create_table(
        "devices",
        sa.Column("namespace_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("generation", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=True),
        sa.Column("enrollment", sa.Text(), nullable=True),
        sa.Column("hub_id", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["namespace_id"], ["namespaces.id"], name=op.f("fk_devices_namespace_id_namespaces")
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_devices_policy_id_policies")
        ),
        sa.PrimaryKeyConstraint("namespace_id", "device_key", name=op.f("pk_devices")),
    )
    op.create_table(
        "enrollments",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("enrollment_key", sa.Text(), nullable=False),
        sa.Column("enrollment_id", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=True),
        sa.Column("attestation", sa.Text(), nullable=False),
        sa.Column("sealed_primary", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_secondary", sa.LargeBinary(), nullable=True),
        sa.Column("policy_id", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("hub_id", sa.Text(), nullable=True),
        sa.Column("update_hub_assignment", sa.Boolean(), nullable=False),
        sa.Column("migrate_device_data", sa.Boolean(), nullable=False),
        sa.Column("initial_twin", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_enrollments_hub_id_hubs")),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_enrollments_policy_id_policies")
        ),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_enrollments_service_id_provisioning_services"),
        ),
        sa.PrimaryKeyConstraint(
            "service_id", "kind", "enrollment_key", name=op.f("pk_enrollments")
        ),
    )
    op.create_table(
        "identities",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Text(), nullable=False),
        sa.Column("generation_id", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("pin", sa.Text(), nullable=False),
        sa.Column("policy_id", sa.Text(), nullable=True),
        sa.Column("sealed_primary", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_secondary", sa.LargeBinary(), nullable=True),
        sa.Column("session_epoch", sa.BigInteger(), nullable=False),
        sa.Column("connected", sa.Boolean(), nullable=False),
        sa.Column("connection_changed_at", sa.BigInteger(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["hub_id"], ["hubs.id"], name=op.f("fk_identities_hub_id_hubs")),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_identities_policy_id_policies")
        ),
        sa.PrimaryKeyConstraint("hub_id", "device_key", name=op.f("pk_identities")),
    )
    op.create_table(
        "credential_requests",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("error_code", sa.Integer(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_info", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["hub_id", "device_key"],
            ["identities.hub_id", "identities.device_key"],
            name=op.f("fk_credential_requests_hub_id_device_key_identities"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hub_id", "device_key", name=op.f("pk_credential_requests")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("qos", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["hub_id", "device_key"],
            ["identities.hub_id", "identities.device_key"],
            name=op.f("fk_subscriptions_hub_id_device_key_identities"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hub_id", "device_key", "channel", name=op.f("pk_subscriptions")),
    )
    op.create_table(
        "twins",
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("device_key", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("desired", sa.Text(), nullable=False),
        sa.Column("reported", sa.Text(), nullable=False),
        sa.Column("desired_version", sa.BigInteger(), nullable=False),
        sa.Column("reported_version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["hub_id", "device_key"],
            ["identities.hub_id", "identities.device_key"],
            name=op.f("fk_twins_hub_id_device_key_identities"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hub_id", "device_key", name=op.f("pk_twins")),
    )


def downgrade() -> None:
    op.drop_table("twins")
    op.drop_table("subscriptions")
    op.drop_table("credential_requests")
    op.drop_table("identities")
    op.drop_table("enrollments")
    op.drop_table("devices")
    op.drop_index("uq_certificates_serial_authority_id")
    op.drop_index("ix_certificates_device")
    op.drop_index(
        "ix_certificates_alive",
        sqlite_where=sa.text("expired_at IS NULL"),
        postgresql_where=sa.text("expired_at IS NULL"),
    )

    op.drop_table("certificates")
    op.drop_table("registrations")
    op.drop_index("uq_policies_namespace_id_name_key")

    op.drop_table("policies")
    op.drop_table("linked_hubs")
    op.drop_table("hub_authorities")
    op.drop_table("provisioning_services")
    op.drop_table("hubs")
    op.drop_index("ix_authorities_namespace_id")

    op.drop_table("authorities")
    op.drop_table("shared_access_policies")
    op.drop_table("outbox")
    op.drop_table("namespaces")
    op.drop_table("installation")
    op.drop_index("ix_events_hub_id_seq")
    op.drop_index("ix_events_hub_id_device_key_seq")
    op.drop_index("ix_events_enqueued_at")
    op.drop_index("ix_events_end_offset")

    op.drop_table("events")
