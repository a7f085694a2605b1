"""Which chains are accepted, and by which reason each other one is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from pki_workshop import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    UNKNOWN,
    YEAR,
    OpenSSL,
    ca,
    certificate,
    key,
    leaf,
    name,
    request,
    root,
    usage,
)

from fleetroot.pki import (
    MAX_CHAIN_BYTES,
    Anchors,
    ChainRefusal,
    ChainRefused,
    KeyType,
    VerifiedChain,
    generate_key,
    load_chain,
    verify_chain,
)
from fleetroot.pki.certificate import common_name_of, generation_of

ROOT = root()
ISSUING = ca()
LEAF = leaf()
ANY_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])


def verify(
    *chain: x509.Certificate,
    anchors: Sequence[x509.Certificate] = (ROOT,),
    at: datetime = NOW,
) -> VerifiedChain:
    return verify_chain(chain, Anchors(anchors), at)


def refusal(
    *chain: x509.Certificate,
    anchors: Sequence[x509.Certificate] = (ROOT,),
    at: datetime = NOW,
) -> ChainRefusal:
    with pytest.raises(ChainRefused) as refused:
        verify(*chain, anchors=anchors, at=at)
    assert refused.value.message
    return refused.value.reason


def constrained(*, permitted=None, excluded=None) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.NameConstraints(permitted, excluded), True)]


def named(*names: x509.GeneralName) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.SubjectAlternativeName(names), False)]


class TestAccepted:
    def test_a_leaf_under_an_issuing_ca_under_a_root(self) -> None:
        assert verify(LEAF, ISSUING) == VerifiedChain(LEAF, ROOT, (LEAF, ISSUING, ROOT))

    def test_an_issuing_ca_as_anchor_needs_no_intermediate(self) -> None:
        assert verify(LEAF, anchors=[ISSUING]).path == (LEAF, ISSUING)

    def test_a_root_as_anchor_of_a_leaf(self) -> None:
        direct = leaf(issuer="root")
        assert verify(direct).path == (direct, ROOT)

    def test_the_nearest_anchor_ends_the_path(self) -> None:
        assert verify(LEAF, ISSUING, anchors=[ROOT, ISSUING]).anchor == ISSUING

    def test_the_anchor_may_be_sent_along(self) -> None:
        assert verify(LEAF, ISSUING, ROOT).path == (LEAF, ISSUING, ROOT)

    def test_intermediates_may_come_in_any_order(self) -> None:
        one, two = ca("one"), ca("two", "one")
        last = leaf(issuer="two")
        assert verify(last, one, two).path == (last, two, one, ROOT)

    def test_four_intermediates(self) -> None:
        cas = [ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3")]
        assert len(verify(leaf(issuer="4"), *cas).path) == 6

    def test_unrelated_certificates_are_passed_over(self) -> None:
        assert verify(LEAF, root("stranger"), ISSUING).anchor == ROOT

    def test_repeated_certificates_are_counted_once(self) -> None:
        assert verify(LEAF, *[ISSUING] * 10).anchor == ROOT

    def test_a_cross_signed_ca_by_the_signature_that_leads_to_an_anchor(self) -> None:
        other = root("other")
        crossed = ca("issuing", "other")
        assert verify(LEAF, ISSUING, crossed, anchors=[other]).path == (LEAF, crossed, other)

    def test_a_cross_signed_ca_whose_better_certificate_comes_second(self) -> None:
        worse = ca(key_usage=usage(sign=True))
        assert verify(LEAF, worse, ISSUING).path == (LEAF, ISSUING, ROOT)

    def test_a_ca_that_was_renewed_with_its_key_beside_the_expired_one(self) -> None:
        expired = ca(not_after=NOW - timedelta(seconds=1))
        assert verify(LEAF, expired, ISSUING).path == (LEAF, ISSUING, ROOT)

    def test_two_anchors_of_one_name_are_told_apart(self) -> None:
        rekeyed = root(public_key=key("new").public_key(), issuer_key=key("new"))
        direct = leaf(issuer="root", issuer_key=key("new"))
        assert verify(direct, anchors=[ROOT, rekeyed]).anchor == rekeyed

    def test_two_anchors_of_one_name_are_told_apart_without_identifiers(self) -> None:
        old = root(identifiers=False)
        rekeyed = root(public_key=key("new").public_key(), issuer_key=key("new"), identifiers=False)
        direct = leaf(issuer="root", issuer_key=key("new"), identifiers=False)
        assert verify(direct, anchors=[old, rekeyed]).anchor == rekeyed

    def test_certificates_without_key_identifiers(self) -> None:
        assert verify(leaf(identifiers=False), ca(identifiers=False))

    def test_a_ca_without_key_usage(self) -> None:
        assert verify(LEAF, ca(key_usage=None))

    def test_a_leaf_without_basic_constraints_or_key_usage(self) -> None:
        assert verify(leaf(ca=None, key_usage=None), ISSUING)

    def test_a_ca_for_clients(self) -> None:
        assert verify(LEAF, ca(purposes=CLIENT_AUTH))

    def test_a_ca_for_any_purpose(self) -> None:
        assert verify(LEAF, ca(purposes=ANY_PURPOSE))

    def test_a_leaf_for_servers_and_clients(self) -> None:
        both = x509.ExtendedKeyUsage([*SERVER_AUTH, *CLIENT_AUTH])
        assert verify(leaf(purposes=both), ISSUING)

    def test_a_path_length_that_is_just_enough(self) -> None:
        assert verify(LEAF, ca(path_length=0), anchors=[root(path_length=1)])

    def test_a_name_within_the_constraints(self) -> None:
        extra = constrained(permitted=[x509.DNSName("fleet.example")])
        assert verify(leaf(extra=named(x509.DNSName("a.fleet.example"))), ca(extra=extra))

    @pytest.mark.parametrize("moment", [NOW - DAY, NOW + YEAR])
    def test_the_first_and_the_last_second_of_validity(self, moment: datetime) -> None:
        assert verify(LEAF, ISSUING, at=moment)

    def test_a_time_in_another_zone(self) -> None:
        zone = timezone(timedelta(hours=-11))
        assert verify(LEAF, ISSUING, at=(NOW + YEAR).astimezone(zone))

    @pytest.mark.parametrize(
        "key_type", [KeyType.EC_P384, KeyType.EC_P521, KeyType.RSA_2048, KeyType.ML_DSA_44]
    )
    def test_other_kinds_of_keys(self, key_type: KeyType) -> None:
        theirs = generate_key(key_type)
        hashing = {"hash_algorithm": None} if key_type is KeyType.ML_DSA_44 else {}
        own_root = root("own", public_key=theirs.public_key(), issuer_key=theirs, **hashing)
        own_leaf = leaf(issuer="own", public_key=theirs.public_key(), issuer_key=theirs, **hashing)
        assert verify(own_leaf, anchors=[own_root]).anchor == own_root


class TestBounds:
    def test_an_empty_chain(self) -> None:
        assert refusal() is ChainRefusal.EMPTY

    def test_six_certificates(self) -> None:
        cas = [ca("1"), ca("2", "1"), ca("3", "2"), ca("4", "3"), ca("5", "4")]
        assert refusal(leaf(issuer="5"), *cas) is ChainRefusal.TOO_MANY_CERTIFICATES

    def test_a_hundred_certificates(self) -> None:
        others = [ca(f"ca-{n}", public_key=key("x").public_key()) for n in range(99)]
        assert refusal(LEAF, *others) is ChainRefusal.TOO_MANY_CERTIFICATES

    def test_more_than_32_kib(self) -> None:
        bulk = x509.UnrecognizedExtension(UNKNOWN.oid, b"\x04\x82\x80\x00" + bytes(MAX_CHAIN_BYTES))
        assert refusal(leaf(extra=[(bulk, False)]), ISSUING) is ChainRefusal.TOO_LARGE

    def test_bytes_are_bounded_before_they_are_parsed(self) -> None:
        with pytest.raises(ChainRefused) as refused:
            load_chain([bytes(MAX_CHAIN_BYTES), b"\x00"])
        assert refused.value.reason is ChainRefusal.TOO_LARGE

    def test_the_number_of_pieces_is_bounded_before_they_are_parsed(self) -> None:
        with pytest.raises(ChainRefused) as refused:
            load_chain([b"\x00"] * 100)
        assert refused.value.reason is ChainRefusal.TOO_MANY_CERTIFICATES

    def test_no_bytes_at_all(self) -> None:
        with pytest.raises(ChainRefused) as refused:
            load_chain([])
        assert refused.value.reason is ChainRefusal.EMPTY

    def test_der_is_read_in_its_order(self) -> None:
        assert load_chain([each.public_bytes(Encoding.DER) for each in (LEAF, ISSUING)]) == [
            LEAF,
            ISSUING,
        ]


class TestLeafRefused:
    def test_a_ca_certificate(self) -> None:
        assert refusal(ISSUING) is ChainRefusal.LEAF_IS_CA

    def test_the_anchor_itself(self) -> None:
        assert refusal(ISSUING, anchors=[ISSUING]) is ChainRefusal.LEAF_IS_CA

    def test_a_leaf_is_not_trusted_for_being_among_the_anchors(self) -> None:
        assert refusal(LEAF, anchors=[LEAF]) is ChainRefusal.UNTRUSTED

    def test_a_key_that_may_sign_certificates(self) -> None:
        signing = leaf(key_usage=usage(certificates=True))
        assert refusal(signing, ISSUING) is ChainRefusal.LEAF_IS_CA

    def test_expired(self) -> None:
        expired = leaf(not_after=NOW - timedelta(seconds=1))
        assert refusal(expired, ISSUING) is ChainRefusal.EXPIRED

    def test_not_yet_valid(self) -> None:
        early = leaf(not_before=NOW + timedelta(seconds=1))
        assert refusal(early, ISSUING) is ChainRefusal.NOT_YET_VALID

    def test_a_second_fraction_past_the_end(self) -> None:
        moment = NOW + YEAR + timedelta(milliseconds=1)
        assert refusal(LEAF, ISSUING, at=moment) is ChainRefusal.EXPIRED

    @pytest.mark.parametrize(
        "weak",
        [
            rsa.generate_private_key(65537, 1024),
            rsa.generate_private_key(3, 2048),
            ec.generate_private_key(ec.SECP224R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["RSA-1024", "e=3", "P-224", "secp256k1", "Ed25519"],
    )
    def test_a_weak_or_unknown_key(self, weak) -> None:
        assert refusal(leaf(public_key=weak.public_key()), ISSUING) is ChainRefusal.WEAK_KEY

    @pytest.mark.parametrize("purposes", [None, SERVER_AUTH, ANY_PURPOSE])
    def test_not_for_clients(self, purposes) -> None:
        assert refusal(leaf(purposes=purposes), ISSUING) is ChainRefusal.CLIENT_AUTH_MISSING

    def test_an_unknown_critical_extension(self) -> None:
        odd = leaf(extra=[(UNKNOWN, True)])
        assert refusal(odd, ISSUING) is ChainRefusal.UNKNOWN_CRITICAL_EXTENSION

    def test_an_extension_that_cannot_be_read(self) -> None:
        broken = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x05\x00")
        assert refusal(leaf(extra=[(broken, False)]), ISSUING) is ChainRefusal.MALFORMED

    def test_a_kind_of_alternative_name_that_the_library_does_not_know(self) -> None:
        x400 = x509.UnrecognizedExtension(
            x509.SubjectAlternativeName.oid, bytes.fromhex("3004a3023000")
        )
        odd = leaf(extra=[(x400, False)])
        assert refusal(odd, ISSUING) is ChainRefusal.MALFORMED
        assert generation_of(odd) is None

    def test_a_weak_signature(self, openssl: OpenSSL) -> None:
        (openssl.folder / "device.csr").write_bytes(request())
        openssl.run("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca")
        (openssl.folder / "leaf.cnf").write_text("extendedKeyUsage=clientAuth\n")
        der = openssl.run(
            "x509 -req -in device.csr -inform DER -CA ca.pem -CAkey ca.key -sha1 "
            "-CAcreateserial -extfile leaf.cnf -outform DER"
        )
        weak = x509.load_der_x509_certificate(der)
        anchor = x509.load_pem_x509_certificate((openssl.folder / "ca.pem").read_bytes())
        moment = weak.not_valid_before_utc
        assert refusal(weak, anchors=[anchor], at=moment) is ChainRefusal.WEAK_SIGNATURE

    def test_no_signature_at_all(self) -> None:
        # RFC 9925: a certificate whose signature says that there is none.
        builder = x509.CertificateBuilder(
            name("root"), name("device-1"), key("device-1").public_key(), 1, NOW, NOW + DAY
        )
        unsigned = builder.add_extension(CLIENT_AUTH, critical=False).create_unsigned()
        assert refusal(unsigned) is ChainRefusal.WEAK_SIGNATURE


class TestPathRefused:
    def test_no_anchor_at_all(self) -> None:
        assert refusal(LEAF, ISSUING, anchors=[]) is ChainRefusal.UNTRUSTED

    def test_an_anchor_of_somebody_else(self) -> None:
        assert refusal(LEAF, ISSUING, anchors=[root("other")]) is ChainRefusal.UNTRUSTED

    def test_a_self_signed_leaf(self) -> None:
        assert refusal(leaf(issuer="device-1")) is ChainRefusal.UNTRUSTED

    def test_a_missing_intermediate(self) -> None:
        assert refusal(LEAF) is ChainRefusal.UNTRUSTED

    def test_a_root_that_came_with_the_chain_is_no_anchor(self) -> None:
        cuckoo = leaf(issuer="cuckoo")
        assert refusal(cuckoo, root("cuckoo")) is ChainRefusal.UNTRUSTED

    def test_an_impostor_with_the_name_of_the_anchor(self) -> None:
        forged = leaf(issuer="root", issuer_key=key("thief"))
        assert refusal(forged) is ChainRefusal.UNTRUSTED

    def test_an_impostor_with_the_name_of_the_anchor_and_no_key_identifier(self) -> None:
        forged = leaf(issuer="root", issuer_key=key("thief"), identifiers=False)
        assert refusal(forged) is ChainRefusal.BAD_SIGNATURE

    def test_an_impostor_who_copies_name_and_key_identifier(self) -> None:
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(key("root").public_key())
        forged = leaf(
            issuer="root", issuer_key=key("thief"), identifiers=False, extra=[(aki, False)]
        )
        assert refusal(forged) is ChainRefusal.BAD_SIGNATURE

    def test_an_authority_key_identifier_of_another_key(self) -> None:
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(key("other").public_key())
        astray = leaf(identifiers=False, extra=[(aki, False)])
        assert refusal(astray, ISSUING) is ChainRefusal.UNTRUSTED

    def test_a_changed_leaf(self) -> None:
        der = LEAF.public_bytes(Encoding.DER).replace(b"device-1", b"device-2")
        assert refusal(x509.load_der_x509_certificate(der), ISSUING) is ChainRefusal.BAD_SIGNATURE

    @pytest.mark.parametrize("not_a_ca", [False, None], ids=["CA:FALSE", "absent"])
    def test_an_intermediate_that_is_no_ca(self, not_a_ca: bool | None) -> None:
        device = certificate("issuing", "root", ca=not_a_ca)
        assert refusal(LEAF, device) is ChainRefusal.NOT_A_CA

    def test_an_anchor_that_is_no_ca(self) -> None:
        anchor = certificate("root", "root")
        assert refusal(LEAF, ISSUING, anchors=[anchor]) is ChainRefusal.NOT_A_CA

    def test_an_intermediate_that_may_not_sign_certificates(self) -> None:
        weak = ca(key_usage=usage(sign=True))
        assert refusal(LEAF, weak) is ChainRefusal.KEY_CERT_SIGN_MISSING

    def test_an_anchor_that_may_not_sign_certificates(self) -> None:
        anchor = root(key_usage=usage(sign=True))
        assert refusal(LEAF, ISSUING, anchors=[anchor]) is ChainRefusal.KEY_CERT_SIGN_MISSING

    def test_an_intermediate_for_servers_only(self) -> None:
        assert refusal(LEAF, ca(purposes=SERVER_AUTH)) is ChainRefusal.CLIENT_AUTH_MISSING

    def test_an_expired_intermediate(self) -> None:
        expired = ca(not_after=NOW - timedelta(seconds=1))
        assert refusal(LEAF, expired) is ChainRefusal.EXPIRED

    def test_an_intermediate_that_is_not_yet_valid(self) -> None:
        early = ca(not_before=NOW + timedelta(seconds=1))
        assert refusal(LEAF, early) is ChainRefusal.NOT_YET_VALID

    def test_an_expired_anchor(self) -> None:
        anchor = root(not_after=NOW - timedelta(seconds=1))
        assert refusal(LEAF, ISSUING, anchors=[anchor]) is ChainRefusal.EXPIRED

    def test_a_ca_beneath_a_ca_that_permits_none(self) -> None:
        first, second = ca("first", path_length=0), ca("second", "first")
        assert refusal(leaf(issuer="second"), first, second) is ChainRefusal.PATH_LENGTH

    def test_the_path_length_of_an_anchor(self) -> None:
        anchor = root(path_length=0)
        assert refusal(LEAF, ISSUING, anchors=[anchor]) is ChainRefusal.PATH_LENGTH

    def test_an_unknown_critical_extension_of_an_intermediate(self) -> None:
        odd = ca(extra=[(UNKNOWN, True)])
        assert refusal(LEAF, odd) is ChainRefusal.UNKNOWN_CRITICAL_EXTENSION

    def test_a_weak_key_of_an_intermediate(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        chain = leaf(issuer_key=weak), ca(public_key=weak.public_key())
        assert refusal(*chain) is ChainRefusal.WEAK_KEY

    def test_a_weak_key_of_an_anchor(self) -> None:
        weak = ec.generate_private_key(ec.SECP224R1())
        anchor = root(public_key=weak.public_key(), issuer_key=weak)
        direct = leaf(issuer="root", issuer_key=weak)
        assert refusal(direct, anchors=[anchor]) is ChainRefusal.WEAK_KEY

    @pytest.mark.parametrize(
        ("constraints", "alternative"),
        [
            (
                constrained(permitted=[x509.DNSName("fleet.example")]),
                x509.DNSName("bank.example"),
            ),
            (constrained(excluded=[x509.DNSName("bank.example")]), x509.DNSName("bank.example")),
            (
                constrained(permitted=[x509.RFC822Name("fleet.example")]),
                x509.RFC822Name("a@bank.example"),
            ),
            (
                constrained(permitted=[x509.UniformResourceIdentifier("fleet.example")]),
                x509.UniformResourceIdentifier("urn:uuid:0b6b0f2a-7f5c-4a6d-9f1e-3c2b1a098765"),
            ),
            (
                constrained(excluded=[x509.IPAddress(ip_network("10.0.0.0/8"))]),
                x509.IPAddress(ip_network("10.1.1.1/32").network_address),
            ),
        ],
        ids=["permitted", "excluded", "mail", "URI", "address"],
    )
    def test_a_name_outside_the_constraints(self, constraints, alternative) -> None:
        chain = leaf(extra=named(alternative)), ca(extra=constraints)
        assert refusal(*chain) is ChainRefusal.NAME_CONSTRAINT

    @pytest.mark.parametrize("critical", [True, False])
    def test_constraints_on_subjects_are_never_taken_as_kept(self, critical: bool) -> None:
        constraints = x509.NameConstraints([x509.DirectoryName(name("device-1"))], None)
        assert refusal(LEAF, ca(extra=[(constraints, critical)])) is ChainRefusal.NAME_CONSTRAINT

    def test_two_cas_that_sign_each_other(self) -> None:
        ring = ca("a", "b"), ca("b", "a")
        assert refusal(leaf(issuer="a"), *ring) is ChainRefusal.UNTRUSTED


class TestAnchors:
    def test_one_that_cannot_be_read_is_none(self) -> None:
        der = ROOT.public_bytes(Encoding.DER).replace(b"root", b"roo\xff")
        with pytest.raises(ValueError, match="cannot be read"):
            Anchors([x509.load_der_x509_certificate(der)])

    def test_an_anchor_given_twice_is_one(self) -> None:
        assert len(Anchors([ROOT, ROOT])) == 1

    def test_they_can_be_listed_and_looked_up(self) -> None:
        anchors = Anchors([ROOT, ISSUING])
        assert list(anchors) == [ROOT, ISSUING]
        assert ISSUING in anchors
        assert LEAF not in anchors


def with_changed_byte(certificate: x509.Certificate, at: int, value: int) -> bytes:
    """The certificate's DER with one byte of its signed part changed."""
    der, signed = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
    at = der.index(signed) + at % len(signed)
    return der[:at] + bytes([der[at] ^ value]) + der[at + 1 :]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, 1000), st.integers(1, 255))
