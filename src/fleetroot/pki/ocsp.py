"""OCSP: reading requests and encoding answers.

The library reads requests. Answers are encoded here, as leaves and lists are, so that what is
signed is known before it is, and so that a request's CertID comes back byte for byte, which some
clients compare.

Source: RFC 6960 §4 and appendix A; RFC 9654 (nonces).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import ocsp

from fleetroot.pki.certificate import to_der
from fleetroot.pki.crl import CrlReason, Revoked
from fleetroot.pki.der import element, first_element, skip_element, unwrap_sequence
from fleetroot.pki.keys import PrivateKey, certified_key, public_key_info
from fleetroot.pki.lint_revocation import MAX_NONCE, check_answer
from fleetroot.pki.template import SignatureScheme, signature_scheme
from fleetroot.pki.unreadable import UNREADABLE

MAX_REQUEST: Final = 4096  # octets; a request without a signature of its own has some 100

_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_ENUMERATED: Final = 0x0A
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0  # EXPLICIT, as those behind it
_CONTEXT_1: Final = 0xA1
_CONTEXT_2: Final = 0xA2
_GOOD: Final = b"\x80\x00"  # [0] IMPLICIT NULL
_REVOKED: Final = 0xA1  # [1] IMPLICIT RevokedInfo
_UNKNOWN: Final = b"\x82\x00"  # [2] IMPLICIT NULL
_BASIC: Final = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
_NONCE: Final = bytes.fromhex("06092b0601050507300102")  # id-pkix-ocsp-nonce
_HASHES: Final = ("sha1", "sha256", "sha384", "sha512")


class OcspError(IntEnum):
    """OCSPResponseStatus of RFC 6960 §4.2.1, but for success."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


class OcspRefused(Exception):  # a refusal, as everywhere here
    """A request is not answered but by an error."""

    def __init__(self, error: OcspError) -> None:
        super().__init__(error.name)
        self.error = error


class IssuerHash(NamedTuple):
    """How a request names a CA: a hash's name, and that of its Name and of its key's bits."""

    algorithm: str
    name: bytes
    key: bytes


class OcspRequest(NamedTuple):
    """A request about one certificate.

    Attributes:
        certificate_id: the CertID, DER, as it came.
    """

    issuer: IssuerHash
    serial: int
    nonce: bytes | None
    certificate_id: bytes


class Standing(Enum):
    """How a certificate stands that was not revoked."""

    GOOD = "good"
    UNKNOWN = "unknown"  # it was never issued


Status: TypeAlias = Standing | Revoked


class OcspAnswer(NamedTuple):
    """A signed answer, DER."""

    der: bytes
    this_update: datetime
    next_update: datetime


def parse_request(der: bytes) -> OcspRequest:
    """Reads a request; a signature on it is not looked at (RFC 6960 §4.1.2 has it optional).

    Raises:
        OcspRefused: it is too long or none, asks about several certificates (RFC 5019 §2.1.1), has
            a critical extension that is not understood, or a nonce of a length that RFC 9654
            forbids. Or its hash is none of ours, so that it is about no CA of ours.
    """
    if len(der) > MAX_REQUEST:
        raise OcspRefused(OcspError.MALFORMED_REQUEST)
    try:
        request = ocsp.load_der_ocsp_request(der)
        nonce = _nonce_of(request)
        serial = request.serial_number
        certificate_id = _certificate_id(der)
    except (NotImplementedError, *UNREADABLE):
        raise OcspRefused(OcspError.MALFORMED_REQUEST) from None
    try:
        algorithm = request.hash_algorithm.name
    except UnsupportedAlgorithm:
        raise OcspRefused(OcspError.UNAUTHORIZED) from None
    issuer = IssuerHash(algorithm, request.issuer_name_hash, request.issuer_key_hash)
    return OcspRequest(issuer, serial, nonce, certificate_id)


def issuer_hashes(issuer: x509.Certificate) -> Iterator[IssuerHash]:
    """Every way in which a request may name this CA (RFC 6960 §4.1.1)."""
    name = issuer.subject.public_bytes()
    bits = _key_bits(public_key_info(certified_key(issuer)[0]))
    for algorithm in _HASHES:
        yield IssuerHash(
            algorithm,
            hashlib.new(algorithm, name, usedforsecurity=False).digest(),
            hashlib.new(algorithm, bits, usedforsecurity=False).digest(),
        )


def encode_error(error: OcspError) -> bytes:
    """An answer that is an error; errors are not signed."""
    return element(_SEQUENCE, element(_ENUMERATED, bytes((error,))))


