"""Credentials: the table that says which root CA is a namespace's own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from fleetroot.errors import NotFound
from fleetroot.registry import authorities
from fleetroot.registry.devices import new_etag
from fleetroot.registry.model import Credential
from fleetroot.registry.namespaces import tags_of, text_of
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import credentials

NAME: Final = "default"  # there is one in a namespace, and this is what the wires call it

_INSERT: Final = Command(insert_into(credentials))
_GET: Final = Query(
    select(credentials).where(credentials.c.namespace_id == bindparam("namespace")),
    lambda *columns: columns,
)
_SET_TAGS: Final = Command(
    update(credentials)
    .where(credentials.c.namespace_id == bindparam("namespace"))
    .values(tags=bindparam("new_tags"), etag=bindparam("new_etag"), updated_at=bindparam("now"))
)
_DELETE: Final = Command(
    delete(credentials).where(credentials.c.namespace_id == bindparam("namespace"))
)


def find(tx: Transaction, namespace_id: str) -> Credential | None:
    """The namespace's credential, if it has one."""
    row = tx.first(_GET, namespace=namespace_id)
    if row is None:
        return None
    _, authority_id, tags, etag, created_at, updated_at, root_name = row
    return Credential(
        namespace_id,
        authorities.get(tx, authority_id),
        tags_of(tags),
        etag,
        created_at,
        updated_at,
        root_name,
    )


def get(tx: Transaction, namespace_id: str) -> Credential:
    """Like `find`.

    Raises:
        NotFound: it has none.
    """
    credential = find(tx, namespace_id)
    if credential is None:
        raise NotFound("the namespace has no credential")
    return credential


def insert(tx: Transaction, credential: Credential) -> None:
    """Adds the namespace's credential; its root is there already."""
    tx.run(
        _INSERT,
        namespace_id=credential.namespace_id,
        authority_id=credential.root.id,
        tags=text_of(credential.tags),
        etag=credential.etag,
        created_at=credential.created_at,
        updated_at=credential.updated_at,
        root_name=credential.root_name,
    )


def set_tags(
    tx: Transaction, credential: Credential, tags: Mapping[str, str], now: datetime
) -> None:
    """Replaces the credential's tags."""
    tx.run(
        _SET_TAGS,
        namespace=credential.namespace_id,
        new_tags=text_of(tags),
        new_etag=new_etag(),
        now=now,
    )


def remove(tx: Transaction, namespace_id: str) -> None:
    """Deletes the credential; its root CA stays for what it signed."""
    tx.run(_DELETE, namespace=namespace_id)
