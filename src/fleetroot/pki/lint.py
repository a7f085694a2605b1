"""Lint before signing: what is about to be signed is held against its profile first.

The rules are data: a section, what it asks, and how to see that it is kept. What is linted carries
another signature or none, because signing comes after: a certificate of a CA, of a server or of an
OCSP responder is drafted with a key that signs nothing else; a leaf's template is linted once, and
what varies from leaf to leaf by `LEAF_RULES`. Lists and OCSP answers are in `lint_revocation`.

A finding is a fault of this program or of a setting, never of a peer.

Source: RFC 5280 §4; RFC 6960 §4.2.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Final, Generic, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from fleetroot.pki.der import first_element, skip_element, unwrap_sequence
from fleetroot.pki.keys import KeyRefused, certified_key, is_strongly_signed
from fleetroot.pki.unreadable import UNREADABLE

T = TypeVar("T")
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

SERIAL_END: Final = 1 << 159  # RFC 5280 §4.1.2.2: at most 20 octets, the first bit is the sign
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_GENERALIZED_FROM: Final = 2050
_MAX_COMMON_NAME: Final = 128  # a device id's; RFC 5280 appendix A.1 has 64, see profile.py


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One rule: where it stands, what it asks, and whether something keeps it."""

    section: str
    asks: str
    is_kept: Callable[[T], bool]


class LintFailed(ValueError):
    """Something may not be signed as it is.

    Attributes:
        broken: the rules that it breaks.
    """

    def __init__(self, what: str, broken: Iterable[Rule[T]]) -> None:
        self.broken = tuple((rule.section, rule.asks) for rule in broken)
        told = "; ".join(f"{asks} ({section})" for section, asks in self.broken)
        super().__init__(f"{what} must not be signed: {told}")


def check(what: str, subject: T, rules: Iterable[Rule[T]]) -> None:
    """Holds `subject` against the rules.

    Raises:
        LintFailed: it breaks one, or cannot even be read.
    """
    broken = [rule for rule in rules if not _is_kept(rule, subject)]
    if broken:
        raise LintFailed(what, broken)


def _is_kept(rule: Rule[T], subject: T) -> bool:
    try:
        return rule.is_kept(subject)
    except (x509.ExtensionNotFound, KeyRefused, *UNREADABLE):
        return False


@cache
def draft_key() -> ec.EllipticCurvePrivateKey:
    """A key for drafts. Nobody trusts it, and it is nowhere but in this process."""
    return ec.generate_private_key(ec.SECP256R1())


class CertificateKind(StrEnum):
    """The profiles there are."""

    ROOT = "root"
    ISSUING = "issuing"
    OPERATIONAL = "operational"
    SERVER_CA = "server-ca"
    SERVER = "server"
    OCSP_RESPONDER = "ocsp-responder"


@dataclass(frozen=True, slots=True)
class Form:
    """What certificates of a kind are.

    Attributes:
        usage: the key usages, by the library's names, of which there must be all and no other;
            `or_usage` may be there in addition.
        extensions: which there must be, and whether they are critical. There is no other.
    """

    ca: bool
    path_length: int | None
    usage: frozenset[str]
    purposes: frozenset[x509.ObjectIdentifier]
    extensions: Mapping[x509.ObjectIdentifier, bool]
    or_usage: frozenset[str] = frozenset()
    self_signed: bool = False


_CA_USAGE: Final = frozenset({"digital_signature", "key_cert_sign", "crl_sign"})
_EVERY: Final = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
}
_PURPOSES: Final = {ExtensionOID.EXTENDED_KEY_USAGE: False}
_ISSUED: Final = {ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False}
_REVOCABLE: Final = {
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
}
_NAMED: Final = {ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False}

