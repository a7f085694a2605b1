"""Certificate signing requests, in DER."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from fleetroot.pki import CertificateRequest, CsrRefused, KeyType, parse_csr
from fuzz.der import Node, elements, mutate, trees

__all__ = ["MAX_BYTES", "check", "mutate", "seeds"]

MAX_BYTES = 4096
KEY = ec.derive_private_key(7, ec.SECP256R1())
NAME = "device-1"
_SHA256 = hashes.SHA256()
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


def check(data: bytes) -> None:
    """A request is refused with a reason, or it is exactly what the library reads in it: one common
    name, a key of an accepted kind in our spelling, a signature by that key. So is what the input
    asks for once our own key has signed it, which lets a change get past the signature.
    """
    check_request(data)
    if (signed := signed_by_us(data)) is not None:
        check_request(signed)


def check_request(der: bytes) -> None:
    """A request, or what should have been one."""
    theirs = common_name(der)
    for name in {NAME, theirs or NAME}:
        request = parsed(der, name)
        if request is None:
            continue
        assert theirs == name == request.common_name
        assert request.der == der
        known = x509.load_der_x509_csr(der)
        assert known.is_signature_valid
        assert known.public_bytes(Encoding.DER) == der, "it was not DER"
        assert request.public_key == known.public_key()
        assert request.public_key_info == request.public_key.public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ), "a key in a spelling that is not ours"
        assert request.key_type in KeyType
        assert (parsed(der, name, [request.key_type])) == request
        assert parsed(der, name, set(KeyType) - {request.key_type}) is None
        assert parsed(der, name + "x") is None


def parsed(
    der: bytes, name: str, allowed: list[KeyType] | set[KeyType] | None = None
) -> CertificateRequest | None:
    """The request, or None if it was refused."""
    try:
        return parse_csr(
            der, common_name=name, allowed=list(KeyType) if allowed is None else allowed
        )
    except CsrRefused as refused:
        assert refused.message.isascii()
        return None


def common_name(der: bytes) -> str | None:
    """The one common name that the library reads."""
    try:
        names = x509.load_der_x509_csr(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm):
        return None
    return names[0].value if len(names) == 1 and isinstance(names[0].value, str) else None


def signed_by_us(der: bytes) -> bytes | None:
    """The same wishes with a signature by our key."""
    roots = trees(der)
    if not roots or not roots[0].below:
        return None
    wishes = roots[0].below[0].encode()
    signature = KEY.sign(wishes, ec.ECDSA(_SHA256, deterministic_signing=True))
    return Node(0x30, wishes + _ECDSA_WITH_SHA256 + Node(3, b"\0" + signature).encode()).encode()


def request(key: object, name: x509.Name, algorithm: object = _SHA256) -> bytes:
    """A request for that name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def seeds() -> dict[str, bytes]:
    """Requests by every kind of key, as `openssl req` and the SDKs' samples make them."""

    def named(*names: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])

    plain = request(KEY, named(NAME))
    sample = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso"),
            x509.NameAttribute(NameOID.COMMON_NAME, NAME),
        ]
    )
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(named(NAME))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("d.example")]), critical=False)
        .add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")
    )
    wishes, algorithm, signature = elements(elements_of(plain))
    return {
        "p256": plain,
        "p384": request(ec.derive_private_key(7, ec.SECP384R1()), named(NAME), hashes.SHA384()),
        "p521": request(ec.derive_private_key(7, ec.SECP521R1()), named(NAME), hashes.SHA512()),
        "secp256k1": request(ec.derive_private_key(7, ec.SECP256K1()), named(NAME)),
        "rsa": request(rsa.generate_private_key(65537, 2048), named(NAME)),
        "rsa-e3": request(rsa.generate_private_key(3, 2048), named(NAME)),
        "ml-dsa-44": request(mldsa.MLDSA44PrivateKey.generate(), named(NAME), None),
        "sample": request(KEY, sample),
        "wishes": builder.sign(KEY, _SHA256).public_bytes(Encoding.DER),
        "two-names": request(KEY, named(NAME, NAME)),
        "no-name": request(KEY, x509.Name([])),
        "other-name": request(KEY, named("urn:dev:mac:0024befffe804ff1")),
        "unsigned": Node(0x30, wishes + algorithm + b"\x03\x01\x00").encode(),
        "other-algorithm": Node(
            0x30, wishes + bytes.fromhex("300d06092a864886f70d01010b0500") + signature
        ).encode(),
    }


def elements_of(der: bytes) -> bytes:
    """The contents of an element."""
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]
