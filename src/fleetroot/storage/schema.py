"""The tables, one schema for SQLite and PostgreSQL.

What changes here changes by a migration in `migrations/versions`; a test compares the two.

Columns ending in `_key` hold the canonical form of an id (`fleetroot.ids`), the column beside them
the spelling that was stored. Columns starting with `sealed_` hold blobs of `custody.sealing` and
nothing else. `etag` columns are opaque and change with every write.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
    true,
)

from fleetroot.storage.types import Sequence64, UtcTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# What this installation decided once: the public PKI URL, the sealed check of the master key, …
installation = Table(
    "installation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# One row. What is kept in memory of the tables that triggers watch (migration 0002) is kept with
# the version that it had.
configuration = Table(
    "configuration",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", LargeBinary, nullable=False),
)

# --- audit ----------------------------------------------------------------------------------

# Only ever appended to. `audit.log` says what a line of it is.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("namespace_id", Text, nullable=True),  # null: of the installation
    Column("actor_kind", Text, nullable=False),  # audit.ActorKind
    Column("actor", Text, nullable=False),
    Column("peer", Text, nullable=True),
    Column("trace_id", Text, nullable=True),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # audit.Outcome
    Column("reason", Text, nullable=True),
    Column("details", Text, nullable=True),  # JSON
    # Ids in it are compared without case.
    Index("ix_audit_entries_subject", text("lower(subject)"), "at", "seq"),
    sqlite_autoincrement=True,
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

# --- access ---------------------------------------------------------------------------------

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),  # access.Role
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=True),  # null: everything
    Column("sha256", LargeBinary, nullable=False),
    # The secret before the last rotation, and until when it is still good.
    Column("former_sha256", LargeBinary, nullable=True),
    Column("former_until", UtcTime, nullable=True),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("rotated_at", UtcTime, nullable=True),
    Column("expires_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime, nullable=True),
    Column("revoked_at", UtcTime, nullable=True),
)

# Whose tokens are taken beside ours.
oidc_issuers = Table(
    "oidc_issuers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("issuer", Text, nullable=False, unique=True),
    Column("audience", Text, nullable=False),
    Column("role_claim", Text, nullable=False),
    Column("roles", Text, nullable=False),  # JSON: value of the claim to [role, namespace or null]
    Column("ca", Text, nullable=True),  # PEM
    Column("created_at", UtcTime, nullable=False),
)

# What one caller asked for and another must approve.
approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),  # access.approvals.Guarded
    Column("subject", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("decided_by", Text, nullable=True),
    Column("decided_at", UtcTime, nullable=True),
    Column("approved", Boolean, nullable=True),
    Column("used_at", UtcTime, nullable=True),
)

# --- registry -------------------------------------------------------------------------------

namespaces = Table(
    "namespaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("subscription_id", Text, nullable=False),
    Column("resource_group", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("etag", Text, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # A namespace that was deleted stays for what refers to it; its `name_key` is free again.
    Column("deleted_at", UtcTime, nullable=True),
    Column("location", Text, nullable=False, server_default="local"),
)

# A namespace's credential: which root CA is its own.
credentials = Table(
    "credentials",
    metadata,
    Column("namespace_id", Text, ForeignKey("namespaces.id"), primary_key=True),
    Column("authority_id", Text, ForeignKey("authorities.id"), nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("root_name", Text, nullable=False, server_default="root"),
)

authorities = Table(
    "authorities",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("kind", Text, nullable=False),  # registry.authorities.AuthorityKind
    Column("issuer_id", Text, ForeignKey("authorities.id"), nullable=True),
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("sealed_key", LargeBinary, nullable=True),  # null: the key is not kept here
    Column("key_type", Text, nullable=False),
    Column("pki_url", Text, nullable=False),
    Column("crl_shards", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime, nullable=True),
    # Of an issuing CA. No foreign key: policies refer to authorities.
    Column("policy_id", Text, nullable=True),
    # DER certificates, one behind the other, of the CAs above that are not ours, lowest first.
    Column("external_chain", LargeBinary, nullable=True),
    # Since when it, or a CA above it, stands on a list that was brought; null: on none.
    Column("listed_at", UtcTime, nullable=True),
    Index("ix_authorities_namespace_id", "namespace_id"),
)

policies = Table(
    "policies",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("authority_id", Text, ForeignKey("authorities.id"), nullable=True),  # null: none yet
    Column("leaf_validity_seconds", BigInteger, nullable=False),
    Column("leaf_key_types", Text, nullable=False),  # space-separated pki.KeyType
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("authority_key_type", Text, nullable=False),
    Column("external_root", Boolean, nullable=False),
    Column("subject", Text, nullable=True),  # RFC 4514; null: each CA gets a name of its own
    Column("subject_key", Text, nullable=True),
    # A policy that was deleted stays for what refers to it; its `name_key` is free again.
    Column("deleted_at", UtcTime, nullable=True),
    Index("uq_policies_namespace_id_name_key", "namespace_id", "name_key", unique=True),
    Index("uq_policies_namespace_id_subject_key", "namespace_id", "subject_key", unique=True),
)

# A key that waits for its CA certificate, which somebody else signs. Once that is here, the row
# becomes one of `authorities`, with the same id.
authority_requests = Table(
    "authority_requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("policy_id", Text, ForeignKey("policies.id"), nullable=False, unique=True),
    # The namespace's own root, whose key is kept elsewhere; null: a root that is not ours.
    Column("issuer_id", Text, ForeignKey("authorities.id"), nullable=True),
    Column("request", LargeBinary, nullable=False),  # DER PKCS#10
    Column("sealed_key", LargeBinary, nullable=False),
    Column("key_type", Text, nullable=False),
    Column("pki_url", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("namespace_id", Text, ForeignKey("namespaces.id"), primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("uuid", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("policy_id", Text, ForeignKey("policies.id"), nullable=True),
    Column("enrollment", Text, nullable=True),  # the enrollment that it provisions under
    Column("hub_id", Text, nullable=True),  # where provisioning put it
    Column("etag", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# What the management API was told of a device; most devices, which came by provisioning, have none.
device_resources = Table(
    "device_resources",
    metadata,
    Column("namespace_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("location", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON object of strings
    Column("properties", Text, nullable=False),  # JSON object
    ForeignKeyConstraint(
        ["namespace_id", "device_key"],
        ["devices.namespace_id", "devices.device_key"],
        ondelete="CASCADE",
    ),
)

# The inventory: every operational certificate ever issued. No foreign key to `devices`: a row
# outlives its device, because its serial must appear on CRLs until it expires.
certificates = Table(
    "certificates",
    metadata,
    Column("id", Sequence64, primary_key=True, autoincrement=True),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("authority_id", Text, ForeignKey("authorities.id"), nullable=False),
    Column("policy_id", Text, ForeignKey("policies.id"), nullable=False),
    Column("device_key", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("serial", Text, nullable=False),  # lower-case hexadecimal
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("origin", Text, nullable=False),  # registry.inventory.Origin
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    # When it was first seen to be over: a clock that is set back does not revive it.
    Column("expired_at", UtcTime, nullable=True),
    Column("revoked_at", UtcTime, nullable=True),
    Column("revocation_reason", Text, nullable=True),
    # The enrollment that its device provisioned under; null: of before that was kept.
    Column("enrollment", Text, nullable=True),
    Index("ix_certificates_device", "namespace_id", "device_key", "id"),
    # What incidents ask for, in the order in which they go through it.
    Index("ix_certificates_issued", "authority_id", "issued_at", "id"),
    Index("ix_certificates_enrollment", "enrollment", "issued_at", "id"),
    # What `mark_expired` looks through: not the whole past.
    Index(
        "ix_certificates_alive",
        "not_after",
        sqlite_where=text("expired_at IS NULL"),
        postgresql_where=text("expired_at IS NULL"),
    ),
    Index("uq_certificates_serial_authority_id", "serial", "authority_id", unique=True),
    # What a revocation list is made of; a certificate that was not revoked is not in it.
    Index(
        "ix_certificates_revoked",
        "authority_id",
        text("substr(serial, length(serial))"),  # the last digit: the shard of its list
        "serial",
        sqlite_where=text("revoked_at IS NOT NULL"),
        postgresql_where=text("revoked_at IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# Revocations of many certificates at a set pace. What is not done yet goes on behind the cursor.
revocation_jobs = Table(
    "revocation_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("scope", Text, nullable=False),  # JSON; registry.incidents.Scope
    Column("last_id", BigInteger, nullable=False),  # what is issued later is not meant
    Column("reason", Text, nullable=False),  # registry.inventory.RevocationReason
    Column("pace", Integer, nullable=False),  # certificates a second
    Column("found", BigInteger, nullable=False),  # how many there were to revoke
    Column("revoked", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # registry.revocation_jobs.State
    Column("cursor_at", UtcTime, nullable=False),
    Column("cursor_id", BigInteger, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("peer", Text, nullable=True),
    Column("trace_id", Text, nullable=True),
    Column("created_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime, nullable=True),
    Index("ix_revocation_jobs_namespace_id", "namespace_id", "created_at"),
)

# The newest revocation list of each shard of each CA.
revocation_lists = Table(
    "revocation_lists",
    metadata,
    Column("authority_id", Text, ForeignKey("authorities.id"), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("covers", BigInteger, nullable=False),  # how many were revoked when it was made
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=False),
    Column("list", LargeBinary, nullable=False),  # DER
)

# Who answers OCSP requests for each CA now.
ocsp_responders = Table(
    "ocsp_responders",
    metadata,
    Column("authority_id", Text, ForeignKey("authorities.id"), primary_key=True),
    Column("number", Integer, nullable=False),  # from 1; the key is sealed as of this version
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("sealed_key", LargeBinary, nullable=False),
)

# Revocation lists of CAs that are not ours, as operators bring them.
third_party_lists = Table(
    "third_party_lists",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("issuer", LargeBinary, nullable=False),  # registry.third_party_lists.issuer_id
    Column("scope", Text, nullable=False),  # the distribution point that it names; empty: none
    Column("subject", Text, nullable=False),
    Column("authority", LargeBinary, nullable=False),  # the CA's certificate, DER
    Column("number", Text, nullable=True),  # lower-case hexadecimal; up to 20 octets
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=True),
    Column("entries", Integer, nullable=False),
    Column("sha256", LargeBinary, nullable=False),  # of the list's DER
    Column("uploaded_at", UtcTime, nullable=False),
    Index(
        "uq_third_party_lists_namespace_id_issuer_scope",
        "namespace_id",
        "issuer",
        "scope",
        unique=True,
    ),
)

third_party_revocations = Table(
    "third_party_revocations",
    metadata,
    Column(
        "list_id",
        Text,
        ForeignKey("third_party_lists.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("serial", Text, primary_key=True),  # lower-case hexadecimal
)

# What happened that a node must act on even when the bus lost its hint.
outbox = Table(
    "outbox",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),  # registry.outbox.Kind
    Column("namespace_id", Text, nullable=False),
    Column("subject", Text, nullable=False),  # what the kind is about, e.g. a device key
    sqlite_autoincrement=True,
)

# --- shared access --------------------------------------------------------------------------

shared_access_policies = Table(
    "shared_access_policies",
    metadata,
    Column("owner_id", Text, primary_key=True),  # a hub or a provisioning service
    Column("name", Text, primary_key=True),
    Column("rights", Text, nullable=False),  # space-separated names
    Column("sealed_primary", LargeBinary, nullable=False),
    Column("sealed_secondary", LargeBinary, nullable=False),
)

# What the management API was told of a hub or a provisioning service; each has one.
service_resources = Table(
    "service_resources",
    metadata,
    Column("owner_id", Text, primary_key=True),  # a hub or a provisioning service
    Column("subscription_id", Text, nullable=False),
    Column("resource_group", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("tags", Text, nullable=False),  # JSON object
    Column("sku", Text, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("etag", Text, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# CA certificates that were uploaded to a hub or a provisioning service.
uploaded_certificates = Table(
    "uploaded_certificates",
    metadata,
    Column("owner_id", Text, primary_key=True),
    Column("name_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("verified", Boolean, nullable=False),
    # What its owner is to have signed, and until when.
    Column("verification_code", Text, nullable=True),
    Column("code_expires_at", UtcTime, nullable=True),
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# --- provisioning ---------------------------------------------------------------------------

provisioning_services = Table(
    "provisioning_services",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("id_scope", Text, nullable=False, unique=True),
    Column("host_name", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("allocation_policy", Text, nullable=False, server_default="Hashed"),
)

enrollments = Table(
    "enrollments",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("kind", Text, primary_key=True),  # provisioning.enrollments.EnrollmentKind
    Column("enrollment_key", Text, primary_key=True),
    Column("enrollment_id", Text, nullable=False),
    Column("device_id", Text, nullable=True),
    Column("attestation", Text, nullable=False),
    Column("sealed_primary", LargeBinary, nullable=True),
    Column("sealed_secondary", LargeBinary, nullable=True),
    Column("policy_id", Text, ForeignKey("policies.id"), nullable=True),
    Column("enabled", Boolean, nullable=False),
    Column("update_hub_assignment", Boolean, nullable=False),
    Column("migrate_device_data", Boolean, nullable=False),
    Column("initial_twin", Text, nullable=True),  # JSON
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # X.509. DER of the device's own certificate, or of the CA of a group that signs its devices'.
    Column("primary_certificate", LargeBinary, nullable=True),
    Column("secondary_certificate", LargeBinary, nullable=True),
    # Or that CA by its name among those uploaded to the service.
    Column("primary_ca", Text, nullable=True),
    Column("secondary_ca", Text, nullable=True),
    # TPM: TPM2B_PUBLIC each; the key that the device signs with is `sealed_primary`.
    Column("endorsement_key", LargeBinary, nullable=True),
    Column("storage_root_key", LargeBinary, nullable=True),
    Column("allocation", Text, nullable=True),  # null: the service's
    Column("hub_ids", Text, nullable=False, server_default="[]"),  # JSON; empty: any linked hub
    Column("webhook_url", Text, nullable=True),
    Column("webhook_api_version", Text, nullable=True),
    Column("iot_edge", Boolean, nullable=False, server_default=false()),
    Column("device_information", Text, nullable=True),  # JSON object
    Column("expires_at", UtcTime, nullable=True),
    Column("quarantine", Boolean, nullable=False, server_default=false()),
)

registrations = Table(
    "registrations",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("registration_key", Text, primary_key=True),
    Column("registration_id", Text, nullable=False),
    Column("enrollment_kind", Text, nullable=False),
    Column("enrollment_id", Text, nullable=False),
    Column("operation_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("substatus", Text, nullable=True),
    Column("hub_id", Text, ForeignKey("hubs.id"), nullable=True),
    Column("device_id", Text, nullable=True),
    Column("certificate_sha256", LargeBinary, nullable=True),  # issued by the last operation
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # What it attested with the last time.
    Column("attestation", Text, nullable=False, server_default="symmetricKey"),
    Column("credential_slot", Text, nullable=True),  # provisioning.model.Slot
    Column("certificate_info", Text, nullable=True),  # JSON, of an X.509 attestation
    Column("payload", Text, nullable=True),  # JSON that the allocation's webhook gave
    Column("error_code", Integer, nullable=True),
    Column("error_message", Text, nullable=True),
    # Those of a group, in the order in which they are listed.
    Index(
        "ix_registrations_group",
        "service_id",
        text("lower(enrollment_id)"),
        "registration_key",
        sqlite_where=text("enrollment_kind = 'group'"),
        postgresql_where=text("enrollment_kind = 'group'"),
    ),
)

# Registrations that are `assigning`: what each of them asked, and what it waits for.
pending_registrations = Table(
    "pending_registrations",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("registration_key", Text, primary_key=True),
    Column("registration_id", Text, nullable=False),
    Column("enrollment_kind", Text, nullable=False),
    Column("enrollment_id", Text, nullable=False),
    Column("waits_for", Text, nullable=False),  # provisioning.pending.WaitsFor
    Column("request", Text, nullable=False),  # JSON
    Column("peer", Text, nullable=True),
    Column("decision", Text, nullable=True),  # JSON; null: it waits still
    Column("claimed_until", UtcTime, nullable=True),  # a node is getting the decision
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# --- hub ------------------------------------------------------------------------------------

hubs = Table(
    "hubs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace_id", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),
    Column("host_name", Text, nullable=False, unique=True),  # canonical: lower case
    Column("created_at", UtcTime, nullable=False),
)

linked_hubs = Table(
    "linked_hubs",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("hub_id", Text, ForeignKey("hubs.id"), primary_key=True),
    Column("weight", Integer, nullable=False, server_default="1"),
    Column("allocates", Boolean, nullable=False, server_default=true()),
    # The shared access policy by which it was linked; null: by its host name.
    Column("key_name", Text, nullable=True),
)

# Where the devices of a provisioning service call from. Regions are in the one form that
# `provisioning.geography.region_key` makes.
region_networks = Table(
    "region_networks",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("network", Text, primary_key=True),  # CIDR
    Column("region", Text, nullable=False),
)

# How far its hubs are from there.
region_latencies = Table(
    "region_latencies",
    metadata,
    Column("service_id", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("hub_id", Text, primary_key=True),
    Column("milliseconds", Integer, nullable=False),
    ForeignKeyConstraint(
        ["service_id", "hub_id"],
        ["linked_hubs.service_id", "linked_hubs.hub_id"],
        ondelete="CASCADE",
    ),
)

# What a provisioning service signs its calls of webhooks with.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("service_id", Text, ForeignKey("provisioning_services.id"), primary_key=True),
    Column("sealed_primary", LargeBinary, nullable=False),
    Column("sealed_secondary", LargeBinary, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
)

# The issuing CAs that a hub trusts: what `synchronize` pushed to it.
hub_authorities = Table(
    "hub_authorities",
    metadata,
    Column("hub_id", Text, ForeignKey("hubs.id"), primary_key=True),
    Column("authority_id", Text, ForeignKey("authorities.id"), primary_key=True),
    Column("synchronized_at", UtcTime, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("hub_id", Text, ForeignKey("hubs.id"), primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("device_id", Text, nullable=False),
    Column("generation_id", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("pin", Text, nullable=False),  # hub.identities.Pin
    Column("policy_id", Text, ForeignKey("policies.id"), nullable=True),
    Column("sealed_primary", LargeBinary, nullable=True),
    Column("sealed_secondary", LargeBinary, nullable=True),
    Column("session_epoch", BigInteger, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("connection_changed_at", UtcTime, nullable=True),
    Column("etag", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # SHA-1 or SHA-256 of the certificates that it authenticates with, lower-case hexadecimal.
    Column("primary_thumbprint", Text, nullable=True),
    Column("secondary_thumbprint", Text, nullable=True),
    # Of a module: its id, and the key of its device's identity; its own is `{parent_key}/{id}`.
    Column("module_id", Text, nullable=True),
    Column("parent_key", Text, nullable=True),
    # Changes with the pin, the keys and the thumbprints alone: what lets it in.
    Column("pin_etag", Text, nullable=False, server_default="0"),
    Column("status_reason", Text, nullable=True),
    Column("status_changed_at", UtcTime, nullable=True),
    # What services said of it, for themselves.
    Column("iot_edge", Boolean, nullable=False, server_default=false()),
    Column("device_scope", Text, nullable=True),
    Column("parent_scopes", Text, nullable=True),  # JSON array
    Column("managed_by", Text, nullable=True),
    Index(
        "ix_identities_parent_key",
        "hub_id",
        "parent_key",
        sqlite_where=text("parent_key IS NOT NULL"),
        postgresql_where=text("parent_key IS NOT NULL"),
    ),
)

# What a device with CleanSession 0 subscribed to; survives disconnects and restarts.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("hub_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("channel", Text, primary_key=True),  # hub.model.Channel
    Column("qos", Integer, nullable=False),
    ForeignKeyConstraint(
        ["hub_id", "device_key"],
        ["identities.hub_id", "identities.device_key"],
        ondelete="CASCADE",
    ),
)

# The last connections of each device: a new one takes the place of an old one.
connections = Table(
    "connections",
    metadata,
    Column("hub_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),  # of the session's epoch
    Column("epoch", BigInteger, nullable=False),
    Column("connected_at", UtcTime, nullable=False),
    Column("peer", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("certificate_sha256", LargeBinary, nullable=True),  # null: by a token
    ForeignKeyConstraint(
        ["hub_id", "device_key"],
        ["identities.hub_id", "identities.device_key"],
        ondelete="CASCADE",
    ),
)

twins = Table(
    "twins",
    metadata,
    Column("hub_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("tags", Text, nullable=False),  # JSON object
    Column("desired", Text, nullable=False),  # JSON object
    Column("reported", Text, nullable=False),  # JSON object
    Column("desired_version", BigInteger, nullable=False),
    Column("reported_version", BigInteger, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    # How often services changed it, plus one; with the generation of its identity, its etag.
    Column("revision", BigInteger, nullable=False, server_default="1"),
    # JSON objects, see hub.twin_metadata
    Column("desired_metadata", Text, nullable=False, server_default="{}"),
    Column("reported_metadata", Text, nullable=False, server_default="{}"),
    Column("model_id", Text, nullable=True),  # a DTMI, as its device said when it connected
    ForeignKeyConstraint(
        ["hub_id", "device_key"],
        ["identities.hub_id", "identities.device_key"],
        ondelete="CASCADE",
    ),
)

# A device's one certificate request over the hub, until its answer was delivered or it expired.
credential_requests = Table(
    "credential_requests",
    metadata,
    Column("hub_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # hub.requests.RequestState
    # The final answer: a certificate, or an error.
    Column("certificate_sha256", LargeBinary, nullable=True),
    Column("error_code", Integer, nullable=True),
    Column("error_message", Text, nullable=True),
    Column("error_info", Text, nullable=True),  # JSON object
    Column("expires_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(
        ["hub_id", "device_key"],
        ["identities.hub_id", "identities.device_key"],
        ondelete="CASCADE",
    ),
)

# What happened that is to be logged, until it is.
announcements = Table(
    "announcements",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),  # registry.announcements.EventKind
    Column("hub_id", Text, nullable=True),  # null: every hub of the namespace that it concerns
    Column("namespace_id", Text, nullable=True),
    Column("device_key", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON
)

# The embedded event log: what devices sent and what happened to them, in the order of commits.
events = Table(
    "events",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("hub_id", Text, nullable=False),
    Column("device_key", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    Column("enqueued_at", UtcTime, nullable=False),
    Column("properties", Text, nullable=False),  # JSON: application properties
    Column("system_properties", Text, nullable=False),  # JSON
    Column("body", LargeBinary, nullable=False),
    # How many bytes were ever logged, up to this one's end: what is kept is a difference of two.
    Column("end_offset", BigInteger, nullable=False),
    Column("kind", Text, nullable=False, server_default="telemetry"),  # announcements.EventKind
    Index("ix_events_hub_id_seq", "hub_id", "seq"),
    Index("ix_events_hub_id_device_key_seq", "hub_id", "device_key", "seq"),
    Index("ix_events_enqueued_at", "enqueued_at"),
    Index("ix_events_end_offset", "end_offset"),
    sqlite_autoincrement=True,
)

# Cloud-to-device messages that wait for their device, in the order of commits.
commands = Table(
    "commands",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("hub_id", Text, nullable=False),
    Column("device_key", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("ack", Text, nullable=False),  # hub.cloud_to_device.Ack
    Column("properties", Text, nullable=False),  # JSON: application properties
    Column("system_properties", Text, nullable=False),  # JSON
    Column("body", LargeBinary, nullable=False),
    Column("enqueued_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("delivery_count", Integer, nullable=False),  # deliveries that came to nothing
    # Of a delivery over HTTPS.
    Column("lock_token", Text, nullable=True),
    Column("locked_until", UtcTime, nullable=True),
    ForeignKeyConstraint(
        ["hub_id", "device_key"],
        ["identities.hub_id", "identities.device_key"],
        ondelete="CASCADE",
    ),
    Index("ix_commands_hub_id_device_key_seq", "hub_id", "device_key", "seq"),
    Index("ix_commands_expires_at", "expires_at"),
    sqlite_autoincrement=True,
)

# What became of cloud-to-device messages whose senders wanted to know.
command_feedback = Table(
    "command_feedback",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("hub_id", Text, ForeignKey("hubs.id", ondelete="CASCADE"), nullable=False),
    Column("device_id", Text, nullable=False),
    Column("generation_id", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # hub.cloud_to_device.Outcome
    Column("enqueued_at", UtcTime, nullable=False),
    Column("delivery_count", Integer, nullable=False),
    Column("lock_token", Text, nullable=True),
    Column("locked_until", UtcTime, nullable=True),
    Index("ix_command_feedback_hub_id_seq", "hub_id", "seq"),
    Index("ix_command_feedback_enqueued_at", "enqueued_at"),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("hub_id", Text, ForeignKey("hubs.id", ondelete="CASCADE"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),  # hub.job_model.JobType
    Column("work", Text, nullable=False),  # JSON; hub.job_model.work_text
    Column("condition", Text, nullable=False),
    Column("status", Text, nullable=False),  # hub.job_model.JobStatus
    Column("created_at", UtcTime, nullable=False),
    Column("start_at", UtcTime, nullable=False),
    Column("most_seconds", Integer, nullable=False),  # from when it starts
    Column("started_at", UtcTime, nullable=True),
    Column("ended_at", UtcTime, nullable=True),
    Column("found", BigInteger, nullable=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("failure", Text, nullable=True),
    Index("ix_jobs_hub_id_created_at", "hub_id", "created_at"),
    Index(
        "ix_jobs_start_at",
        "start_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_jobs_ended_at", "ended_at"),
)

job_devices = Table(
    "job_devices",
    metadata,
    Column("hub_id", Text, primary_key=True),
    Column("job_id", Text, primary_key=True),
    Column("device_key", Text, primary_key=True),
    Column("status", Text, nullable=False),  # hub.job_model.DeviceStatus
    Column("detail", Text, nullable=True),  # JSON
    Column("ended_at", UtcTime, nullable=True),
    ForeignKeyConstraint(["hub_id", "job_id"], ["jobs.hub_id", "jobs.id"], ondelete="CASCADE"),
)
