"""The bytes of a leaf certificate, put together from what its profile fixed beforehand.

The library's builder encodes every extension anew and parses what it has just signed, which takes
longer than a P-256 signature does. All that depends on the device here is a serial number, two
times, a name, a key and three extensions, so the rest is encoded once, by the library, and joined.
A test holds the outcome against the builder's, byte for byte.

Source: RFC 5280 §4.1 and §4.2; ITU-T X.690 §10 and §11 (DER).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, padding, rsa

from fleetroot.pki.der import element, skip_element, unwrap_sequence
from fleetroot.pki.keys import PrivateKey, PublicKey, signature_hash
from fleetroot.pki.name import encode_name

_BOOLEAN_TRUE: Final = b"\x01\x01\xff"
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_SEQUENCE: Final = 0x30
_EXTENSIONS: Final = 0xA3  # [3] EXPLICIT
_URI: Final = 0x86  # GeneralName: [6] IMPLICIT IA5String
_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_SUBJECT_KEY_IDENTIFIER: Final = element(_OBJECT_IDENTIFIER, b"\x55\x1d\x0e")
_SUBJECT_ALTERNATIVE_NAME: Final = element(_OBJECT_IDENTIFIER, b"\x55\x1d\x11")
_SHA1: Final = bytes(20)
_BEFORE_KEY_IDENTIFIER: Final = element(
    _SEQUENCE,
    _SUBJECT_KEY_IDENTIFIER + element(_OCTET_STRING, element(_OCTET_STRING, _SHA1)),
).removesuffix(_SHA1)

# AlgorithmIdentifiers: RFC 5758 §3.2, RFC 4055 §5, RFC 9881 §2.
_ECDSA: Final = {
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
    "sha512": bytes.fromhex("300a06082a8648ce3d040304"),
}
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_ML_DSA: Final = bytes.fromhex("300b06096086480165030403")


class SignatureScheme(NamedTuple):
    """How a key signs certificates.

    Attributes:
        identifier: the AlgorithmIdentifier, DER.
        arguments: what the key's `sign` takes beside the data.
    """

    identifier: bytes
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class LeafTemplate:
    """What is the same in every leaf of a profile, encoded.

    Attributes:
        scheme: how the issuer signs.
        issuer: the issuer's Name.
        extensions: those that do not depend on the device, once for each shard.
    """

    scheme: SignatureScheme
    issuer: bytes
    extensions: tuple[bytes, ...]

    def sign(
        self,
        issuer_key: PrivateKey,
        *,
        serial: int,
        not_before: datetime,
        not_after: datetime,
        common_name: str,
        public_key_info: bytes,
        uri: str,
        shard: int,
    ) -> bytes:
        """The certificate, DER.

        Args:
            issuer_key: the issuer's; that it is, the caller has made sure.
            public_key_info: SubjectPublicKeyInfo, DER.
            uri: the one subject alternative name, ASCII.
        """
        algorithm = self.scheme.identifier
        extensions = (
            self.extensions[shard] + _key_identifier(public_key_info) + _alternative_name(uri)
        )
        to_be_signed = element(
            _SEQUENCE,
            b"".join(
                (
                    _VERSION_3,
                    encode_integer(serial),
                    algorithm,
                    self.issuer,
                    _validity(not_before, not_after),
                    encode_name(common_name),
                    public_key_info,
                    element(_EXTENSIONS, element(_SEQUENCE, extensions)),
                )
            ),
        )
        return encode_signed(issuer_key, self.scheme, to_be_signed)


def encode_signed(key: PrivateKey, scheme: SignatureScheme, to_be_signed: bytes) -> bytes:
    """What is signed, how, and the signature: the form of certificates and of revocation lists."""
    signature = key.sign(to_be_signed, *scheme.arguments)
    return element(
        _SEQUENCE, to_be_signed + scheme.identifier + element(_BIT_STRING, b"\0" + signature)
    )


def signature_scheme(key: PublicKey) -> SignatureScheme:
    """How the private key of `key` signs certificates."""
    digest = signature_hash(key)
    match key:
        case ec.EllipticCurvePublicKey():
            assert digest is not None  # noqa: S101 - only ML-DSA hashes by itself
            return SignatureScheme(_ECDSA[digest.name], (ec.ECDSA(digest),))
        case rsa.RSAPublicKey():
            return SignatureScheme(_RSA_SHA256, (padding.PKCS1v15(), digest))
        case mldsa.MLDSA44PublicKey():
            return SignatureScheme(_ML_DSA + b"\x11", ())
        case mldsa.MLDSA65PublicKey():
            return SignatureScheme(_ML_DSA + b"\x12", ())
        case mldsa.MLDSA87PublicKey():
            return SignatureScheme(_ML_DSA + b"\x13", ())


def encode_extensions(extensions: Sequence[x509.Extension[x509.ExtensionType]]) -> bytes:
    """The extensions one after the other, as RFC 5280 §4.1 has them."""
    return b"".join(
        element(
            _SEQUENCE,
            _oid(each.oid)
            + (_BOOLEAN_TRUE if each.critical else b"")
            + element(_OCTET_STRING, each.value.public_bytes()),
        )
        for each in extensions
    )


def _oid(oid: x509.ObjectIdentifier) -> bytes:
    first, second, *rest = (int(arc) for arc in oid.dotted_string.split("."))
    return element(
        _OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (40 * first + second, *rest))
    )


def _base128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(arc & 0x7F | 0x80)
    return bytes(reversed(octets))


def encode_integer(value: int) -> bytes:
    """A number that is not negative, as INTEGER."""
    return element(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@lru_cache(maxsize=16)  # certificates of one second begin and end alike
def _validity(not_before: datetime, not_after: datetime) -> bytes:
    return element(_SEQUENCE, encode_time(not_before) + encode_time(not_after))


def encode_time(at: datetime) -> bytes:
    """UTCTime through 2049, GeneralizedTime from then on (RFC 5280 §4.1.2.5)."""
    if at.year < 2050:
        return element(_UTC_TIME, at.strftime("%y%m%d%H%M%SZ").encode())
    return element(_GENERALIZED_TIME, at.strftime("%Y%m%d%H%M%SZ").encode())


def _key_identifier(public_key_info: bytes) -> bytes:
    """SHA-1 of the key's bits, as a name and not as a protection (RFC 5280 §4.2.1.2, method 1)."""
    bits = unwrap_sequence(skip_element(unwrap_sequence(public_key_info)))[1:]
    return _BEFORE_KEY_IDENTIFIER + hashlib.sha1(bits, usedforsecurity=False).digest()


def _alternative_name(uri: str) -> bytes:
    name = uri.encode("ascii")
    return _before_alternative_name(len(name)) + name


@lru_cache(maxsize=64)
def _before_alternative_name(length: int) -> bytes:
    """How the extension begins, in front of a URI of that many octets."""
    names = element(_SEQUENCE, element(_URI, bytes(length)))
    extension = _SUBJECT_ALTERNATIVE_NAME + element(_OCTET_STRING, names)
    return element(_SEQUENCE, extension).removesuffix(bytes(length))
