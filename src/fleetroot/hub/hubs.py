"""Hubs and the issuing CAs that were synchronized to them: their tables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from fleetroot.hub.model import Hub
from fleetroot.ids import canonical
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_if_absent, insert_into
from fleetroot.storage.schema import authorities, hub_authorities, hubs, identities, policies


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
_KNOWING: Final = Query(
    select(hubs.c.id)
    .join(identities, identities.c.hub_id == hubs.c.id)
    .where(hubs.c.namespace_id == bindparam("namespace"))
    .where(identities.c.device_key == bindparam("key")),
    str,
)
_OLDEST: Final = Query(select(hubs).order_by(hubs.c.created_at, hubs.c.name_key).limit(1), _row)
_ALL: Final = Query(select(hubs).order_by(hubs.c.name_key), _row)
_SET_NAMESPACE: Final = Command(
    update(hubs)
    .where(hubs.c.id == bindparam("hub"))
    .values(namespace_id=bindparam("new_namespace"))
)
_REMOVE: Final = Command(delete(hubs).where(hubs.c.id == bindparam("hub")))
_TRUST: Final = Command(insert_if_absent(hub_authorities))
_HOST_NAMES: Final = Query(select(hubs.c.host_name).order_by(hubs.c.host_name), str)
# Those that signed before, too: what they signed is good to its end.
_POLICY_AUTHORITIES: Final = Query(
    select(authorities.c.id)
    .join(policies, policies.c.id == authorities.c.policy_id)
    .where(policies.c.namespace_id == bindparam("namespace"))
    .where(policies.c.deleted_at.is_(None))
    .where(authorities.c.revoked_at.is_(None))
    .where(authorities.c.not_after >= bindparam("now")),
    str,
)
_TRUSTING: Final = Query(
    select(hub_authorities.c.hub_id).where(
        hub_authorities.c.authority_id == bindparam("authority")
    ),
    str,
)
_TRUSTED: Final = Query(
    select(hub_authorities.c.authority_id).where(hub_authorities.c.hub_id == bindparam("hub")), str
)
_DISTRUST: Final = Command(
    delete(hub_authorities).where(hub_authorities.c.authority_id == bindparam("authority"))
)
_DISTRUST_ALL: Final = Command(
    delete(hub_authorities).where(hub_authorities.c.hub_id == bindparam("hub"))
)
_DISTRUST_ON: Final = Command(
    delete(hub_authorities)
    .where(hub_authorities.c.authority_id == bindparam("authority"))
    .where(hub_authorities.c.hub_id == bindparam("hub"))
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


def concerned(tx: Transaction, namespace_id: str, device_key: str) -> list[str]:
    """The ids of the namespace's hubs that know a device; of all of them, if none does any more."""
    knowing = tx.all(_KNOWING, namespace=namespace_id, key=device_key)
    return knowing or [hub.id for hub in of_namespace(tx, namespace_id)]


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


def oldest(tx: Transaction) -> Hub | None:
    """The hub that was made first."""
    return tx.first(_OLDEST)


def host_names(tx: Transaction) -> list[str]:
    """The host names of all hubs."""
    return tx.all(_HOST_NAMES)


def of_namespace(tx: Transaction, namespace_id: str) -> list[Hub]:
    """Every hub of the namespace, by name."""
    return tx.all(_OF_NAMESPACE, namespace=namespace_id)


def all_(tx: Transaction) -> list[Hub]:
    """Every hub, by name."""
    return tx.all(_ALL)


def set_namespace(tx: Transaction, hub: Hub, namespace_id: str) -> None:
    """Lets the hub belong to another namespace."""
    tx.run(_SET_NAMESPACE, hub=hub.id, new_namespace=namespace_id)


def remove(tx: Transaction, hub: Hub) -> None:
    """Removes a hub that nothing refers to any more."""
    tx.run(_REMOVE, hub=hub.id)


def occupy(tx: Transaction, namespace_id: str) -> bool:
    """Whether the namespace has a hub."""
    return bool(of_namespace(tx, namespace_id))


def synchronize(tx: Transaction, hub: Hub, now: datetime) -> int:
    """Lets the hub trust the issuing CAs of its namespace's policies; how many are new to it."""
    return sum(
        tx.run(_TRUST, hub_id=hub.id, authority_id=authority_id, synchronized_at=now)
        for authority_id in tx.all(_POLICY_AUTHORITIES, namespace=hub.namespace_id, now=now)
    )


def trusted(tx: Transaction, hub_id: str) -> frozenset[str]:
    """The issuing CAs that the hub trusts."""
    return frozenset(tx.all(_TRUSTED, hub=hub_id))


def distrust(tx: Transaction, hub: Hub, authority_id: str) -> bool:
    """Lets the hub trust the CA no more; False if it did not."""
    return tx.run(_DISTRUST_ON, hub=hub.id, authority=authority_id) == 1


def distrust_all(tx: Transaction, hub: Hub) -> None:
    """Lets the hub trust nobody."""
    tx.run(_DISTRUST_ALL, hub=hub.id)


class Trust:
    """Which issuing CAs hubs trust, for the registry; implements its `HubTrust`."""

    def succeed(self, tx: Transaction, before: str, after: str, now: datetime) -> None:
        """See `fleetroot.registry.hub_trust.HubTrust.succeed`."""
        for hub_id in tx.all(_TRUSTING, authority=before):
            tx.run(_TRUST, hub_id=hub_id, authority_id=after, synchronized_at=now)

    def trust(self, tx: Transaction, namespace_id: str, authority_id: str, now: datetime) -> None:
        """See `fleetroot.registry.hub_trust.HubTrust.trust`."""
        for hub in of_namespace(tx, namespace_id):
            tx.run(_TRUST, hub_id=hub.id, authority_id=authority_id, synchronized_at=now)

    def distrust(self, tx: Transaction, authority_id: str) -> None:
        """See `fleetroot.registry.hub_trust.HubTrust.distrust`."""
        tx.run(_DISTRUST, authority=authority_id)
