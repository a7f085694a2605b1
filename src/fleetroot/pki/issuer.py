"""What every profile shares: the issuer's side of a certificate.

An `Issuer` is read once from a CA certificate. It knows the name, key identifier, hash and validity
that go into whatever it signs, and refuses to sign outside its own validity or with another's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fleetroot.pki.certificate import new_serial
from fleetroot.pki.keys import PrivateKey, PublicKey, certified_key, signature_hash
from fleetroot.pki.lint import CertificateKind, check_certificate, draft_key

# A device's clock may lag ours a little, and must not reject what it was just given.
BACKDATE: Final = timedelta(minutes=5)


class IssuerExpired(Exception):  # a refusal, as everywhere here
    """The issuing certificate is not valid now, so nothing may be signed under it."""


class Validity(NamedTuple):
    """notBefore and notAfter, both inclusive, in whole seconds of UTC (RFC 5280 §4.1.2.5)."""

    not_before: datetime
    not_after: datetime


def own_validity(now: datetime, lifetime: timedelta) -> Validity:
    """The validity of a self-signed certificate made now."""
    now = _utc_seconds(now)
    return Validity(now - BACKDATE, now + lifetime)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA certificate in the place of the issuer.

    Raises:
        ValueError: the certificate is not a CA's (RFC 5280 §4.2.1.9).
        KeyRefused: its key is of no accepted kind.
    """

    certificate: x509.Certificate
    public_key: PublicKey = field(init=False, repr=False)
    authority_key_identifier: x509.AuthorityKeyIdentifier = field(init=False, repr=False)
    path_length: int | None = field(init=False, repr=False)
    _name: x509.Name = field(init=False, repr=False)
    _not_before: datetime = field(init=False, repr=False)
    _not_after: datetime = field(init=False, repr=False)
    _hash: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = field(init=False, repr=False)
    # The key last seen to be this certificate's; comparing keys costs, comparing objects does not.
    _proven: list[PrivateKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        certificate = self.certificate
        public_key, _ = certified_key(certificate)
        for name, value in (
            ("public_key", public_key),
            ("authority_key_identifier", _identifier_for_children(certificate, public_key)),
            ("path_length", _path_length(certificate)),
            ("_name", certificate.subject),
            ("_not_before", certificate.not_valid_before_utc),
            ("_not_after", certificate.not_valid_after_utc),
            ("_hash", signature_hash(public_key)),
            ("_proven", []),
        ):
            object.__setattr__(self, name, value)

    def validity(self, now: datetime, lifetime: timedelta) -> Validity:
        """The validity of a certificate signed now: never outside the issuer's own.

        Raises:
            IssuerExpired: the issuer is not valid now.
        """
        now = _utc_seconds(now)
        if not self._not_before <= now <= self._not_after:
            raise IssuerExpired(
                f"the issuing certificate is valid from {self._not_before:%Y-%m-%dT%H:%M:%SZ} "
                f"to {self._not_after:%Y-%m-%dT%H:%M:%SZ} only"
            )
        return Validity(max(now - BACKDATE, self._not_before), min(now + lifetime, self._not_after))

    def check_key(self, issuer_key: PrivateKey) -> None:
        """Raises:
        ValueError: the key is not the issuer's.
        """
        if not self._proven or self._proven[0] is not issuer_key:
            if issuer_key.public_key() != self.public_key:
                raise ValueError("the private key is not that of the issuing certificate")
            self._proven[:] = [issuer_key]

    def sign(
        self,
        issuer_key: PrivateKey,
        *,
        kind: CertificateKind,
        subject: x509.Name,
        public_key: PublicKey,
        serial: int,
        validity: Validity,
        extensions: Sequence[x509.Extension[x509.ExtensionType]],
    ) -> x509.Certificate:
        """Signs a certificate under this issuer.

        Raises:
            ValueError: the key is not the issuer's.
            LintFailed: the certificate is not what its kind must be.
        """
        self.check_key(issuer_key)
        # The constructor takes all at once; the chained calls copy and re-check the extensions
        # once for each of them, which took a quarter of the time.
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public_key,
            serial_number=serial,
            not_valid_before=validity.not_before,
            not_valid_after=validity.not_after,
            extensions=list(extensions),
        )
        check_certificate(builder.sign(draft_key(), hashes.SHA256()), kind, self.certificate)
        return builder.sign(issuer_key, self._hash)


def self_sign(
    key: PrivateKey,
    *,
    kind: CertificateKind,
    subject: x509.Name,
    validity: Validity,
    extensions: Sequence[x509.Extension[x509.ExtensionType]],
) -> x509.Certificate:
    """Signs a certificate of a key with that key; its subject key identifier is added.

    Raises:
        LintFailed: the certificate is not what its kind must be.
    """
    public_key = key.public_key()
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=public_key,
        serial_number=new_serial(),
        not_valid_before=validity.not_before,
        not_valid_after=validity.not_after,
        extensions=[*extensions, subject_key_identifier(public_key)],
    )
    check_certificate(builder.sign(draft_key(), hashes.SHA256()), kind, None)
    return builder.sign(key, signature_hash(key))


def extension(
    value: x509.ExtensionType, *, critical: bool = False
) -> x509.Extension[x509.ExtensionType]:
    """An extension with its own OID, as the certificate builder wants it."""
    return x509.Extension(value.oid, critical, value)


def subject_key_identifier(public_key: PublicKey) -> x509.Extension[x509.ExtensionType]:
    """SHA-1 of the public key, as a name and not as a protection (RFC 5280 §4.2.1.2, method 1)."""
    return extension(x509.SubjectKeyIdentifier.from_public_key(public_key))


def _identifier_for_children(
    certificate: x509.Certificate, public_key: PublicKey
) -> x509.AuthorityKeyIdentifier:
    """What an issuer's certificates carry as AKI: its SKI, as it is spelt there."""
    try:
        ski = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        ski = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def _path_length(certificate: x509.Certificate) -> int | None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise ValueError("the issuing certificate has no basic constraints") from None
    if not constraints.ca:
        raise ValueError("the issuing certificate is not a CA's")
    return constraints.path_length


def _utc_seconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC).replace(microsecond=0)
