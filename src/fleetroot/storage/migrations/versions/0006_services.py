"""Hubs and provisioning services as resources of the management API, how hubs are linked, and CA
certificates that are uploaded to them.

Revision: 0006, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NEW_ETAG = {
    "sqlite": "lower(hex(randomblob(8)))",
    "postgresql": "substr(md5(random()::text || owner.id), 1, 16)",
}


def upgrade() -> None:
    op.create_table(
        "service_resources",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("resource_group", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_service_resources")),
    )
    etag = _NEW_ETAG[op.get_bind().dialect.name]
    for table in ("hubs", "provisioning_services"):
        op.execute(
            "INSERT INTO service_resources (owner_id, subscription_id, resource_group, location, "  # noqa: S608
            "tags, sku, capacity, etag, updated_at) "
            "SELECT owner.id, namespaces.subscription_id, namespaces.resource_group, 'local', "
            f"'{{}}', 'S1', 1, {etag}, owner.created_at "
            f"FROM {table} AS owner JOIN namespaces ON namespaces.id = owner.namespace_id"
        )
    op.create_table(
        "uploaded_certificates",
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("certificate", sa.LargeBinary(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("verification_code", sa.Text(), nullable=True),
        sa.Column("code_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "name_key", name=op.f("pk_uploaded_certificates")),
    )
    op.add_column(
        "provisioning_services",
        sa.Column("allocation_policy", sa.Text(), nullable=False, server_default="Hashed"),
    )
    op.add_column(
        "linked_hubs", sa.Column("weight", sa.Integer(), nullable=False, server_default="1")
    )
    op.add_column(
        "linked_hubs",
        sa.Column("allocates", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.add_column("linked_hubs", sa.Column("key_name", sa.Text(), nullable=True))


def downgrade() -> None:
    for column in ("key_name", "allocates", "weight"):
        op.drop_column("linked_hubs", column)
    op.drop_column("provisioning_services", "allocation_policy")
    op.drop_table("uploaded_certificates")
    op.drop_table("service_resources")
