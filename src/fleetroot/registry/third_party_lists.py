"""Revocation lists of CAs that are not ours, as operators bring them.

A list counts after its signature was verified with the CA's certificate. It replaces the one before
of the same CA and scope, and is never older. `is_revoked` is for whoever judges a chain that ends
in somebody else's CA.

Chains of ours that end so are those of issuing CAs under a root that is not ours. They are judged
here, when a list comes or goes, and marked: a CA that stands on a list, or under a CA that does,
lets nobody in and issues nothing until a newer list lacks it.

A CA is its name and its key: what it signed counts for each of its certificates.

Source: RFC 5280 §5, §6.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import uuid4

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy import bindparam, delete, select

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.errors import InvalidArgument, NotFound, TooLarge
from fleetroot.pki import (
    ForeignList,
    ForeignListRefused,
    certified_key,
    public_key_info,
    read_foreign_list,
    to_der,
)
from fleetroot.registry import authorities, outbox, policies
from fleetroot.registry.model import Authority, AuthorityKind, Namespace
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import insert_into, upsert_into
from fleetroot.storage.schema import third_party_lists, third_party_revocations

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_ENTRIES: Final = 100_000
_log = structlog.get_logger("fleetroot.revocation")
_CLOCKS_DIFFER: Final = timedelta(minutes=5)

_lists: Final = third_party_lists
_revocations: Final = third_party_revocations


@dataclass(frozen=True, slots=True)
class ThirdPartyList:
    """A list as it is kept.

    Attributes:
        issuer: see `issuer_id`.
        scope: the distribution point that the list names; empty where it names none.
        authority: the CA's certificate, DER.
        number: lower-case hexadecimal; None where the list has none.
        sha256: of the list, DER.
    """

    id: str
    namespace_id: str
    issuer: bytes
    scope: str
    subject: str
    authority: bytes
    number: str | None
    this_update: datetime
    next_update: datetime | None
    entries: int
    sha256: bytes
    uploaded_at: datetime


_OF_NAMESPACE: Final = Query(
    select(_lists)
    .where(_lists.c.namespace_id == bindparam("namespace"))
    .order_by(_lists.c.subject, _lists.c.scope, _lists.c.id),
    ThirdPartyList,
)
_OF_ISSUER: Final = Query(
    select(_lists).where(
        (_lists.c.namespace_id == bindparam("namespace")) & (_lists.c.issuer == bindparam("issuer"))
    ),
    ThirdPartyList,
)
_AUTHORITIES: Final = Query(
    select(_lists.c.authority).where(_lists.c.namespace_id == bindparam("namespace")).distinct(),
    x509.load_der_x509_certificate,
)
_PUT: Final = Command(upsert_into(_lists))
_DELETE: Final = Command(
    delete(_lists).where(
        (_lists.c.namespace_id == bindparam("namespace")) & (_lists.c.id == bindparam("list"))
    )
)
_CLEAR: Final = Command(delete(_revocations).where(_revocations.c.list_id == bindparam("list")))
_ADD: Final = Command(insert_into(_revocations))
_IS_REVOKED: Final = Query(
    select(_revocations.c.serial)
    .select_from(_revocations.join(_lists, _lists.c.id == _revocations.c.list_id))
    .where(
        (_lists.c.namespace_id == bindparam("namespace"))
        & (_lists.c.issuer == bindparam("issuer"))
        & (_revocations.c.serial == bindparam("serial"))
    )
    .limit(1),
    str,
)


def issuer_id(certificate: x509.Certificate) -> bytes:
    """What stands for a CA: SHA-256 over its name and its key, both DER.

    Raises:
        KeyRefused: its key is of no accepted kind.
    """
    key, _ = certified_key(certificate)
    return sha256(certificate.subject.public_bytes() + public_key_info(key)).digest()


def is_revoked(tx: Transaction, namespace_id: str, issuer: x509.Certificate, serial: int) -> bool:
    """Whether a list that was brought of `issuer` has this serial number."""
    return has_serial(tx, namespace_id, issuer_id(issuer), serial)


def has_serial(tx: Transaction, namespace_id: str, issuer: bytes, serial: int) -> bool:
    """The same, of the CA for which `issuer` stands (`issuer_id`)."""
    found = tx.first(_IS_REVOKED, namespace=namespace_id, issuer=issuer, serial=format(serial, "x"))
    return found is not None


def are_listed(
    tx: Transaction, namespace_id: str, certificates: Iterable[x509.Certificate]
) -> bool:
    """Whether one of these stands on a list of the CA that signed it."""
    known = tx.all(_AUTHORITIES, namespace=namespace_id)
    return any(
        is_revoked(tx, namespace_id, issuer, each.serial_number)
        for each in certificates
        for issuer in known
        if each.issuer != each.subject and _signed(issuer, each)
    )


def is_listed(tx: Transaction, authority: Authority) -> bool:
    """Whether an issuing CA under a root that is not ours, or a CA above it, stands on a list."""
    chain = map(x509.load_der_x509_certificate, (authority.certificate, *authority.external_chain))
    return are_listed(tx, authority.namespace_id, chain)


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _judge(tx: Transaction, namespace_id: str, now: datetime) -> dict[str, list[str]]:
    """Marks the CAs of the namespace as its lists are now; those whose mark changed."""
    found: dict[str, list[str]] = {"listed": [], "notListedAnyMore": []}
    for authority in authorities.of_namespace(tx, namespace_id):
        if authority.kind is not AuthorityKind.ISSUING or authority.issuer_id is not None:
            continue  # under a root of ours
        listed = is_listed(tx, authority)
        if listed == (authority.listed_at is not None):
            continue
        found["listed" if listed else "notListedAnyMore"].append(authority.id)
        authorities.set_listed(tx, authority, now if listed else None)
        if authority.policy_id is not None:
            policy = policies.get(tx, authority.policy_id)
            policies.set_authority(tx, policy, policy.authority_id, now)  # another version of it
        if listed:
            outbox.append(
                tx,
                outbox.Kind.ISSUER_DISTRUSTED,
                namespace_id=namespace_id,
                subject=authority.id,
                now=now,
            )
    return {why: ids for why, ids in found.items() if ids}


class ThirdPartyLists:
    """Takes, shows and forgets lists."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock

    async def all(self, namespace: Namespace) -> list[ThirdPartyList]:
        """Every list, by the CA's name."""
        return await self._store.read(lambda tx: tx.all(_OF_NAMESPACE, namespace=namespace.id))

    async def upload(
        self, namespace: Namespace, crl: bytes, authority: bytes | None, *, by: Actor
    ) -> ThirdPartyList:
        """Takes a list in place of the one before.

        Args:
            crl: DER or PEM.
            authority: the CA's certificate, DER or PEM; None if a list of it was brought before.

        Raises:
            TooLarge: it has too many bytes or entries.
            InvalidArgument: it cannot be read or verified, is of a CA of ours, of a kind that does
                not count, over, of the future, or older than the one before.
        """
        if len(crl) > MAX_BYTES:
            raise TooLarge(f"a revocation list has at most {MAX_BYTES} bytes")
        now = self._clock.now()
        known = [] if authority else [one.authority for one in await self.all(namespace)]
        try:
            read = await asyncio.to_thread(
                read_foreign_list, crl, authority, known, max_entries=MAX_ENTRIES
            )
        except ForeignListRefused as refused:
            raise InvalidArgument(refused.message) from refused
        if read.this_update > now + _CLOCKS_DIFFER:
            raise InvalidArgument("the revocation list is of the future")
        if read.next_update is not None and read.next_update < now:
            raise InvalidArgument("the time of the revocation list is over")
        await self._refuse_our_own(read)
        made = ThirdPartyList(
            id=str(uuid4()),
            namespace_id=namespace.id,
            issuer=issuer_id(read.authority),
            scope=read.scope,
            subject=read.authority.subject.rfc4514_string(),
            authority=to_der(read.authority),
            number=None if read.number is None else format(read.number, "x"),
            this_update=read.this_update,
            next_update=read.next_update,
            entries=len(read.serials),
            sha256=sha256(read.der).digest(),
            uploaded_at=now,
        )
        put, changed = await self._store.write(lambda tx: _put(tx, made, read, by))
        self._bus.hint(OUTBOX)
        for authority_id in changed.get("listed", ()):
            _log.error("a CA of ours is on a revocation list", authority=authority_id)
        return put

    async def delete(self, namespace: Namespace, list_id: str, *, by: Actor) -> None:
        """Forgets a list.

        Raises:
            NotFound: there is none of that id.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            if not tx.run(_DELETE, namespace=namespace.id, list=list_id):
                raise NotFound("there is no such revocation list")
            subject, changed = f"crl/{list_id}", _judge(tx, namespace.id, now)
            entry = Entry(now, by, Action.DELETE_CRL, subject, namespace.id, details=changed)
            audit.append(tx, entry)

        await self._store.write(unit)

    async def _refuse_our_own(self, read: ForeignList) -> None:
        """What we issued counts by the inventory, whoever has the key of that CA, too.

        Raises:
            InvalidArgument: the CA's key is one of ours.
        """
        for ours in await self._store.read(authorities.every):
            if x509.load_der_x509_certificate(ours.certificate).public_key() == (
                read.authority.public_key()
            ):
                raise InvalidArgument("the CA is one of this installation")


def _put(
    tx: Transaction, made: ThirdPartyList, read: ForeignList, by: Actor
) -> tuple[ThirdPartyList, dict[str, list[str]]]:
    same = [
        one
        for one in tx.all(_OF_ISSUER, namespace=made.namespace_id, issuer=made.issuer)
        if one.scope == made.scope
    ]
    for before in same:
        if before.sha256 == made.sha256:
            return before, {}
        if _is_older(made, before):
            raise InvalidArgument("the revocation list is older than the one that is there")
        tx.run(_CLEAR, list=before.id)
        made = replace(made, id=before.id)
    tx.run(_PUT, **{column.name: getattr(made, column.name) for column in _lists.columns})
    tx.run_many(_ADD, ({"list_id": made.id, "serial": format(s, "x")} for s in read.serials))
    changed = _judge(tx, made.namespace_id, made.uploaded_at)
    outbox.append(
        tx,
        outbox.Kind.UPLOADED_DISTRUSTED,
        namespace_id=made.namespace_id,
        subject=made.id,
        now=made.uploaded_at,
    )
    audit.append(
        tx,
        Entry(
            made.uploaded_at,
            by,
            Action.UPLOAD_CRL,
            f"crl/{made.id}",
            made.namespace_id,
            details={
                "issuer": made.subject,
                "number": made.number,
                "entries": made.entries,
                "sha256": made.sha256.hex(),
                **changed,
            },
        ),
    )
    return made, changed


def _is_older(made: ThirdPartyList, before: ThirdPartyList) -> bool:
    """Another list of the same number is no newer one."""
    if made.number is not None and before.number is not None:
        return int(made.number, 16) <= int(before.number, 16)
    return made.this_update <= before.this_update