@dataclass(frozen=True, slots=True)
class Responder:
    """Signs answers for one CA.

    Attributes:
        certificate: the responder's own, by the CA.
        key: the responder's.

    Raises:
        ValueError: the key is not the certificate's.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    _scheme: SignatureScheme = field(init=False, repr=False)
    _id: bytes = field(init=False, repr=False)
    _certificates: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        public_key, _ = certified_key(self.certificate)
        if self.key.public_key() != public_key:
            raise ValueError("the private key is not that of the responder's certificate")
        bits = _key_bits(public_key_info(public_key))
        key_hash = hashlib.sha1(bits, usedforsecurity=False).digest()  # RFC 6960 §4.2.1, KeyHash
        certificates = element(_SEQUENCE, to_der(self.certificate))
        for name, value in (
            ("_scheme", signature_scheme(public_key)),
            ("_id", element(_CONTEXT_2, element(_OCTET_STRING, key_hash))),
            ("_certificates", element(_CONTEXT_0, certificates)),
        ):
            object.__setattr__(self, name, value)

    def answer(
        self, request: OcspRequest, status: Status, now: datetime, lifetime: timedelta
    ) -> OcspAnswer:
        """What is answered to `request`, with its nonce if it has one.

        Args:
            now: producedAt and thisUpdate; nextUpdate is `lifetime` later, or when the responder's
                certificate ends.

        Raises:
            LintFailed: the responder is not valid now.
        """
        now = now.replace(microsecond=0)
        until = min(now + lifetime, self.certificate.not_valid_after_utc)
        single = element(
            _SEQUENCE,
            request.certificate_id
            + _encode_status(status, now)
            + _encode_time(now)
            + element(_CONTEXT_0, _encode_time(until)),
        )
        to_be_signed = element(
            _SEQUENCE,
            self._id
            + _encode_time(now)
            + element(_SEQUENCE, single)
            + (b"" if request.nonce is None else _encode_nonce(request.nonce)),
        )
        check_answer(
            ocsp.load_der_ocsp_response(self._assemble(to_be_signed, b"")), self.certificate
        )
        signature = self.key.sign(to_be_signed, *self._scheme.arguments)
        return OcspAnswer(self._assemble(to_be_signed, signature), now, until)

    def _assemble(self, to_be_signed: bytes, signature: bytes) -> bytes:
        basic = element(
            _SEQUENCE,
            to_be_signed
            + self._scheme.identifier
            + element(_BIT_STRING, b"\0" + signature)
            + self._certificates,
        )
        response = element(_SEQUENCE, _BASIC + element(_OCTET_STRING, basic))
        successful = element(_ENUMERATED, b"\0")
        return element(_SEQUENCE, successful + element(_CONTEXT_0, response))


def _nonce_of(request: ocsp.OCSPRequest) -> bytes | None:
    """Raises:
    OcspRefused: its length is out of bounds, or something else is critical.
    """
    nonce = None
    for each in request.extensions:
        if isinstance(each.value, x509.OCSPNonce):
            nonce = each.value.nonce
            if not 0 < len(nonce) <= MAX_NONCE:
                raise OcspRefused(OcspError.MALFORMED_REQUEST)
        elif each.critical:
            raise OcspRefused(OcspError.MALFORMED_REQUEST)
    return nonce


def _certificate_id(der: bytes) -> bytes:
    """The CertID of a request of one, whose structure the library has checked."""
    rest = unwrap_sequence(unwrap_sequence(der))  # OCSPRequest, TBSRequest
    while rest[:1] != b"\x30":  # [0] version, [1] requestorName
        rest = skip_element(rest)
    return first_element(unwrap_sequence(unwrap_sequence(rest)))  # requestList, Request


def _key_bits(info: bytes) -> bytes:
    """The BIT STRING of a SubjectPublicKeyInfo, without its count of unused bits."""
    return unwrap_sequence(skip_element(unwrap_sequence(info)))[1:]


def _encode_status(status: Status, now: datetime) -> bytes:
    if status is Standing.GOOD:
        return _GOOD
    if not isinstance(status, Revoked):
        return _UNKNOWN
    when = _encode_time(min(status.at, now))
    if status.reason is CrlReason.UNSPECIFIED:
        return element(_REVOKED, when)
    reason = element(_ENUMERATED, bytes((status.reason.number,)))
    return element(_REVOKED, when + element(_CONTEXT_0, reason))


def _encode_time(at: datetime) -> bytes:
    return element(_GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%SZ").encode())


def _encode_nonce(nonce: bytes) -> bytes:
    value = element(_OCTET_STRING, element(_OCTET_STRING, nonce))
    return element(_CONTEXT_1, element(_SEQUENCE, element(_SEQUENCE, _NONCE + value)))
