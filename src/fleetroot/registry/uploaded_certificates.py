"""CA certificates that were uploaded to a hub or a provisioning service.

One counts once it is verified: its owner has shown that the key is theirs, or whoever may upload
said so. A CA whose key is one of ours cannot be uploaded, because what it signs counts by the
inventory alone.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from sqlalchemy import bindparam, delete, select

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.bus import OUTBOX, Bus
from fleetroot.clock import Clock
from fleetroot.errors import Conflict, EtagMismatch, InvalidArgument, NotFound
from fleetroot.ids import canonical
from fleetroot.pki import (
    UploadRefused,
    certified_key,
    check_possession,
    check_uploaded_ca,
    public_key_info,
    read_certificate_text,
    sha256_fingerprint,
    to_der,
)
from fleetroot.registry import authorities, etags, outbox
from fleetroot.registry.devices import new_etag
from fleetroot.registry.service_resources import Owner, ServiceKind
from fleetroot.storage import Command, Query, Store, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import uploaded_certificates

MAX_CERTIFICATES: Final = 25  # of one hub or provisioning service
CODE_LIFETIME: Final = timedelta(days=7)
_CODE_BYTES: Final = 24
_NAME: Final = re.compile(r"[A-Za-z0-9\-._]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UploadedCertificate:
    """A CA certificate (DER) of a hub or provisioning service.

    Attributes:
        code: what its owner is to have signed, until `code_expires_at`.
    """

    owner_id: str
    name_key: str
    name: str
    certificate: bytes
    verified: bool
    code: str | None = field(repr=False)
    code_expires_at: datetime | None
    etag: str
    created_at: datetime
    updated_at: datetime


_table: Final = uploaded_certificates
_is_it: Final = (_table.c.owner_id == bindparam("owner")) & (_table.c.name_key == bindparam("key"))
_OF_OWNER: Final = Query(
    select(_table).where(_table.c.owner_id == bindparam("owner")).order_by(_table.c.name_key),
    UploadedCertificate,
)
_GET: Final = Query(select(_table).where(_is_it), UploadedCertificate)
_PUT: Final = Command(upsert_into(_table))
_DELETE: Final = Command(delete(_table).where(_is_it))
_DELETE_ALL: Final = Command(delete(_table).where(_table.c.owner_id == bindparam("owner")))


def find(tx: Transaction, owner_id: str, name: str) -> UploadedCertificate | None:
    """The certificate of that name, in any case."""
    return tx.first(_GET, owner=owner_id, key=canonical(name))


def verified(tx: Transaction, owner_id: str) -> dict[str, bytes]:
    """The certificates (DER) that count, by their names in canonical form."""
    return {
        each.name_key: each.certificate
        for each in tx.all(_OF_OWNER, owner=owner_id)
        if each.verified
    }


def remove_all(tx: Transaction, owner_id: str) -> None:
    """Removes the certificates of a hub or provisioning service that goes."""
    tx.run(_DELETE_ALL, owner=owner_id)


class UploadedCertificates:
    """Takes, shows, verifies and forgets certificates."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock

    async def list_all(self, owner: Owner) -> list[UploadedCertificate]:
        """Every certificate, by name."""
        return await self._store.read(lambda tx: tx.all(_OF_OWNER, owner=owner.id))

    async def get(self, owner: Owner, name: str) -> UploadedCertificate:
        """The certificate of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: _get(tx, owner, name))

    async def upload(
        self,
        owner: Owner,
        name: str,
        certificate: str,
        *,
        verified: bool = False,
        if_match: str | None = None,
        by: Actor,
    ) -> tuple[UploadedCertificate, bool]:
        """Takes a CA's certificate, or another in its place where `if_match` is the etag of what is
        there; whether it is new, too.

        Args:
            certificate: PEM text, or base64 of DER or of PEM text.
            verified: whether it counts without a proof.

        Raises:
            InvalidArgument: it cannot be read, cannot be a CA's, or is of a key of ours.
            Conflict: the owner has too many.
            EtagMismatch: one is there and `if_match` does not name it.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument("certificateName: must be 1 to 64 letters, digits and - . _")
        now = self._clock.now()
        read = _accepted(certificate, now)
        for ours in await self._store.read(authorities.every):
            if _key_of(x509.load_der_x509_certificate(ours.certificate)) == _key_of(read):
                raise InvalidArgument("the CA is one of this installation", reason="own CA")

        def unit(tx: Transaction) -> tuple[UploadedCertificate, bool]:
            there = tx.first(_GET, owner=owner.id, key=canonical(name))
            if there is None:
                if if_match not in (None, "*"):
                    raise EtagMismatch("there is no certificate of that name to replace")
                if len(tx.all(_OF_OWNER, owner=owner.id)) >= MAX_CERTIFICATES:
                    raise Conflict(f"there are {MAX_CERTIFICATES} certificates already")
            elif if_match is None:
                raise EtagMismatch("there is a certificate of that name: give its etag")
            else:
                etags.check(if_match, there.etag)
            made = UploadedCertificate(
                owner_id=owner.id,
                name_key=canonical(name),
                name=name if there is None else there.name,
                certificate=to_der(read),
                verified=verified,
                code=None,
                code_expires_at=None,
                etag=new_etag(),
                created_at=now if there is None else there.created_at,
                updated_at=now,
            )
            _put(tx, made)
            details = {"verified": verified, "sha256": sha256_fingerprint(read).hex()}
            _log(tx, Action.UPLOAD_CERTIFICATE, owner, made, by, now, details)
            if there is not None:
                _tell_distrusted(tx, owner, now)
            return made, there is None

        done = await self._store.write(unit)
        self._bus.hint(OUTBOX)
        return done

    async def new_code(
        self, owner: Owner, name: str, *, if_match: str | None, by: Actor
    ) -> UploadedCertificate:
        """Draws a code for the certificate's owner to sign; one that was drawn before ends.

        Raises:
            NotFound: there is no certificate of that name.
            EtagMismatch: it is not the version that `if_match` names.
        """
        now, code = self._clock.now(), secrets.token_hex(_CODE_BYTES)

        def unit(tx: Transaction) -> UploadedCertificate:
            there = _get(tx, owner, name)
            etags.check(if_match, there.etag)
            after = replace(
                there,
                code=code,
                code_expires_at=now + CODE_LIFETIME,
                etag=new_etag(),
                updated_at=now,
            )
            _put(tx, after)
            _log(tx, Action.REQUEST_VERIFICATION, owner, after, by, now)
            return after

        return await self._store.write(unit)

    async def verify(
        self, owner: Owner, name: str, proof: str, *, if_match: str | None, by: Actor
    ) -> UploadedCertificate:
        """Takes the proof that the CA's key is the uploader's: a certificate that it signed, whose
        common name is the code. The code ends with it.

        Raises:
            NotFound: there is no certificate of that name.
            EtagMismatch: it is not the version that `if_match` names.
            InvalidArgument: no code was drawn, its time is over, or it is no proof.
        """
        now = self._clock.now()
        before, shown = await self.get(owner, name), _read(proof)
        etags.check(if_match, before.etag)
        code, until = before.code, before.code_expires_at
        if code is None or until is None or now >= until:
            raise InvalidArgument("there is no verification code, or its time is over: draw one")
        ca = x509.load_der_x509_certificate(before.certificate)
        try:
            check_uploaded_ca(ca, now)
            check_possession(ca, shown, code, now)
        except UploadRefused as refused:
            raise InvalidArgument(refused.message, reason=refused.rule) from refused

        def unit(tx: Transaction) -> UploadedCertificate:
            there = _get(tx, owner, name)
            etags.check(before.etag, there.etag)
            after = replace(
                there,
                verified=True,
                code=None,
                code_expires_at=None,
                etag=new_etag(),
                updated_at=now,
            )
            _put(tx, after)
            _log(tx, Action.VERIFY_CERTIFICATE, owner, after, by, now)
            return after

        return await self._store.write(unit)

    async def delete(
        self, owner: Owner, name: str, *, if_match: str | None = None, by: Actor
    ) -> None:
        """Forgets a certificate.

        Raises:
            NotFound: there is none of that name.
            EtagMismatch: it is not the version that `if_match` names.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = _get(tx, owner, name)
            etags.check(if_match, there.etag)
            tx.run(_DELETE, owner=owner.id, key=there.name_key)
            _log(tx, Action.DELETE_CERTIFICATE, owner, there, by, now)
            _tell_distrusted(tx, owner, now)

        await self._store.write(unit)
        self._bus.hint(OUTBOX)


def _accepted(text: str, now: datetime) -> x509.Certificate:
    read = _read(text)
    try:
        check_uploaded_ca(read, now)
    except UploadRefused as refused:
        raise InvalidArgument(refused.message, reason=refused.rule) from refused
    return read


def _read(text: str) -> x509.Certificate:
    try:
        return read_certificate_text(text)
    except UploadRefused as refused:
        raise InvalidArgument(refused.message, reason=refused.rule) from refused


def _key_of(certificate: x509.Certificate) -> bytes:
    return public_key_info(certified_key(certificate)[0])


def _get(tx: Transaction, owner: Owner, name: str) -> UploadedCertificate:
    found = find(tx, owner.id, name)
    if found is None:
        raise NotFound(f"there is no certificate {name[:64]}")
    return found


def _tell_distrusted(tx: Transaction, owner: Owner, now: datetime) -> None:
    """Devices may be connected to a hub by what is not there any more."""
    if owner.kind is ServiceKind.HUB:
        outbox.append(
            tx,
            outbox.Kind.UPLOADED_DISTRUSTED,
            namespace_id=owner.namespace_id,
            subject=owner.id,
            now=now,
        )


def _put(tx: Transaction, made: UploadedCertificate) -> None:
    tx.run(
        _PUT,
        owner_id=made.owner_id,
        name_key=made.name_key,
        name=made.name,
        certificate=made.certificate,
        verified=made.verified,
        verification_code=made.code,
        code_expires_at=made.code_expires_at,
        etag=made.etag,
        created_at=made.created_at,
        updated_at=made.updated_at,
    )


def _log(
    tx: Transaction,
    action: Action,
    owner: Owner,
    about: UploadedCertificate,
    by: Actor,
    now: datetime,
    details: dict[str, object] | None = None,
) -> None:
    subject = f"{owner.subject}/certificate/{about.name}"
    audit.append(tx, Entry(now, by, action, subject, owner.namespace_id, details=details or {}))
