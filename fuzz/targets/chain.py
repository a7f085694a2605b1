"""Certificates and their chains, in DER. An input is a chain as TLS gives it, leaf first, one after
the other.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetroot.pki import Anchors, ChainRefusal, ChainRefused, load_chain, verify_chain
from fleetroot.pki.certificate import common_name_of, generation_of, sha256_fingerprint, to_der
from fuzz.der import Node, elements, mutate, trees

__all__ = ["MAX_BYTES", "check", "mutate", "seeds"]

MAX_BYTES = 4096
START = datetime(2030, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=10)
_SHA256 = hashes.SHA256()
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_SERVER_URI = "urn:uuid:00000000-0000-4000-8000-000000000000"


def certificate(
    subject: str,
    issuer: str,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    *,
    ca: bool = False,
    serial: int = 1,
) -> x509.Certificate:
    """The same certificate each time it is asked for."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key(subject).public_key())
        .serial_number(serial)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=3650 if ca else 30))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key(issuer), _SHA256, ecdsa_deterministic=True)


def key(label: str) -> ec.EllipticCurvePrivateKey:
    """A key that is the same each time."""
    return ec.derive_private_key(int.from_bytes(label.encode()) + 1, ec.SECP256R1())


def name(label: str) -> x509.Name:
    """A name that is a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])


SIGNS = (x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
CLIENT = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SAN = (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(_SERVER_URI)]), False)
ROOT = certificate("root", "root", (SIGNS,), ca=True)
ISSUING = certificate("issuing", "root", (SIGNS,), ca=True, serial=2)
LEAF = certificate("device-1", "issuing", (CLIENT, SAN), serial=3)
ANCHORS = Anchors([ISSUING, ROOT])


def check(data: bytes) -> None:
    """A chain is refused with a reason, or it leads from its first certificate to an anchor and
    each link of it holds. So it does when our issuing CA has signed what the first one says.
    """
    chain = elements(data)
    check_chain(chain)
    if chain and (signed := signed_by_us(chain[0])) is not None:
        check_chain([signed, *chain[1:]])


def check_chain(chain: list[bytes]) -> None:
    """A chain, or what should have been one."""
    try:
        certificates = load_chain(chain)
    except ChainRefused as refused:
        assert refused.reason in ChainRefusal
        return
    for each in certificates:
        common_name_of(each)
        generation_of(each)
        sha256_fingerprint(each)
    try:
        verified = verify_chain(certificates, ANCHORS, NOW)
    except ChainRefused as refused:
        assert refused.reason in ChainRefusal
        return
    leaf = certificates[0]
    assert verified.leaf == verified.path[0] == leaf
    assert verified.anchor == verified.path[-1]
    assert verified.anchor in ANCHORS
    assert set(verified.path[1:-1]) <= set(certificates)
    for child, issuer in pairwise(verified.path):
        child.verify_directly_issued_by(issuer)
    for each in verified.path:
        assert each.not_valid_before_utc <= NOW <= each.not_valid_after_utc
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in purposes
    assert to_der(leaf) == chain[0]
    for each in verified.path[1:]:
        assert each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def signed_by_us(der: bytes) -> bytes | None:
    """The same certificate with a signature by our issuing CA."""
    roots = trees(der)
    if not roots or not roots[0].below:
        return None
    says = roots[0].below[0].encode()
    signature = key("issuing").sign(says, ec.ECDSA(_SHA256, deterministic_signing=True))
    return Node(0x30, says + _ECDSA_WITH_SHA256 + Node(3, b"\0" + signature).encode()).encode()


def seeds() -> dict[str, bytes]:
    """Chains of devices, and leaves with extensions of every kind."""
    directory = x509.DirectoryName(name("x"))
    dns = x509.DNSName("d.example")
    extensions: dict[str, x509.ExtensionType] = {
        "name-constraints": x509.NameConstraints([dns], [directory]),
        "crl": x509.CRLDistributionPoints([x509.DistributionPoint([dns], None, None, None)]),
        "aia": x509.AuthorityInformationAccess(
            [x509.AccessDescription(x509.oid.AuthorityInformationAccessOID.OCSP, dns)]
        ),
        "policies": x509.CertificatePolicies(
            [x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["http://cps.example"])]
        ),
        "identifiers": x509.AuthorityKeyIdentifier(b"k", [directory], 7),
        "unknown": x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.5.1"), b"\5\0"),
    }
    leaves = {
        name_: certificate("device-1", "issuing", (CLIENT, (value, name_ == "unknown")), serial=4)
        for name_, value in extensions.items()
    }
    chains = {
        "leaf": [LEAF],
        "leaf-issuing": [LEAF, ISSUING],
        "leaf-issuing-root": [LEAF, ISSUING, ROOT],
        "stranger": [certificate("device-1", "stranger", (CLIENT,))],
        "ca-as-leaf": [ISSUING],
        "expired-purpose": [certificate("device-1", "issuing")],
        "six": [LEAF, *(certificate(f"ca-{n}", "root", (SIGNS,), ca=True) for n in range(6))],
    } | {name_: [leaf] for name_, leaf in leaves.items()}
    found = {name_: b"".join(map(to_der, each)) for name_, each in chains.items()}
    return found | {"pem": LEAF.public_bytes(Encoding.PEM), "cut": to_der(LEAF)[:-1]}


warnings.filterwarnings("ignore", module="cryptography")
