"""The request of a CA for its certificate, which somebody else signs: a root that is not ours, or
one of ours whose key is kept elsewhere.

Source: RFC 2986 (PKCS#10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetroot.pki.keys import KeyRefused, PrivateKey, PublicKey, certified_key, signature_hash
from fleetroot.pki.profile import CA_KEY_USAGE
from fleetroot.pki.unreadable import UNREADABLE

MAX_REQUEST_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class AuthoritySigningRequest:
    """A CA's request that was read and whose signature verifies."""

    subject: x509.Name
    public_key: PublicKey


def sign_authority_request(key: PrivateKey, subject: x509.Name) -> bytes:
    """A request (DER) for the certificate of an issuing CA that signs leaves only."""
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(constraints, critical=True)
        .add_extension(CA_KEY_USAGE.value, critical=True)
        .sign(key, signature_hash(key))
        .public_bytes(Encoding.DER)
    )


def read_authority_request(der: bytes) -> AuthoritySigningRequest:
    """Reads what `sign_authority_request` made.

    Raises:
        ValueError: it is no such request, or its signature does not verify.
    """
    if len(der) > MAX_REQUEST_BYTES:
        raise ValueError("the request is too large")
    try:
        request = x509.load_der_x509_csr(der)
        subject, verifies = request.subject, request.is_signature_valid
    except UNREADABLE as error:
        raise ValueError("the request cannot be read") from error
    if not verifies:
        raise ValueError("the request's signature does not verify")
    try:
        public_key, _ = certified_key(request)
    except KeyRefused as error:
        raise ValueError(error.message) from error
    return AuthoritySigningRequest(subject, public_key)
