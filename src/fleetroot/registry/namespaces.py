"""Namespaces: their table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

import orjson
from sqlalchemy import bindparam, select, update

from fleetroot.errors import NotFound
from fleetroot.ids import canonical
from fleetroot.registry.devices import new_etag
from fleetroot.registry.model import Namespace
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import namespaces


def _row(
    id_: str,
    name: str,
    _name_key: str,
    subscription_id: str,
    resource_group: str,
    created_at: datetime,
    tags: str,
    etag: str,
    updated_at: datetime,
    _deleted_at: datetime | None,
    location: str,
) -> Namespace:
    return Namespace(
        id_,
        name,
        subscription_id,
        resource_group,
        created_at,
        tags_of(tags),
        etag,
        updated_at,
        location,
    )


def tags_of(text: str) -> Mapping[str, str]:
    """Tags as they are stored (JSON)."""
    return MappingProxyType(orjson.loads(text))


def text_of(tags: Mapping[str, str]) -> str:
    """The reverse of `tags_of`."""
    return orjson.dumps(dict(tags)).decode()


_INSERT: Final = Command(insert_into(namespaces))
_GET: Final = Query(select(namespaces).where(namespaces.c.id == bindparam("id")), _row)
_BY_NAME: Final = Query(select(namespaces).where(namespaces.c.name_key == bindparam("key")), _row)
_LIVING: Final = Query(
    select(namespaces).where(namespaces.c.deleted_at.is_(None)).order_by(namespaces.c.name_key),
    _row,
)
_DESCRIBE: Final = Command(
    update(namespaces)
    .where(namespaces.c.id == bindparam("of_id"))
    .values(
        tags=bindparam("new_tags"),
        location=bindparam("new_location"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)
_DELETE: Final = Command(
    update(namespaces)
    .where(namespaces.c.id == bindparam("of_id"))
    .values(
        name_key=namespaces.c.name_key + " " + namespaces.c.id,  # no name has a space
        deleted_at=bindparam("now"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)


def get(tx: Transaction, namespace_id: str) -> Namespace:
    """The namespace of that id.

    Raises:
        NotFound: there is none.
    """
    namespace = tx.first(_GET, id=namespace_id)
    if namespace is None:
        raise NotFound("there is no such namespace")
    return namespace


def by_name(tx: Transaction, name: str) -> Namespace:
    """The namespace of that name, in any case.

    Raises:
        NotFound: there is none.
    """
    namespace = tx.first(_BY_NAME, key=canonical(name))
    if namespace is None:
        raise NotFound(f"there is no namespace {name}")
    return namespace


def living(tx: Transaction) -> list[Namespace]:
    """Every namespace, by name."""
    return tx.all(_LIVING)


def insert(tx: Transaction, namespace: Namespace) -> None:
    """Adds a new namespace."""
    tx.run(
        _INSERT,
        id=namespace.id,
        name=namespace.name,
        name_key=canonical(namespace.name),
        subscription_id=namespace.subscription_id,
        resource_group=namespace.resource_group,
        created_at=namespace.created_at,
        tags=text_of(namespace.tags),
        etag=namespace.etag,
        updated_at=namespace.updated_at,
        deleted_at=None,
        location=namespace.location,
    )


def describe(
    tx: Transaction, namespace: Namespace, tags: Mapping[str, str], location: str, now: datetime
) -> None:
    """Replaces what is said of the namespace."""
    tx.run(
        _DESCRIBE,
        of_id=namespace.id,
        new_tags=text_of(tags),
        new_location=location,
        new_etag=new_etag(),
        now=now,
    )


def delete(tx: Transaction, namespace: Namespace, now: datetime) -> None:
    """Marks the namespace deleted and frees its name."""
    tx.run(_DELETE, of_id=namespace.id, new_etag=new_etag(), now=now)
