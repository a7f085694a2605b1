"""Policies: their table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, select, update

from fleetroot.errors import NotFound
from fleetroot.ids import canonical
from fleetroot.pki import KeyType, name_key, parse_subject
from fleetroot.registry.devices import new_etag
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
    authority_id: str | None,
    leaf_validity_seconds: int,
    leaf_key_types: str,
    etag: str,
    created_at: datetime,
    updated_at: datetime,
    authority_key_type: str,
    external_root: bool,
    subject: str | None,
    _subject_key: str | None,
    deleted_at: datetime | None,
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
        KeyType(authority_key_type),
        external_root,
        subject,
        deleted_at,
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
_EVERY_OF: Final = Query(
    select(policies)
    .where(policies.c.namespace_id == bindparam("namespace"))
    .order_by(policies.c.name_key),
    _row,
)
_LIVING: Final = Query(
    select(policies).where(policies.c.deleted_at.is_(None)).order_by(policies.c.id), _row
)
_SET_AUTHORITY: Final = Command(
    update(policies)
    .where(policies.c.id == bindparam("of_id"))
    .values(
        authority_id=bindparam("authority"), etag=bindparam("new_etag"), updated_at=bindparam("now")
    )
)
_SET_LEAVES: Final = Command(
    update(policies)
    .where(policies.c.id == bindparam("of_id"))
    .values(
        leaf_validity_seconds=bindparam("seconds"),
        leaf_key_types=bindparam("key_types"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)
_DELETE: Final = Command(
    update(policies)
    .where(policies.c.id == bindparam("of_id"))
    .values(
        name_key=policies.c.name_key + " " + policies.c.id,  # no name has a space
        subject_key=None,
        deleted_at=bindparam("now"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)


def get(tx: Transaction, policy_id: str) -> Policy:
    """The policy of that id, deleted or not.

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
    return [policy for policy in every_of(tx, namespace_id) if policy.deleted_at is None]


def every_of(tx: Transaction, namespace_id: str) -> list[Policy]:
    """Like `of_namespace`, with those that were deleted: enrollments and devices may name them."""
    return tx.all(_EVERY_OF, namespace=namespace_id)


def living(tx: Transaction) -> list[Policy]:
    """Every policy of every namespace."""
    return tx.all(_LIVING)


def set_authority(tx: Transaction, policy: Policy, authority_id: str | None, now: datetime) -> None:
    """Lets another CA sign for the policy, or none."""
    tx.run(_SET_AUTHORITY, of_id=policy.id, authority=authority_id, new_etag=new_etag(), now=now)


def set_leaves(
    tx: Transaction,
    policy: Policy,
    *,
    validity: timedelta,
    key_types: Collection[KeyType],
    now: datetime,
) -> None:
    """Changes what the policy's leaves are from now on."""
    tx.run(
        _SET_LEAVES,
        of_id=policy.id,
        seconds=int(validity.total_seconds()),
        key_types=" ".join(sorted(key_types)),
        new_etag=new_etag(),
        now=now,
    )


def delete(tx: Transaction, policy: Policy, now: datetime) -> None:
    """Marks the policy deleted and frees its name."""
    tx.run(_DELETE, of_id=policy.id, new_etag=new_etag(), now=now)


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
        authority_key_type=policy.authority_key_type.value,
        external_root=policy.external_root,
        subject=policy.subject,
        subject_key=name_key(parse_subject(policy.subject)) if policy.subject else None,
        deleted_at=policy.deleted_at,
    )
