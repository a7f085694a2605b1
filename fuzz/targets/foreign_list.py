"""Revocation lists of third-party CAs, in DER."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleetroot.pki import ForeignListRefused, read_foreign_list
from fuzz.der import Node, mutate, trees

__all__ = ["MAX_BYTES", "check", "mutate", "seeds"]

MAX_BYTES = 2048
MAX_ENTRIES = 8
START = datetime(2030, 1, 1, tzinfo=UTC)
_SHA256 = hashes.SHA256()
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
KEY = ec.derive_private_key(7, ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
CA = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(START)
    .not_valid_after(START + timedelta(days=3650))
    .add_extension(x509.BasicConstraints(True, None), critical=True)
    .add_extension(
        x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
    )
    .sign(KEY, _SHA256, ecdsa_deterministic=True)
    .public_bytes(Encoding.DER)
)


def check(data: bytes) -> None:
    """A list is refused with a message, or it is a complete one that the CA signed, and has just
    the serial numbers that the library reads. So it is once the CA has signed what the input says.
    """
    check_list(data)
    if (signed := signed_by_the_ca(data)) is not None:
        check_list(signed)


def check_list(data: bytes) -> None:
    """A list, or what should have been one."""
    try:
        read = read_foreign_list(data, CA, [], max_entries=MAX_ENTRIES)
    except ForeignListRefused as refused:
        assert refused.message
        return
    known = x509.load_der_x509_crl(read.der)
    assert known.is_signature_valid(KEY.public_key())
    assert known.issuer == NAME
    assert {entry.serial_number for entry in known} == read.serials
    assert len(read.serials) <= MAX_ENTRIES
    assert (known.last_update_utc, known.next_update_utc) == (read.this_update, read.next_update)
    understood = (x509.IssuingDistributionPoint, x509.AuthorityKeyIdentifier)
    for each in known.extensions:
        assert not each.critical or isinstance(each.value, understood)
        assert not isinstance(each.value, x509.DeltaCRLIndicator)


def signed_by_the_ca(der: bytes) -> bytes | None:
    """The same list with a signature by the CA."""
    roots = trees(der)
    if not roots or not roots[0].below:
        return None
    says = roots[0].below[0].encode()
    signature = KEY.sign(says, ec.ECDSA(_SHA256, deterministic_signing=True))
    return Node(0x30, says + _ECDSA_WITH_SHA256 + Node(3, b"\0" + signature).encode()).encode()


def seeds() -> dict[str, bytes]:
    """Lists with and without entries, and with the extensions that lists have."""
    extensions: dict[str, tuple[x509.ExtensionType, bool]] = {
        "number": (x509.CRLNumber(7), False),
        "delta": (x509.DeltaCRLIndicator(6), True),
        "users": (
            point(users=True),
            True,
        ),
        "url": (point(url="http://crl.example/0"), True),
        "indirect": (point(indirect=True), True),
        "key": (x509.AuthorityKeyIdentifier(b"k", None, None), False),
        "unknown": (
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.5.1"), b"\5\0"),
            True,
        ),
    }
    lists = {name: signed((each,), 2) for name, each in extensions.items()}
    return lists | {"empty": signed((), 0), "two": signed((), 2), "nine": signed((), 9)}


def point(
    *, url: str | None = None, users: bool = False, indirect: bool = False
) -> x509.IssuingDistributionPoint:
    """What a list is about."""
    return x509.IssuingDistributionPoint(
        full_name=None if url is None else [x509.UniformResourceIdentifier(url)],
        relative_name=None,
        only_contains_user_certs=users,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=indirect,
        only_contains_attribute_certs=False,
    )


def signed(extensions: tuple[tuple[x509.ExtensionType, bool], ...], entries: int) -> bytes:
    """The same list each time."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(NAME)
        .last_update(START)
        .next_update(START + timedelta(days=7))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    for serial in range(1, entries + 1):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START)
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, False).build())
    return builder.sign(KEY, _SHA256, ecdsa_deterministic=True).public_bytes(Encoding.DER)
