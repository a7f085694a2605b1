"""Rules that one certificate must keep to have a place in a device's chain, and their names.

The library that builds paths leaves these out: purposes of keys, kinds of keys, a CA in the place
of a leaf. Each function returns the first rule broken, or None, and never raises.

Source: RFC 5280 §4.2.1, §6.1.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fleetroot.pki.keys import KeyRefused, certified_key, is_strongly_signed

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


def leaf_problem(certificate: x509.Certificate, at: datetime) -> ChainRefusal | None:
    """Whether this may be a device's own certificate at this time."""
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
        return ChainRefusal.MALFORMED
    constraints = _find(extensions, x509.BasicConstraints)
    usage = _find(extensions, x509.KeyUsage)
    if (constraints is not None and constraints.ca) or (usage is not None and usage.key_cert_sign):
        return ChainRefusal.LEAF_IS_CA
    problem = _always_problem(certificate, extensions, at)
    if problem is not None:
        return problem
    purposes = _find(extensions, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        return ChainRefusal.CLIENT_AUTH_MISSING
    return None


def ca_problem(certificate: x509.Certificate) -> ChainRefusal | None:
    """Whether this may be a CA in a device's chain, in whatever depth and at whatever time."""
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
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
    # The library does not apply these to subjects, where our device ids are; so never trust them.
    names = _find(extensions, x509.NameConstraints)
    if names is not None and any(
        isinstance(tree, x509.DirectoryName)
        for tree in (*(names.permitted_subtrees or ()), *(names.excluded_subtrees or ()))
    ):
        return ChainRefusal.NAME_CONSTRAINT
    return _key_problem(certificate)


def issuer_problem(certificate: x509.Certificate, depth: int, at: datetime) -> ChainRefusal | None:
    """Whether this may be a CA with `depth` CAs between it and the leaf, at this time."""
    problem = ca_problem(certificate) or _always_problem(certificate, certificate.extensions, at)
    if problem is not None:
        return problem
    constraints = _find(certificate.extensions, x509.BasicConstraints)
    if constraints is not None and constraints.path_length is not None:
        return ChainRefusal.PATH_LENGTH if depth > constraints.path_length else None
    return None


def is_signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those behind the child's signature."""
    try:
        child.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def identifiers_agree(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the child's authority key identifier is the issuer's, where both are given."""
    try:
        wanted = _find(child.extensions, x509.AuthorityKeyIdentifier)
        given = _find(issuer.extensions, x509.SubjectKeyIdentifier)
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm):
        return False
    if wanted is None or wanted.key_identifier is None or given is None:
        return True
    return wanted.key_identifier == given.digest


def has_name_constraints(certificate: x509.Certificate) -> bool:
    """Whether the names beneath this CA are constrained."""
    return _find(certificate.extensions, x509.NameConstraints) is not None


def _always_problem(
    certificate: x509.Certificate, extensions: x509.Extensions, at: datetime
) -> ChainRefusal | None:
    if at < certificate.not_valid_before_utc:
        return ChainRefusal.NOT_YET_VALID
    if at > certificate.not_valid_after_utc:
        return ChainRefusal.EXPIRED
    if any(each.critical and each.oid not in _UNDERSTOOD for each in extensions):
        return ChainRefusal.UNKNOWN_CRITICAL_EXTENSION
    if not is_strongly_signed(certificate):
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
