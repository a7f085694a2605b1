"""Certificates that somebody uploads, and the proof that a CA's key is theirs.

A CA's certificate is public, so having it shows nothing. Its owner shows the key by having it sign
a certificate whose common name is a code that was drawn for this.

Source: Azure IoT Hub, "Verify X.509 CA certificate with proof of possession".
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import datetime
from typing import Final

from cryptography import x509

from fleetroot.pki.certificate import common_name_of
from fleetroot.pki.keys import is_strongly_signed
from fleetroot.pki.rules import (
    ChainRefusal,
    ca_problem,
    is_readable,
    is_signed_by,
    issuer_problem,
    strength_problem,
)
from fleetroot.pki.unreadable import UNREADABLE

MAX_CERTIFICATE_TEXT: Final = 32 * 1024  # characters
_PEM: Final = "-----BEGIN CERTIFICATE-----"


class UploadRefused(Exception):  # a refusal, as everywhere here
    """A certificate is not taken; `message` says why, `rule` is the broken rule's name."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule


def read_certificate_text(text: str) -> x509.Certificate:
    """One certificate: PEM text, or base64 of DER or of PEM text.

    Raises:
        UploadRefused: it is none of them, or too large.
    """
    if len(text) > MAX_CERTIFICATE_TEXT:
        raise UploadRefused("the certificate is too large", "too_large")
    text = text.strip()
    try:
        if text.startswith(_PEM):
            return _only(text.encode())
        decoded = base64.b64decode("".join(text.split()), validate=True)
        if decoded.lstrip().startswith(_PEM.encode()):
            return _only(decoded)
        found = x509.load_der_x509_certificate(decoded)
    except (binascii.Error, *UNREADABLE) as error:
        raise UploadRefused("the certificate is neither PEM nor base64", "malformed") from error
    return _readable(found)


def _only(pem: bytes) -> x509.Certificate:
    found = x509.load_pem_x509_certificates(pem)
    if len(found) != 1:
        raise UploadRefused("the PEM text has more than one certificate", "malformed")
    return _readable(found[0])


def _readable(certificate: x509.Certificate) -> x509.Certificate:
    if not is_readable(certificate):
        raise UploadRefused("the certificate cannot be read", "malformed")
    return certificate


def check_uploaded_ca(certificate: x509.Certificate, at: datetime) -> None:
    """Lets a certificate pass that may be the CA of devices' certificates.

    Raises:
        UploadRefused: it breaks a rule.
    """
    problem = issuer_problem(certificate, 0, at, is_anchor=True)
    if problem is not None:
        raise UploadRefused(f"the certificate cannot be a CA's: {problem.value}", problem.value)


def check_enrolled_device(certificate: x509.Certificate) -> None:
    """Lets a certificate pass that a device may show to provision; a CA's, too, since it counts for
    itself alone. Its time is looked at when it is shown.

    Raises:
        UploadRefused: its key or its signature is weak.
    """
    _refuse(strength_problem(certificate))


def check_enrolled_ca(certificate: x509.Certificate) -> None:
    """Lets a certificate pass to which devices' chains may lead. Its time is looked at when they
    are shown.

    Raises:
        UploadRefused: it is no CA's, or its key or its signature is weak.
    """
    _refuse(ca_problem(certificate) or strength_problem(certificate))


def _refuse(problem: ChainRefusal | None) -> None:
    if problem is not None:
        words = _WORDS.get(problem, f"cannot be taken ({problem.value})")
        raise UploadRefused(f"the certificate {words}", problem.value)


_WORDS: Final = {
    ChainRefusal.WEAK_SIGNATURE: "is signed by an algorithm that is too weak or unknown",
    ChainRefusal.WEAK_KEY: "has a key that is too weak or of a kind that is not accepted",
    ChainRefusal.NOT_A_CA: "is not a CA's: it has no basic constraints with CA:TRUE",
    ChainRefusal.KEY_CERT_SIGN_MISSING: "is not a CA's: its key usage has no keyCertSign",
    ChainRefusal.CLIENT_AUTH_MISSING: "is of a CA for other purposes than clientAuth",
    ChainRefusal.NAME_CONSTRAINT: "has name constraints that are not understood",
}


def check_possession(
    ca: x509.Certificate, proof: x509.Certificate, code: str, at: datetime
) -> None:
    """Lets a proof pass: a certificate that the CA's key signed over the code.

    Raises:
        UploadRefused: it is no proof.
    """
    name = common_name_of(proof) or ""
    if not hmac.compare_digest(name.encode(), code.encode()):
        raise UploadRefused(
            "the common name of the certificate is not the verification code", "wrong_code"
        )
    if not proof.not_valid_before_utc <= at <= proof.not_valid_after_utc:
        raise UploadRefused("the verification certificate is not valid now", "expired")
    if not is_strongly_signed(proof) or not is_signed_by(proof, ca):
        raise UploadRefused(
            "the verification certificate is not signed by the key of the CA", "bad_signature"
        )
