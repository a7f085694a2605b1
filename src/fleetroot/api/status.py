"""What a server is and how it stands, over the operator API."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from fastapi import APIRouter, Request

from fleetroot.access import Permission
from fleetroot.api.access import OperatorRoute, needs
from fleetroot.api.answers import Answer, Hex, Time
from fleetroot.api.description import operation_id
from fleetroot.api.services import services_of
from fleetroot.pki import KeyType
from fleetroot.registry.model import Authority, AuthorityKind, Policy

router = APIRouter(
    prefix="/fleetroot",
    route_class=OperatorRoute,
    generate_unique_id_function=partial(operation_id, area="operator"),
)


class KeyTokenState(Answer):
    """A PKCS#11 token that keys are in; `away` says why it is."""

    name: str
    away: str | None


class HubName(Answer):
    """A hub, and where devices find it."""

    name: str
    host_name: str


class PolicySummary(Answer):
    """A policy in short."""

    name: str
    leaf_validity_days: float
    leaf_key_types: list[KeyType]
    issuing_authority: str | None


class AuthoritySummary(Answer):
    """A CA in short."""

    id: str
    kind: AuthorityKind
    key_type: KeyType
    sha256: Hex
    not_before: Time
    not_after: Time
    revoked_at: Time | None


class ExpiringAnswer(Answer):
    """A certificate that ends soon."""

    what: str
    name: str
    sha256: Hex
    not_after: Time


class StatusAnswer(Answer):
    """What a server is and how it stands."""

    version: str
    started_at: Time
    uptime_seconds: float
    namespace: str
    master_key: str
    database: str
    pki_url: str
    tokens: list[KeyTokenState]
    devices: int
    certificates: int
    connections: int
    hubs: list[HubName]
    policies: list[PolicySummary]
    authorities: list[AuthoritySummary]
    expiring: list[ExpiringAnswer]


@router.get("/status")
@needs(Permission.READ)
async def status(request: Request) -> StatusAnswer:
    """What this server is and how it stands."""
    services = services_of(request)
    now = services.clock.now()
    devices, certificates = await services.registry.totals()
    namespace = services.namespace
    authorities = await services.registry.authorities(namespace)
    policies = await services.registry.policies(namespace)
    hubs = await services.hubs.of_namespace(namespace)
    return StatusAnswer(
        version=services.version,
        started_at=services.started_at,
        uptime_seconds=round((now - services.started_at).total_seconds(), 3),
        namespace=namespace.name,
        master_key=services.master_key_where,
        database=services.database,
        pki_url=services.pki_url,
        tokens=[KeyTokenState(name=t.name, away=t.away) for t in services.token_states()],
        devices=devices,
        certificates=certificates,
        connections=len(services.hubs.live),
        hubs=[HubName(name=hub.name, host_name=hub.host_name) for hub in hubs],
        policies=[_policy(policy) for policy in policies],
        authorities=[_authority(authority) for authority in authorities],
        expiring=[
            ExpiringAnswer(
                what=each.what, name=each.name, sha256=each.sha256, not_after=each.not_after
            )
            for each in services.expiry.soon
        ],
    )


def _policy(policy: Policy) -> PolicySummary:
    return PolicySummary(
        name=policy.name,
        leaf_validity_days=policy.leaf_validity / timedelta(days=1),
        leaf_key_types=sorted(policy.leaf_key_types),
        issuing_authority=policy.authority_id,
    )


def _authority(authority: Authority) -> AuthoritySummary:
    return AuthoritySummary(
        id=authority.id,
        kind=authority.kind,
        key_type=authority.key_type,
        sha256=authority.sha256,
        not_before=authority.not_before,
        not_after=authority.not_after,
        revoked_at=authority.revoked_at,
    )