def test_a_leaf_changed_anywhere_is_refused(at: int, value: int) -> None:
    changed = with_changed_byte(LEAF, at, value)
    with pytest.raises(ChainRefused):
        verify_chain(load_chain([changed]), Anchors([ISSUING]), NOW)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, 1000), st.integers(1, 255))
def test_an_intermediate_changed_anywhere_is_refused(at: int, value: int) -> None:
    sent = [LEAF.public_bytes(Encoding.DER), with_changed_byte(ISSUING, at, value)]
    with pytest.raises(ChainRefused):
        verify_chain(load_chain(sent), Anchors([ROOT]), NOW)


def test_a_name_that_cannot_be_read_is_malformed() -> None:
    der = ISSUING.public_bytes(Encoding.DER).replace(b"issuing", b"issuin\xff")
    assert refusal(LEAF, x509.load_der_x509_certificate(der)) is ChainRefusal.MALFORMED


def test_a_name_that_is_no_text_is_malformed() -> None:
    der = LEAF.public_bytes(Encoding.DER).replace(b"\x0c\x07issuing", b"\x03\x07\0ssuing")
    assert refusal(x509.load_der_x509_certificate(der), ISSUING) is ChainRefusal.MALFORMED
    der = LEAF.public_bytes(Encoding.DER).replace(b"\x0c\x08device-1", b"\x03\x08\0evice-1")
    assert common_name_of(x509.load_der_x509_certificate(der)) is None


