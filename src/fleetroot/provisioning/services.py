"""Provisioning services and the hubs linked to them: their tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from fleetroot.ids import canonical
from fleetroot.provisioning.model import Allocation, LinkedHub, Service
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into, upsert_into
from fleetroot.storage.schema import (
    hubs,
    linked_hubs,
    provisioning_services,
    service_resources,
)


def _row(
    id_: str,
    namespace_id: str,
    name: str,
    _name_key: str,
    id_scope: str,
    host_name: str,
    created_at: datetime,
    allocation: str,
) -> Service:
    return Service(id_, namespace_id, name, id_scope, host_name, created_at, Allocation(allocation))


@dataclass(frozen=True, slots=True)
class Link:
    """A hub that is linked to a provisioning service, and how.

    Attributes:
        key_name: the shared access policy by which it was; None: by its host name.
    """

    hub: LinkedHub
    hub_name: str
    location: str
    key_name: str | None


@dataclass(frozen=True, slots=True)
class Linkable:
    """A hub, as whoever links it needs it."""

    id: str
    name: str
    namespace_id: str


_INSERT: Final = Command(insert_into(provisioning_services))
_LINK: Final = Command(upsert_into(linked_hubs))
_of_service: Final = provisioning_services.c.id == bindparam("service")
_UPDATE: Final = Command(
    update(provisioning_services)
    .where(_of_service)
    .values(allocation_policy=bindparam("new_allocation"), namespace_id=bindparam("new_namespace"))
)
_REMOVE: Final = Command(delete(provisioning_services).where(_of_service))
_UNLINK: Final = Command(
    delete(linked_hubs).where(
        (linked_hubs.c.service_id == bindparam("service"))
        & (linked_hubs.c.hub_id == bindparam("hub"))
    )
)
_ALL: Final = Query(select(provisioning_services).order_by(provisioning_services.c.name_key), _row)
_BY_HOST: Final = Query(
    select(provisioning_services)
    .where(provisioning_services.c.host_name == bindparam("host"))
    .order_by(provisioning_services.c.created_at)
    .limit(1),
    _row,
)
_LINKABLE: Final = Query(
    select(hubs.c.id, hubs.c.name, hubs.c.namespace_id).where(
        hubs.c.host_name == bindparam("host")
    ),
    Linkable,
)
_LINKS: Final = Query(
    select(
        hubs.c.id,
        hubs.c.host_name,
        linked_hubs.c.weight,
        linked_hubs.c.allocates,
        hubs.c.name,
        service_resources.c.location,
        linked_hubs.c.key_name,
    )
    .select_from(
        linked_hubs.join(hubs, hubs.c.id == linked_hubs.c.hub_id).join(
            service_resources, service_resources.c.owner_id == hubs.c.id
        )
    )
    .where(linked_hubs.c.service_id == bindparam("service"))
    .order_by(hubs.c.name_key),
    lambda id_, host, weight, allocates, name, location, key_name: Link(
        LinkedHub(id_, host, weight, allocates, location), name, location, key_name
    ),
)
_LINKING: Final = Query(
    select(provisioning_services.c.name)
    .join(linked_hubs, linked_hubs.c.service_id == provisioning_services.c.id)
    .where(linked_hubs.c.hub_id == bindparam("hub"))
    .order_by(provisioning_services.c.name_key),
    str,
)
_BY_SCOPE: Final = Query(
    select(provisioning_services).where(provisioning_services.c.id_scope == bindparam("id_scope")),
    _row,
)
_BY_NAME: Final = Query(
    select(provisioning_services).where(provisioning_services.c.name_key == bindparam("key")), _row
)
_ONLY: Final = Query(
    select(provisioning_services).order_by(provisioning_services.c.created_at).limit(1), _row
)
_OF_NAMESPACE: Final = Query(
    select(provisioning_services.c.id)
    .where(provisioning_services.c.namespace_id == bindparam("namespace"))
    .limit(1),
    str,
)
_HOST_NAMES: Final = Query(
    select(provisioning_services.c.host_name).order_by(provisioning_services.c.host_name), str
)
_linked_hub: Final = (
    hubs.c.id,
    hubs.c.host_name,
    linked_hubs.c.weight,
    linked_hubs.c.allocates,
    service_resources.c.location,
)
_LINKED: Final = Query(
    select(*_linked_hub)
    .select_from(
        linked_hubs.join(hubs, hubs.c.id == linked_hubs.c.hub_id).join(
            service_resources, service_resources.c.owner_id == hubs.c.id
        )
    )
    .where(linked_hubs.c.service_id == bindparam("service"))
    .order_by(hubs.c.id),
    LinkedHub,
)
_LOCATION: Final = Query(
    select(service_resources.c.location).where(
        service_resources.c.owner_id == bindparam("service")
    ),
    str,
)


# One query: every registration asks for both.
_WITH_HUBS: Final = Query(
    select(provisioning_services, *_linked_hub)
    .select_from(
        provisioning_services.outerjoin(
            linked_hubs, linked_hubs.c.service_id == provisioning_services.c.id
        )
        .outerjoin(hubs, hubs.c.id == linked_hubs.c.hub_id)
        .outerjoin(service_resources, service_resources.c.owner_id == hubs.c.id)
    )
    .where(provisioning_services.c.id_scope == bindparam("id_scope"))
    .order_by(hubs.c.id),
    lambda *columns: (_row(*columns[:-5]), LinkedHub(*columns[-5:]) if columns[-5] else None),
)


def occupy(tx: Transaction, namespace_id: str) -> bool:
    """Whether the namespace has a provisioning service."""
    return tx.first(_OF_NAMESPACE, namespace=namespace_id) is not None


def insert(tx: Transaction, service: Service) -> None:
    """Adds a new provisioning service."""
    tx.run(
        _INSERT,
        id=service.id,
        namespace_id=service.namespace_id,
        name=service.name,
        name_key=canonical(service.name),
        id_scope=service.id_scope,
        host_name=service.host_name,
        created_at=service.created_at,
        allocation_policy=service.allocation.value,
    )


def update_(tx: Transaction, service: Service) -> None:
    """Changes how the service allocates, and whose it is, to what `service` says."""
    tx.run(
        _UPDATE,
        service=service.id,
        new_allocation=service.allocation.value,
        new_namespace=service.namespace_id,
    )


def remove(tx: Transaction, service: Service) -> None:
    """Removes a service that nothing refers to any more."""
    tx.run(_REMOVE, service=service.id)


def all_(tx: Transaction) -> list[Service]:
    """Every service, by name."""
    return tx.all(_ALL)


def by_host_name(tx: Transaction, host_name: str) -> Service | None:
    """The oldest service of that host name."""
    return tx.first(_BY_HOST, host=canonical(host_name))


def linkable(tx: Transaction, host_name: str) -> Linkable | None:
    """The hub of that host name, whether it is linked or not."""
    return tx.first(_LINKABLE, host=canonical(host_name))


def link(
    tx: Transaction,
    service_id: str,
    hub_id: str,
    *,
    weight: int = 1,
    allocates: bool = True,
    key_name: str | None = None,
) -> None:
    """Lets the service assign devices to the hub, or changes how."""
    tx.run(
        _LINK,
        service_id=service_id,
        hub_id=hub_id,
        weight=weight,
        allocates=allocates,
        key_name=key_name,
    )


def unlink(tx: Transaction, service_id: str, hub_id: str) -> None:
    """Lets the service assign no more devices to the hub."""
    tx.run(_UNLINK, service=service_id, hub=hub_id)


def links(tx: Transaction, service_id: str) -> list[Link]:
    """The hubs that are linked to the service, by name."""
    return tx.all(_LINKS, service=service_id)


def linking(tx: Transaction, hub_id: str) -> list[str]:
    """The names of the services that a hub is linked to."""
    return tx.all(_LINKING, hub=hub_id)


def by_id_scope(tx: Transaction, id_scope: str) -> Service | None:
    """The service that devices name by `id_scope`."""
    return tx.first(_BY_SCOPE, id_scope=id_scope)


def with_hubs(tx: Transaction, id_scope: str) -> tuple[Service, tuple[LinkedHub, ...]] | None:
    """The service that devices name by `id_scope`, and the hubs that it may assign."""
    found = tx.all(_WITH_HUBS, id_scope=id_scope)
    if not found:
        return None
    return found[0][0], tuple(hub for _, hub in found if hub is not None)


def location(tx: Transaction, service_id: str) -> str:
    """Where the service is, as it was said."""
    return tx.first(_LOCATION, service=service_id) or ""


def by_name(tx: Transaction, name: str) -> Service | None:
    """The service of that name."""
    return tx.first(_BY_NAME, key=canonical(name))


def first(tx: Transaction) -> Service | None:
    """The oldest service, the one that bootstrapping made."""
    return tx.first(_ONLY)


def host_names(tx: Transaction) -> list[str]:
    """The host names of all services."""
    return tx.all(_HOST_NAMES)


def linked(tx: Transaction, service_id: str) -> list[LinkedHub]:
    """The hubs that the service may assign, in a stable order."""
    return tx.all(_LINKED, service=service_id)
