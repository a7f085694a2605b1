"""Lint before signing: each rule is broken once and named; pkilint has nothing to add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from pki_workshop import CLIENT_AUTH, DAY, NOW, SERVER_AUTH, YEAR, ca, key, name

import pkilint_opinion
from fleetroot.pki import (
    IssuingProfile,
    KeyType,
    LintFailed,
    OperationalProfile,
    PkiUrls,
    PrivateKey,
    ResponderProfile,
    RootProfile,
    ServerCaProfile,
    ServerProfile,
    generate_key,
    to_der,
)
from fleetroot.pki.issuer import Issuer, own_validity, self_sign
from fleetroot.pki.lint import (
    CERTIFICATE_RULES,
    LEAF_RULES,
    CertificateKind,
    LeafValues,
    check_certificate,
    check_leaf,
)
from fleetroot.pki.lint_revocation import ANSWER_RULES, CRL_RULES, check_answer, check_crl
from fleetroot.pki.profile import key_usage

URLS = PkiUrls("http://pki.example:8080", "a-1")
KEY_TYPES = [KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521, KeyType.RSA_3072, KeyType.ML_DSA_65]
_KEYS: dict[KeyType, PrivateKey] = {}


def key_of(key_type: KeyType) -> PrivateKey:
    return _KEYS.setdefault(key_type, generate_key(key_type))


# --- a leaf in order, and what can be wrong with it

ISSUING: Final = ca()
AKI: Final = x509.AuthorityKeyIdentifier.from_issuer_public_key(key("issuing").public_key())


@dataclass(frozen=True)
class Parts:
    """The parts of a leaf, which a test can spoil."""

    serial: int
    issuer: x509.Name
    subject: x509.Name
    public_key: Any
    not_before: datetime
    not_after: datetime
    hash_algorithm: Any
    extensions: tuple[tuple[x509.ExtensionType, bool], ...]

    def sign(self) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            self.issuer, self.subject, self.public_key, self.serial, self.not_before, self.not_after
        )
        for value, critical in self.extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(key("issuing"), self.hash_algorithm)

    def having(self, new: x509.ExtensionType, *, critical: bool | None = None) -> Parts:
        """With `new` in place of the extension of its kind."""
        return replace(
            self,
            extensions=tuple(
                (new, was if critical is None else critical) if old.oid == new.oid else (old, was)
                for old, was in self.extensions
            ),
        )

    def without(self, kind: type[x509.ExtensionType]) -> Parts:
        kept = tuple(each for each in self.extensions if not isinstance(each[0], kind))
        return replace(self, extensions=kept)


def point(**spoil: Any) -> x509.CRLDistributionPoints:
    parts: dict[str, Any] = {
        "full_name": [x509.UniformResourceIdentifier(URLS.crl(0))],
        "relative_name": None,
        "reasons": None,
        "crl_issuer": None,
    }
    return x509.CRLDistributionPoints([x509.DistributionPoint(**parts | spoil)])


IN_ORDER: Final = Parts(
    serial=7,
    issuer=name("issuing"),
    subject=name("device-1"),
    public_key=key("device-1").public_key(),
    not_before=NOW,
    not_after=NOW + DAY,
    hash_algorithm=hashes.SHA256(),
    extensions=(
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(digital_signature=True), True),
        (CLIENT_AUTH, False),
        (AKI, False),
        (x509.SubjectKeyIdentifier.from_public_key(key("device-1").public_key()), False),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:uuid:0")]), False),
        (
            x509.CRLDistributionPoints(
                [
                    x509.DistributionPoint(
                        [x509.UniformResourceIdentifier(URLS.crl(0))], None, None, None
                    )
                ]
            ),
            False,
        ),
        (
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
                    for method, url in (
                        (AuthorityInformationAccessOID.OCSP, URLS.ocsp),
                        (AuthorityInformationAccessOID.CA_ISSUERS, URLS.ca_issuers),
                    )
                ]
            ),
            False,
        ),
    ),
)
NO_KEY: Final = rsa.generate_private_key(65537, 1024).public_key()
SPOILT: Final[dict[str, tuple[str, Parts]]] = {
    "serial of 161 bits": ("§4.1.2.2", replace(IN_ORDER, serial=1 << 159)),
    "another issuer": ("§4.1.2.4", replace(IN_ORDER, issuer=name("another"))),
    "issuer spelt otherwise": ("§4.1.2.4", replace(IN_ORDER, issuer=name("Issuing"))),
    "longer than its issuer": ("§6.1.3 (a)(2)", replace(IN_ORDER, not_after=NOW + 2 * YEAR)),
    "before its issuer": ("§6.1.3 (a)(2)", replace(IN_ORDER, not_before=NOW - YEAR)),
    "nameless": ("§4.1.2.6", replace(IN_ORDER, subject=x509.Name([]))),
    "weak key": ("§4.1.2.7", replace(IN_ORDER, public_key=NO_KEY)),
    "extension too few": ("§4.2", IN_ORDER.without(x509.CRLDistributionPoints)),
    "extension too many": (
        "§4.2",
        replace(IN_ORDER, extensions=(*IN_ORDER.extensions, (x509.OCSPNoCheck(), False))),
    ),
    "critical purpose": ("§4.2", IN_ORDER.having(CLIENT_AUTH, critical=True)),
    "identifier of another issuer": (
        "§4.2.1.1",
        IN_ORDER.having(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key("another").public_key())
        ),
    ),
    "identifier with the issuer's serial": (
        "§4.2.1.1",
        IN_ORDER.having(
            x509.AuthorityKeyIdentifier(
                x509.SubjectKeyIdentifier.from_public_key(key("issuing").public_key()).digest,
                [x509.DirectoryName(name("root"))],
                ISSUING.serial_number,
            )
        ),
    ),
    "identifier of another key": (
        "§4.2.1.2",
        IN_ORDER.having(x509.SubjectKeyIdentifier.from_public_key(key("x").public_key())),
    ),
    "usage too many": (
        "§4.2.1.3",
        IN_ORDER.having(key_usage(digital_signature=True, key_encipherment=True)),
    ),
    "usage too few": ("§4.2.1.3", IN_ORDER.having(key_usage(key_encipherment=True))),
    "no name among the alternative ones": (
        "§4.2.1.6",
        IN_ORDER.having(x509.SubjectAlternativeName([])),
    ),
    "a CA": ("§4.2.1.9", IN_ORDER.having(x509.BasicConstraints(ca=True, path_length=None))),
    "another purpose": ("§4.2.1.12", IN_ORDER.having(SERVER_AUTH)),
    "more purposes": (
        "§4.2.1.12",
        IN_ORDER.having(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            )
        ),
    ),
    "some reasons": (
        "§4.2.1.13",
        IN_ORDER.having(point(reasons=frozenset({x509.ReasonFlags.key_compromise}))),
    ),
    "list of another": (
        "§4.2.1.13",
        IN_ORDER.having(point(crl_issuer=[x509.DirectoryName(name("x"))])),
    ),
    "list by LDAP": (
        "§4.2.1.13",
        IN_ORDER.having(point(full_name=[x509.UniformResourceIdentifier("ldap://x/cn=a")])),
    ),
    "no OCSP": (
        "§4.2.2.1",
        IN_ORDER.having(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.CA_ISSUERS,
                        x509.UniformResourceIdentifier(URLS.ca_issuers),
                    )
                ]
            )
        ),
    ),
}


def broken(check: Callable[[], None]) -> set[str]:
    """The sections of the rules that a check finds broken."""
    try:
        check()
    except LintFailed as failed:
        return {section for section, _ in failed.broken}
    return set()


def broken_by(parts: Parts) -> set[str]:
    return broken(lambda: check_certificate(parts.sign(), CertificateKind.OPERATIONAL, ISSUING))


def test_leaf_in_order_breaks_no_rule() -> None:
    assert broken_by(IN_ORDER) == set()


@pytest.mark.parametrize("spoilt", SPOILT)
def test_rule_that_is_broken_is_named(spoilt: str) -> None:
    section, parts = SPOILT[spoilt]
    assert f"RFC 5280 {section}" in broken_by(parts)


def test_weak_signature_is_named() -> None:
    weak = replace(IN_ORDER, hash_algorithm=hashes.SHA224())
    assert broken_by(weak) == {"RFC 5280 §4.1.2.3"}


def test_every_kind_has_a_form_of_its_own() -> None:
    """A certificate in order for one kind is none of another."""
    for kind in set(CertificateKind) - {CertificateKind.OPERATIONAL}:
        assert broken(lambda kind=kind: check_certificate(IN_ORDER.sign(), kind, ISSUING))  # type: ignore[misc]


LEAF: Final = LeafValues(7, NOW, NOW + DAY, "device-1", bytes.fromhex("3003020101"))


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("§4.1.2.2", LEAF._replace(serial=0)),
        ("§4.1.2.2", LEAF._replace(serial=1 << 159)),
        ("§4.1.2.5", LEAF._replace(not_after=NOW - DAY)),
        ("§4.1.2.6", LEAF._replace(common_name="")),
        ("§4.1.2.6", LEAF._replace(common_name="x" * 129)),
        ("§4.1.2.6", LEAF._replace(common_name="a\0b")),
        ("§4.1.2.7", LEAF._replace(public_key_info=b"")),
        ("§4.1.2.7", LEAF._replace(public_key_info=LEAF.public_key_info + b"\0")),
        ("§4.1.2.7", LEAF._replace(public_key_info=LEAF.public_key_info[:-1])),
    ],
)
def test_what_varies_from_leaf_to_leaf_is_checked(section: str, values: LeafValues) -> None:
    assert broken(lambda: check_leaf(LEAF)) == set()
    assert broken(lambda: check_leaf(values)) == {f"RFC 5280 {section}"}


def test_leaf_for_a_name_that_is_too_long_is_not_signed() -> None:
    profile = OperationalProfile(ISSUING, URLS, 16, DAY)
    with pytest.raises(LintFailed, match=r"§4\.1\.2\.6"):
        profile.issue(
            key("issuing"),
            key("device-1").public_key(),
            device_id="x" * 129,
            generation=UUID(int=1),
            now=NOW,
        )


def test_what_a_ca_may_not_be_is_not_signed() -> None:
    issuer = Issuer(ca("root", "root"))
    with pytest.raises(LintFailed, match="issuing certificate must not be signed"):
        issuer.sign(
            key("root"),
            kind=CertificateKind.ISSUING,
            subject=name("issuing"),
            public_key=key("issuing").public_key(),
            serial=1,
            validity=issuer.validity(NOW, DAY),
            extensions=[],
        )
    with pytest.raises(LintFailed, match="root certificate must not be signed"):
        self_sign(
            key("root"),
            kind=CertificateKind.ROOT,
            subject=name("root"),
            validity=own_validity(NOW, YEAR),
            extensions=[],
        )


@pytest.mark.parametrize("rules", [CERTIFICATE_RULES, LEAF_RULES, CRL_RULES, ANSWER_RULES])
def test_every_rule_names_its_source(rules: Any) -> None:
    assert all(rule.section.startswith("RFC ") and "§" in rule.section for rule in rules)
    assert all(rule.asks for rule in rules)


# --- lists


def signed_list(*extensions: tuple[x509.ExtensionType, bool], **spoil: Any) -> Any:
    parts: dict[str, Any] = {"issuer": name("issuing"), "this": NOW, "next": NOW + DAY} | spoil
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(parts["issuer"])
        .last_update(parts["this"])
        .next_update(parts["next"])
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key("issuing"), parts.get("hash_algorithm", hashes.SHA256()))


def scope(**spoil: Any) -> x509.IssuingDistributionPoint:
    parts: dict[str, Any] = {
        "full_name": [x509.UniformResourceIdentifier(URLS.crl(0))],
        "relative_name": None,
        "only_contains_user_certs": True,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**parts | spoil)


NUMBER: Final = (x509.CRLNumber(1), False)
IDP: Final = (scope(), True)


def broken_by_list(crl: x509.CertificateRevocationList, issuer: x509.Certificate = ISSUING) -> Any:
    return broken(lambda: check_crl(crl, issuer, URLS.crl(0)))


def test_list_in_order_breaks_no_rule() -> None:
    assert broken_by_list(signed_list((AKI, False), NUMBER, IDP)) == set()


@pytest.mark.parametrize(
    ("section", "crl"),
    [
        ("§5.1.1.2", signed_list((AKI, False), NUMBER, IDP, hash_algorithm=hashes.SHA224())),
        ("§5.1.2.3", signed_list((AKI, False), NUMBER, IDP, issuer=name("another"))),
        ("§6.3.3 (f)", signed_list((AKI, False), NUMBER, IDP, this=NOW - YEAR)),
        ("§5.2", signed_list((AKI, False), NUMBER)),
        ("§5.2", signed_list((AKI, False), NUMBER, (scope(), False))),
        ("§5.2.1", signed_list(NUMBER, IDP)),
        ("§5.2.3", signed_list((AKI, False), IDP)),
        (
            "§5.2.5",
            signed_list(
                (AKI, False),
                NUMBER,
                (scope(full_name=[x509.UniformResourceIdentifier(URLS.crl(1))]), True),
            ),
        ),
        (
            "§5.2.5",
            signed_list((AKI, False), NUMBER, (scope(only_contains_user_certs=False), True)),
        ),
        ("§5.2.5", signed_list((AKI, False), NUMBER, (scope(indirect_crl=True), True))),
    ],
)
def test_list_that_breaks_a_rule_is_not_signed(section: str, crl: Any) -> None:
    assert f"RFC 5280 {section}" in broken_by_list(crl)


def test_issuer_that_may_not_sign_lists_does_not() -> None:
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    assert broken_by_list(signed_list((AKI, False), NUMBER, IDP), ca(key_usage=usage)) == {
        "RFC 5280 §6.3.3 (f)"
    }


# --- answers


def test_answer_of_another_responder_is_not_signed() -> None:
    mine, other = (
        ResponderProfile(ISSUING, DAY).issue(key("issuing"), key(label).public_key(), NOW)
        for label in ("mine", "other")
    )
    answer = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            b"n" * 20, b"k" * 20, 1, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + YEAR,
            None, None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, other)
        .certificates([other])
        .sign(key("other"), hashes.SHA256())
    )  # fmt: skip
    assert broken(lambda: check_answer(answer, mine)) >= {
        "RFC 6960 §4.2.2.2",
        "RFC 6960 §4.2.2.3",
        "RFC 6960 §4.2.2.1",
    }


# --- what pkilint thinks


def errors_in(certificate: x509.Certificate | bytes) -> list[str]:
    der = certificate if isinstance(certificate, bytes) else to_der(certificate)
    return pkilint_opinion.of_certificate(der)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_pkilint_finds_no_error_in_the_chain_of_a_device(key_type: KeyType) -> None:
    own, now = key_of(key_type), datetime.now(UTC)
    root = RootProfile(name("root"), 20 * YEAR).self_sign(own, now)
    issuing = IssuingProfile(name("issuing"), 5 * YEAR, root, URLS).issue(
        own, own.public_key(), now
    )
    leaf = OperationalProfile(issuing, URLS, 16, 30 * DAY).issue(
        own, own.public_key(), device_id="device-1", generation=UUID(int=1), now=now
    )
    responder = ResponderProfile(issuing, 14 * DAY).issue(own, own.public_key(), now)
    assert [errors_in(each) for each in (root, issuing, leaf.der, responder)] == [[]] * 4


@pytest.mark.parametrize("hosts", [["hub.example", "10.0.0.1", "::1"], ["localhost"]])
def test_pkilint_finds_no_error_in_the_servers_chain(hosts: list[str]) -> None:
    own, now = key_of(KeyType.EC_P256), datetime.now(UTC)
    server_ca = ServerCaProfile(name("server CA"), YEAR, hosts).self_sign(own, now)
    server = ServerProfile(server_ca, 30 * DAY, hosts).issue(own, own.public_key(), now)
    assert [errors_in(each) for each in (server_ca, server)] == [[], []]


def test_pkilint_sees_what_is_wrong() -> None:
    assert errors_in(replace(IN_ORDER, serial=1 << 159).sign())


def test_drafts_are_signed_with_a_key_that_signs_nothing_else() -> None:
    own = key_of(KeyType.EC_P256)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    root = RootProfile(name("root"), timedelta(days=1)).self_sign(own, NOW)
    assert root.signature_hash_algorithm is not None
    own.public_key().verify(
        root.signature, root.tbs_certificate_bytes, ec.ECDSA(root.signature_hash_algorithm)
    )
    assert root.public_bytes(Encoding.DER)
