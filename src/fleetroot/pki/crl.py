"""Certificate revocation lists, encoded here.

The library's builder copies the whole list for every certificate that is added, so a hundred
thousand take hours. What an entry is made of is a serial number, a time and a reason; they are
joined as the leaf's template is. A test reads every list back with the library, and OpenSSL
verifies with them.

Source: RFC 5280 §5; ITU-T X.690 §10 and §11 (DER).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509

from fleetroot.pki.der import element
from fleetroot.pki.issuer import Issuer, extension
from fleetroot.pki.keys import PrivateKey
from fleetroot.pki.lint import SERIAL_END
from fleetroot.pki.lint_revocation import check_crl
from fleetroot.pki.template import (
    encode_extensions,
    encode_signed,
    encode_time,
    signature_scheme,
)

_SEQUENCE: Final = 0x30
_BIT_STRING: Final = 0x03
_EXTENSIONS: Final = 0xA0  # [0] EXPLICIT
_VERSION_2: Final = b"\x02\x01\x01"
_REASON_OID: Final = bytes.fromhex("0603551d15")
_NO_SIGNATURE: Final = element(_BIT_STRING, b"\0")


class CrlReason(Enum):
    """CRLReason of RFC 5280 §5.3.1: its name there and its number. `unspecified` is written by
    leaving the reason out; `removeFromCRL` belongs to delta lists, which there are none of.
    """

    UNSPECIFIED = "unspecified", 0
    KEY_COMPROMISE = "keyCompromise", 1
    CA_COMPROMISE = "cACompromise", 2
    AFFILIATION_CHANGED = "affiliationChanged", 3
    SUPERSEDED = "superseded", 4
    CESSATION_OF_OPERATION = "cessationOfOperation", 5
    CERTIFICATE_HOLD = "certificateHold", 6
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn", 9

    def __init__(self, word: str, number: int) -> None:
        self.word = word
        self.number = number

    @classmethod
    def of(cls, word: str | None) -> CrlReason:
        """The reason of that name; a name that is none here is not told to the world."""
        return _BY_WORD.get(word, cls.UNSPECIFIED)


_BY_WORD: Final[dict[str | None, CrlReason]] = {reason.word: reason for reason in CrlReason}


class Revoked(NamedTuple):
    """A certificate that was revoked."""

    serial: int
    at: datetime
    reason: CrlReason = CrlReason.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class CrlScope:
    """What a list is about (RFC 5280 §5.2.5, issuingDistributionPoint).

    Attributes:
        url: where it is, the same as in the certificates that it is for; None where it is the only
            list of its kind. OpenSSL's -crl_check_all asks for a list that is about the root, too,
            whose own certificate names no place.
        of_authorities: it is for CA certificates; otherwise for those of devices.
    """

    url: str | None
    of_authorities: bool

    def extension(self) -> x509.Extension[x509.ExtensionType]:
        """The critical extension."""
        return extension(
            x509.IssuingDistributionPoint(
                full_name=None if self.url is None else [x509.UniformResourceIdentifier(self.url)],
                relative_name=None,
                only_contains_user_certs=not self.of_authorities,
                only_contains_ca_certs=self.of_authorities,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            ),
            critical=True,
        )


def sign_crl(
    issuer: Issuer,
    key: PrivateKey,
    *,
    revoked: Iterable[Revoked],
    scope: CrlScope,
    number: int,
    now: datetime,
    lifetime: timedelta,
) -> bytes:
    """A signed list, DER. It ends no later than the issuer's own certificate does.

    Args:
        issuer: whose certificates it lists.
        key: the issuer's.
        revoked: each serial number once.
        number: higher than that of every list before it for the same scope.
        now: thisUpdate; nextUpdate is `lifetime` later. A revocation that is dated later, by a
            clock that was ahead, is written as of now.

    Raises:
        IssuerExpired: the issuer is not valid now.
        ValueError: the key is not the issuer's, or a serial number is out of range.
        LintFailed: the list is not what RFC 5280 wants.
    """
    issuer.check_key(key)
    now = now.replace(microsecond=0)
    until = min(now + lifetime, issuer.validity(now, lifetime).not_after)
    scheme = signature_scheme(issuer.public_key)
    entries = _entries(revoked, now)
    extensions = encode_extensions(
        [
            extension(issuer.authority_key_identifier),
            extension(x509.CRLNumber(number)),
            scope.extension(),
        ]
    )
    to_be_signed = element(
        _SEQUENCE,
        b"".join(
            (
                _VERSION_2,
                scheme.identifier,
                issuer.certificate.subject.public_bytes(),
                encode_time(now),
                encode_time(until),
                # RFC 5280 §5.1.2.6: absent where nothing is revoked.
                element(_SEQUENCE, entries) if entries else b"",
                element(_EXTENSIONS, element(_SEQUENCE, extensions)),
            )
        ),
    )
    draft = element(_SEQUENCE, to_be_signed + scheme.identifier + _NO_SIGNATURE)
    check_crl(x509.load_der_x509_crl(draft), issuer.certificate, scope.url)
    return encode_signed(key, scheme, to_be_signed)


def _entries(revoked: Iterable[Revoked], now: datetime) -> bytes:
    """Raises:
    ValueError: a serial number is out of range.
    """
    written = []
    for serial, at, reason in revoked:
        if not 0 < serial < SERIAL_END:
            raise ValueError(f"no serial number of a certificate: {serial:x}")
        octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        rest = _when_and_why(min(at, now).replace(microsecond=0), reason)
        # A serial number of at most 20 octets, a time and a reason are shorter than 128 octets.
        written.append(
            bytes((_SEQUENCE, 2 + len(octets) + len(rest), 0x02, len(octets))) + octets + rest
        )
    return b"".join(written)


@lru_cache(maxsize=4096)  # incidents revoke thousands in one second
def _when_and_why(at: datetime, reason: CrlReason) -> bytes:
    if reason is CrlReason.UNSPECIFIED:
        return encode_time(at)
    code = element(0x04, bytes((0x0A, 0x01, reason.number)))  # OCTET STRING of an ENUMERATED
    return encode_time(at) + element(_SEQUENCE, element(_SEQUENCE, _REASON_OID + code))
