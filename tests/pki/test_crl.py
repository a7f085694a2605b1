"""Revocation lists: what they say, to the library and to OpenSSL."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from pki_workshop import DAY, NOW, YEAR, OpenSSL, certificate, name

import pkilint_opinion
from fleetroot.pki import (
    CrlReason,
    CrlScope,
    Issuer,
    IssuerExpired,
    KeyType,
    LintFailed,
    PrivateKey,
    Revoked,
    generate_key,
    sign_crl,
    signature_hash,
)

URL = "http://pki.example/pki/a/crl/3.crl"
USERS = CrlScope(URL, of_authorities=False)
KEY_TYPES = [KeyType.EC_P256, KeyType.EC_P384, KeyType.RSA_2048, KeyType.ML_DSA_65]
_KEYS: dict[KeyType, PrivateKey] = {}


def authority(key_type: KeyType = KeyType.EC_P256) -> tuple[Issuer, PrivateKey]:
    key = _KEYS.setdefault(key_type, generate_key(key_type))
    made = certificate(
        "issuing",
        "issuing",
        ca=True,
        public_key=key.public_key(),
        issuer_key=key,
        hash_algorithm=signature_hash(key),
    )
    return Issuer(made), key


def signed(
    *revoked: Revoked,
    of: tuple[Issuer, PrivateKey] | None = None,
    scope: CrlScope = USERS,
    number: int = 7,
    now: datetime = NOW,
    lifetime: timedelta = 7 * DAY,
) -> bytes:
    issuer, key = of or authority()
    return sign_crl(
        issuer, key, revoked=revoked, scope=scope, number=number, now=now, lifetime=lifetime
    )


def read(der: bytes) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(der)


def reason_of(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return "unspecified"


@given(
    st.dictionaries(
        st.integers(1, 2**159 - 1),
        st.tuples(st.integers(0, 10**8), st.sampled_from(CrlReason)),
        max_size=20,
    )
)
def test_library_reads_what_was_written(found: dict[int, tuple[int, CrlReason]]) -> None:
    revoked = [
        Revoked(serial, NOW - timedelta(seconds=ago), why) for serial, (ago, why) in found.items()
    ]
    assert [
        (entry.serial_number, entry.revocation_date_utc, reason_of(entry))
        for entry in read(signed(*revoked))
    ] == [(serial, at, why.word) for serial, at, why in revoked]


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_what_is_signed_is_what_the_librarys_builder_signs(key_type: KeyType) -> None:
    issuer, key = authority(key_type)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + 7 * DAY)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.CRLNumber(7), critical=False)
        .add_extension(USERS.extension().value, critical=True)
    )
    revoked = [Revoked(200, NOW - DAY), Revoked(1, NOW, CrlReason.KEY_COMPROMISE)]
    for serial, at, why in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
        if why is CrlReason.KEY_COMPROMISE:
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), False)
        builder = builder.add_revoked_certificate(entry.build())
    theirs = builder.sign(key, signature_hash(key))  # type: ignore[arg-type]
    ours = read(signed(*revoked, of=(issuer, key)))
    assert ours.tbs_certlist_bytes == theirs.tbs_certlist_bytes
    assert ours.is_signature_valid(key.public_key())  # type: ignore[arg-type]


@pytest.mark.parametrize("key_type", KEY_TYPES)
@pytest.mark.parametrize("entries", [0, 3])
def test_pkilint_finds_no_error(key_type: KeyType, entries: int) -> None:
    revoked = [Revoked(serial + 1, NOW, why) for serial, why in enumerate([*CrlReason][:entries])]
    assert pkilint_opinion.of_list(signed(*revoked, of=authority(key_type))) == []


def test_list_without_entries_reads_back_empty() -> None:
    assert list(read(signed())) == []


@pytest.mark.parametrize("of_authorities", [False, True], ids=["users", "authorities"])
@pytest.mark.parametrize("url", [URL, None])
def test_scope_is_a_url_and_one_kind_of_certificates(of_authorities: bool, url: str | None) -> None:
    extension = read(signed(scope=CrlScope(url, of_authorities))).extensions
    point = extension.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.critical
    assert [one.value for one in point.value.full_name or ()] == ([url] if url else [])
    assert point.value.only_contains_ca_certs == of_authorities
    assert point.value.only_contains_user_certs != of_authorities


def test_revocation_that_is_dated_ahead_is_written_as_of_now() -> None:
    [entry] = read(signed(Revoked(1, NOW + DAY)))
    assert entry.revocation_date_utc == NOW


def test_list_ends_with_its_issuer() -> None:
    issuer, _ = authority()
    end = issuer.certificate.not_valid_after_utc
    assert read(signed(now=end - DAY)).next_update_utc == end


def test_times_from_2050_on_are_generalized() -> None:
    key = authority()[1]
    late = datetime(2051, 1, 1, tzinfo=NOW.tzinfo)
    issuer = Issuer(
        certificate(
            "issuing",
            "issuing",
            ca=True,
            public_key=key.public_key(),
            issuer_key=key,
            not_after=late + YEAR,
        )
    )
    der = signed(Revoked(1, late), of=(issuer, key), now=late)
    assert read(der).last_update_utc == late
    assert der.count(b"\x18\x0f20510101000000Z") == 2


def test_expired_issuer_signs_no_list() -> None:
    with pytest.raises(IssuerExpired):
        signed(now=NOW + 2 * YEAR)


def test_key_of_another_signs_no_list() -> None:
    issuer, _ = authority()
    with pytest.raises(ValueError, match="private key"):
        signed(of=(issuer, generate_key(KeyType.EC_P256)))


@pytest.mark.parametrize("serial", [0, -1, 2**159])
def test_serial_number_that_no_certificate_has_is_refused(serial: int) -> None:
    with pytest.raises(ValueError, match="serial number"):
        signed(Revoked(serial, NOW))


def test_number_of_more_than_20_octets_is_refused() -> None:
    signed(number=2**159 - 1)
    with pytest.raises(LintFailed, match=r"§5\.2\.3"):
        signed(number=2**159)


def test_openssl_verifies_the_signature() -> None:
    issuer, _ = authority()
    openssl = OpenSSL()
    try:
        openssl.write("ca.pem", issuer.certificate)
        pem = read(signed(Revoked(5, NOW))).public_bytes(Encoding.PEM)
        (openssl.folder / "crl.pem").write_bytes(pem)
        text = openssl.run("crl -in crl.pem -CAfile ca.pem -noout -text -nameopt RFC2253")
        assert b"Serial Number: 05" in text
    finally:
        openssl.close()


def test_a_hundred_thousand_are_signed_in_seconds() -> None:
    revoked = [Revoked(1 << 150 | serial, NOW, CrlReason.SUPERSEDED) for serial in range(100_000)]
    start = time.process_time()
    der = signed(*revoked)
    assert time.process_time() - start < 5
    assert len(read(der)) == 100_000


def test_reason_that_is_unknown_here_is_told_to_nobody() -> None:
    assert CrlReason.of("keyCompromise") is CrlReason.KEY_COMPROMISE
    assert CrlReason.of("lostInTheMail") is CrlReason.UNSPECIFIED
    assert CrlReason.of(None) is CrlReason.UNSPECIFIED


def test_name_of_the_issuer_is_spelt_as_in_its_certificate() -> None:
    assert read(signed()).issuer == name("issuing")
