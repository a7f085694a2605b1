"""The live table: which connections this node holds, and who is to lose theirs.

A notice of the outbox never carries the decision. It says whose connections to look at; each is
then held against what the database says now, and ended unless it would be let in again. A notice
that comes late cannot end a session that began after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy import and_, bindparam, exists, select

from fleetroot.errors import Unavailable
from fleetroot.hub import uploaded_authorities
from fleetroot.hub.model import Connection, Ending, Hub, Pin
from fleetroot.hub.sessions import Begun
from fleetroot.ids import device_of
from fleetroot.registry.outbox import Kind, Notice
from fleetroot.storage import Query, Store, Transaction
from fleetroot.storage.schema import (
    authorities,
    certificates,
    devices,
    hub_authorities,
    identities,
)

_AT_ONCE: Final = 250  # sessions that are looked at in one reading, some 10 ms
# Where a CA does not count any more: what sessions are pinned to that may stand on it.
_OF_PIN: Final[dict[str, Pin]] = {
    Kind.ISSUER_DISTRUSTED: Pin.POLICY,
    Kind.UPLOADED_DISTRUSTED: Pin.UPLOADED,
}
_log = structlog.get_logger("fleetroot.hub.live")

_parents: Final = identities.alias("parents")  # of modules; of a device, its own identity
_STANDING: Final = Query(
    select(
        identities.c.enabled & _parents.c.enabled,
        identities.c.pin_etag,
        identities.c.session_epoch,
        devices.c.enabled.label("device_enabled"),
        devices.c.generation,
        exists()
        .where(certificates.c.sha256 == bindparam("sha256"))
        .where(certificates.c.revoked_at.is_(None))
        .where(hub_authorities.c.authority_id == certificates.c.authority_id)
        .where(hub_authorities.c.hub_id == bindparam("hub"))
        .where(authorities.c.id == certificates.c.authority_id)
        .where(authorities.c.listed_at.is_(None))
        .label("certificate_counts"),
    )
    .select_from(
        identities.join(
            _parents,
            and_(
                _parents.c.hub_id == identities.c.hub_id,
                _parents.c.device_key == bindparam("device"),
            ),
        ).outerjoin(
            devices,
            and_(
                devices.c.namespace_id == bindparam("namespace"),
                devices.c.device_key == bindparam("device"),
            ),
        )
    )
    .where(
        and_(
            identities.c.hub_id == bindparam("hub"),
            identities.c.device_key == bindparam("key"),
        )
    ),
    lambda *columns: columns,
)


class Arrival:
    """A device that is being let in.

    Attributes:
        noticed: there was a notice about the device since, which its session is to be held against.
        ended: why the hub does not let it in any more, if so.
    """

    __slots__ = ("device_key", "ended", "noticed")

    def __init__(self, device_key: str) -> None:
        self.device_key = device_key
        self.noticed = False
        self.ended: Ending | None = None


class LiveSession:
    """A device's live connection to a hub.

    Attributes:
        epoch: its fencing token.
        subscriptions: the QoS that was granted, by channel.
        persistent: whether subscriptions are kept for the next connection.
    """

    __slots__ = (
        "_ended",
        "accepted_request",
        "connection",
        "epoch",
        "persistent",
        "principal",
        "sent_request",
        "since",
        "subscriptions",
    )

    def __init__(self, begun: Begun, connection: Connection, *, persistent: bool) -> None:
        self.principal, self.epoch, self.since, self.subscriptions = begun
        self.connection = connection
        self.persistent = persistent
        self.accepted_request: str | None = None  # whose first answer was sent
        self.sent_request: str | None = None  # whose final answer was sent and not acknowledged
        self._ended: Ending | None = None

    @property
    def ended(self) -> Ending | None:
        """Why the hub ended it, if it did."""
        return self._ended

    def end(self, why: Ending) -> None:
        """Ends the connection; the first reason stands."""
        if self._ended is None:
            self._ended = why
            self.connection.end(why)


class LiveTable:
    """The sessions of this node, one for each device, and each module, of each hub."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # By namespace and device; then by hub and identity, so that a device's modules are with it.
        self._sessions: dict[tuple[str, str], dict[tuple[str, str], LiveSession]] = {}
        self._arrivals: set[Arrival] = set()

    def __len__(self) -> int:
        return sum(len(of_device) for of_device in self._sessions.values())

    def __iter__(self) -> Iterator[LiveSession]:
        for of_device in tuple(self._sessions.values()):
            yield from tuple(of_device.values())

    def of(self, namespace_id: str, device_key: str) -> list[LiveSession]:
        """The sessions of the device and its modules, on whatever hubs they are connected to."""
        return list(self._sessions.get((namespace_id, device_of(device_key)), {}).values())

    def on(self, hub: Hub, device_key: str) -> LiveSession | None:
        """The session of the device or module on the hub, if this node holds one."""
        of_device = self._sessions.get((hub.namespace_id, device_of(device_key)), {})
        return of_device.get((hub.id, device_key))

    def current(self, session: LiveSession) -> LiveSession:
        """The session that has the place of `session` now; itself, if none has."""
        principal = session.principal
        return self.on(principal.hub, principal.device_key) or session

    @contextmanager
    def arriving(self, device_key: str) -> Iterator[Arrival]:
        """Listens to what is told about a device from before its session begins until it is here,
        so that nothing falls in between.
        """
        arrival = Arrival(device_key)
        self._arrivals.add(arrival)
        try:
            yield arrival
        finally:
            self._arrivals.discard(arrival)

    def enter(self, session: LiveSession) -> None:
        """Adds a session. Of two that the device has on the hub, the one that began earlier is
        replaced and ended, whichever is entered first.
        """
        principal = session.principal
        of_device = self._sessions.setdefault(_device_of(session), {})
        place = (principal.hub.id, principal.device_key)
        before = of_device.get(place)
        if before is not None and before.epoch > session.epoch:
            session.end(Ending.REPLACED)
            return
        of_device[place] = session
        if before is not None:
            before.end(Ending.REPLACED)

    def leave(self, session: LiveSession) -> None:
        """Removes a session, unless a newer one has its place."""
        principal = session.principal
        key, place = _device_of(session), (principal.hub.id, principal.device_key)
        of_device = self._sessions.get(key)
        if of_device is not None and of_device.get(place) is session:
            del of_device[place]
            if not of_device:
                del self._sessions[key]

    async def heard(self, notice: Notice) -> None:
        """Holds the sessions that a notice is about against the database: those of a device and its
        modules, or, where a CA does not count any more, all of the namespace. Ends those that lost
        their ground.
        """
        if notice.kind == Kind.CERTIFICATE_UNKNOWN:
            return  # of a stranger
        of_all = notice.kind in _OF_PIN
        for arrival in self._arrivals:
            if of_all or device_of(arrival.device_key) == device_of(notice.subject):
                arrival.noticed = True
        if not of_all:
            await self.hold_against_database(self.of(notice.namespace_id, notice.subject))
            return
        pin = _OF_PIN[notice.kind]
        of_namespace = [
            session
            for session in self
            if session.principal.pin is pin
            and session.principal.hub.namespace_id == notice.namespace_id
        ]
        for start in range(0, len(of_namespace), _AT_ONCE):
            await self.hold_against_database(of_namespace[start : start + _AT_ONCE])
            await asyncio.sleep(0)

    async def hold_against_database(self, sessions: Sequence[LiveSession]) -> None:
        """Ends sessions that lost their ground, or whose standing cannot be read."""
        try:
            found = await self._store.read(lambda tx: [_lost_ground(s, tx) for s in sessions])
        except Unavailable:
            found = [Ending.LEASE_LOST for _ in sessions]  # cannot tell, so no
        for session, why in zip(sessions, found, strict=True):
            if why is not None:
                _log.info(
                    "connection ended",
                    hub=session.principal.hub.name,
                    device_id=session.principal.device_id,
                    reason=why.value,
                )
                session.end(why)

    def lease_lost(self) -> None:
        """Ends every session: this node cannot know any more who was revoked."""
        self.end_all(Ending.LEASE_LOST)

    def end_all(self, why: Ending) -> None:
        """Ends every session, and lets nobody in who is about to be."""
        for arrival in self._arrivals:
            arrival.ended = why
        for session in self:
            session.end(why)


def _device_of(session: LiveSession) -> tuple[str, str]:
    return session.principal.hub.namespace_id, device_of(session.principal.device_key)


def _lost_ground(session: LiveSession, tx: Transaction) -> Ending | None:
    principal = session.principal
    standing = tx.first(
        _STANDING,
        namespace=principal.hub.namespace_id,
        hub=principal.hub.id,
        key=principal.device_key,
        device=device_of(principal.device_key),
        sha256=principal.certificate_sha256 or b"",
    )
    if standing is None:
        return Ending.IDENTITY_CHANGED
    enabled, pin_etag, epoch, device_enabled, generation, certificate_counts = standing
    if epoch > session.epoch:
        return Ending.REPLACED
    if device_enabled is None:
        return Ending.REVOKED  # deleted, and its certificates revoked with it
    if not enabled or not device_enabled:
        return Ending.DISABLED
    if generation != (None if principal.generation is None else str(principal.generation)):
        return Ending.REVOKED
    if principal.certificate_sha256 is not None and not certificate_counts:
        return Ending.REVOKED
    if pin_etag != principal.pin_etag:
        return Ending.IDENTITY_CHANGED
    if principal.path is not None:
        return uploaded_authorities.lost_ground(tx, principal.hub, principal.path)
    return None
