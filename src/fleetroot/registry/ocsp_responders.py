"""OCSP responders: who answers for each CA, and what is answered.

Each CA has a responder: a key of its own in custody and a certificate of days that the CA signed.
An answer says what the inventory says at that moment, so a revocation shows in the next one. What
was signed without a nonce is given again for as long as the inventory says the same. A serial
number that is not in the inventory is unknown and never good; one of a CA that was revoked is
revoked.

Source: RFC 6960 §2.2, §2.7, §4.2.2.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog
from cryptography import x509
from sqlalchemy import bindparam, select

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Entry
from fleetroot.clock import Clock
from fleetroot.custody import KeyCustody, RecordName, SealBroken, WrongMasterKey
from fleetroot.errors import FleetrootError
from fleetroot.pki import (
    CrlReason,
    IssuerExpired,
    IssuerHash,
    KeyType,
    LintFailed,
    OcspAnswer,
    OcspError,
    OcspRefused,
    OcspRequest,
    Responder,
    ResponderProfile,
    Revoked,
    Standing,
    Status,
    encode_error,
    issuer_hashes,
    parse_request,
    sha256_fingerprint,
    to_der,
)
from fleetroot.registry import authorities
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import authorities as authorities_table
from fleetroot.storage.schema import certificates, ocsp_responders

_log = structlog.get_logger("fleetroot.ocsp")

VALIDITY: Final = timedelta(days=14)  # of a responder's certificate; half of it in use
ANSWER_LIFETIME: Final = timedelta(hours=4)
_KEEP: Final = ANSWER_LIFETIME / 2
_MAX_KEPT: Final = 10_000  # answers, of about a kilobyte
_KEY_TYPE: Final = KeyType.EC_P256  # the cheapest to sign and verify with, for two weeks at most
_AWAY: Final = (FleetrootError, SealBroken, WrongMasterKey, IssuerExpired)


class _Row(NamedTuple):
    authority_id: str
    number: int
    certificate: bytes
    sealed_key: bytes


_GET: Final = Query(
    select(ocsp_responders).where(ocsp_responders.c.authority_id == bindparam("authority")), _Row
)
_PUT: Final = Command(upsert_into(ocsp_responders))
_LEAF: Final = Query(
    select(
        certificates.c.revoked_at,
        certificates.c.revocation_reason,
        authorities_table.c.revoked_at.label("authority_revoked_at"),
    )
    .select_from(
        certificates.join(authorities_table, authorities_table.c.id == certificates.c.authority_id)
    )
    .where(
        (certificates.c.serial == bindparam("serial"))
        & (certificates.c.authority_id == bindparam("authority"))
    ),
    lambda at, reason, authority_at: (at, reason, authority_at),
)
_BELOW: Final = Query(
    select(authorities_table.c.certificate, authorities_table.c.revoked_at).where(
        authorities_table.c.issuer_id == bindparam("authority")
    ),
    lambda certificate, at: (certificate, at),
)


class OcspReply(NamedTuple):
    """What is sent.

    Attributes:
        answer: None where `der` is an error.
        is_shared: whether anybody who asks the same gets the same.
    """

    der: bytes
    answer: OcspAnswer | None = None
    is_shared: bool = False


class _Held(NamedTuple):
    responder: Responder
    number: int
    renew_at: datetime


class _Kept(NamedTuple):
    status: Status
    answer: OcspAnswer


class OcspResponders:
    """Answers OCSP requests about every certificate that a CA of ours issued."""

    def __init__(self, store: Store, custody: KeyCustody, clock: Clock) -> None:
        self._store = store
        self._custody = custody
        self._clock = clock
        self._authorities: dict[IssuerHash, Authority] = {}
        self._held: dict[str, _Held] = {}
        self._renewing = asyncio.Lock()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    async def answer(self, der: bytes) -> OcspReply:
        """What is answered to a request, DER; errors are answers, too.

        Raises:
            Unavailable: the database cannot answer now.
        """
        try:
            request = parse_request(der)
            authority = await self._authority(request.issuer)
        except OcspRefused as refused:
            return OcspReply(encode_error(refused.error))
        now = self._clock.now()
        status = await self._store.read(lambda tx: _status(tx, authority, request))
        if request.nonce is None and (kept := self._find(request, status, now)) is not None:
            return OcspReply(kept.der, kept, is_shared=True)
        try:
            answer = await self._sign(authority, request, status, now)
        except (LintFailed, *_AWAY) as error:
            why = getattr(error, "reason", None) or repr(error)
            _log.warning("cannot sign an OCSP answer", authority=authority.id, reason=why)
            return OcspReply(encode_error(OcspError.TRY_LATER))
        # Numbers that were never issued are without end, and nobody asks for one twice.
        if request.nonce is None and status is not Standing.UNKNOWN:
            self._keep(request, _Kept(status, answer))
        return OcspReply(answer.der, answer, is_shared=request.nonce is None)

    async def renew(self, authority: Authority, now: datetime) -> None:
        """Gives the CA another responder, if the one that it has is due or there is none.

        Raises:
            NotFound: the CA's key is not kept here.
            FleetrootError, SealBroken, WrongMasterKey, IssuerExpired: it cannot sign now.
        """
        async with self._renewing:
            held = await self._load(authority)
            if held is None or not _is_fresh(held, now):
                await self._make(authority, now)

    async def _authority(self, issuer: IssuerHash) -> Authority:
        """Raises:
        OcspRefused: it is none of ours.
        """
        found = self._authorities.get(issuer)
        if found is None:
            for authority in await self._store.read(authorities.every):
                certificate = x509.load_der_x509_certificate(authority.certificate)
                self._authorities |= dict.fromkeys(issuer_hashes(certificate), authority)
            found = self._authorities.get(issuer)
        if found is None:
            raise OcspRefused(OcspError.UNAUTHORIZED)
        return found

    def _find(self, request: OcspRequest, status: Status, now: datetime) -> OcspAnswer | None:
        kept = self._kept.get(request.certificate_id)
        if kept is None or kept.status != status:
            return None
        answer = kept.answer
        if not answer.this_update <= now < min(answer.this_update + _KEEP, answer.next_update):
            return None
        self._kept.move_to_end(request.certificate_id)
        return answer

    def _keep(self, request: OcspRequest, kept: _Kept) -> None:
        self._kept[request.certificate_id] = kept
        self._kept.move_to_end(request.certificate_id)
        while len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)

    async def _sign(
        self, authority: Authority, request: OcspRequest, status: Status, now: datetime
    ) -> OcspAnswer:
        held = self._held.get(authority.id)
        if held is None or not _is_usable(held, now):
            async with self._renewing:
                held = await self._load(authority)
                if held is None or not _is_usable(held, now):
                    held = await self._make(authority, now)
        # On the event loop: with a P-256 key in software it takes less than a thread would.
        return held.responder.answer(request, status, now, ANSWER_LIFETIME)

    async def _load(self, authority: Authority) -> _Held | None:
        """The responder that the database has."""
        row = await self._store.read(lambda tx: tx.first(_GET, authority=authority.id))
        held = self._held.get(authority.id)
        if row is None or (held is not None and held.number == row.number):
            return held
        held = self._open(authority, row)
        self._held[authority.id] = held
        return held

    def _open(self, authority: Authority, row: _Row) -> _Held:
        certificate = x509.load_der_x509_certificate(row.certificate)
        key = self._custody.load(key_name(authority.id, row.number), row.sealed_key)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return _Held(Responder(certificate, key), row.number, start + (end - start) / 2)

    async def _make(self, authority: Authority, now: datetime) -> _Held:
        before = self._held.get(authority.id)
        number = 1 if before is None else before.number + 1
        row = await asyncio.to_thread(self._issue, authority, number, now)
        made = x509.load_der_x509_certificate(row.certificate)
        entry = Entry(
            now,
            SYSTEM,
            Action.ISSUE_CERTIFICATE,
            f"ocsp-responder/{authority.id}",
            authority.namespace_id,
            details={
                "sha256": sha256_fingerprint(made).hex(),
                "serialNumber": format(made.serial_number, "x"),
            },
        )

        def unit(tx: Transaction) -> None:
            tx.run(_PUT, **row._asdict())
            audit.append(tx, entry)

        await self._store.write(unit)
        if before is not None:
            self._custody.forget(key_name(authority.id, before.number))
        held = self._held[authority.id] = self._open(authority, row)
        return held

    def _issue(self, authority: Authority, number: int, now: datetime) -> _Row:
        """Runs in a thread: keys may be made and used elsewhere."""
        profile = ResponderProfile(x509.load_der_x509_certificate(authority.certificate), VALIDITY)
        ca_key = authorities.signing_key(self._custody, authority)
        sealed = self._custody.generate(_KEY_TYPE, key_name(authority.id, number))
        certificate = profile.issue(ca_key, sealed.public_key, now)
        return _Row(authority.id, number, to_der(certificate), sealed.sealed)


def _status(tx: Transaction, authority: Authority, request: OcspRequest) -> Status:
    if authority.kind is AuthorityKind.ROOT:
        return _status_of_authority(tx, authority, request.serial)
    found = tx.first(_LEAF, authority=authority.id, serial=format(request.serial, "x"))
    if found is None:
        return Standing.UNKNOWN
    revoked_at, reason, authority_revoked_at = found
    if revoked_at is not None:
        return Revoked(request.serial, revoked_at, CrlReason.of(reason))
    if authority_revoked_at is not None:
        return Revoked(request.serial, authority_revoked_at, CrlReason.CA_COMPROMISE)
    return Standing.GOOD


def _status_of_authority(tx: Transaction, root: Authority, serial: int) -> Status:
    for certificate, revoked_at in tx.all(_BELOW, authority=root.id):
        if x509.load_der_x509_certificate(certificate).serial_number == serial:
            return Standing.GOOD if revoked_at is None else Revoked(serial, revoked_at)
    return Standing.UNKNOWN


def _is_usable(held: _Held, now: datetime) -> bool:
    certificate = held.responder.certificate
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _is_fresh(held: _Held, now: datetime) -> bool:
    return held.responder.certificate.not_valid_before_utc <= now < held.renew_at


def key_name(authority_id: str, number: int) -> RecordName:
    """What a responder's sealed key is bound to."""
    return RecordName(kind="ocsp-key", namespace=authority_id, id="responder", version=number)
