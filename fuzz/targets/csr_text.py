"""Certificate signing requests as text: base64, and the PEM of the preview."""

from __future__ import annotations

import base64
import re

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetroot.pki import CsrRefusal, CsrRefused, decode_csr, decode_csr_pem_or_base64
from fuzz.targets import csr

LIMIT = 600
MAX_BYTES = 800
TOKENS = (
    b"-----BEGIN CERTIFICATE REQUEST-----",
    b"-----END CERTIFICATE REQUEST-----",
    b"-----BEGIN NEW CERTIFICATE REQUEST-----",
    b"\r\n",
    b"=",
    b"==",
    b"MIH",
    b"Proc-Type: 4,ENCRYPTED",
)


def check(data: bytes) -> None:
    """Base64 has one spelling, PEM is that with armour around it, and both are bounded before they
    are looked at. JSON can carry lone surrogates, so text may have them.
    """
    try:
        given = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        given = data.decode("latin-1")
    plain = outcome(decode_csr, given)
    either = outcome(decode_csr_pem_or_base64, given)
    if len(given) > LIMIT:
        assert plain is either is CsrRefusal.TOO_LONG
        return
    if isinstance(plain, bytes):
        assert base64.b64encode(plain).decode() == given
        assert either == plain, "armour is not asked for"
        return
    assert plain is CsrRefusal.NOT_BASE64
    if isinstance(either, bytes):
        check_armoured(given, either)


def check_armoured(given: str, der: bytes) -> None:
    """PEM that was taken."""
    assert der
    body = re.sub(r"-----(BEGIN|END) (NEW )?CERTIFICATE REQUEST-----", "", given)
    assert base64.b64encode(der).decode() == "".join(body.split())
    assert given.count("-----") == 4
    assert given.count("NEW ") in (0, 2), "the armour is of two kinds"
    try:
        theirs = x509.load_pem_x509_csr(given.encode())
    except ValueError:
        return
    assert theirs.public_bytes(Encoding.DER) == der, "the library reads another request"


def outcome(decode: object, given: str) -> bytes | CsrRefusal:
    """The DER, or why there is none."""
    try:
        return decode(given, max_characters=LIMIT)  # type: ignore[operator, no-any-return]
    except CsrRefused as refused:
        return refused.reason


def seeds() -> dict[str, bytes]:
    """Both forms, as they come and as they break."""
    der = csr.seeds()["p256"]
    encoded = base64.b64encode(der)
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    return {
        "base64": encoded,
        "base64-line": encoded + b"\n",
        "base64-lines": base64.encodebytes(der),
        "url-safe": b"-_-_",
        "loose-bits": b"AB==",
        "pem": pem,
        "pem-crlf": pem.replace(b"\n", b"\r\n"),
        "pem-new": pem.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
        "pem-half-new": pem.replace(b"BEGIN CERTIFICATE", b"BEGIN NEW CERTIFICATE"),
        "pem-twice": pem + pem,
        "pem-certificate": pem.replace(b" REQUEST", b""),
        "pem-header": b"Proc-Type: 4,ENCRYPTED\n" + pem,
        "pem-one-line": b"-----BEGIN CERTIFICATE REQUEST-----\nMIHAAA==\n"
        b"-----END CERTIFICATE REQUEST-----",
        "too-long": b"A" * (LIMIT + 4),
    }
