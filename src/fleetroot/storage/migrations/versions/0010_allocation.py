"""Regions for allocation by latency, and the secrets that calls of webhooks are signed with.

Revision: 0010, after 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Where a hub and a service are is in `service_resources`. As in 0002.
_WATCHED = ("region_networks", "region_latencies", "service_resources")
_WRITES = ("INSERT", "UPDATE", "DELETE")
_ON_CHANGE = {
    "sqlite": "BEGIN UPDATE configuration SET version = randomblob(16); END",
    "postgresql": "EXECUTE FUNCTION configuration_changed()",
}


def upgrade() -> None:
    op.create_table(
        "region_networks",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("service_id", "network", name=op.f("pk_region_networks")),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_region_networks_service_id_provisioning_services"),
        ),
    )
    op.create_table(
        "region_latencies",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("hub_id", sa.Text(), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("service_id", "region", "hub_id", name=op.f("pk_region_latencies")),
        sa.ForeignKeyConstraint(
            ["service_id", "hub_id"],
            ["linked_hubs.service_id", "linked_hubs.hub_id"],
            name=op.f("fk_region_latencies_service_id_hub_id_linked_hubs"),
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("service_id", sa.Text(), nullable=False),
        sa.Column("sealed_primary", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_secondary", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("service_id", name=op.f("pk_webhook_secrets")),
        sa.ForeignKeyConstraint(
            ["service_id"],
            ["provisioning_services.id"],
            name=op.f("fk_webhook_secrets_service_id_provisioning_services"),
        ),
    )
    change = _ON_CHANGE[op.get_bind().dialect.name]
    for table in _WATCHED:
        for write in _WRITES:
            op.execute(
                f"CREATE TRIGGER {_trigger(table, write)} AFTER {write} ON {table} "
                f"FOR EACH ROW {change}"
            )


def downgrade() -> None:
    on = " ON service_resources" if op.get_bind().dialect.name == "postgresql" else ""
    for write in _WRITES:
        op.execute(f"DROP TRIGGER {_trigger('service_resources', write)}{on}")
    op.drop_table("webhook_secrets")
    op.drop_table("region_latencies")
    op.drop_table("region_networks")


def _trigger(table: str, write: str) -> str:
    return f"configuration_{table}_{write.lower()}"
