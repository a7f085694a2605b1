"""Certificate authorities: their table, and making them.

An authority's row never changes but for `revoked_at`; a new key is a new row. What a row embeds for
ever (the public PKI URL, how many CRL shards) is chosen when it is made. A key whose certificate
somebody else signs is made here too, and waits in `requests`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from sqlalchemy import bindparam, select, update

from fleetroot.custody import KeyCustody, RecordName
from fleetroot.errors import NotFound
from fleetroot.pki import (
    ActivatedChain,
    IssuingProfile,
    KeyType,
    PkiUrls,
    RootProfile,
    certified_key,
    offline_authority_id,
    sha256_fingerprint,
    sign_authority_request,
    to_der,
)
from fleetroot.pki.der import first_element, skip_element
from fleetroot.pki.keys import PrivateKey
from fleetroot.registry.model import Authority, AuthorityKind, AuthorityRequest
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import authorities

ROOT_VALIDITY: Final = timedelta(days=20 * 365)
ISSUING_VALIDITY: Final = timedelta(days=5 * 365)
CRL_SHARDS: Final = 16  # fixed with each CA, because every leaf names its shard
AUTHORITY_KEY_TYPES: Final = frozenset(KeyType) - {KeyType.RSA_2048}
EXTERNAL_KEY_TYPES: Final = frozenset({KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521})


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
    policy_id: str | None,
    external_chain: bytes | None,
    listed_at: datetime | None,
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
        policy_id,
        _split(external_chain or b""),
        listed_at,
    )


def _split(certificates: bytes) -> tuple[bytes, ...]:
    found = []
    while certificates:
        found.append(first_element(certificates))
        certificates = skip_element(certificates)
    return tuple(found)


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
_ISSUING_OF_POLICY: Final = Query(
    select(authorities)
    .where(authorities.c.policy_id == bindparam("policy"))
    .where(authorities.c.namespace_id == bindparam("namespace"))
    .order_by(authorities.c.created_at, authorities.c.id),
    _row,
)
_REVOKED: Final = Query(
    select(authorities.c.revoked_at, authorities.c.listed_at).where(
        authorities.c.id == bindparam("id")
    ),
    lambda revoked_at, listed_at: revoked_at is not None or listed_at is not None,
)
_LISTED: Final = Query(
    select(authorities.c.id).where(
        (authorities.c.namespace_id == bindparam("namespace"))
        & (authorities.c.listed_at.is_not(None))
    ),
    str,
)
_SET_LISTED: Final = Command(
    update(authorities)
    .where(authorities.c.id == bindparam("of_id"))
    .values(listed_at=bindparam("at"))
)
_REVOKE: Final = Command(
    update(authorities)
    .where(authorities.c.id == bindparam("of_id"))
    .where(authorities.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
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


def have_key_of(tx: Transaction, certificate: x509.Certificate) -> bool:
    """Whether the certificate is for the key of one of them; its own key was checked before."""
    key = certificate.public_key()
    return any(
        x509.load_der_x509_certificate(each.certificate).public_key() == key for each in every(tx)
    )


def of_policy(tx: Transaction, namespace_id: str, policy_id: str) -> list[Authority]:
    """Every CA that signs or signed for the policy, oldest first."""
    return tx.all(_ISSUING_OF_POLICY, namespace=namespace_id, policy=policy_id)


def is_revoked(tx: Transaction, authority_id: str) -> bool:
    """Whether the authority was revoked, or stands on a list of a CA above it."""
    return tx.first(_REVOKED, id=authority_id) is True


def listed(tx: Transaction, namespace_id: str) -> frozenset[str]:
    """The ids of those that stand on a list of a CA above them, or under one that does."""
    return frozenset(tx.all(_LISTED, namespace=namespace_id))


def set_listed(tx: Transaction, authority: Authority, at: datetime | None) -> None:
    """Marks that the authority stands on such a list since `at`, or on none any more."""
    tx.run(_SET_LISTED, of_id=authority.id, at=at)


def revoke(tx: Transaction, authority: Authority, now: datetime) -> bool:
    """Marks the authority revoked, for good; False if it was before."""
    return tx.run(_REVOKE, of_id=authority.id, now=now) == 1


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
        policy_id=authority.policy_id,
        external_chain=b"".join(authority.external_chain) or None,
        listed_at=authority.listed_at,
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
    policy_id: str,
    subject: x509.Name | None = None,
    keep_in: str | None = None,
) -> Authority:
    """Makes a key and a certificate for it, signed by `root`; nothing is stored yet. As
    `make_root`. Without a `subject` it gets a name of its own, which begins with `name`.

    Raises:
        NotFound: the root's key is not kept here.
        IssuerExpired: the root is not valid now.
    """
    authority_id = str(uuid4())
    sealed = custody.generate(
        key_type,
        key_name(root.namespace_id, authority_id),
        keep_in=keep_in or custody.authorities_in,
    )
    profile = IssuingProfile(
        subject=subject or _issuing_subject(name, authority_id),
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
        policy_id,
    )


def make_request(
    custody: KeyCustody,
    *,
    root: Authority,
    is_external: bool,
    name: str,
    key_type: KeyType,
    now: datetime,
    policy_id: str,
    subject: x509.Name | None = None,
    keep_in: str | None = None,
) -> AuthorityRequest:
    """Makes a key and a request for its CA certificate, which is signed elsewhere: by `root`, or
    where `is_external` by a root that is not ours. Nothing is stored yet. As `make_root`.
    """
    authority_id = str(uuid4())
    named = key_name(root.namespace_id, authority_id)
    sealed = custody.generate(key_type, named, keep_in=keep_in or custody.authorities_in)
    key = custody.load(named, sealed.sealed)
    return AuthorityRequest(
        id=authority_id,
        namespace_id=root.namespace_id,
        policy_id=policy_id,
        issuer_id=None if is_external else root.id,
        request=sign_authority_request(key, subject or _issuing_subject(name, authority_id)),
        sealed_key=sealed.sealed,
        key_type=key_type,
        pki_url=root.pki_url,
        created_at=now,
    )


def of_activated(request: AuthorityRequest, chain: ActivatedChain) -> Authority:
    """The authority that a request becomes with its chain; nothing is stored yet."""
    made = _made(
        chain.issuing,
        AuthorityKind.ISSUING,
        request.id,
        request.namespace_id,
        request.issuer_id,
        request.sealed_key,
        request.key_type,
        request.pki_url,
        request.policy_id,
    )
    if request.issuer_id is not None:
        return made
    return replace(made, external_chain=tuple(map(to_der, chain.certificates[1:])))


def offline_root(namespace_id: str, certificate: x509.Certificate, pki_url: str) -> Authority:
    """A root whose key is kept elsewhere. Its id is of its certificate, so that whoever has the key
    can name it without being told.

    Raises:
        KeyRefused: its key is of no accepted kind.
    """
    _, key_type = certified_key(certificate)
    return _made(
        certificate,
        AuthorityKind.ROOT,
        offline_authority_id(certificate),
        namespace_id,
        None,
        None,
        key_type,
        pki_url,
    )


def ends_at(authority: Authority) -> datetime:
    """When it ends, or the first of the external CAs above it."""
    above = map(x509.load_der_x509_certificate, authority.external_chain)
    return min([authority.not_after, *(each.not_valid_after_utc for each in above)])


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


def _issuing_subject(name: str, authority_id: str) -> x509.Name:
    return _subject(f"{name} issuing {authority_id[:8]}")


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _made(
    certificate: x509.Certificate,
    kind: AuthorityKind,
    authority_id: str,
    namespace_id: str,
    issuer_id: str | None,
    sealed_key: bytes | None,
    key_type: KeyType,
    pki_url: str,
    policy_id: str | None = None,
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
        policy_id=policy_id,
    )