FORMS: Final[dict[CertificateKind, Form]] = {
    CertificateKind.ROOT: Form(
        ca=True,
        path_length=1,
        usage=_CA_USAGE,
        purposes=frozenset(),
        extensions=_EVERY,
        self_signed=True,
    ),
    CertificateKind.ISSUING: Form(
        ca=True,
        path_length=0,
        usage=_CA_USAGE,
        purposes=frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
        extensions=_EVERY | _PURPOSES | _ISSUED | _REVOCABLE,
    ),
    CertificateKind.OPERATIONAL: Form(
        ca=False,
        path_length=None,
        usage=frozenset({"digital_signature"}),
        purposes=frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
        extensions=_EVERY | _PURPOSES | _ISSUED | _REVOCABLE | _NAMED,
    ),
    CertificateKind.SERVER_CA: Form(
        ca=True,
        path_length=0,
        usage=_CA_USAGE,
        purposes=frozenset({ExtendedKeyUsageOID.SERVER_AUTH}),
        extensions=_EVERY | _PURPOSES | {ExtensionOID.NAME_CONSTRAINTS: True},
        self_signed=True,
    ),
    CertificateKind.SERVER: Form(
        ca=False,
        path_length=None,
        usage=frozenset({"digital_signature"}),
        or_usage=frozenset({"key_encipherment"}),
        purposes=frozenset({ExtendedKeyUsageOID.SERVER_AUTH}),
        extensions=_EVERY | _PURPOSES | _ISSUED | _NAMED,
    ),
    CertificateKind.OCSP_RESPONDER: Form(
        ca=False,
        path_length=None,
        usage=frozenset({"digital_signature"}),
        purposes=frozenset({ExtendedKeyUsageOID.OCSP_SIGNING}),
        extensions=_EVERY | _PURPOSES | _ISSUED | {ExtensionOID.OCSP_NO_CHECK: False},
    ),
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A certificate that is about to be signed; `issuer` is None for a self-signed one."""

    certificate: x509.Certificate
    kind: CertificateKind
    issuer: x509.Certificate | None
    form: Form = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", FORMS[self.kind])

    def get(self, kind: type[_Extension]) -> _Extension:
        """Raises:
        ExtensionNotFound: it has none.
        """
        return self.certificate.extensions.get_extension_for_class(kind).value


CERTIFICATE_RULES: Final[tuple[Rule[Draft], ...]] = (
    Rule("RFC 5280 §4.1.2.1", "version 3", lambda it: it.certificate.version is x509.Version.v3),
    Rule(
        "RFC 5280 §4.1.2.2",
        "a positive serial number of at most 20 octets",
        lambda it: 0 < it.certificate.serial_number < SERIAL_END,
    ),
    Rule(
        "RFC 5280 §4.1.2.3",
        "ECDSA or RSA with SHA-2, or ML-DSA",
        lambda it: is_strongly_signed(it.certificate),
    ),
    Rule(
        "RFC 5280 §4.1.2.4",
        "the issuer's name, spelt as the issuer spells it",
        lambda it: (
            bool(list(it.certificate.issuer))
            and it.certificate.issuer.public_bytes() == _above(it).subject.public_bytes()
        ),
    ),
    Rule(
        "RFC 5280 §4.1.2.5",
        "an end that is not before the beginning",
        lambda it: it.certificate.not_valid_before_utc <= it.certificate.not_valid_after_utc,
    ),
    Rule(
        "RFC 5280 §4.1.2.5",
        "UTCTime through 2049 and GeneralizedTime from then on",
        lambda it: _are_dates_spelt(it.certificate),
    ),
    Rule(
        "RFC 5280 §6.1.3 (a)(2)",
        "a validity within the issuer's",
        lambda it: (
            it.certificate.not_valid_before_utc >= _above(it).not_valid_before_utc
            and it.certificate.not_valid_after_utc <= _above(it).not_valid_after_utc
        ),
    ),
    Rule("RFC 5280 §4.1.2.6", "a subject", lambda it: bool(list(it.certificate.subject))),
    Rule(
        "RFC 5280 §4.1.2.7",
        "a key of an accepted kind",
        lambda it: bool(certified_key(it.certificate)),
    ),
    Rule(
        "RFC 5280 §4.2",
        "the profile's extensions, once each, and critical where the profile has them so",
        lambda it: {e.oid: e.critical for e in it.certificate.extensions} == it.form.extensions,
    ),
    Rule(
        "RFC 5280 §4.2.1.1",
        "the issuer's key identifier, and nothing else of the issuer",
        lambda it: it.form.self_signed or _names_issuer(it),
    ),
    Rule(
        "RFC 5280 §4.2.1.2",
        "the identifier of the key that is certified",
        lambda it: (
            it.get(x509.SubjectKeyIdentifier)
            == x509.SubjectKeyIdentifier.from_public_key(certified_key(it.certificate)[0])
        ),
    ),
    Rule(
        "RFC 5280 §4.2.1.3",
        "the profile's key usages",
        lambda it: it.form.usage <= _usages(it) <= it.form.usage | it.form.or_usage,
    ),
    Rule(
        "RFC 5280 §4.2.1.6",
        "an alternative name, where the profile has some",
        lambda it: (
            ExtensionOID.SUBJECT_ALTERNATIVE_NAME not in it.form.extensions
            or bool(list(it.get(x509.SubjectAlternativeName)))
        ),
    ),
    Rule(
        "RFC 5280 §4.2.1.9",
        "the profile's basic constraints",
        lambda it: (
            it.get(x509.BasicConstraints) == x509.BasicConstraints(it.form.ca, it.form.path_length)
        ),
    ),
    Rule(
        "RFC 5280 §4.2.1.12",
        "the profile's purposes",
        lambda it: (
            not it.form.purposes
            or sorted(p.dotted_string for p in it.get(x509.ExtendedKeyUsage))
            == sorted(p.dotted_string for p in it.form.purposes)
        ),
    ),
    Rule(
        "RFC 5280 §4.2.1.13",
        "one distribution point, with a URI for all reasons",
        lambda it: (
            ExtensionOID.CRL_DISTRIBUTION_POINTS not in it.form.extensions
            or _is_one_plain_point(it.get(x509.CRLDistributionPoints))
        ),
    ),
    Rule(
        "RFC 5280 §4.2.2.1",
        "where the issuer's certificate and its OCSP responder are, by URI",
        lambda it: (
            ExtensionOID.AUTHORITY_INFORMATION_ACCESS not in it.form.extensions
            or _are_both_named(it.get(x509.AuthorityInformationAccess))
        ),
    ),
)


class LeafValues(NamedTuple):
    """What varies from leaf to leaf."""

    serial: int
    not_before: datetime
    not_after: datetime
    common_name: str
    public_key_info: bytes


LEAF_RULES: Final[tuple[Rule[LeafValues], ...]] = (
    Rule(
        "RFC 5280 §4.1.2.2",
        "a positive serial number of at most 20 octets",
        lambda it: 0 < it.serial < SERIAL_END,
    ),
    Rule(
        "RFC 5280 §4.1.2.5",
        "an end that is not before the beginning",
        lambda it: it.not_before <= it.not_after,
    ),
    Rule(
        "RFC 5280 §4.1.2.6",
        "the device id of 1 to 128 characters as common name",
        lambda it: 0 < len(it.common_name) <= _MAX_COMMON_NAME and "\0" not in it.common_name,
    ),
    Rule(
        "RFC 5280 §4.1.2.7",
        "one whole SubjectPublicKeyInfo",
        lambda it: it.public_key_info[:1] == b"\x30" and skip_element(it.public_key_info) == b"",
    ),
)


def check_certificate(
    certificate: x509.Certificate, kind: CertificateKind, issuer: x509.Certificate | None
) -> None:
    """Holds a draft against the rules of its kind.

    Raises:
        LintFailed: it breaks one.
    """
    check(f"the {kind} certificate", Draft(certificate, kind, issuer), CERTIFICATE_RULES)


def check_leaf(values: LeafValues) -> None:
    """Holds what varies in a leaf against `LEAF_RULES`; its template was checked when it was made.

    Raises:
        LintFailed: it breaks one.
    """
    check("the operational certificate", values, LEAF_RULES)


def _above(draft: Draft) -> x509.Certificate:
    return draft.issuer or draft.certificate


def _are_dates_spelt(certificate: x509.Certificate) -> bool:
    # version, serialNumber, signature, issuer; then validity.
    rest = unwrap_sequence(certificate.tbs_certificate_bytes)
    for _ in range(4):
        rest = skip_element(rest)
    dates = unwrap_sequence(first_element(rest))
    written = (dates[0], skip_element(dates)[0])
    meant = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return written == tuple(
        _GENERALIZED_TIME if at.year >= _GENERALIZED_FROM else _UTC_TIME for at in meant
    )


def _names_issuer(draft: Draft) -> bool:
    above = _above(draft)
    try:
        its = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:  # a root of somebody else's
        its = x509.SubjectKeyIdentifier.from_public_key(certified_key(above)[0])
    return draft.get(x509.AuthorityKeyIdentifier) == x509.AuthorityKeyIdentifier(
        its.digest, None, None
    )


def _usages(draft: Draft) -> set[str]:
    usage = draft.get(x509.KeyUsage)
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return {name for name in names if getattr(usage, name)}


def _is_one_plain_point(points: x509.CRLDistributionPoints) -> bool:
    return len(list(points)) == 1 and all(
        point.reasons is None
        and point.crl_issuer is None
        and point.full_name is not None
        and len(point.full_name) == 1
        and _is_uri(point.full_name[0])
        for point in points
    )


def _are_both_named(access: x509.AuthorityInformationAccess) -> bool:
    return sorted(one.access_method.dotted_string for one in access) == sorted(
        (
            AuthorityInformationAccessOID.OCSP.dotted_string,
            AuthorityInformationAccessOID.CA_ISSUERS.dotted_string,
        )
    ) and all(_is_uri(one.access_location) for one in access)


def _is_uri(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith(
        ("http://", "https://")
    )
