"""Reading certificates: their names, fingerprints and the generation embedded in them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtensionOID, NameOID

from fleetroot.pki.unreadable import UNREADABLE

URN_UUID: Final = "urn:uuid:"
SERIAL_BITS: Final = 159

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RANDOM_BYTES: Final = 12

_BEHIND_TIME: Final = 96  # bits of a leaf's serial number behind its microseconds
_SHA256: Final = hashes.SHA256()


def new_serial() -> int:
    """A random serial number: positive and at most 20 octets (RFC 5280 §4.1.2.2).

    159 bits, because the 160th is the sign; zero is not positive, so it is left out.
    """
    return secrets.randbelow((1 << SERIAL_BITS) - 1) + 1


def new_leaf_serial(now: datetime) -> int:
    """A serial number of a leaf: microseconds since 1970, then 96 random bits; positive and at most
    20 octets.

    Numbers that grow are written next to each other in the inventory's index, which takes 15 us off
    a certificate's share of a commit, and more from a large inventory.
    """
    microseconds = (now - _EPOCH) // _MICROSECOND
    return max(microseconds, 1) << 8 * _RANDOM_BYTES | int.from_bytes(
        os.urandom(_RANDOM_BYTES), "big"
    )


def issued_at(serial: int) -> datetime | None:
    """When a leaf of this serial number was issued, by its issuer's word; None: it is none of
    `new_leaf_serial`.
    """
    try:
        return _EPOCH + timedelta(microseconds=serial >> _BEHIND_TIME)
    except OverflowError:
        return None


def to_pem(chain: Iterable[x509.Certificate]) -> str:
    """The certificates as PEM text, in the order given, each ending in a line break."""
    return "".join(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        for certificate in chain
    )


def to_der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def sha256_fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 over the certificate's DER: 32 bytes."""
    return certificate.fingerprint(_SHA256)


def common_name_of(certificate: x509.Certificate) -> str | None:
    """The subject's common name, exactly as spelt; None unless there is exactly one."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except UNREADABLE:
        return None
    if len(names) != 1 or not isinstance(names[0].value, str):
        return None
    return names[0].value


def generation_of(certificate: x509.Certificate) -> UUID | None:
    """The device generation embedded in the certificate: the one `urn:uuid:` among its SANs.

    None where there is none, more than one, or a spelling that we would not have written.
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        )
    except (x509.ExtensionNotFound, *UNREADABLE):
        return None
    names = extension.value
    if not isinstance(names, x509.SubjectAlternativeName):
        return None
    urns = [
        uri
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier)
        if uri.startswith(URN_UUID)
    ]
    if len(urns) != 1:
        return None
    try:
        generation = UUID(urns[0].removeprefix(URN_UUID))
    except ValueError:
        return None
    return generation if urns[0] == f"{URN_UUID}{generation}" else None
