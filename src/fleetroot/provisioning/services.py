"""Provisioning services and the hubs linked to them: their tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select

from fleetroot.ids import canonical
from fleetroot.provisioning.model import LinkedHub, Service
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import hubs, linked_hubs, provisioning_services


def _row(
    id_: str,
    namespace_id: str,
    name: str,
    _name_key: str,
    id_scope: str,
    host_name: str,
    _created_at: datetime,
) -> Service:
    return Service(id_, namespace_id, name, id_scope, host_name)


_INSERT: Final = Command(insert_into(provisioning_services))
_LINK: Final = Command(insert_into(linked_hubs))
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
_LINKED: Final = Query(
    select(hubs.c.id, hubs.c.host_name)
    .join(linked_hubs, linked_hubs.c.hub_id == hubs.c.id)
    .where(linked_hubs.c.service_id == bindparam("service"))
    .order_by(hubs.c.id),
    LinkedHub,
)


# One query: every registration asks for both.
_WITH_HUBS: Final = Query(
    select(provisioning_services, hubs.c.id, hubs.c.host_name)
    .select_from(
        provisioning_services.outerjoin(
            linked_hubs, linked_hubs.c.service_id == provisioning_services.c.id
        ).outerjoin(hubs, hubs.c.id == linked_hubs.c.hub_id)
    )
    .where(provisioning_services.c.id_scope == bindparam("id_scope"))
    .order_by(hubs.c.id),
    lambda *columns: (_row(*columns[:-2]), LinkedHub(*columns[-2:]) if columns[-2] else None),
)


def occupy(tx: Transaction, namespace_id: str) -> bool:
    """Whether the namespace has a provisioning service."""
    return tx.first(_OF_NAMESPACE, namespace=namespace_id) is not None


def insert(tx: Transaction, service: Service, now: datetime) -> None:
    """Adds a new provisioning service."""
    tx.run(
        _INSERT,
        id=service.id,
        namespace_id=service.namespace_id,
        name=service.name,
        name_key=canonical(service.name),
        id_scope=service.id_scope,
        host_name=service.host_name,
        created_at=now,
    )


def link(tx: Transaction, service_id: str, hub_id: str) -> None:
    """Lets the service assign devices to the hub."""
    tx.run(_LINK, service_id=service_id, hub_id=hub_id)


def by_id_scope(tx: Transaction, id_scope: str) -> Service | None:
    """The service that devices name by `id_scope`."""
    return tx.first(_BY_SCOPE, id_scope=id_scope)


def with_hubs(tx: Transaction, id_scope: str) -> tuple[Service, tuple[LinkedHub, ...]] | None:
    """The service that devices name by `id_scope`, and the hubs that it may assign."""
    found = tx.all(_WITH_HUBS, id_scope=id_scope)
    if not found:
        return None
    return found[0][0], tuple(hub for _, hub in found if hub is not None)


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
