"""Kinds of keys: which exist here, how they are made, recognised and stored.

Default deny: a key is accepted only when it is of a `KeyType`. Everything else, weak or merely
unknown, is refused with a typed reason. Nothing outside this file may assume a family of keys.

Sources: RFC 5480 (named curves), RFC 8017 (RSA), FIPS 204 and RFC 9881 (ML-DSA).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from fleetroot.pki.der import first_element, skip_element, unwrap_sequence

PrivateKey: TypeAlias = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
PublicKey: TypeAlias = (
    ec.EllipticCurvePublicKey
    | rsa.RSAPublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


class KeyType(StrEnum):
    """The kinds of keys that may be certified or may sign here."""

    EC_P256 = "EC-P256"
    EC_P384 = "EC-P384"
    EC_P521 = "EC-P521"
    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    RSA_4096 = "RSA-4096"
    ML_DSA_44 = "ML-DSA-44"
    ML_DSA_65 = "ML-DSA-65"
    ML_DSA_87 = "ML-DSA-87"


class KeyRefusal(StrEnum):
    """Why a key is of no accepted kind."""

    UNKNOWN_ALGORITHM = "unknown_algorithm"
    UNKNOWN_CURVE = "unknown_curve"
    EXPLICIT_PARAMETERS = "explicit_parameters"
    RSA_SIZE = "rsa_size"
    RSA_EXPONENT = "rsa_exponent"
    MALFORMED = "malformed"


class KeyRefused(Exception):  # a refusal, as everywhere here
    """A key is of no accepted kind.

    Attributes:
        reason: which rule it breaks.
        message: the same in words that may be shown to the peer.
    """

    def __init__(self, reason: KeyRefusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


ML_DSA_TYPES: Final = frozenset({KeyType.ML_DSA_44, KeyType.ML_DSA_65, KeyType.ML_DSA_87})

_CURVES: Final[dict[KeyType, ec.EllipticCurve]] = {
    KeyType.EC_P256: ec.SECP256R1(),
    KeyType.EC_P384: ec.SECP384R1(),
    KeyType.EC_P521: ec.SECP521R1(),
}
_CURVE_TYPES: Final = {curve.name: key_type for key_type, curve in _CURVES.items()}

_RSA_EXPONENT: Final = 65537
_RSA_SIZES: Final = {
    KeyType.RSA_2048: 2048,
    KeyType.RSA_3072: 3072,
    KeyType.RSA_4096: 4096,
}
_RSA_TYPES: Final = {size: key_type for key_type, size in _RSA_SIZES.items()}

_ML_DSA_GENERATORS: Final[dict[KeyType, Callable[[], PrivateKey]]] = {
    KeyType.ML_DSA_44: mldsa.MLDSA44PrivateKey.generate,
    KeyType.ML_DSA_65: mldsa.MLDSA65PrivateKey.generate,
    KeyType.ML_DSA_87: mldsa.MLDSA87PrivateKey.generate,
}

# RFC 5758 §3.2 pairs a hash with a curve of its strength. For RSA of any size, SHA-256 will do.
_CURVE_HASHES: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_RSA_HASH: Final = hashes.SHA256()

_STRONG_SIGNATURES: Final = frozenset(
    {
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.ML_DSA_44,
        SignatureAlgorithmOID.ML_DSA_65,
        SignatureAlgorithmOID.ML_DSA_87,
    }
)


# How the SubjectPublicKeyInfo of an uncompressed key on a named curve begins (RFC 5480 §2).
_EC_KEY_STARTS: Final = {
    KeyType.EC_P256: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    KeyType.EC_P384: bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
    KeyType.EC_P521: bytes.fromhex("30819b301006072a8648ce3d020106052b810400230381860004"),
}


def generate_key(key_type: KeyType) -> PrivateKey:
    """Makes a fresh private key. RSA takes up to seconds; the others well under a millisecond."""
    if (curve := _CURVES.get(key_type)) is not None:
        return ec.generate_private_key(curve)
    if (bits := _RSA_SIZES.get(key_type)) is not None:
        return rsa.generate_private_key(public_exponent=_RSA_EXPONENT, key_size=bits)
    return _ML_DSA_GENERATORS[key_type]()


def key_type_of(key: object) -> KeyType:
    """The kind of a public key.

    A key object no longer tells how its certificate or request spelt its parameters; for a key
    that somebody else sent, `certified_key_type` is the stricter question.

    Raises:
        KeyRefused: it is of no accepted kind.
    """
    match key:
        case ec.EllipticCurvePublicKey():
            if (key_type := _CURVE_TYPES.get(key.curve.name)) is None:
                raise KeyRefused(
                    KeyRefusal.UNKNOWN_CURVE,
                    f"elliptic curve {key.curve.name} is not accepted, use P-256, P-384 or P-521",
                )
            return key_type
        case rsa.RSAPublicKey():
            if (key_type := _RSA_TYPES.get(key.key_size)) is None:
                raise KeyRefused(
                    KeyRefusal.RSA_SIZE,
                    f"an RSA key of {key.key_size} bits is not accepted, use 2048, 3072 or 4096",
                )
            if key.public_numbers().e != _RSA_EXPONENT:
                raise KeyRefused(
                    KeyRefusal.RSA_EXPONENT, f"the RSA public exponent must be {_RSA_EXPONENT}"
                )
            return key_type
        case mldsa.MLDSA44PublicKey():
            return KeyType.ML_DSA_44
        case mldsa.MLDSA65PublicKey():
            return KeyType.ML_DSA_65
        case mldsa.MLDSA87PublicKey():
            return KeyType.ML_DSA_87
        case _:
            raise KeyRefused(
                KeyRefusal.UNKNOWN_ALGORITHM, "the public key is not EC, RSA or ML-DSA"
            )


def certified_key(
    holder: x509.Certificate | x509.CertificateSigningRequest,
) -> tuple[PublicKey, KeyType]:
    """The public key in a certificate or request, and its kind; see `certified_key_info`.

    Raises:
        KeyRefused: the key is malformed or of no accepted kind.
    """
    key, key_type, _ = certified_key_info(holder, first_element(_public_key_info(holder)))
    return key, key_type


def certified_key_info(
    holder: x509.Certificate | x509.CertificateSigningRequest, theirs: bytes
) -> tuple[PublicKey, KeyType, bytes]:
    """The public key in a certificate or request, its kind, and its SubjectPublicKeyInfo as we
    would spell it; `theirs` is as the holder has it.

    The library reads explicit curve parameters that equal a named curve as that curve. RFC 5480
    §2.1.1 forbids them, and so does this function: the AlgorithmIdentifier must be spelt as we
    would spell it.

    Raises:
        KeyRefused: the key is malformed or of no accepted kind.
    """
    try:
        key = holder.public_key()
    except UnsupportedAlgorithm as error:
        raise KeyRefused(
            KeyRefusal.UNKNOWN_ALGORITHM, "the public key is not EC, RSA or ML-DSA"
        ) from error
    except ValueError as error:
        raise KeyRefused(KeyRefusal.MALFORMED, "the public key cannot be read") from error
    key_type = key_type_of(key)
    # The usual spelling is known by its beginning; encoding a P-384 key anew takes 50 us.
    if (start := _EC_KEY_STARTS.get(key_type)) is not None and theirs.startswith(start):
        return key, key_type, theirs  # type: ignore[return-value]
    ours = public_key_info(key)  # type: ignore[arg-type]  # key_type_of has narrowed it
    if _key_algorithm(theirs) != _key_algorithm(ours):
        raise KeyRefused(
            KeyRefusal.EXPLICIT_PARAMETERS,
            "the public key must name its algorithm or curve, without parameters of its own",
        )
    return key, key_type, ours  # type: ignore[return-value]  # key_type_of has narrowed it


def public_key_info(key: PublicKey) -> bytes:
    """The key's SubjectPublicKeyInfo, DER (RFC 5280 §4.1.2.7)."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signature_hash(
    key: PrivateKey | PublicKey,
) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash that signatures by this key use; None for ML-DSA, which hashes by itself."""
    match key:
        case ec.EllipticCurvePrivateKey() | ec.EllipticCurvePublicKey():
            return _CURVE_HASHES[key.curve.name]
        case rsa.RSAPrivateKey() | rsa.RSAPublicKey():
            return _RSA_HASH
        case _:
            return None


def is_strongly_signed(
    signed: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList,
) -> bool:
    """Whether the signature's algorithm is one we rely on: ECDSA or RSA with SHA-2, or ML-DSA.

    Says nothing about whether the signature verifies.
    """
    algorithm = signed.signature_algorithm_oid
    if algorithm != SignatureAlgorithmOID.RSASSA_PSS:
        return algorithm in _STRONG_SIGNATURES
    try:
        used = signed.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return False
    return isinstance(used, hashes.SHA256 | hashes.SHA384 | hashes.SHA512)


def private_key_to_der(key: PrivateKey) -> bytes:
    """PKCS#8 DER, not encrypted: to be sealed by `custody` and kept nowhere else."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def private_key_from_der(der: bytes) -> PrivateKey:
    """Reads what `private_key_to_der` wrote.

    Raises:
        KeyRefused: the bytes are no private key of an accepted kind.
    """
    try:
        key = serialization.load_der_private_key(der, password=None)
    except UnsupportedAlgorithm as error:
        raise KeyRefused(KeyRefusal.UNKNOWN_ALGORITHM, "the private key is unknown") from error
    except (ValueError, TypeError) as error:
        raise KeyRefused(KeyRefusal.MALFORMED, "the private key cannot be read") from error
    key_type_of(key.public_key())
    return key  # type: ignore[return-value]  # key_type_of has narrowed it


def _public_key_info(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """From where the holder's SubjectPublicKeyInfo begins. The library has checked the DER."""
    if isinstance(holder, x509.CertificateSigningRequest):
        # RFC 2986 §4.1: version, subject, subjectPKInfo.
        rest, before = unwrap_sequence(holder.tbs_certrequest_bytes), 2
    else:
        # RFC 5280 §4.1: [0] version (absent in v1), serialNumber, signature, issuer, validity,
        # subject, subjectPublicKeyInfo.
        rest = unwrap_sequence(holder.tbs_certificate_bytes)
        before = 5 if holder.version is x509.Version.v1 else 6
    for _ in range(before):
        rest = skip_element(rest)
    return rest


def _key_algorithm(public_key_info: bytes) -> bytes:
    """The AlgorithmIdentifier of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7)."""
    inside = unwrap_sequence(public_key_info)
    return inside[: len(inside) - len(skip_element(inside))]
