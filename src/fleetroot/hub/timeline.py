"""What became of a device, newest first: registered, issued, connected, refused, renewed, revoked,
and changed by somebody.

It is put together from what is kept anyway: the device, its certificates, its last connections, and
the audit log. Each is asked for what is before a place in the order of all, and they are merged, so
a page costs the same wherever it is.

Of refusals, the audit log has what its pace let through; who was refused only said that he is this
device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import BigInteger, bindparam, func, select, tuple_

from fleetroot.audit import Action, Outcome, log
from fleetroot.audit.model import LoggedEntry
from fleetroot.errors import NotFound
from fleetroot.ids import canonical
from fleetroot.registry import devices
from fleetroot.registry.model import Origin
from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import authorities, certificates, connections, hubs
from fleetroot.storage.types import UtcTime

_AFTER_ALL: Final = 2**62


class Kind(StrEnum):
    """What happened."""

    REGISTERED = "registered"
    ISSUED = "issued"
    RENEWED = "renewed"
    CONNECTED = "connected"
    REVOKED = "revoked"
    PROVISIONED = "provisioned"  # again, or without a certificate
    CHANGED = "changed"
    REFUSED = "refused"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a device.

    Attributes:
        action: the audit log's word, of what is from there.
        reason: why it was refused, or revoked.
        actor: who did it, or empty for who did not prove it.
        hub: the name of the hub it connected to.
        serial, sha256: of the certificate that it is about, hexadecimal.
    """

    at: datetime
    kind: Kind
    action: str | None = None
    reason: str | None = None
    actor: str | None = None
    peer: str | None = None
    trace_id: str | None = None
    hub: str | None = None
    serial: str | None = None
    sha256: str | None = None
    authority_id: str | None = None


class Place(NamedTuple):
    """A place in the order of all that happened: a time, which source, and its number there."""

    at: datetime
    source: int
    number: int


class _Found(NamedTuple):
    place: Place
    moment: Moment


_REGISTRATION, _ISSUE, _CONNECTION, _REVOCATION, _AUDIT = range(5)
NEWEST: Final = Place(datetime(9999, 1, 1, tzinfo=UTC), _AFTER_ALL, 0)

_before: Final = tuple_(bindparam("at", type_=UtcTime), bindparam("number", type_=BigInteger))
_of_device: Final = (certificates.c.namespace_id == bindparam("namespace")) & (
    certificates.c.device_key == bindparam("key")
)
_what: Final = (
    certificates.c.serial,
    certificates.c.sha256,
    certificates.c.authority_id,
)


def _issued(
    at: datetime, number: int, origin: str, serial: str, sha256: bytes, authority_id: str
) -> _Found:
    kind = Kind.RENEWED if origin == Origin.RENEWAL else Kind.ISSUED
    moment = Moment(at, kind, serial=serial, sha256=sha256.hex(), authority_id=authority_id)
    return _Found(Place(at, _ISSUE, number), moment)


_ISSUED: Final = Query(
    select(certificates.c.issued_at, certificates.c.id, certificates.c.origin, *_what)
    .where(_of_device)
    .where(tuple_(certificates.c.issued_at, certificates.c.id) < _before)
    .order_by(certificates.c.issued_at.desc(), certificates.c.id.desc())
    .limit(bindparam("limit")),
    _issued,
)


def _revoked(
    at: datetime,
    number: int,
    reason: str | None,
    serial: str,
    sha256: bytes,
    authority_id: str,
) -> _Found:
    moment = Moment(
        at,
        Kind.REVOKED,
        reason=reason or "issuing CA revoked",
        serial=serial,
        sha256=sha256.hex(),
        authority_id=authority_id,
    )
    return _Found(Place(at, _REVOCATION, number), moment)


_revoked_at: Final = func.coalesce(
    certificates.c.revoked_at, authorities.c.revoked_at, type_=UtcTime()
)
_REVOKED: Final = Query(
    select(_revoked_at.label("at"), certificates.c.id, certificates.c.revocation_reason, *_what)
    .select_from(certificates.join(authorities, authorities.c.id == certificates.c.authority_id))
    .where(_of_device)
    .where(tuple_(_revoked_at, certificates.c.id) < _before)
    .order_by(_revoked_at.desc(), certificates.c.id.desc())
    .limit(bindparam("limit")),
    _revoked,
)


