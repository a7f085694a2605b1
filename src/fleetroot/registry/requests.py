"""Keys that wait for their CA certificate: their table. A policy has one at most."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select

from fleetroot.pki import KeyType
from fleetroot.registry.model import AuthorityRequest
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import authority_requests


def _row(
    id_: str,
    namespace_id: str,
    policy_id: str,
    issuer_id: str | None,
    request: bytes,
    sealed_key: bytes,
    key_type: str,
    pki_url: str,
    created_at: datetime,
) -> AuthorityRequest:
    return AuthorityRequest(
        id_,
        namespace_id,
        policy_id,
        issuer_id,
        request,
        sealed_key,
        KeyType(key_type),
        pki_url,
        created_at,
    )


_INSERT: Final = Command(insert_into(authority_requests))
_OF_POLICY: Final = Query(
    select(authority_requests).where(authority_requests.c.policy_id == bindparam("policy")), _row
)
_DELETE: Final = Command(
    delete(authority_requests).where(authority_requests.c.policy_id == bindparam("policy"))
)


def of_policy(tx: Transaction, policy_id: str) -> AuthorityRequest | None:
    """What the policy waits for, if it does."""
    return tx.first(_OF_POLICY, policy=policy_id)


def insert(tx: Transaction, request: AuthorityRequest) -> None:
    """Adds a request, of a policy that has none."""
    tx.run(
        _INSERT,
        id=request.id,
        namespace_id=request.namespace_id,
        policy_id=request.policy_id,
        issuer_id=request.issuer_id,
        request=request.request,
        sealed_key=request.sealed_key,
        key_type=request.key_type.value,
        pki_url=request.pki_url,
        created_at=request.created_at,
    )


def remove_of_policy(tx: Transaction, policy_id: str) -> None:
    """Forgets what the policy waits for."""
    tx.run(_DELETE, policy=policy_id)
