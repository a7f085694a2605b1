"""Sessions: the part of the identities' table that says who is connected.

A session epoch is a fencing token. Each session of an identity takes the next one, and whoever
holds a lower one has lost its place. A session by certificate begins with one statement that holds
the certificate against the same rules as `authentication`, and changes no row unless all of them
hold; why they did not is for `authentication` to say. A second one does so for identities that know
their certificates by thumbprints; devices of policies do not pay for it.

A durable commit costs more CPU than all that is written here for a device. So sessions begin many
in one unit of work where many devices connect, and departures are written a little later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Text, bindparam, exists, insert, literal, null, select, true, update

from fleetroot.errors import Unauthorized
from fleetroot.hub import announced, subscriptions, thumbprints
from fleetroot.hub.model import CertificateProof, Channel, Hub, Pin, Principal
from fleetroot.registry import announcements
from fleetroot.registry.announcements import EventKind
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.schema import announcements as announcements_table
from fleetroot.storage.schema import (
    authorities,
    certificates,
    devices,
    hub_authorities,
    hubs,
    identities,
)
from fleetroot.storage.schema import subscriptions as subscriptions_table
from fleetroot.storage.types import UtcTime

_BETWEEN_UNITS: Final = 0.02  # seconds, of which each begins sessions
_UNTIL_GONE: Final = 0.05  # seconds, until a departure is handed over
_MOST: Final = 512  # sessions in one unit


class Begun(NamedTuple):
    """A session that has begun: whose, its epoch, when, and what the device listens to."""

    principal: Principal
    epoch: int
    since: datetime
    subscriptions: dict[Channel, int]


_is_identity: Final = (identities.c.hub_id == bindparam("hub")) & (
    identities.c.device_key == bindparam("key")
)
_begun: Final = {
    "session_epoch": identities.c.session_epoch + 1,
    "connected": True,
    "connection_changed_at": bindparam("now"),
}
_listens: Final = exists().where(
    (subscriptions_table.c.hub_id == bindparam("hub"))
    & (subscriptions_table.c.device_key == bindparam("key"))
)
_is_certificate: Final = certificates.c.sha256 == bindparam("sha256")
_lets_in: Final = (
    exists()
    .select_from(certificates)
    .where(_is_certificate)
    .where(certificates.c.device_key == identities.c.device_key)
    .where(certificates.c.policy_id == identities.c.policy_id)
    .where(certificates.c.revoked_at.is_(None))
    .where(certificates.c.expired_at.is_(None))
    .where(certificates.c.not_before <= bindparam("now"))
    .where(certificates.c.not_after >= bindparam("now"))
    # The hub is the one of that name, of the certificate's namespace, and trusts who issued it.
    .where(hubs.c.id == identities.c.hub_id)
    .where(hubs.c.host_name == bindparam("host"))
    .where(hubs.c.namespace_id == bindparam("namespace"))
    .where(hubs.c.namespace_id == certificates.c.namespace_id)
    .where(hub_authorities.c.hub_id == identities.c.hub_id)
    .where(hub_authorities.c.authority_id == certificates.c.authority_id)
    .where(authorities.c.id == certificates.c.authority_id)
    .where(authorities.c.listed_at.is_(None))
    # The device is what it was when the certificate was issued.
    .where(devices.c.namespace_id == certificates.c.namespace_id)
    .where(devices.c.device_key == certificates.c.device_key)
    .where(devices.c.generation == certificates.c.generation)
    .where(devices.c.enabled == true())
    .correlate(identities)
)
_BEGIN_BY_CERTIFICATE: Final = Query(
    update(identities)
    .where(_is_identity)
    .where(identities.c.enabled == true())
    .where(identities.c.pin == Pin.POLICY.value)
    .where(_lets_in)
    .values(_begun)
    .returning(
        identities.c.session_epoch,
        identities.c.device_id,
        identities.c.pin_etag,
        select(certificates.c.generation).where(_is_certificate).scalar_subquery(),
        select(certificates.c.not_after).where(_is_certificate).scalar_subquery(),
        _listens,
    ),
    lambda *columns: columns,
)
_of_device: Final = (devices.c.namespace_id == bindparam("namespace")) & (
    devices.c.device_key == bindparam("key")
)
_BEGIN_BY_THUMBPRINT: Final = Query(
    update(identities)
    .where(_is_identity)
    .where(identities.c.enabled == true())
    .where(identities.c.pin == Pin.THUMBPRINTS.value)
    .where(identities.c.parent_key.is_(None))  # a module takes the long way
    .where(
        identities.c.primary_thumbprint.in_([bindparam("sha256"), bindparam("sha1")])
        | identities.c.secondary_thumbprint.in_([bindparam("sha256"), bindparam("sha1")])
    )
    .where(
        exists()
        .where(hubs.c.id == identities.c.hub_id)
        .where(hubs.c.host_name == bindparam("host"))
        .where(hubs.c.namespace_id == bindparam("namespace"))
    )
    .where(exists().where(_of_device & (devices.c.enabled == true())))
    .values(_begun)
    .returning(
        identities.c.session_epoch,
        identities.c.device_id,
        identities.c.pin_etag,
        select(devices.c.generation).where(_of_device).scalar_subquery(),
        _listens,
    ),
    lambda *columns: columns,
)
_BEGIN: Final = Query(
    update(identities)
    .where(_is_identity)
    .values(_begun)
    .returning(identities.c.session_epoch, _listens),
    lambda epoch, listens: (epoch, listens),
)
_END: Final = Command(
    update(identities)
    .where(_is_identity & (identities.c.session_epoch == bindparam("epoch")))
    .values(connected=False, connection_changed_at=bindparam("now"))
)
_disconnected: Final = select(
    bindparam("now", type_=UtcTime),
    literal(EventKind.DISCONNECTED.value),
    identities.c.hub_id,
    null(),
    identities.c.device_key,
    identities.c.device_id,
    bindparam("body", type_=Text),
).where(identities.c.connected)
_ANNOUNCE_END: Final = Command(
    insert(announcements_table).from_select(
        announcements.columns,
        _disconnected.where(_is_identity & (identities.c.session_epoch == bindparam("epoch"))),
    )
)
_ANNOUNCE_NONE: Final = Command(
    insert(announcements_table).from_select(announcements.columns, _disconnected)
)
_EPOCH: Final = Query(select(identities.c.session_epoch).where(_is_identity), int)
_NONE_CONNECTED: Final = Command(
    update(identities).where(identities.c.connected).values(connected=False)
)


def _begin_by_certificate(tx: Transaction, beginning: Beginning) -> Begun | None:
    hub, device_key, proof, now, persistent, _ = beginning
    certificate_sha256 = sha256(proof.chain[0]).digest()
    row = tx.first(
        _BEGIN_BY_CERTIFICATE,
        hub=hub.id,
        host=hub.host_name,
        namespace=hub.namespace_id,
        key=device_key,
        sha256=certificate_sha256,
        now=now,
    )
    if row is None:
        return None
    epoch, device_id, etag, generation, not_after, listens = row
    principal = Principal(
        hub,
        device_key,
        device_id,
        Pin.POLICY,
        UUID(generation),
        certificate_sha256,
        etag,
        not_after,
    )
    return Begun(principal, epoch, now, _listening(tx, principal, listens, persistent))


def _begin_by_thumbprint(tx: Transaction, beginning: Beginning) -> Begun | None:
    hub, device_key, proof, now, persistent, _ = beginning
    of_sha256, of_sha1 = thumbprints.of(proof)
    try:
        expires_at = thumbprints.check(proof, now)
    except Unauthorized:
        return None
    row = tx.first(
        _BEGIN_BY_THUMBPRINT,
        hub=hub.id,
        host=hub.host_name,
        namespace=hub.namespace_id,
        key=device_key,
        sha256=of_sha256,
        sha1=of_sha1,
        now=now,
    )
    if row is None:
        return None
    epoch, device_id, etag, generation, listens = row
    principal = Principal(
        hub,
        device_key,
        device_id,
        Pin.THUMBPRINTS,
        None if generation is None else UUID(generation),
        None,
        etag,
        expires_at,
    )
    return Begun(principal, epoch, now, _listening(tx, principal, listens, persistent))


def begin(tx: Transaction, principal: Principal, now: datetime, *, persistent: bool) -> Begun:
    """Begins a session of a device that this unit of work found to be let in."""
    row = tx.first(_BEGIN, hub=principal.hub.id, key=principal.device_key, now=now)
    assert row is not None  # noqa: S101
    epoch, listens = row
    announcements.append(tx, announced.connected(principal, epoch, now))
    return Begun(principal, epoch, now, _listening(tx, principal, listens, persistent))


def _listening(
    tx: Transaction, principal: Principal, listens: bool, persistent: bool
) -> dict[Channel, int]:
    of = (principal.hub.id, principal.device_key)
    if not listens:
        return {}
    if persistent:
        return subscriptions.load(tx, *of)
    subscriptions.clear(tx, *of)
    return {}


def is_held(tx: Transaction, principal: Principal, epoch: int) -> bool:
    """Whether no newer session has begun since the one of `epoch`."""
    return tx.first(_EPOCH, hub=principal.hub.id, key=principal.device_key) == epoch


def none_connected(tx: Transaction, now: datetime) -> None:
    """Marks every identity disconnected, as it is when the only node starts."""
    tx.run(_ANNOUNCE_NONE, now=now, body=announcements.body_of(reason="the server stopped"))
    tx.run(_NONE_CONNECTED)


class Beginning(NamedTuple):
    """A device that wants to begin a session by its certificate; `unless` says if it does not any
    more.
    """

    hub: Hub
    device_key: str
    proof: CertificateProof
    now: datetime
    persistent: bool
    unless: Callable[[], bool]


class Beginnings:
    """Begins sessions by certificate: one that comes alone at once, many together."""

    def __init__(self, store: Store, departures: Departures) -> None:
        self._store = store
        self._departures = departures
        self._waiting: list[tuple[Beginning, asyncio.Future[Begun | None]]] = []
        self._is_due = False  # whether what waits will be handed over
        self._last = -_BETWEEN_UNITS
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, beginning: Beginning) -> asyncio.Future[Begun | None]:
        """The session, once it is durable; None if the certificate does not let the device in."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[Begun | None] = loop.create_future()
        self._waiting.append((beginning, begun))
        if not self._is_due:
            self._is_due = True
            loop.call_at(self._last + _BETWEEN_UNITS, self._hand_over)
        return begun

    def _hand_over(self) -> None:
        loop = asyncio.get_running_loop()
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._last, self._is_due = loop.time(), bool(self._waiting)
        if self._waiting:
            loop.call_soon(self._hand_over)
        self._departures.flush()  # to share the commit
        writing = loop.create_task(self._write(batch))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write(self, batch: list[tuple[Beginning, asyncio.Future[Begun | None]]]) -> None:
        wanted = [beginning for beginning, _ in batch]
        try:
            found = await self._store.write(lambda tx: _begin_all(tx, wanted))
        except Exception as error:  # noqa: BLE001 - each device is told
            for _, begun in batch:
                begun.set_exception(error)
            return
        for (_, begun), result in zip(batch, found, strict=True):
            begun.set_result(result)


def _begin_all(tx: Transaction, wanted: list[Beginning]) -> list[Begun | None]:
    found = [
        None if each.unless() else _begin_by_certificate(tx, each) or _begin_by_thumbprint(tx, each)
        for each in wanted
    ]
    begun = [announced.connected(each.principal, each.epoch, each.since) for each in found if each]
    if begun:
        announcements.append_many(tx, begun)
    return found


class Departures:
    """Marks identities disconnected whose session is over, unless a newer one has begun."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[dict[str, object]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, principal: Principal, epoch: int, now: datetime) -> None:
        """Will hand it over within `_UNTIL_GONE`, with what else comes until then."""
        self._waiting.append(
            {
                "hub": principal.hub.id,
                "key": principal.device_key,
                "epoch": epoch,
                "now": now,
                "body": announced.disconnected(principal, epoch),
            }
        )
        if len(self._waiting) >= _MOST:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_UNTIL_GONE, self.flush)

    def flush(self) -> None:
        """Hands over what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._store.submit(partial(_end, self._waiting))
            self._waiting = []


def _end(sessions: list[dict[str, object]], tx: Transaction) -> None:
    tx.run_many(_ANNOUNCE_END, sessions)
    tx.run_many(_END, sessions)
