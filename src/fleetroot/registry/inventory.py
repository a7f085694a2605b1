"""The inventory: every operational certificate ever issued, found by its SHA-256.

A certificate that is not in here was not issued by us, whoever signed it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Select,
    Text,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    true,
    update,
)

from fleetroot.pki import IssuedCertificate
from fleetroot.registry import announcements
from fleetroot.registry.announcements import Announcement, EventKind
from fleetroot.registry.model import Certificate, Device, Origin
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.schema import announcements as announcements_table
from fleetroot.storage.schema import authorities, certificates, devices
from fleetroot.storage.types import UtcTime


class RevocationReason(StrEnum):
    """RFC 5280 §5.3.1 reasons that are used here, by their names there."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CA_COMPROMISE = "cACompromise"  # of a certificate whose CA was revoked


def row(
    id_: int,
    sha256: bytes,
    namespace_id: str,
    authority_id: str,
    policy_id: str,
    device_key: str,
    device_id: str,
    generation: str,
    serial: str,
    certificate: bytes,
    origin: str,
    not_before: datetime,
    not_after: datetime,
    issued_at: datetime,
    expired_at: datetime | None,
    revoked_at: datetime | None,
    revocation_reason: str | None,
    enrollment: str | None,
) -> Certificate:
    """A certificate from the columns of `found`, in their order."""
    return Certificate(
        id_,
        sha256,
        namespace_id,
        authority_id,
        policy_id,
        device_key,
        device_id,
        UUID(generation),
        serial,
        certificate,
        Origin(origin),
        not_before,
        not_after,
        issued_at,
        expired_at,
        revoked_at,
        revocation_reason,
        enrollment,
    )


_MARK_AT_ONCE: Final = 5000  # rows, so that no unit of work holds up the others for long

_inserted: Final = [
    c
    for c in certificates.columns
    if c.name not in ("id", "expired_at", "revoked_at", "revocation_reason")
]
# One statement decides and inserts: nothing can come between the check and the row.
_RECORD: Final = Command(
    insert(certificates).from_select(
        [c.name for c in _inserted],
        select(*(bindparam(c.name, type_=c.type).label(c.name) for c in _inserted))
        .select_from(devices)
        .where(
            (devices.c.namespace_id == bindparam("namespace_id"))
            & (devices.c.device_key == bindparam("device_key"))
            & (devices.c.generation == bindparam("generation"))
            & (devices.c.enabled == true())
        ),
    )
)
# A certificate is revoked as soon as its CA is: nobody writes that to each of a million rows.
_revocation: Final = {
    "revoked_at": func.coalesce(
        certificates.c.revoked_at, authorities.c.revoked_at, type_=certificates.c.revoked_at.type
    ).label("revoked_at"),
    "revocation_reason": case(
        (certificates.c.revoked_at.is_not(None), certificates.c.revocation_reason),
        (authorities.c.revoked_at.is_not(None), RevocationReason.CA_COMPROMISE.value),
        else_=None,
    ).label("revocation_reason"),
}
# What a `row` is made of; for the statements of `incidents`, too.
found: Final = select(*(_revocation.get(c.name, c) for c in certificates.columns)).select_from(
    certificates.join(authorities, authorities.c.id == certificates.c.authority_id)
)
_BY_SHA256: Final = Query(found.where(certificates.c.sha256 == bindparam("sha256")), row)
# Not by the index that begins with the namespace, which would give nearly all to be sorted.
_is_of_namespace: Final = certificates.c.namespace_id.concat("") == bindparam("namespace")
_BY_PREFIX: Final = Query(
    found.where(
        _is_of_namespace
        & (certificates.c.sha256 >= bindparam("low"))
        & (certificates.c.sha256 <= bindparam("high"))
    )
    .order_by(certificates.c.sha256)
    .limit(2),
    row,
)
_BY_SERIAL: Final = Query(
    found.where(
        (certificates.c.namespace_id == bindparam("namespace"))
        & (certificates.c.serial == bindparam("serial"))
    ).limit(2),
    row,
)
_OF_DEVICE: Final = Query(
    found.where(
        (certificates.c.namespace_id == bindparam("namespace"))
        & (certificates.c.device_key == bindparam("key"))
        & (certificates.c.id < bindparam("before"))
    )
    .order_by(certificates.c.id.desc())
    .limit(bindparam("limit")),
    row,
)
_LATEST: Final = Query(
    found.where(_is_of_namespace & (certificates.c.id < bindparam("before")))
    .order_by(certificates.c.id.desc())
    .limit(bindparam("limit")),
    row,
)
_COUNTS: Final = Query(
    select(certificates.c.id)
    .where(certificates.c.policy_id == bindparam("policy"))
    .where(certificates.c.revoked_at.is_(None))
    .where(certificates.c.expired_at.is_(None))
    .where(certificates.c.not_after >= bindparam("now"))
    .limit(1),
    int,
)
_COUNT: Final = Query(select(func.count()).select_from(certificates), int)
_REVOKE_OF_DEVICE: Final = Command(
    update(certificates)
    .where(
        (certificates.c.namespace_id == bindparam("namespace"))
        & (certificates.c.device_key == bindparam("key"))
        & (certificates.c.revoked_at.is_(None))
    )
    .values(revoked_at=bindparam("now"), revocation_reason=bindparam("reason"))
)
_REVOKE: Final = Command(
    update(certificates)
    .where((certificates.c.id == bindparam("of_id")) & (certificates.c.revoked_at.is_(None)))
    .values(revoked_at=bindparam("now"), revocation_reason=bindparam("reason"))
)
_REVOKED_AT: Final = Query(
    select(certificates.c.id)
    .where(certificates.c.sha256 == bindparam("sha256"))
    .where(certificates.c.revoked_at.is_not(None)),
    int,
)
_LAST_ID: Final = Query(select(certificates.c.id).order_by(certificates.c.id.desc()).limit(1), int)
_MARK_EXPIRED: Final = Command(
    update(certificates)
    .where(
        certificates.c.id.in_(
            select(certificates.c.id)
            .where(certificates.c.expired_at.is_(None))
            .where(certificates.c.not_after < bindparam("now"))
            .order_by(certificates.c.not_after)
            .limit(_MARK_AT_ONCE)
        )
    )
    .values(expired_at=bindparam("now"))
)
_MARK_ONE: Final = Command(
    update(certificates)
    .where(
        (certificates.c.sha256 == bindparam("of_sha256"))
        & (certificates.c.expired_at.is_(None))
        & (certificates.c.not_after < bindparam("now"))
    )
    .values(expired_at=bindparam("now"))
)


