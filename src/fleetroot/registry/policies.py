"""Policies: their table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, select

from fleetroot.errors import NotFound
from fleetroot.ids import canonical
from fleetroot.pki import KeyType
from fleetroot.registry.model import Policy
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import policies

DEFAULT_LEAF_VALIDITY: Final = timedelta(days=30)
DEFAULT_LEAF_KEY_TYPES: Final = frozenset({KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521})


def _row(
    id_: str,
    namespace_id: str,
    name: str,
    _name_key: str,
    authority_id: str,
    leaf_validity_seconds: int,
    leaf_key_types: str,
    etag: str,
    created_at: datetime,
    updated_at: datetime,
) -> Policy:
    return Policy(
        id_,
        namespace_id,
        name,
        authority_id,
        timedelta(seconds=leaf_validity_seconds),
        frozenset(KeyType(name) for name in leaf_key_types.split()),
        etag,
        created_at,
        updated_at,
    )


_INSERT: Final = Command(insert_into(policies))
_GET: Final = Query(select(policies).where(policies.c.id == bindparam("id")), _row)
_BY_NAME: Final = Query(
    select(policies).where(
        (policies.c.namespace_id == bindparam("namespace"))
        & (policies.c.name_key == bindparam("key"))
    ),
    _row,
)
_OF_NAMESPACE: Final = Query(
    select(policies)
    .where(policies.c.namespace_id == bindparam("namespace"))
    .order_by(policies.c.name_key),
    _row,
)


def get(tx: Transaction, policy_id: str) -> Policy:
    """The policy of that id.

    Raises:
        NotFound: there is none.
    """
    policy = tx.first(_GET, id=policy_id)
    if policy is None:
        raise NotFound("the policy does not exist any more")
    return policy


def by_name(tx: Transaction, namespace_id: str, name: str) -> Policy:
    """The policy of that name.

    Raises:
        NotFound: there is none.
    """
    policy = tx.first(_BY_NAME, namespace=namespace_id, key=canonical(name))
    if policy is None:
        raise NotFound(f"there is no policy {name}")
    return policy


def of_namespace(tx: Transaction, namespace_id: str) -> list[Policy]:
    """Every policy of the namespace, by name."""
    return tx.all(_OF_NAMESPACE, namespace=namespace_id)


def insert(tx: Transaction, policy: Policy) -> None:
    """Adds a new policy."""
    tx.run(
        _INSERT,
        id=policy.id,
        namespace_id=policy.namespace_id,
        name=policy.name,
        name_key=canonical(policy.name),
        authority_id=policy.authority_id,
        leaf_validity_seconds=int(policy.leaf_validity.total_seconds()),
        leaf_key_types=" ".join(sorted(policy.leaf_key_types)),
        etag=policy.etag,
        created_at=policy.created_at,
        updated_at=policy.updated_at,
    )
