"""Makes certificates of every shape, in order or not, for the corpus beside this file.

A library refuses to build what is wrong, so the certificate is put together element by element
(RFC 5280 §4.1): what is given as text, datetime or extension is encoded as it should be, and what
is given as bytes goes in as it is. Keys come from their label, EC signatures are deterministic:
but for RSA keys, which a session makes anew, every run sees the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pki_workshop import DAY, NOW, YEAR, usage

from fleetroot.pki.der import element

SECOND = timedelta(seconds=1)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
UNKNOWN_OID = "1.3.6.1.4.1.55555.1"

_DEFAULT: Any = object()

_CURVES: dict[str, ec.EllipticCurve] = {
    "P-224": ec.SECP224R1(),
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
    "brainpoolP256r1": ec.BrainpoolP256R1(),
}
_ML_DSA = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
}


@cache
def key(label: str, kind: str = "P-256") -> Any:
    """The private key of this label: an EC curve, `RSA-<bits>`, an Edwards curve, or ML-DSA."""
    seed = hashlib.sha512(f"{kind} {label}".encode()).digest()
    if (curve := _CURVES.get(kind)) is not None:
        return ec.derive_private_key(int.from_bytes(seed[:26], "big"), curve)
    if (ml_dsa := _ML_DSA.get(kind)) is not None:
        return ml_dsa.from_seed_bytes(seed[:32])
    match kind.split("-"):
        case ["RSA", bits]:
            return rsa.generate_private_key(65537, int(bits))
        case ["RSA", bits, "e3"]:
            return rsa.generate_private_key(3, int(bits))
        case ["DSA", bits]:
            return dsa.generate_private_key(int(bits))
        case ["Ed25519"]:
            return ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32])
        case _:
            return ed448.Ed448PrivateKey.from_private_bytes(seed[:57])


# --- DER -----------------------------------------------------------------------------------------


def sequence(*parts: bytes) -> bytes:
    return element(0x30, b"".join(parts))


def integer(value: int) -> bytes:
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octets(contents: bytes) -> bytes:
    return element(0x04, contents)


def bits(contents: bytes) -> bytes:
    return element(0x03, b"\x00" + contents)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    encoded = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(arc & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return element(0x06, bytes(encoded))


def utc_time(moment: datetime) -> bytes:
    return element(0x17, f"{moment:%y%m%d%H%M%SZ}".encode())


def generalized_time(moment: datetime) -> bytes:
    return element(0x18, f"{moment.year:04}{moment:%m%d%H%M%SZ}".encode())


NULL = b"\x05\x00"
TRUE = b"\x01\x01\xff"


# --- Signatures ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """An AlgorithmIdentifier, and how a key makes such a signature."""

    identifier: bytes
    sign: Callable[[Any, bytes], bytes]

    def spelt(self, identifier: bytes) -> Signature:
        """The same signature under another AlgorithmIdentifier."""
        return Signature(identifier, self.sign)


def _ecdsa(dotted: str, digest: hashes.HashAlgorithm) -> Signature:
    algorithm = ec.ECDSA(digest, deterministic_signing=True)
    return Signature(sequence(oid(dotted)), lambda signer, tbs: signer.sign(tbs, algorithm))


def _rsa(dotted: str, digest: hashes.HashAlgorithm) -> Signature:
    return Signature(
        sequence(oid(dotted), NULL),
        lambda signer, tbs: signer.sign(tbs, padding.PKCS1v15(), digest),
    )


def pss(digest: Any, digest_oid: str, *, salt: int | None = None) -> Signature:
    """RSASSA-PSS (RFC 4055 §3.1); the salt is as long as the digest unless it is given."""
    salt = digest.digest_size if salt is None else salt
    hashing = sequence(oid(digest_oid), NULL)
    masking = sequence(oid("1.2.840.113549.1.1.8"), hashing)
    # SHA-1 and 20 are the defaults, which DER leaves out.
    parameters = b"" if digest.name == "sha1" else element(0xA0, hashing) + element(0xA1, masking)
    parameters += b"" if salt == 20 else element(0xA2, integer(salt))
    how = padding.PSS(padding.MGF1(digest), salt)
    return Signature(
        sequence(oid("1.2.840.113549.1.1.10"), sequence(parameters)),
        lambda signer, tbs: signer.sign(tbs, how, digest),
    )


def _plain(dotted: str) -> Signature:
    return Signature(sequence(oid(dotted)), lambda signer, tbs: signer.sign(tbs))


ECDSA_SHA1 = _ecdsa("1.2.840.10045.4.1", hashes.SHA1())
ECDSA_SHA224 = _ecdsa("1.2.840.10045.4.3.1", hashes.SHA224())
ECDSA_SHA256 = _ecdsa("1.2.840.10045.4.3.2", hashes.SHA256())
ECDSA_SHA384 = _ecdsa("1.2.840.10045.4.3.3", hashes.SHA384())
ECDSA_SHA512 = _ecdsa("1.2.840.10045.4.3.4", hashes.SHA512())
ECDSA_SHA3_256 = _ecdsa("2.16.840.1.101.3.4.3.10", hashes.SHA3_256())
RSA_MD5 = _rsa("1.2.840.113549.1.1.4", hashes.MD5())
RSA_SHA1 = _rsa("1.2.840.113549.1.1.5", hashes.SHA1())
RSA_SHA256 = _rsa("1.2.840.113549.1.1.11", hashes.SHA256())
RSA_SHA512 = _rsa("1.2.840.113549.1.1.13", hashes.SHA512())
PSS_SHA256 = pss(hashes.SHA256(), "2.16.840.1.101.3.4.2.1")
PSS_SHA384 = pss(hashes.SHA384(), "2.16.840.1.101.3.4.2.2")
PSS_SHA1 = pss(hashes.SHA1(), "1.3.14.3.2.26")

_USUAL: dict[type[Any], Signature] = {
    rsa.RSAPrivateKey: RSA_SHA256,
    ed25519.Ed25519PrivateKey: _plain("1.3.101.112"),
    ed448.Ed448PrivateKey: _plain("1.3.101.113"),
    mldsa.MLDSA44PrivateKey: _plain("2.16.840.1.101.3.4.3.17"),
    mldsa.MLDSA65PrivateKey: _plain("2.16.840.1.101.3.4.3.18"),
    mldsa.MLDSA87PrivateKey: _plain("2.16.840.1.101.3.4.3.19"),
}
_USUAL_OF_CURVE = {"secp384r1": ECDSA_SHA384, "secp521r1": ECDSA_SHA512}


def usual_signature(signer: Any) -> Signature:
    """What `profile` would sign with."""
    if isinstance(signer, ec.EllipticCurvePrivateKey):
        return _USUAL_OF_CURVE.get(signer.curve.name, ECDSA_SHA256)
    return next(each for kind, each in _USUAL.items() if isinstance(signer, kind))


# --- Certificates --------------------------------------------------------------------------------


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])


def common_name(text: str) -> x509.Name:
    return name((NameOID.COMMON_NAME, text))


def extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    return raw_extension(value.oid.dotted_string, value.public_bytes(), critical=critical)


def raw_extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """An extension with whatever in it (RFC 5280 §4.2)."""
    return sequence(oid(dotted), TRUE if critical else b"", octets(value))


def unknown(*, critical: bool) -> bytes:
    return raw_extension(UNKNOWN_OID, NULL, critical=critical)


def key_info(private_key: Any) -> bytes:
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def constraints(
    permitted: Sequence[x509.GeneralName] | None = None,
    excluded: Sequence[x509.GeneralName] | None = None,
    *,
    critical: bool = True,
) -> bytes:
    return extension(x509.NameConstraints(permitted, excluded), critical=critical)


def names(*alternatives: x509.GeneralName, critical: bool = False) -> bytes:
    return extension(x509.SubjectAlternativeName(alternatives), critical=critical)


def certificate(
    subject: str | x509.Name | bytes,
    issuer: str | x509.Name | bytes,
    *,
    own_key: Any = None,
    signer: Any = None,
    ca: bool | None = False,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None = _DEFAULT,
    purposes: Sequence[x509.ObjectIdentifier] | None = _DEFAULT,
    authority: bytes | None = _DEFAULT,
    identifier: bytes | None = _DEFAULT,
    extra: Sequence[bytes] = (),
    extensions: bytes | None = _DEFAULT,
    not_before: datetime | bytes = NOW - DAY,
    not_after: datetime | bytes = NOW + YEAR,
    version: int | None = 2,
    serial: int | bytes = _DEFAULT,
    public_key_info: bytes | None = None,
    signature: Signature | None = None,
    outer_identifier: bytes | None = None,
    spoil: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """A certificate in DER, in order but for what the arguments spoil.

    Args:
        own_key: its private key; that of the subject's text unless it is given.
        signer: the issuer's private key; that of the issuer's text unless it is given.
        ca: what basic constraints say; None leaves them out.
        authority: the authority key identifier; None leaves it out.
        identifier: the subject key identifier; None leaves it out.
        extra: more extensions, encoded.
        extensions: everything after the public key, in place of all extensions; None: nothing.
        version: as encoded, so 2 for v3; None leaves it out, for v1.
        public_key_info: in place of the key's.
        signature: how it is signed, where not as usual for the signer.
        outer_identifier: the AlgorithmIdentifier outside the signed part, if it is another.
        spoil: changes the signed part before it is signed.
    """
    own_key = own_key or key(subject if isinstance(subject, str) else "unnamed")
    signer = signer or key(issuer if isinstance(issuer, str) else "unnamed")
    signature = signature or usual_signature(signer)
    public_key_info = public_key_info or key_info(own_key)
    if extensions is _DEFAULT:
        parts = _extensions(
            ca, path_length, key_usage, purposes, authority, identifier, own_key, signer
        )
        extensions = element(0xA3, sequence(*parts, *extra))
    body = b"".join(
        [
            b"" if version is None else element(0xA0, integer(version)),
            _serial(serial, subject, issuer),
            signature.identifier,
            _name(issuer),
            sequence(_time(not_before), _time(not_after)),
            _name(subject),
            public_key_info,
            extensions or b"",
        ]
    )
    tbs = spoil(sequence(body))
    return sequence(
        tbs, outer_identifier or signature.identifier, bits(signature.sign(signer, tbs))
    )


def root(subject: Any = "root", **spoilt: Any) -> bytes:
    return certificate(subject, subject, **{"ca": True, **spoilt})


def ca(subject: Any = "issuing", issuer: Any = "root", **spoilt: Any) -> bytes:
    return certificate(subject, issuer, **{"ca": True, **spoilt})


def leaf(subject: Any = "device-1", issuer: Any = "issuing", **spoilt: Any) -> bytes:
    return certificate(subject, issuer, **spoilt)


def _extensions(
    ca: bool | None,
    path_length: int | None,
    key_usage: x509.KeyUsage | None,
    purposes: Sequence[x509.ObjectIdentifier] | None,
    authority: bytes | None,
    identifier: bytes | None,
    own_key: Any,
    signer: Any,
) -> list[bytes]:
    parts = []
    if ca is not None:
        parts.append(extension(x509.BasicConstraints(ca, path_length), critical=True))
    if key_usage is _DEFAULT:
        key_usage = usage(sign=True, certificates=bool(ca))
    if key_usage is not None:
        parts.append(extension(key_usage, critical=True))
    if purposes is _DEFAULT:
        purposes = None if ca else [CLIENT]
    if purposes is not None:
        parts.append(extension(x509.ExtendedKeyUsage(purposes)))
    if authority is _DEFAULT:
        authority = key_identifier(signer)
    if authority is not None:
        parts.append(extension(x509.AuthorityKeyIdentifier(authority, None, None)))
    if identifier is _DEFAULT:
        identifier = key_identifier(own_key)
    if identifier is not None:
        parts.append(extension(x509.SubjectKeyIdentifier(identifier)))
    return parts


def key_identifier(private_key: Any) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(private_key.public_key()).digest


def _serial(serial: int | bytes, subject: Any, issuer: Any) -> bytes:
    if serial is _DEFAULT:
        seed = hashlib.sha256(f"{subject} {issuer}".encode()).digest()
        serial = int.from_bytes(seed[:8], "big") | 1
    return serial if isinstance(serial, bytes) else integer(serial)


def _name(given: str | x509.Name | bytes) -> bytes:
    if isinstance(given, bytes):
        return given
    return (common_name(given) if isinstance(given, str) else given).public_bytes()


def _time(moment: datetime | bytes) -> bytes:
    if isinstance(moment, bytes):
        return moment
    return utc_time(moment) if moment.year < 2050 else generalized_time(moment)