def _announced(kind: EventKind, more: str | None = None) -> Select[Any]:
    """What is announced of certificates: where each is found, and what the parameter of that name
    says.
    """
    body = literal('{"serialNumber":"').concat(certificates.c.serial)
    if more is not None:
        body = body.concat(f'","{more}":"').concat(bindparam(more, type_=Text))
    return select(
        bindparam("now", type_=UtcTime),
        literal(kind.value),
        null(),
        certificates.c.namespace_id,
        certificates.c.device_key,
        certificates.c.device_id,
        body.concat('"}'),
    )


def _announcing(found: Select[Any]) -> Command:
    return Command(insert(announcements_table).from_select(announcements.columns, found))


_newer: Final = certificates.alias("newer")
_is_newest: Final = ~exists().where(
    (_newer.c.namespace_id == certificates.c.namespace_id)
    & (_newer.c.device_key == certificates.c.device_key)
    & (_newer.c.id > certificates.c.id)
)
_ANNOUNCE_REVOKED: Final = _announcing(
    _announced(EventKind.CERTIFICATE_REVOKED, "reason").where(
        (certificates.c.id == bindparam("of_id")) & (certificates.c.revoked_at.is_(None))
    )
)
_ANNOUNCE_REVOKED_OF_DEVICE: Final = _announcing(
    _announced(EventKind.CERTIFICATE_REVOKED, "reason")
    .where(
        (certificates.c.namespace_id == bindparam("namespace"))
        & (certificates.c.device_key == bindparam("key"))
        & (certificates.c.revoked_at.is_(None))
    )
    .order_by(certificates.c.id)
)
_ANNOUNCE_ONE_EXPIRED: Final = _announcing(
    _announced(EventKind.CERTIFICATE_EXPIRED).where(
        (certificates.c.sha256 == bindparam("of_sha256"))
        & (certificates.c.expired_at.is_(None))
        & (certificates.c.not_after < bindparam("now"))
        & _is_newest
    )
)
_ANNOUNCE_EXPIRED: Final = _announcing(
    _announced(EventKind.CERTIFICATE_EXPIRED).where(
        certificates.c.id.in_(
            select(certificates.c.id)
            .where(certificates.c.expired_at.is_(None))
            .where(certificates.c.not_after < bindparam("now"))
            .order_by(certificates.c.not_after)
            .limit(_MARK_AT_ONCE)
        )
        & certificates.c.revoked_at.is_(None)
        & _is_newest
    )
)
_NEWEST: Final = 2**62  # above every id
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]{1,64}")


class NewCertificate(NamedTuple):
    """A certificate that is to be recorded, for `device` as it was when it was signed."""

    device: Device
    issued: IssuedCertificate
    authority_id: str
    policy_id: str
    origin: Origin
    issued_at: datetime


def record(tx: Transaction, new: Collection[NewCertificate]) -> bool:
    """Inserts every certificate whose device still has the generation that it was signed for and is
    enabled; False if there was another.
    """
    if tx.run_many(_RECORD, map(_parameters, new)) != len(new):
        return False
    announcements.append_many(tx, map(_issued, new))
    return True


