"""Certificate authorities: their table, and making them.

An authority's row never changes but for `revoked_at`; a new key is a new row. What a row embeds for
ever (the public PKI URL, how many CRL shards) is chosen when it is made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import bindparam, select

from fleetroot.custody import KeyCustody, RecordName
from fleetroot.errors import NotFound
from fleetroot.pki import (
    IssuingProfile,
    KeyType,
    PkiUrls,
    RootProfile,
    sha256_fingerprint,
)
from fleetroot.pki.keys import PrivateKey
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import authorities

ROOT_VALIDITY: Final = timedelta(days=20 * 365)
ISSUING_VALIDITY: Final = timedelta(days=5 * 365)
CRL_SHARDS: Final = 16  # fixed with each CA, because every leaf names its shard


def _row(
    id_: str,
    namespace_id: str,
    kind: str,
    issuer_id: str | None,
    certificate: bytes,
    sha256: bytes,
    sealed_key: bytes | None,
    key_type: str,
    pki_url: str,
    crl_shards: int,
    not_before: datetime,
    not_after: datetime,
    _created_at: datetime,
    revoked_at: datetime | None,
) -> Authority:
    return Authority(
        id_,
        namespace_id,
        AuthorityKind(kind),
        issuer_id,
        certificate,
        sha256,
        sealed_key,
        KeyType(key_type),
        pki_url,
        crl_shards,
        not_before,
        not_after,
        revoked_at,
    )


_INSERT: Final = Command(insert_into(authorities))
_GET: Final = Query(select(authorities).where(authorities.c.id == bindparam("id")), _row)
_OF_NAMESPACE: Final = Query(
    select(authorities)
    .where(authorities.c.namespace_id == bindparam("namespace"))
    .order_by(authorities.c.created_at, authorities.c.id),
    _row,
)
_EVERY: Final = Query(
    select(authorities).order_by(authorities.c.created_at, authorities.c.id), _row
)


def get(tx: Transaction, authority_id: str) -> Authority:
    """The authority of that id.

    Raises:
        NotFound: there is none.
    """
    authority = tx.first(_GET, id=authority_id)
    if authority is None:
        raise NotFound(f"no certificate authority {authority_id}")
    return authority


def of_namespace(tx: Transaction, namespace_id: str) -> list[Authority]:
    """Every authority of the namespace, oldest first."""
    return tx.all(_OF_NAMESPACE, namespace=namespace_id)


def every(tx: Transaction) -> list[Authority]:
    """Every authority of every namespace, oldest first."""
    return tx.all(_EVERY)


def insert(tx: Transaction, authority: Authority, now: datetime) -> None:
    """Adds a new authority."""
    tx.run(
        _INSERT,
        id=authority.id,
        namespace_id=authority.namespace_id,
        kind=authority.kind.value,
        issuer_id=authority.issuer_id,
        certificate=authority.certificate,
        sha256=authority.sha256,
        sealed_key=authority.sealed_key,
        key_type=authority.key_type.value,
        pki_url=authority.pki_url,
        crl_shards=authority.crl_shards,
        not_before=authority.not_before,
        not_after=authority.not_after,
        created_at=now,
        revoked_at=authority.revoked_at,
    )


def make_root(
    custody: KeyCustody,
    *,
    namespace_id: str,
    name: str,
    key_type: KeyType,
    pki_url: str,
    now: datetime,
    keep_in: str | None = None,
) -> Authority:
    """Makes a key and its self-signed certificate; nothing is stored yet. A token may take its
    time, so this is not for the event loop.

    Args:
        keep_in: where the key is kept, as `KeyCustody.generate`; None: where new CAs' keys are.
    """
    authority_id = str(uuid4())
    sealed = custody.generate(
        key_type,
        key_name(namespace_id, authority_id),
        keep_in=keep_in or custody.authorities_in,
    )
    key = custody.load(key_name(namespace_id, authority_id), sealed.sealed)
    profile = RootProfile(
        subject=_subject(f"{name} root {authority_id[:8]}"), validity=ROOT_VALIDITY
    )
    certificate = profile.self_sign(key, now)
    return _made(
        certificate,
        AuthorityKind.ROOT,
        authority_id,
        namespace_id,
        None,
        sealed.sealed,
        key_type,
        pki_url,
    )


def make_issuing(
    custody: KeyCustody,
    *,
    root: Authority,
    name: str,
    key_type: KeyType,
    now: datetime,
    keep_in: str | None = None,
) -> Authority:
    """Makes a key and a certificate for it, signed by `root`; nothing is stored yet. As
    `make_root`.
    """
    authority_id = str(uuid4())
    sealed = custody.generate(
        key_type,
        key_name(root.namespace_id, authority_id),
        keep_in=keep_in or custody.authorities_in,
    )
    profile = IssuingProfile(
        subject=_subject(f"{name} issuing {authority_id[:8]}"),
        validity=ISSUING_VALIDITY,
        issuer=x509.load_der_x509_certificate(root.certificate),
        issuer_urls=PkiUrls(root.pki_url, root.id),
    )
    certificate = profile.issue(signing_key(custody, root), sealed.public_key, now)
    return _made(
        certificate,
        AuthorityKind.ISSUING,
        authority_id,
        root.namespace_id,
        root.id,
        sealed.sealed,
        key_type,
        root.pki_url,
    )


def signing_key(custody: KeyCustody, authority: Authority) -> PrivateKey:
    """The authority's private key, ready to sign.

    Raises:
        NotFound: the key is not kept here.
    """
    if authority.sealed_key is None:
        raise NotFound(f"the key of certificate authority {authority.id} is not kept here")
    return custody.load(key_name(authority.namespace_id, authority.id), authority.sealed_key)


def key_name(namespace_id: str, authority_id: str) -> RecordName:
    """What an authority's sealed key is bound to."""
    return RecordName(kind="authority-key", namespace=namespace_id, id=authority_id, version=1)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _made(
    certificate: x509.Certificate,
    kind: AuthorityKind,
    authority_id: str,
    namespace_id: str,
    issuer_id: str | None,
    sealed_key: bytes,
    key_type: KeyType,
    pki_url: str,
) -> Authority:
    return Authority(
        id=authority_id,
        namespace_id=namespace_id,
        kind=kind,
        issuer_id=issuer_id,
        certificate=certificate.public_bytes(Encoding.DER),
        sha256=sha256_fingerprint(certificate),
        sealed_key=sealed_key,
        key_type=key_type,
        pki_url=pki_url,
        crl_shards=CRL_SHARDS,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        revoked_at=None,
    )
