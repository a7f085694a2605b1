"""The profile of the certificates of OCSP responders.

A CA lets another key answer for it, so that its own signs a certificate now and then and not every
answer. Nobody could look up whether that certificate was revoked without asking its very holder, so
it says that nobody should, and lives for days.

Source: RFC 6960 §4.2.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetroot.pki.certificate import new_serial
from fleetroot.pki.issuer import Issuer, extension, subject_key_identifier
from fleetroot.pki.keys import PrivateKey, PublicKey
from fleetroot.pki.lint import CertificateKind
from fleetroot.pki.profile import NOT_A_CA, check_profile, key_usage

_OCSP_SIGNING: Final = extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]))
_NO_CHECK: Final = extension(x509.OCSPNoCheck())
_SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fleetroot OCSP responder")])


@dataclass(frozen=True, slots=True)
class ResponderProfile:
    """Who answers for `issuer`.

    Raises:
        ValueError: the validity is not positive, or the issuer is not a CA.
    """

    issuer: x509.Certificate
    validity: timedelta
    _issuer: Issuer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_profile(_SUBJECT, self.validity)
        object.__setattr__(self, "_issuer", Issuer(self.issuer))

    def issue(
        self, issuer_key: PrivateKey, public_key: PublicKey, now: datetime
    ) -> x509.Certificate:
        """The responder's certificate.

        Raises:
            IssuerExpired: the issuer is not valid now.
            ValueError: the key is not the issuer's.
        """
        return self._issuer.sign(
            issuer_key,
            kind=CertificateKind.OCSP_RESPONDER,
            subject=_SUBJECT,
            public_key=public_key,
            serial=new_serial(),
            validity=self._issuer.validity(now, self.validity),
            extensions=[
                NOT_A_CA,
                extension(key_usage(digital_signature=True), critical=True),
                _OCSP_SIGNING,
                _NO_CHECK,
                extension(self._issuer.authority_key_identifier),
                subject_key_identifier(public_key),
            ],
        )
