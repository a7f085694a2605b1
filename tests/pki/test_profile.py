"""What each certificate of a device's chain must hold."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from pki_workshop import DAY, NOW, YEAR, OpenSSL, key, leaf, name, request
from pki_workshop import certificate as make

from fleetroot.pki import (
    BACKDATE,
    IssuedCertificate,
    IssuerExpired,
    IssuingProfile,
    KeyType,
    OperationalProfile,
    PkiUrls,
    PrivateKey,
    RootProfile,
    common_name_of,
    generate_key,
    generation_of,
    new_leaf_serial,
    new_serial,
    parse_csr,
    sha256_fingerprint,
    to_pem,
)

BASE = "http://pki.example:8080"
ROOT_URLS = PkiUrls(BASE, "root-1")
ISSUING_URLS = PkiUrls(BASE, "issuing-1")
GENERATION = uuid.UUID("0b6b0f2a-7f5c-4a6d-9f1e-3c2b1a098765")

ROOT = RootProfile(name("Fleet root"), 10 * YEAR).self_sign(key("root"), NOW)
ISSUING = IssuingProfile(name("Fleet issuing"), 5 * YEAR, ROOT, ROOT_URLS).issue(
    key("root"), key("issuing").public_key(), NOW
)
OPERATIONAL = OperationalProfile(ISSUING, ISSUING_URLS, crl_shards=4, validity=30 * DAY)


def issue(
    profile: OperationalProfile = OPERATIONAL, now: datetime = NOW, device_id: str = "device-1"
) -> IssuedCertificate:
    return profile.issue(
        key("issuing"),
        key("device").public_key(),
        device_id=device_id,
        generation=GENERATION,
        now=now,
    )


ISSUED = issue()
LEAF = x509.load_der_x509_certificate(ISSUED.der)


def value(certificate: x509.Certificate, kind):
    return certificate.extensions.get_extension_for_class(kind).value


def critical(certificate: x509.Certificate) -> set[str]:
    return {type(each.value).__name__ for each in certificate.extensions if each.critical}


def used(certificate: x509.Certificate) -> set[str]:
    usage = value(certificate, x509.KeyUsage)
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names += ("key_agreement", "key_cert_sign", "crl_sign")
    return {each for each in names if getattr(usage, each)}


def revocation_list(certificate: x509.Certificate) -> str:
    (point,) = value(certificate, x509.CRLDistributionPoints)
    (uri,) = point.full_name
    return uri.value


def information(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, str]:
    access = value(certificate, x509.AuthorityInformationAccess)
    return {each.access_method: each.access_location.value for each in access}


class TestRoot:
    def test_it_is_a_ca_with_one_ca_beneath_it(self) -> None:
        assert value(ROOT, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=1)

    def test_its_key_signs_certificates_lists_and_ocsp_answers(self) -> None:
        assert used(ROOT) == {"digital_signature", "key_cert_sign", "crl_sign"}

    def test_constraints_and_usage_are_critical(self) -> None:
        assert critical(ROOT) == {"BasicConstraints", "KeyUsage"}

    def test_it_is_signed_by_itself(self) -> None:
        ROOT.verify_directly_issued_by(ROOT)

    def test_its_subject_key_identifier_is_of_its_key(self) -> None:
        expected = x509.SubjectKeyIdentifier.from_public_key(key("root").public_key())
        assert value(ROOT, x509.SubjectKeyIdentifier) == expected

    def test_it_is_back_dated_and_lives_as_long_as_asked(self) -> None:
        assert ROOT.not_valid_before_utc == NOW - BACKDATE
        assert ROOT.not_valid_after_utc == NOW + 10 * YEAR

    def test_an_empty_subject_is_refused(self) -> None:
        with pytest.raises(ValueError, match="subject"):
            RootProfile(x509.Name([]), YEAR)

    def test_no_validity_is_refused(self) -> None:
        with pytest.raises(ValueError, match="validity"):
            RootProfile(name("root"), timedelta(0))

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="zone"):
            RootProfile(name("root"), YEAR).self_sign(key("root"), NOW.replace(tzinfo=None))


class TestIssuing:
    def test_it_is_a_ca_with_none_beneath_it(self) -> None:
        expected = x509.BasicConstraints(ca=True, path_length=0)
        assert value(ISSUING, x509.BasicConstraints) == expected

    def test_its_key_signs_certificates_lists_and_ocsp_answers(self) -> None:
        assert used(ISSUING) == {"digital_signature", "key_cert_sign", "crl_sign"}

    def test_constraints_and_usage_are_critical(self) -> None:
        assert critical(ISSUING) == {"BasicConstraints", "KeyUsage"}

    def test_it_is_for_clients_only(self) -> None:
        assert list(value(ISSUING, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_it_names_the_key_of_the_root(self) -> None:
        root_ski = value(ROOT, x509.SubjectKeyIdentifier).digest
        assert value(ISSUING, x509.AuthorityKeyIdentifier).key_identifier == root_ski

    def test_it_points_at_what_the_root_publishes(self) -> None:
        assert revocation_list(ISSUING) == f"{BASE}/pki/root-1/crl/0.crl"
        assert information(ISSUING) == {
            AuthorityInformationAccessOID.CA_ISSUERS: f"{BASE}/pki/root-1/ca.cer",
            AuthorityInformationAccessOID.OCSP: f"{BASE}/ocsp",
        }

    def test_it_does_not_outlive_its_root(self) -> None:
        profile = IssuingProfile(name("i"), 20 * YEAR, ROOT, ROOT_URLS)
        late = profile.issue(key("root"), key("issuing").public_key(), NOW)
        assert late.not_valid_after_utc == ROOT.not_valid_after_utc

    def test_an_expired_root_signs_nothing(self) -> None:
        profile = IssuingProfile(name("i"), YEAR, ROOT, ROOT_URLS)
        with pytest.raises(IssuerExpired):
            profile.issue(key("root"), key("issuing").public_key(), NOW + 11 * YEAR)

    def test_a_ca_without_room_beneath_it_is_no_root(self) -> None:
        with pytest.raises(ValueError, match="path length"):
            IssuingProfile(name("i"), YEAR, ISSUING, ISSUING_URLS)

    def test_a_leaf_is_no_root(self) -> None:
        with pytest.raises(ValueError, match="not a CA"):
            IssuingProfile(name("i"), YEAR, LEAF, ISSUING_URLS)


class TestOperational:
    def test_its_subject_is_the_device_id_alone(self) -> None:
        assert LEAF.subject == name("device-1")
        assert common_name_of(LEAF) == "device-1"

    def test_it_is_no_ca(self) -> None:
        expected = x509.BasicConstraints(ca=False, path_length=None)
        assert value(LEAF, x509.BasicConstraints) == expected

    def test_its_key_makes_digital_signatures_and_nothing_else(self) -> None:
        assert used(LEAF) == {"digital_signature"}

    def test_constraints_and_usage_are_critical_and_nothing_else_is(self) -> None:
        assert critical(LEAF) == {"BasicConstraints", "KeyUsage"}

    def test_it_is_for_clients_only(self) -> None:
        assert list(value(LEAF, x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]

    def test_it_names_its_own_key_and_its_issuers(self) -> None:
        expected = x509.SubjectKeyIdentifier.from_public_key(key("device").public_key())
        assert value(LEAF, x509.SubjectKeyIdentifier) == expected
        issuing_ski = value(ISSUING, x509.SubjectKeyIdentifier).digest
        assert value(LEAF, x509.AuthorityKeyIdentifier).key_identifier == issuing_ski

    def test_its_one_alternative_name_is_the_generation(self) -> None:
        assert list(value(LEAF, x509.SubjectAlternativeName)) == [
            x509.UniformResourceIdentifier(f"urn:uuid:{GENERATION}")
        ]
        assert generation_of(LEAF) == GENERATION

    def test_it_points_at_what_its_issuer_publishes(self) -> None:
        assert information(LEAF) == {
            AuthorityInformationAccessOID.CA_ISSUERS: f"{BASE}/pki/issuing-1/ca.cer",
            AuthorityInformationAccessOID.OCSP: f"{BASE}/ocsp",
        }

    def test_it_names_the_shard_of_its_serial_number(self) -> None:
        for issued in [issue() for _ in range(12)]:
            shard = issued.serial % 4
            assert issued.crl_shard == shard
            parsed = x509.load_der_x509_certificate(issued.der)
            assert revocation_list(parsed) == f"{BASE}/pki/issuing-1/crl/{shard}.crl"

    def test_it_holds_the_key_of_the_request_and_no_wish_of_it(self) -> None:
        wish = x509.Name([*name("device-1"), x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")])
        parsed = parse_csr(request(subject=wish), common_name="device-1", allowed=[KeyType.EC_P256])
        issued = OPERATIONAL.issue(
            key("issuing"), parsed, device_id="other", generation=GENERATION, now=NOW
        )
        certificate = x509.load_der_x509_certificate(issued.der)
        assert certificate.public_key() == parsed.public_key
        assert certificate.subject == name("other")

    def test_what_is_returned_is_what_was_signed(self) -> None:
        assert ISSUED.serial == LEAF.serial_number
        assert ISSUED.sha256 == hashlib.sha256(ISSUED.der).digest() == sha256_fingerprint(LEAF)
        assert ISSUED.not_before == LEAF.not_valid_before_utc
        assert ISSUED.not_after == LEAF.not_valid_after_utc

    def test_it_is_back_dated_and_lives_as_long_as_the_policy_says(self) -> None:
        later = issue(now=NOW + DAY)
        assert later.not_before == NOW + DAY - BACKDATE
        assert later.not_after == NOW + 31 * DAY

    def test_its_dates_are_whole_seconds(self) -> None:
        assert issue(now=NOW + timedelta(microseconds=999_999)).not_after == NOW + 30 * DAY

    def test_its_dates_are_utc_whatever_the_zone_of_the_clock(self) -> None:
        elsewhere = (NOW + DAY).astimezone(timezone(timedelta(hours=9)))
        certificate = x509.load_der_x509_certificate(issue(now=elsewhere).der)
        assert certificate.not_valid_before_utc == NOW + DAY - BACKDATE

    def test_it_is_not_valid_before_its_issuer(self) -> None:
        early = ISSUING.not_valid_before_utc
        assert issue(now=early).not_before == early

    def test_it_does_not_outlive_its_issuer(self) -> None:
        assert issue(now=NOW + 5 * YEAR - DAY).not_after == ISSUING.not_valid_after_utc

    @pytest.mark.parametrize(
        "now",
        [ISSUING.not_valid_before_utc - DAY, ISSUING.not_valid_after_utc + timedelta(seconds=1)],
    )
    def test_an_issuer_that_is_not_valid_now_signs_nothing(self, now: datetime) -> None:
        with pytest.raises(IssuerExpired):
            issue(now=now)

    def test_a_key_that_is_not_the_issuers_signs_nothing(self) -> None:
        issue()
        with pytest.raises(ValueError, match="private key"):
            OPERATIONAL.issue(
                key("root"),
                key("device").public_key(),
                device_id="d",
                generation=GENERATION,
                now=NOW,
            )

    def test_a_request_cannot_be_issued_to_nobody(self) -> None:
        with pytest.raises(ValueError, match="device id"):
            issue(device_id="")

    @pytest.mark.filterwarnings("ignore:Attribute's length")
    def test_a_device_id_of_full_length_is_not_cut(self) -> None:
        device_id = "d" * 128
        certificate = x509.load_der_x509_certificate(issue(device_id=device_id).der)
        assert common_name_of(certificate) == device_id

    def test_a_list_without_shards_is_refused(self) -> None:
        with pytest.raises(ValueError, match="shard"):
            OperationalProfile(ISSUING, ISSUING_URLS, crl_shards=0, validity=DAY)

    def test_a_leaf_is_no_issuer(self) -> None:
        with pytest.raises(ValueError, match="not a CA"):
            OperationalProfile(LEAF, ISSUING_URLS, crl_shards=1, validity=DAY)


class TestByOpenSSL:
    """Strict path validation by another implementation."""

    def verify(self, openssl: OpenSSL, root_key: PrivateKey, issuing_key: PrivateKey) -> None:
        now = datetime.now(UTC)
        root = RootProfile(name("root"), YEAR).self_sign(root_key, now)
        issuing = IssuingProfile(name("issuing"), YEAR, root, ROOT_URLS).issue(
            root_key, issuing_key.public_key(), now
        )
        issued = OperationalProfile(issuing, ISSUING_URLS, 1, DAY).issue(
            issuing_key,
            key("device").public_key(),
            device_id="device-1",
            generation=GENERATION,
            now=now,
        )
        openssl.write("root.pem", root)
        openssl.write("issuing.pem", issuing)
        openssl.write("leaf.pem", x509.load_der_x509_certificate(issued.der))
        openssl.run(
            "verify -x509_strict -purpose sslclient -check_ss_sig -CAfile root.pem "
            "-untrusted issuing.pem leaf.pem"
        )

    @pytest.mark.parametrize(
        "key_type", [KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521, KeyType.RSA_2048]
    )
    def test_a_chain_passes_strict_verification(self, openssl: OpenSSL, key_type: KeyType) -> None:
        self.verify(openssl, generate_key(key_type), generate_key(key_type))

    def test_a_chain_of_mixed_keys_passes_strict_verification(self, openssl: OpenSSL) -> None:
        self.verify(openssl, generate_key(KeyType.RSA_2048), generate_key(KeyType.EC_P384))


def test_a_chain_of_ml_dsa_is_signed_and_verifies() -> None:
    root_key, issuing_key = generate_key(KeyType.ML_DSA_65), generate_key(KeyType.ML_DSA_44)
    root = RootProfile(name("root"), YEAR).self_sign(root_key, NOW)
    issuing = IssuingProfile(name("issuing"), YEAR, root, ROOT_URLS).issue(
        root_key, issuing_key.public_key(), NOW
    )
    issued = OperationalProfile(issuing, ISSUING_URLS, 1, DAY).issue(
        issuing_key,
        generate_key(KeyType.ML_DSA_44).public_key(),
        device_id="device-1",
        generation=GENERATION,
        now=NOW,
    )
    issuing.verify_directly_issued_by(root)
    x509.load_der_x509_certificate(issued.der).verify_directly_issued_by(issuing)


class TestSerialNumbers:
    def test_they_are_positive_and_fit_into_20_octets(self) -> None:
        assert all(0 < new_serial() < 1 << 159 for _ in range(1000))

    def test_they_do_not_repeat(self) -> None:
        assert len({new_serial() for _ in range(1000)}) == 1000

    def test_of_leaves_are_positive_and_fit_into_twenty_octets(self) -> None:
        for year in (1, 1970, 2026, 9999):
            assert 0 < new_leaf_serial(datetime(year, 1, 1, tzinfo=UTC)) < 1 << 159

    def test_of_leaves_of_one_moment_differ(self) -> None:
        assert len({new_leaf_serial(NOW) for _ in range(1000)}) == 1000

    def test_of_leaves_grow_with_time(self) -> None:
        assert new_leaf_serial(NOW) < new_leaf_serial(NOW + timedelta(microseconds=1))


class TestReading:
    @pytest.mark.parametrize(
        "names",
        [
            [],
            [x509.DNSName("device-1")],
            [x509.UniformResourceIdentifier("urn:uuid:not-a-uuid")],
            [x509.UniformResourceIdentifier(f"urn:uuid:{GENERATION}".upper())],
            [x509.UniformResourceIdentifier(f"urn:uuid:{{{GENERATION}}}")],
            [x509.UniformResourceIdentifier(f"urn:uuid:{GENERATION}")] * 2,
        ],
    )
    def test_there_is_no_generation_but_in_our_own_spelling(self, names) -> None:
        extra = [(x509.SubjectAlternativeName(names), False)] if names else []
        assert generation_of(leaf(extra=extra)) is None

    def test_two_common_names_are_none(self) -> None:
        two = x509.Name([*name("a"), *name("b")])
        root = RootProfile(two, YEAR).self_sign(key("root"), NOW)
        assert common_name_of(root) is None

    def test_pem_keeps_the_order_of_the_chain(self) -> None:
        pem = to_pem([LEAF, ISSUING, ROOT])
        assert x509.load_pem_x509_certificates(pem.encode()) == [LEAF, ISSUING, ROOT]


class TestUrls:
    def test_a_trailing_slash_makes_no_difference(self) -> None:
        assert PkiUrls(f"{BASE}/", "a") == PkiUrls(BASE, "a")

    @pytest.mark.parametrize(
        "base",
        [
            "",
            "ftp://pki.example",
            "pki.example",
            "http://",
            "http://a b",
            "http://a?q",
            "http://a#f",
        ],
    )
    def test_a_base_that_is_no_plain_url_is_refused(self, base: str) -> None:
        with pytest.raises(ValueError, match="URL"):
            PkiUrls(base, "a")

    @given(st.text())
    def test_an_authority_id_has_no_other_characters(self, authority_id: str) -> None:
        try:
            urls = PkiUrls(BASE, authority_id)
        except ValueError:
            return
        assert urls.ca_issuers.count("/") == 5
        assert urls.ca_issuers.isascii()


def test_an_issuer_without_a_subject_key_identifier_is_named_by_its_key() -> None:
    bare = make("bare", "bare", ca=True, identifiers=False)
    profile = OperationalProfile(bare, ISSUING_URLS, 1, DAY)
    issued = profile.issue(
        key("bare"), key("device").public_key(), device_id="d", generation=GENERATION, now=NOW
    )
    expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(key("bare").public_key())
    parsed = x509.load_der_x509_certificate(issued.der)
    assert value(parsed, x509.AuthorityKeyIdentifier) == expected
