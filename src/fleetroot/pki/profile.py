"""The profiles of the certificates that make up a device's chain: root, issuing, operational.

A profile is made once from settings, is checked and fixed then, and nothing downstream checks it
again. What a profile signs is the same for every device but for the subject, the key, the
generation, the serial number and the dates; the rest is encoded when the profile is made.

Source: RFC 5280 §4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from fleetroot.pki.certificate import URN_UUID, new_leaf_serial, new_serial
from fleetroot.pki.csr import CertificateRequest
from fleetroot.pki.issuer import (
    Issuer,
    extension,
    own_validity,
    self_sign,
    subject_key_identifier,
)
from fleetroot.pki.keys import PrivateKey, PublicKey, public_key_info
from fleetroot.pki.lint import (
    CertificateKind,
    LeafValues,
    check_certificate,
    check_leaf,
    draft_key,
)
from fleetroot.pki.template import (
    LeafTemplate,
    SignatureScheme,
    encode_extensions,
    signature_scheme,
)
from fleetroot.pki.urls import PkiUrls


def key_usage(
    *, digital_signature: bool = False, certificates: bool = False, key_encipherment: bool = False
) -> x509.KeyUsage:
    """A key usage of what is asked for; `certificates` is keyCertSign together with cRLSign."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


CLIENT_AUTH: Final = extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
# digitalSignature too: a CA signs its own OCSP answers (RFC 6960 §4.2.2.2).
CA_KEY_USAGE: Final = extension(key_usage(digital_signature=True, certificates=True), critical=True)
NOT_A_CA: Final = extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)


@dataclass(frozen=True, slots=True)
class RootProfile:
    """A namespace's root: it signs issuing CAs, and those sign leaves.

    Raises:
        ValueError: the validity is not positive, or the subject is empty.
    """

    subject: x509.Name
    validity: timedelta

    def __post_init__(self) -> None:
        check_profile(self.subject, self.validity)

    def self_sign(self, key: PrivateKey, now: datetime) -> x509.Certificate:
        """The root certificate of `key`, valid from a little before `now`."""
        return self_sign(
            key,
            kind=CertificateKind.ROOT,
            subject=self.subject,
            validity=own_validity(now, self.validity),
            extensions=[
                extension(x509.BasicConstraints(ca=True, path_length=1), critical=True),
                CA_KEY_USAGE,
            ],
        )


@dataclass(frozen=True, slots=True)
class IssuingProfile:
    """An issuing CA under a root: it signs leaves only.

    Attributes:
        issuer: the root's certificate.
        issuer_urls: the root's URLs, for the certificate points at its issuer's revocation list.

    Raises:
        ValueError: a setting is out of range, or the root does not permit a CA beneath it.
    """

    subject: x509.Name
    validity: timedelta
    issuer: x509.Certificate
    issuer_urls: PkiUrls
    _issuer: Issuer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_profile(self.subject, self.validity)
        issuer = Issuer(self.issuer)
        if issuer.path_length == 0:
            raise ValueError("the root's path length does not permit an issuing CA")
        object.__setattr__(self, "_issuer", issuer)

    def issue(
        self, issuer_key: PrivateKey, public_key: PublicKey, now: datetime
    ) -> x509.Certificate:
        """The issuing CA's certificate.

        Raises:
            IssuerExpired: the root is not valid now.
            ValueError: the key is not the root's.
        """
        return self._issuer.sign(
            issuer_key,
            kind=CertificateKind.ISSUING,
            subject=self.subject,
            public_key=public_key,
            serial=new_serial(),
            validity=self._issuer.validity(now, self.validity),
            extensions=[
                extension(x509.BasicConstraints(ca=True, path_length=0), critical=True),
                CA_KEY_USAGE,
                CLIENT_AUTH,
                extension(self._issuer.authority_key_identifier),
                _revocation_list(self.issuer_urls, 0),
                _authority_information(self.issuer_urls),
                subject_key_identifier(public_key),
            ],
        )


class IssuedCertificate(NamedTuple):
    """A leaf as it was signed, with what the inventory keeps of it.

    Attributes:
        der: the certificate.
        sha256: its fingerprint, 32 bytes.
        crl_shard: which shard of its issuer's revocation list it names.
    """

    der: bytes
    serial: int
    sha256: bytes
    not_before: datetime
    not_after: datetime
    crl_shard: int


