"""Revocation lists: their table, and what belongs on them.

A CA's list is cut into shards that are fixed with the CA, and every certificate names its own. A
leaf's is the remainder of its serial number, of which the last hexadecimal digit says enough, so
the number of shards divides 16. A root has one list, that of its issuing CAs; their certificates
name shard 0.

What was revoked is read from the inventory itself and is kept nowhere twice. A list remembers how
many certificates of its shard were revoked when it was made: none ever becomes less revoked, so
another count says that the list is behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509
from sqlalchemy import bindparam, func, or_, select

from fleetroot.pki import CrlReason, Revoked
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import authorities, certificates, revocation_lists

_DIGITS: Final = 16
_PAGE: Final = 500  # entries, so that no reading holds up the others for long

_table: Final = revocation_lists


class ListHead(NamedTuple):
    """A list without its bytes.

    Attributes:
        number: its CRL number.
        covers: how many certificates of the shard were revoked when it was made; those that left
            the list since count, too.
    """

    authority_id: str
    shard: int
    number: int
    covers: int
    this_update: datetime
    next_update: datetime


class PublishedList(NamedTuple):
    """A list as it is served, DER."""

    head: ListHead
    der: bytes


_HEADS: Final = Query(
    select(
        _table.c.authority_id,
        _table.c.shard,
        _table.c.number,
        _table.c.covers,
        _table.c.this_update,
        _table.c.next_update,
    ).order_by(_table.c.authority_id, _table.c.shard),
    ListHead,
)
_GET: Final = Query(
    select(_table).where(
        (_table.c.authority_id == bindparam("authority")) & (_table.c.shard == bindparam("shard"))
    ),
    lambda *columns: PublishedList(ListHead(*columns[:-1]), columns[-1]),
)
_NUMBER: Final = Query(
    select(_table.c.number).where(
        (_table.c.authority_id == bindparam("authority")) & (_table.c.shard == bindparam("shard"))
    ),
    int,
)
_PUT: Final = Command(upsert_into(_table))

_last_digit: Final = func.substr(certificates.c.serial, func.length(certificates.c.serial))
_COUNTS: Final = Query(
    select(_last_digit.label("digit"), func.count().label("revoked"))
    .where(
        (certificates.c.authority_id == bindparam("authority"))
        & (certificates.c.revoked_at.is_not(None))
    )
    .group_by(_last_digit),
    lambda digit, revoked: (int(digit, 16), int(revoked)),
)
_OF_DIGIT: Final = Query(
    select(certificates.c.serial, certificates.c.revoked_at, certificates.c.revocation_reason)
    .where(
        (certificates.c.authority_id == bindparam("authority"))
        & (certificates.c.revoked_at.is_not(None))
        & (_last_digit == bindparam("digit"))
        & (certificates.c.serial > bindparam("after"))
        & or_(
            certificates.c.not_after >= bindparam("gone_before"),
            certificates.c.revoked_at >= bindparam("gone_before"),
        )
    )
    .order_by(certificates.c.serial)
    .limit(_PAGE),
    lambda serial, at, reason: (serial, at, reason),
)
_AUTHORITIES: Final = Query(
    select(authorities.c.certificate, authorities.c.not_after, authorities.c.revoked_at).where(
        (authorities.c.issuer_id == bindparam("authority"))
        & (authorities.c.revoked_at.is_not(None))
    ),
    lambda certificate, not_after, at: (certificate, not_after, at),
)


def shards_of(authority: Authority) -> range:
    """The shards that certificates of this CA name."""
    return range(1 if authority.kind is AuthorityKind.ROOT else authority.crl_shards)


def heads(tx: Transaction) -> dict[tuple[str, int], ListHead]:
    """Every list there is, by authority and shard."""
    return {(head.authority_id, head.shard): head for head in tx.all(_HEADS)}


def get(tx: Transaction, authority_id: str, shard: int) -> PublishedList | None:
    """The newest list of a shard."""
    return tx.first(_GET, authority=authority_id, shard=shard)


def put(tx: Transaction, made: PublishedList) -> bool:
    """Publishes a list; False if there is one by now whose number is as high."""
    head = made.head
    there = tx.first(_NUMBER, authority=head.authority_id, shard=head.shard)
    if there is not None and there >= head.number:
        return False
    tx.run(_PUT, **head._asdict(), list=made.der)
    return True


def counts(tx: Transaction, authority: Authority) -> Counter[int]:
    """How many certificates of each shard were ever revoked."""
    if authority.kind is AuthorityKind.ROOT:
        return Counter({0: len(tx.all(_AUTHORITIES, authority=authority.id))})
    found: Counter[int] = Counter()
    for digit, revoked in tx.all(_COUNTS, authority=authority.id):
        found[digit % authority.crl_shards] += revoked
    return found


class Cursor(NamedTuple):
    """Where a reading of a shard goes on: a digit, and the serial number behind which."""

    digit: int
    after: str = ""


def first_page(authority: Authority, shard: int) -> Cursor:
    """Where the reading of a shard begins."""
    return Cursor(shard if authority.kind is AuthorityKind.ISSUING else 0)


def page(
    tx: Transaction, authority: Authority, at: Cursor, gone_before: datetime
) -> tuple[list[Revoked], Cursor | None]:
    """Some of the revoked certificates of a shard, and where the next are; None: there are none.

    Args:
        gone_before: who expired and was revoked before this stands on the list no more.
    """
    if authority.kind is AuthorityKind.ROOT:
        return list(_revoked_authorities(tx, authority, gone_before)), None
    found = tx.all(
        _OF_DIGIT,
        authority=authority.id,
        digit=format(at.digit, "x"),
        after=at.after,
        gone_before=gone_before,
    )
    revoked = [Revoked(int(serial, 16), when, CrlReason.of(why)) for serial, when, why in found]
    if len(found) == _PAGE:
        return revoked, Cursor(at.digit, found[-1][0])
    digit = at.digit + authority.crl_shards
    return revoked, Cursor(digit) if digit < _DIGITS else None


def _revoked_authorities(
    tx: Transaction, root: Authority, gone_before: datetime
) -> Iterator[Revoked]:
    for certificate, not_after, revoked_at in tx.all(_AUTHORITIES, authority=root.id):
        if max(not_after, revoked_at) >= gone_before:
            serial = x509.load_der_x509_certificate(certificate).serial_number
            yield Revoked(serial, revoked_at)
