"""Hubs and provisioning services as resources of the management API: whose they are, and what was
said of them. Nothing of that decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.errors import AlreadyExists, EtagMismatch, InvalidArgument
from fleetroot.ids import canonical
from fleetroot.registry import etags
from fleetroot.registry.devices import new_etag
from fleetroot.registry.model import Namespace
from fleetroot.registry.namespaces import tags_of, text_of
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import service_resources

MAX_SERVICES: Final = 50  # hubs, and as many provisioning services: all are in one certificate
_MAX_TAGS: Final = 50  # Azure Resource Manager, "Use tags to organize your resources"
_MAX_TAG_NAME: Final = 512
_MAX_TAG_VALUE: Final = 256
_MAX_WORD: Final = 128
_MAX_CAPACITY: Final = 1000


class ServiceKind(StrEnum):
    """What has shared access policies, uploaded certificates and a host name."""

    HUB = "hub"
    PROVISIONING_SERVICE = "provisioning-service"

    @property
    def words(self) -> str:
        """As messages name it."""
        return self.value.replace("-", " ")


@dataclass(frozen=True, slots=True)
class Owner:
    """A hub or a provisioning service, as the owner of what both may have."""

    kind: ServiceKind
    id: str
    name: str
    namespace_id: str

    @property
    def subject(self) -> str:
        """As the audit log names it."""
        return f"{self.kind.value}/{self.name}"


@dataclass(frozen=True, slots=True)
class Description:
    """What the management API was told of a hub or a provisioning service."""

    subscription_id: str
    resource_group: str
    location: str = "local"
    tags: Mapping[str, str] = field(default_factory=dict)
    sku: str = "S1"
    capacity: int = 1

    @classmethod
    def within(cls, namespace: Namespace, tags: Mapping[str, str] | None = None) -> Description:
        """Of one that was made beside its namespace, with nothing else said than tags."""
        return cls(namespace.subscription_id, namespace.resource_group, tags=tags or {})

    def check(self) -> None:
        """Raises:
        InvalidArgument: it is out of the documented bounds.
        """
        for name, word in (
            ("subscriptionId", self.subscription_id),
            ("resourceGroup", self.resource_group),
            ("location", self.location),
            ("sku", self.sku),
        ):
            if not 0 < len(word) <= _MAX_WORD:
                raise InvalidArgument(f"{name}: must be 1 to {_MAX_WORD} characters")
        if not 1 <= self.capacity <= _MAX_CAPACITY:
            raise InvalidArgument(f"capacity: must be 1 to {_MAX_CAPACITY}")
        check_tags(self.tags)


@dataclass(frozen=True, slots=True)
class ServiceResource:
    """A description and its version."""

    description: Description
    etag: str
    updated_at: datetime


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises:
    InvalidArgument: they are too many or too long.
    """
    if len(tags) > _MAX_TAGS:
        raise InvalidArgument(f"tags: at most {_MAX_TAGS}")
    if any(not 0 < len(n) <= _MAX_TAG_NAME or len(v) > _MAX_TAG_VALUE for n, v in tags.items()):
        raise InvalidArgument(
            f"tags: names have 1 to {_MAX_TAG_NAME} characters, values at most {_MAX_TAG_VALUE}"
        )


def _row(
    _owner_id: str,
    subscription_id: str,
    resource_group: str,
    location: str,
    tags: str,
    sku: str,
    capacity: int,
    etag: str,
    updated_at: datetime,
) -> ServiceResource:
    said = Description(subscription_id, resource_group, location, tags_of(tags), sku, capacity)
    return ServiceResource(said, etag, updated_at)


_table: Final = service_resources
_INSERT: Final = Command(insert_into(_table))
_GET: Final = Query(select(_table).where(_table.c.owner_id == bindparam("owner")), _row)
_UPDATE: Final = Command(
    update(_table)
    .where(_table.c.owner_id == bindparam("owner"))
    .values(
        location=bindparam("new_location"),
        tags=bindparam("new_tags"),
        sku=bindparam("new_sku"),
        capacity=bindparam("new_capacity"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("now"),
    )
)
_REMOVE: Final = Command(delete(_table).where(_table.c.owner_id == bindparam("owner")))


def insert(tx: Transaction, owner_id: str, said: Description, now: datetime) -> None:
    """Adds the description of a new hub or provisioning service."""
    tx.run(
        _INSERT,
        owner_id=owner_id,
        subscription_id=said.subscription_id,
        resource_group=said.resource_group,
        location=said.location,
        tags=text_of(said.tags),
        sku=said.sku,
        capacity=said.capacity,
        etag=new_etag(),
        updated_at=now,
    )


def get(tx: Transaction, owner_id: str) -> ServiceResource:
    """The description of a hub or provisioning service that is there."""
    found = tx.first(_GET, owner=owner_id)
    assert found is not None  # noqa: S101 - made with it
    return found


def update_(tx: Transaction, owner_id: str, said: Description, now: datetime) -> None:
    """Replaces a description; its subscription and resource group stay. The etag changes."""
    tx.run(
        _UPDATE,
        owner=owner_id,
        new_location=said.location,
        new_tags=text_of(said.tags),
        new_sku=said.sku,
        new_capacity=said.capacity,
        new_etag=new_etag(),
        now=now,
    )


def remove(tx: Transaction, owner_id: str) -> None:
    """Removes a description with what it is of."""
    tx.run(_REMOVE, owner=owner_id)


def log(
    tx: Transaction,
    action: Action,
    owner: Owner,
    by: Actor,
    now: datetime,
    details: Mapping[str, object] | None = None,
) -> None:
    """Appends to the audit log what was done to a hub or provisioning service."""
    entry = Entry(now, by, action, owner.subject, owner.namespace_id, details=details or {})
    audit.append(tx, entry)


def check_precondition(
    there: ServiceResource | None, if_match: str | None, *, create_only: bool = False
) -> None:
    """Lets a change pass that was asked for with these preconditions (RFC 9110 §13.1).

    Raises:
        EtagMismatch: another version is there, or none, or one where none may be.
    """
    if there is None:
        if if_match is not None:
            raise EtagMismatch("there is no such resource to change")
        return
    if create_only:
        raise EtagMismatch("the resource exists")
    etags.check(if_match, there.etag)


def check_same_place(there: ServiceResource, said: Description) -> None:
    """Lets a description pass for what is there. Names are the whole server's, so what another
    resource group has of that name is not replaced.

    Raises:
        AlreadyExists: it is in another resource group.
    """
    before = there.description
    if canonical(before.subscription_id) != canonical(said.subscription_id) or canonical(
        before.resource_group
    ) != canonical(said.resource_group):
        raise AlreadyExists("the name is taken in another resource group")
