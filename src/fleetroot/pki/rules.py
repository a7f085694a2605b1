"""Rules that one certificate must keep to have a place in a device's chain, and their names.

The library that builds paths leaves these out: purposes of keys, kinds of keys, a CA in the place
of a leaf. Each `…_problem` returns the first rule broken, or None; none of them raises for a
certificate that `is_readable`.

Source: RFC 5280 §4.2.1, §6.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, SignatureAlgorithmOID

from fleetroot.pki.certificate import to_der
from fleetroot.pki.der import first_element, skip_element, unwrap_sequence
from fleetroot.pki.keys import KeyRefused, certified_key, is_strongly_signed
from fleetroot.pki.unreadable import UNREADABLE

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class ChainRefusal(StrEnum):
    """Why a chain is refused."""

    EMPTY = "empty"
    TOO_MANY_CERTIFICATES = "too_many_certificates"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    LEAF_IS_CA = "leaf_is_ca"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    UNTRUSTED = "untrusted"
    NOT_A_CA = "not_a_ca"
    PATH_LENGTH = "path_length"
    KEY_CERT_SIGN_MISSING = "key_cert_sign_missing"
    DIGITAL_SIGNATURE_MISSING = "digital_signature_missing"
    CLIENT_AUTH_MISSING = "client_auth_missing"
    NAME_CONSTRAINT = "name_constraint"
    UNKNOWN_CRITICAL_EXTENSION = "unknown_critical_extension"
    BAD_SIGNATURE = "bad_signature"
    INVALID = "invalid"


# What the library's path validation looks at; a critical extension beyond these is not understood.
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)


# Serial numbers may have 20 octets; the library bears a 21st, of CAs that forget about the sign.
_SERIAL_BITS: Final = 8 * 21 - 1
_GENERALIZED_TIME: Final = 0x18
_UTC_TIME_ENDS: Final = 2050

_RSA_SIGNATURES: Final = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.RSASSA_PSS,
    }
)
# The AlgorithmIdentifiers of RSA that the library accepts: SHA-2, NULL where a parameter is to be
# NULL, and for PSS one hash throughout with a salt of its length (RFC 4055 §2.1, §3.1, §5).
_RSA_SPELLINGS: Final = frozenset(
    bytes.fromhex(spelling)
    for arc, pss_arc, salt in (("0b", "01", "20"), ("0c", "02", "30"), ("0d", "03", "40"))
    for spelling in (
        f"300d06092a864886f70d0101{arc}0500",
        f"304106092a864886f70d01010a3034a00f300d06096086480165030402{pss_arc}0500"
        f"a11c301a06092a864886f70d010108300d06096086480165030402{pss_arc}0500a2030201{salt}",
    )
)


def is_readable(certificate: x509.Certificate) -> bool:
    """Whether its names, dates and extensions can be read at all."""
    try:
        _ = (
            certificate.subject,
            certificate.issuer,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            certificate.extensions,
        )
    except UNREADABLE:
        return False
    return True


def leaf_problem(certificate: x509.Certificate, at: datetime) -> ChainRefusal | None:
    """Whether this may be a device's own certificate at this time."""
    try:
        extensions = certificate.extensions
    except UNREADABLE:
        return ChainRefusal.MALFORMED
    constraints = _find(extensions, x509.BasicConstraints)
    usage = _find(extensions, x509.KeyUsage)
    if (constraints is not None and constraints.ca) or (usage is not None and usage.key_cert_sign):
        return ChainRefusal.LEAF_IS_CA
    problem = _always_problem(certificate, extensions, at)
    if problem is not None:
        return problem
    # A client signs in every handshake (RFC 8446 §4.4.2.3, RFC 5246 §7.4.6).
    if usage is not None and not usage.digital_signature:
        return ChainRefusal.DIGITAL_SIGNATURE_MISSING
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        return ChainRefusal.CLIENT_AUTH_MISSING
    return None


def known_problem(certificate: x509.Certificate, at: datetime) -> ChainRefusal | None:
    """Whether a certificate that is known byte for byte may be a device's at this time. Whoever
    wrote it down trusts it: what it says of its purposes, and who signed it, does not count.
    """
    if at < certificate.not_valid_before_utc:
        return ChainRefusal.NOT_YET_VALID
    if at > certificate.not_valid_after_utc:
        return ChainRefusal.EXPIRED
    return strength_problem(certificate)


def strength_problem(certificate: x509.Certificate) -> ChainRefusal | None:
    """Whether its key and the algorithm of its signature are strong enough."""
    if not is_strongly_signed(certificate):
        return ChainRefusal.WEAK_SIGNATURE
    return _key_problem(certificate)