def _issued(new: NewCertificate) -> Announcement:
    device, issued = new.device, new.issued
    body = announcements.body_of(
        serialNumber=format(issued.serial, "x"),
        sha256=issued.sha256.hex(),
        issuingAuthority=new.authority_id,
        origin=new.origin.value,
        notBefore=issued.not_before,
        notAfter=issued.not_after,
    )
    return Announcement(
        EventKind.CERTIFICATE_ISSUED,
        new.issued_at,
        device.device_key,
        device.device_id,
        body,
        namespace_id=device.namespace_id,
    )


def _parameters(new: NewCertificate) -> dict[str, Any]:
    device, issued = new.device, new.issued
    return {
        "sha256": issued.sha256,
        "namespace_id": device.namespace_id,
        "authority_id": new.authority_id,
        "policy_id": new.policy_id,
        "device_key": device.device_key,
        "device_id": device.device_id,
        "generation": str(device.generation),
        "serial": format(issued.serial, "x"),
        "certificate": issued.der,
        "origin": new.origin.value,
        "not_before": issued.not_before,
        "not_after": issued.not_after,
        "issued_at": new.issued_at,
        "enrollment": device.enrollment,
    }


def find(tx: Transaction, sha256: bytes) -> Certificate | None:
    """The certificate of that SHA-256 fingerprint."""
    return tx.first(_BY_SHA256, sha256=sha256)


def find_by_name(tx: Transaction, namespace_id: str, name: str) -> list[Certificate]:
    """Up to two certificates that `name` may mean: a serial number in hexadecimal, or the SHA-256
    fingerprint or the first eight or more digits of it. Colons and case do not matter.
    """
    digits = name.replace(":", "").lower()
    if not _HEXADECIMAL.fullmatch(digits):
        return []
    found = tx.all(_BY_SERIAL, namespace=namespace_id, serial=digits.lstrip("0"))
    if found or len(digits) < 8:
        return found
    low = bytes.fromhex(digits.ljust(64, "0"))
    high = bytes.fromhex(digits.ljust(64, "f"))
    return tx.all(_BY_PREFIX, namespace=namespace_id, low=low, high=high)


def page(
    tx: Transaction,
    namespace_id: str,
    *,
    device_key: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Certificate]:
    """Up to `limit` certificates, newest first, with ids below `before`; of one device, or all."""
    below = _NEWEST if before is None else before
    if device_key is None:
        return tx.all(_LATEST, namespace=namespace_id, before=below, limit=limit)
    return tx.all(_OF_DEVICE, namespace=namespace_id, key=device_key, before=below, limit=limit)


def any_counts(tx: Transaction, policy_id: str, now: datetime) -> bool:
    """Whether a certificate of the policy is neither revoked nor over. Looks through every one that
    is not over: for rare questions.
    """
    return tx.first(_COUNTS, policy=policy_id, now=now) is not None


def count(tx: Transaction) -> int:
    """How many certificates were ever issued."""
    return tx.first(_COUNT) or 0


def is_revoked(tx: Transaction, sha256: bytes) -> bool:
    """Whether the certificate itself was revoked, whatever became of its CA."""
    return tx.first(_REVOKED_AT, sha256=sha256) is not None


def revoke(tx: Transaction, ids: Iterable[int], reason: RevocationReason, now: datetime) -> int:
    """Marks certificates revoked and returns how many were not before."""
    rows = [{"of_id": id_, "now": now, "reason": reason.value} for id_ in ids]
    tx.run_many(_ANNOUNCE_REVOKED, rows)
    return tx.run_many(_REVOKE, rows)


def last_id(tx: Transaction) -> int:
    """The id of the newest certificate; 0 when there is none."""
    return tx.first(_LAST_ID) or 0


def revoke_all_of(tx: Transaction, device: Device, reason: RevocationReason, now: datetime) -> int:
    """Marks every certificate of the device revoked and returns how many were not before."""
    of = {"namespace": device.namespace_id, "key": device.device_key}
    tx.run(_ANNOUNCE_REVOKED_OF_DEVICE, now=now, reason=reason.value, **of)
    return tx.run(_REVOKE_OF_DEVICE, now=now, reason=reason.value, **of)


def mark_one_expired(tx: Transaction, sha256: bytes, now: datetime) -> None:
    """Marks the certificate of that fingerprint for good, if its time is over."""
    tx.run(_ANNOUNCE_ONE_EXPIRED, of_sha256=sha256, now=now)
    tx.run(_MARK_ONE, of_sha256=sha256, now=now)


def mark_expired(tx: Transaction, now: datetime) -> bool:
    """Marks certificates whose time is over, for good; whether there may be more to mark."""
    tx.run(_ANNOUNCE_EXPIRED, now=now)
    return tx.run(_MARK_EXPIRED, now=now) == _MARK_AT_ONCE