@dataclass(frozen=True, slots=True)
class OperationalProfile:
    """The operational certificates of one policy under one issuing CA.

    Attributes:
        issuer: the issuing CA's certificate.
        urls: the issuing CA's URLs.
        crl_shards: into how many shards its revocation list is cut; at least 1.
        validity: how long a leaf lives, unless its issuer ends sooner.

    Raises:
        ValueError: a setting is out of range, or the issuer is not a CA.
    """

    issuer: x509.Certificate
    urls: PkiUrls
    crl_shards: int
    validity: timedelta
    _issuer: Issuer = field(init=False, repr=False, compare=False)
    _template: LeafTemplate = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_profile(self.issuer.subject, self.validity)
        if self.crl_shards < 1:
            raise ValueError("a revocation list has at least one shard")
        issuer = Issuer(self.issuer)
        everywhere = encode_extensions(
            [
                NOT_A_CA,
                extension(key_usage(digital_signature=True), critical=True),
                CLIENT_AUTH,
                extension(issuer.authority_key_identifier),
                _authority_information(self.urls),
            ]
        )
        template = LeafTemplate(
            signature_scheme(issuer.public_key),
            self.issuer.subject.public_bytes(),
            tuple(
                everywhere + encode_extensions([_revocation_list(self.urls, shard)])
                for shard in range(self.crl_shards)
            ),
        )
        object.__setattr__(self, "_issuer", issuer)
        object.__setattr__(self, "_template", template)
        self._check_template()

    def _check_template(self) -> None:
        """Lints a leaf of every shard. They say that they are signed as the issuer signs, and are
        with a key for drafts.
        """
        key = draft_key()
        template = replace(
            self._template,
            scheme=SignatureScheme(
                self._template.scheme.identifier, signature_scheme(key.public_key()).arguments
            ),
        )
        for shard in range(self.crl_shards):
            der = template.sign(
                key,
                serial=shard + 1,
                not_before=self.issuer.not_valid_before_utc,
                not_after=self.issuer.not_valid_after_utc,
                common_name="device",
                public_key_info=public_key_info(key.public_key()),
                uri=f"{URN_UUID}{UUID(int=0)}",
                shard=shard,
            )
            draft = x509.load_der_x509_certificate(der)
            check_certificate(draft, CertificateKind.OPERATIONAL, self.issuer)

    def issue(
        self,
        issuer_key: PrivateKey,
        request: CertificateRequest | PublicKey,
        *,
        device_id: str,
        generation: UUID,
        now: datetime,
    ) -> IssuedCertificate:
        """The device's leaf, signed.

        Args:
            issuer_key: the issuing CA's key.
            request: whose key is certified; nothing else in a request has a say.
            device_id: the one common name, exactly as stored.
            generation: the device's generation, embedded as `urn:uuid:`.
            now: the time of this decision.

        Raises:
            IssuerExpired: the issuing CA is not valid now.
            ValueError: the key is not the issuing CA's.
            LintFailed: the device id or the key cannot be written into a certificate.
        """
        info = (
            request.public_key_info
            if isinstance(request, CertificateRequest)
            else public_key_info(request)
        )
        self._issuer.check_key(issuer_key)
        serial = new_leaf_serial(now)
        shard = serial % self.crl_shards
        validity = self._issuer.validity(now, self.validity)
        check_leaf(LeafValues(serial, validity.not_before, validity.not_after, device_id, info))
        # A common name has up to 64 characters by RFC 5280 appendix A, a device id up to 128.
        # Longer names are read by every verifier we know; cutting one would name another device.
        der = self._template.sign(
            issuer_key,
            serial=serial,
            not_before=validity.not_before,
            not_after=validity.not_after,
            common_name=device_id,
            public_key_info=info,
            uri=f"{URN_UUID}{generation}",
            shard=shard,
        )
        return IssuedCertificate(
            der=der,
            serial=serial,
            sha256=hashlib.sha256(der).digest(),
            not_before=validity.not_before,
            not_after=validity.not_after,
            crl_shard=shard,
        )


def check_profile(subject: x509.Name, validity: timedelta) -> None:
    """Refuses what no profile may have: an empty CA name (RFC 5280 §4.1.2.4) or no lifetime.

    Raises:
        ValueError: either is so.
    """
    if not list(subject):
        raise ValueError("a CA's subject must not be empty")
    if validity < timedelta(seconds=1):
        raise ValueError("the validity must be at least a second")


def _revocation_list(urls: PkiUrls, shard: int) -> x509.Extension[x509.ExtensionType]:
    point = x509.DistributionPoint(
        full_name=[x509.UniformResourceIdentifier(urls.crl(shard))],
        relative_name=None,
        reasons=None,
        crl_issuer=None,
    )
    return extension(x509.CRLDistributionPoints([point]))


def _authority_information(urls: PkiUrls) -> x509.Extension[x509.ExtensionType]:
    return extension(
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(
                    AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(urls.ocsp)
                ),
                x509.AccessDescription(
                    AuthorityInformationAccessOID.CA_ISSUERS,
                    x509.UniformResourceIdentifier(urls.ca_issuers),
                ),
            ]
        )
    )