def ca_problem(certificate: x509.Certificate) -> ChainRefusal | None:
    """Whether this may be a CA in a device's chain, in whatever depth and at whatever time."""
    try:
        extensions = certificate.extensions
    except UNREADABLE:
        return ChainRefusal.MALFORMED
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return ChainRefusal.NOT_A_CA
    # RFC 5280 §6.1.4 (n): where a key usage is present, it must allow signing certificates.
    usage = _find(extensions, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return ChainRefusal.KEY_CERT_SIGN_MISSING
    # A CA's purposes limit those of what it signs, as every common verifier reads them.
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is not None and not {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }.intersection(purposes):
        return ChainRefusal.CLIENT_AUTH_MISSING
    if not _are_constraints_kept(certificate, _find(extensions, x509.NameConstraints)):
        return ChainRefusal.NAME_CONSTRAINT
    return _key_problem(certificate)


def issuer_problem(
    certificate: x509.Certificate, depth: int, at: datetime, *, is_anchor: bool = False
) -> ChainRefusal | None:
    """Whether this may be a CA with `depth` CAs between it and the leaf, at this time.

    How an anchor is signed does not count: it is trusted for its name and key.
    """
    problem = ca_problem(certificate) or _always_problem(
        certificate, certificate.extensions, at, is_anchor=is_anchor
    )
    if problem is not None:
        return problem
    constraints = _find(certificate.extensions, x509.BasicConstraints)
    if constraints is not None and constraints.path_length is not None:
        return ChainRefusal.PATH_LENGTH if depth > constraints.path_length else None
    return None


def form_problem(certificate: x509.Certificate, *, is_anchor: bool = False) -> ChainRefusal | None:
    """What the library refuses in how a certificate is written: a version without extensions that
    has some, a serial number below zero or too long, a nameless issuer, a year before 2050 as
    GeneralizedTime, an RSA signature with unusual parameters (RFC 5280 §4.1).
    """
    # Without extensions it would have been refused before this.
    if certificate.version is not x509.Version.v3:
        return ChainRefusal.MALFORMED
    # version, serialNumber, signature, issuer, validity
    _, serial, signature, issuer, validity = _elements(certificate.tbs_certificate_bytes, 5)
    number = int.from_bytes(unwrap_sequence(serial), "big", signed=True)
    if number < 0 or number.bit_length() > _SERIAL_BITS or not unwrap_sequence(issuer):
        return ChainRefusal.MALFORMED
    dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    for date, written in zip(dates, _elements(validity, 2), strict=True):
        if date.year < _UTC_TIME_ENDS and written[0] == _GENERALIZED_TIME:
            return ChainRefusal.MALFORMED
    if is_anchor or certificate.signature_algorithm_oid not in _RSA_SIGNATURES:
        return None
    return None if signature in _RSA_SPELLINGS else ChainRefusal.WEAK_SIGNATURE


def is_named_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the child's issuer is spelt as the issuer's subject, byte for byte.

    RFC 5280 §4.1.2.6 has a CA write both alike, and the library compares no other way.
    """
    return child.issuer.public_bytes() == issuer.subject.public_bytes()


def is_signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those behind the child's signature."""
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def identifiers_agree(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the child's authority key identifier is the issuer's, where both are given."""
    try:
        wanted, given = issuers_key_identifier(child), key_identifier(issuer)
    except UNREADABLE:
        return False
    return wanted is None or given is None or wanted == given


def issuers_key_identifier(child: x509.Certificate) -> bytes | None:
    """The key identifier of who signed it, where it says one."""
    found = _find(child.extensions, x509.AuthorityKeyIdentifier)
    return None if found is None else found.key_identifier


def key_identifier(certificate: x509.Certificate) -> bytes | None:
    """Its own key identifier, where it has one."""
    found = _find(certificate.extensions, x509.SubjectKeyIdentifier)
    return None if found is None else found.digest


def has_free_mailbox(path: Sequence[x509.Certificate]) -> bool:
    """Whether a subject has a mail address beneath a CA that constrains mail addresses.

    RFC 5280 §4.2.1.10 extends these constraints to such subjects, and the library does not; so
    none of them is taken as kept.

    Args:
        path: the leaf first.
    """
    constrained = False
    for certificate in reversed(path):
        if constrained and certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
            return True
        names = _find(certificate.extensions, x509.NameConstraints)
        constrained = constrained or any(isinstance(t, x509.RFC822Name) for t in _subtrees(names))
    return False


def has_name_constraints(certificate: x509.Certificate) -> bool:
    """Whether the names beneath this CA are constrained."""
    return _find(certificate.extensions, x509.NameConstraints) is not None


def _always_problem(
    certificate: x509.Certificate,
    extensions: x509.Extensions,
    at: datetime,
    *,
    is_anchor: bool = False,
) -> ChainRefusal | None:
    if at < certificate.not_valid_before_utc:
        return ChainRefusal.NOT_YET_VALID
    if at > certificate.not_valid_after_utc:
        return ChainRefusal.EXPIRED
    if any(each.critical and each.oid not in _UNDERSTOOD for each in extensions):
        return ChainRefusal.UNKNOWN_CRITICAL_EXTENSION
    if not is_anchor and not is_strongly_signed(certificate):
        return ChainRefusal.WEAK_SIGNATURE
    return _key_problem(certificate)


def _key_problem(certificate: x509.Certificate) -> ChainRefusal | None:
    try:
        certified_key(certificate)
    except KeyRefused:
        return ChainRefusal.WEAK_KEY
    return None


def _find(extensions: x509.Extensions, kind: type[_Extension]) -> _Extension | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _are_constraints_kept(
    certificate: x509.Certificate, names: x509.NameConstraints | None
) -> bool:
    """Whether the library sees to it that these constraints are kept (RFC 5280 §4.2.1.10)."""
    if names is None:
        return True
    # The library does not apply these to subjects, where our device ids are; so never trust them.
    if any(isinstance(tree, x509.DirectoryName) for tree in _subtrees(names)):
        return False
    # It drops minimum and maximum, which no profile allows: what it wrote anew lacks them.
    return names.public_bytes() in to_der(certificate)


def _subtrees(names: x509.NameConstraints | None) -> Sequence[x509.GeneralName]:
    if names is None:
        return ()
    return (*(names.permitted_subtrees or ()), *(names.excluded_subtrees or ()))


def _elements(der: bytes, count: int) -> list[bytes]:
    """The first elements inside a SEQUENCE."""
    rest, found = unwrap_sequence(der), []
    for _ in range(count):
        found.append(first_element(rest))
        rest = skip_element(rest)
    return found
