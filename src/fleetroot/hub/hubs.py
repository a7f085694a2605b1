"""Hubs and the issuing CAs that were synchronized to them: their tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select

from fleetroot.hub.model import Hub
from fleetroot.ids import canonical
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_if_absent, insert_into
from fleetroot.storage.schema import hub_authorities, hubs, policies


def _row(
    id_: str, namespace_id: str, name: str, _name_key: str, host_name: str, created_at: datetime
) -> Hub:
    return Hub(id_, namespace_id, name, host_name, created_at)


_INSERT: Final = Command(insert_into(hubs))
_GET: Final = Query(select(hubs).where(hubs.c.id == bindparam("id")), _row)
_BY_HOST: Final = Query(select(hubs).where(hubs.c.host_name == bindparam("host")), _row)
_BY_NAME: Final = Query(select(hubs).where(hubs.c.name_key == bindparam("key")), _row)
_OF_NAMESPACE: Final = Query(
    select(hubs).where(hubs.c.namespace_id == bindparam("namespace")).order_by(hubs.c.name_key),
    _row,
)
_TRUST: Final = Command(insert_if_absent(hub_authorities))
_HOST_NAMES: Final = Query(select(hubs.c.host_name).order_by(hubs.c.host_name), str)
_POLICY_AUTHORITIES: Final = Query(
    select(policies.c.authority_id).where(policies.c.namespace_id == bindparam("namespace")), str
)


def insert(tx: Transaction, hub: Hub) -> None:
    """Adds a new hub."""
    tx.run(
        _INSERT,
        id=hub.id,
        namespace_id=hub.namespace_id,
        name=hub.name,
        name_key=canonical(hub.name),
        host_name=hub.host_name,
        created_at=hub.created_at,
    )


def get(tx: Transaction, hub_id: str) -> Hub:
    """The hub of that id, which a foreign key says is there."""
    hub = tx.first(_GET, id=hub_id)
    assert hub is not None  # noqa: S101
    return hub


def by_host_name(tx: Transaction, host_name: str) -> Hub | None:
    """The hub that devices name by `host_name`, in any spelling."""
    return tx.first(_BY_HOST, host=canonical(host_name))


def by_name(tx: Transaction, name: str) -> Hub | None:
    """The hub of that name."""
    return tx.first(_BY_NAME, key=canonical(name))


def host_names(tx: Transaction) -> list[str]:
    """The host names of all hubs."""
    return tx.all(_HOST_NAMES)


def of_namespace(tx: Transaction, namespace_id: str) -> list[Hub]:
    """Every hub of the namespace, by name."""
    return tx.all(_OF_NAMESPACE, namespace=namespace_id)


def synchronize(tx: Transaction, hub: Hub, now: datetime) -> int:
    """Lets the hub trust the issuing CAs of its namespace's policies; how many are new to it."""
    return sum(
        tx.run(_TRUST, hub_id=hub.id, authority_id=authority_id, synchronized_at=now)
        for authority_id in tx.all(_POLICY_AUTHORITIES, namespace=hub.namespace_id)
    )