class TestWorkIsBounded:
    """A peer that holds no key of an anchor cannot make the library search for paths."""

    def test_cas_that_sign_each_other_are_not_walked_in_circles(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loose = {"identifiers": False, "issuer_key": key("x")}
        ring = [ca("x", "x", **loose) for _ in range(3)]
        hook = ca("x", "root", public_key=key("x").public_key(), **loose)
        anchors = [root(identifiers=False) for _ in range(5)]
        paths_built = []
        monkeypatch.setattr("fleetroot.pki.chain._path", lambda *_: paths_built.append(1))
        chain = leaf(issuer="x", **loose), hook, *ring
        assert refusal(*chain, anchors=anchors) is ChainRefusal.BAD_SIGNATURE
        assert not paths_built

    def test_a_device_certificate_is_no_way_into_a_ring(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ring = [ca("device-1", "device-1") for _ in range(3)]
        chain = leaf("other", issuer="device-1"), leaf(issuer="root"), *ring
        paths_built = []
        monkeypatch.setattr("fleetroot.pki.chain._path", lambda *_: paths_built.append(1))
        assert refusal(*chain) is ChainRefusal.NOT_A_CA
        assert not paths_built


# --- many anchors


def test_chain_is_held_against_its_own_cas_however_many_there_are_of_that_name() -> None:
    namesakes = [
        root("same", issuer_key=key(str(n)), public_key=key(str(n)).public_key()) for n in range(50)
    ]
    anchors = Anchors(namesakes)
    child = leaf("device-1", "same", issuer_key=key("7"))
    assert [each.certificate for each in anchors.plausible_issuers([child])] == [namesakes[7]]
    assert verify_chain([child], anchors, NOW).anchor == namesakes[7]


def test_anchors_are_found_when_others_were_read_before() -> None:
    before = Anchors([root("gone"), root("kept")])
    anchors = Anchors([*list(before)[1:], root()], before)
    assert verify_chain([leaf("device-1", "kept")], anchors, NOW).anchor in before
    assert verify_chain([leaf("device-1", "root")], anchors, NOW).anchor not in before
    with pytest.raises(ChainRefused):
        verify_chain([leaf("device-1", "gone")], anchors, NOW)