def _connected(
    at: datetime, epoch: int, peer: str, trace_id: str, sha256: bytes | None, hub: str
) -> _Found:
    shown = sha256.hex() if sha256 is not None else None
    moment = Moment(at, Kind.CONNECTED, peer=peer, trace_id=trace_id, hub=hub, sha256=shown)
    return _Found(Place(at, _CONNECTION, epoch), moment)


_CONNECTED: Final = Query(
    select(
        connections.c.connected_at,
        connections.c.epoch,
        connections.c.peer,
        connections.c.trace_id,
        connections.c.certificate_sha256,
        hubs.c.name,
    )
    .select_from(hubs.join(connections, connections.c.hub_id == hubs.c.id))
    .where(hubs.c.namespace_id == bindparam("namespace"))
    .where(connections.c.device_key == bindparam("key"))
    .where(tuple_(connections.c.connected_at, connections.c.epoch) < _before)
    .order_by(connections.c.connected_at.desc(), connections.c.epoch.desc())
    .limit(bindparam("limit")),
    _connected,
)


def page(
    tx: Transaction, namespace_id: str, device_id: str, before: Place, limit: int
) -> tuple[list[Moment], Place | None]:
    """Up to `limit` of what happened to a device before a place, newest first, and the place to go
    on from; None: nothing was before.

    Raises:
        NotFound: nothing was ever heard of a device of that id.
    """
    found = list(_all(tx, namespace_id, device_id, before, limit))
    if not found and before == NEWEST:
        raise NotFound(f"Device {device_id} is not registered")
    found.sort(key=lambda each: each.place, reverse=True)
    last = found[limit - 1].place if len(found) > limit else None
    return [each.moment for each in found[:limit]], last


def _all(
    tx: Transaction, namespace_id: str, device_id: str, before: Place, limit: int
) -> Iterator[_Found]:
    """One more than the limit from each source, so that what is left is seen."""
    device = devices.find(tx, namespace_id, device_id)
    if device is not None:
        place = Place(device.created_at, _REGISTRATION, 0)
        if place < before:
            yield _Found(place, Moment(device.created_at, Kind.REGISTERED))
    of = {"namespace": namespace_id, "key": canonical(device_id), "limit": limit + 1}
    yield from tx.all(_ISSUED, **of, at=before.at, number=_number(_ISSUE, before))
    yield from tx.all(_REVOKED, **of, at=before.at, number=_number(_REVOCATION, before))
    yield from tx.all(_CONNECTED, **of, at=before.at, number=_number(_CONNECTION, before))
    for kind in ("device", "registration"):
        for entry in log.of_device(
            tx, f"{kind}/{device_id}", before.at, _number(_AUDIT, before), limit + 1
        ):
            fields: dict[str, Any] = orjson.loads(entry.line)
            if fields["namespace"] in (None, namespace_id):  # a refusal is of none
                yield _logged(entry, fields)


def _number(source: int, before: Place) -> int:
    """What the numbers of a source at the time of a place must be below."""
    if source == before.source:
        return before.number
    return _AFTER_ALL if source < before.source else -1


def _logged(entry: LoggedEntry, fields: dict[str, Any]) -> _Found:
    action = fields["action"]
    if action == Action.ALERT_CERTIFICATE:
        kind = Kind.ALERT
    elif fields["outcome"] == Outcome.REFUSED:
        kind = Kind.REFUSED
    elif action == Action.REGISTER_DEVICE:
        kind = Kind.PROVISIONED
    else:
        kind = Kind.CHANGED
    details = fields["details"] or {}
    moment = Moment(
        entry.at,
        kind,
        action=action,
        reason=fields["reason"],
        actor=fields["actor"],
        peer=fields["peer"],
        trace_id=fields["traceId"],
        serial=details.get("serialNumber"),
        sha256=details.get("sha256"),
        authority_id=details.get("issuingAuthority"),
    )
    return _Found(Place(entry.at, _AUDIT, entry.seq), moment)
