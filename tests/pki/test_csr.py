"""What a certificate signing request must be."""

from __future__ import annotations

import base64
import textwrap

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pki_workshop import OpenSSL, key, name, request

from fleetroot.pki import (
    CsrRefusal,
    CsrRefused,
    KeyType,
    decode_csr,
    decode_csr_pem_or_base64,
    generate_key,
    max_csr_characters,
    parse_csr,
)

EC_ONLY = (KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521)
LIMIT = 8192
DER = request()
SIGNED = x509.load_der_x509_csr(DER).tbs_certrequest_bytes
TEXT = base64.b64encode(DER).decode()


def pem_of(text: str, label: str = "CERTIFICATE REQUEST", line_break: str = "\n") -> str:
    body = line_break.join(textwrap.wrap(text, 64))
    return f"-----BEGIN {label}-----{line_break}{body}{line_break}-----END {label}-----{line_break}"


def refusal_of(der: bytes, common_name: str = "device-1", allowed=EC_ONLY) -> CsrRefusal:
    with pytest.raises(CsrRefused) as refused:
        parse_csr(der, common_name=common_name, allowed=allowed)
    return refused.value.reason


class TestDecoding:
    def test_base64_without_armour_is_decoded(self) -> None:
        assert decode_csr(TEXT, max_characters=LIMIT) == DER

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "=",
            "====",
            TEXT + "\n",
            TEXT[:64] + "\n" + TEXT[64:],
            " " + TEXT,
            TEXT.rstrip("=") + "*",
            TEXT[:-1],
            TEXT + "AAAA" if TEXT.endswith("=") else TEXT + "=",
            "AA==AA==",
            "AB==",
            "-_-_",
            "ÄÄÄÄ",
            "AAAA\x00",
            pem_of(TEXT),
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(CsrRefused) as refused:
            decode_csr(text, max_characters=LIMIT)
        assert refused.value.reason is CsrRefusal.NOT_BASE64

    def test_the_limit_itself_is_allowed(self) -> None:
        assert len(decode_csr("A" * LIMIT, max_characters=LIMIT)) == LIMIT // 4 * 3

    def test_one_quantum_over_the_limit_is_too_long(self) -> None:
        with pytest.raises(CsrRefused) as refused:
            decode_csr("A" * (LIMIT + 4), max_characters=LIMIT)
        assert refused.value.reason is CsrRefusal.TOO_LONG

    def test_length_is_judged_before_the_alphabet(self) -> None:
        with pytest.raises(CsrRefused) as refused:
            decode_csr("*" * 10_000_000, max_characters=LIMIT)
        assert refused.value.reason is CsrRefusal.TOO_LONG

    @given(
        st.text() | st.text("ABCDab01+/=\n- ") | st.binary().map(base64.b64encode).map(bytes.decode)
    )
    def test_arbitrary_text_is_decoded_or_refused(self, text: str) -> None:
        try:
            der = decode_csr(text, max_characters=LIMIT)
        except CsrRefused:
            return
        assert base64.b64encode(der).decode() == text

    def test_an_ml_dsa_policy_allows_twice_the_length(self) -> None:
        assert max_csr_characters(EC_ONLY) == 8_192
        assert max_csr_characters({KeyType.EC_P384, KeyType.ML_DSA_65}) == 16_384

    @pytest.mark.parametrize("key_type", [KeyType.ML_DSA_44, KeyType.ML_DSA_65, KeyType.ML_DSA_87])
    def test_an_ml_dsa_request_fits_in_its_limit(self, key_type: KeyType) -> None:
        der = request("d" * 64, private_key=generate_key(key_type), hash_algorithm=None)
        text = base64.b64encode(der).decode()
        assert decode_csr(text, max_characters=max_csr_characters([key_type])) == der


class TestDecodingThePreviewShape:
    @pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
    @pytest.mark.parametrize("line_break", ["\n", "\r\n"])
    def test_pem_with_armour_is_decoded(self, label: str, line_break: str) -> None:
        text = pem_of(TEXT, label, line_break)
        assert decode_csr_pem_or_base64(text, max_characters=LIMIT) == DER

    def test_pem_by_openssl_is_decoded(self, openssl: OpenSSL) -> None:
        openssl.run("ecparam -name secp384r1 -genkey -noout -out key.pem")
        pem = openssl.run("req -new -key key.pem -subj /CN=device-1").decode()
        der = decode_csr_pem_or_base64(pem, max_characters=LIMIT)
        assert parse_csr(der, common_name="device-1", allowed=EC_ONLY)

    def test_base64_is_decoded_too(self) -> None:
        assert decode_csr_pem_or_base64(TEXT, max_characters=LIMIT) == DER

    @pytest.mark.parametrize(
        "text",
        [
            pem_of(TEXT, "CERTIFICATE"),
            pem_of(TEXT) + pem_of(TEXT),
            pem_of(TEXT).replace("BEGIN CERT", "BEGIN NEW CERT"),
            pem_of(TEXT).replace("-----END", "----END"),
            pem_of(""),
            "Proc-Type: 4,ENCRYPTED\n" + pem_of(TEXT),
        ],
    )
    def test_other_armour_is_refused(self, text: str) -> None:
        with pytest.raises(CsrRefused) as refused:
            decode_csr_pem_or_base64(text, max_characters=LIMIT)
        assert refused.value.reason is CsrRefusal.NOT_BASE64

    def test_too_long_pem_is_refused(self) -> None:
        with pytest.raises(CsrRefused) as refused:
            decode_csr_pem_or_base64(pem_of("A" * LIMIT), max_characters=LIMIT)
        assert refused.value.reason is CsrRefusal.TOO_LONG

    @given(st.binary(min_size=1, max_size=300), st.integers(1, 80), st.sampled_from(["\n", "\r\n"]))
    def test_pem_of_any_width_is_decoded(self, der: bytes, width: int, line_break: str) -> None:
        body = line_break.join(textwrap.wrap(base64.b64encode(der).decode(), width))
        text = f"-----BEGIN CERTIFICATE REQUEST-----{line_break}{body}{line_break}-----END "
        text += f"CERTIFICATE REQUEST-----{line_break}"
        assert decode_csr_pem_or_base64(text, max_characters=LIMIT) == der

    @given(st.integers(0, len(TEXT) - 1), st.characters())
    def test_text_changed_anywhere_is_another_request_or_none(self, at: int, put: str) -> None:
        text = TEXT[:at] + put + TEXT[at + 1 :]
        try:
            der = decode_csr(text, max_characters=LIMIT)
        except CsrRefused:
            return
        assert (der == DER) == (text == TEXT)

    @given(st.text() | st.text("-BEGIN CRTFAQUSD\nA=").map(lambda body: pem_of(TEXT) + body))
    def test_arbitrary_text_is_decoded_or_refused(self, text: str) -> None:
        try:
            decode_csr_pem_or_base64(text, max_characters=LIMIT)
        except CsrRefused:
            return


class TestParsing:
    @pytest.mark.parametrize("key_type", EC_ONLY)
    def test_a_request_gives_its_key_and_name(self, key_type: KeyType) -> None:
        private = generate_key(key_type)
        parsed = parse_csr(request(private_key=private), common_name="device-1", allowed=EC_ONLY)
        assert parsed.public_key == private.public_key()
        assert parsed.key_type is key_type
        assert parsed.common_name == "device-1"

    def test_an_ml_dsa_request_is_accepted_where_it_is_allowed(self) -> None:
        der = request(private_key=generate_key(KeyType.ML_DSA_65), hash_algorithm=None)
        parsed = parse_csr(der, common_name="device-1", allowed=[KeyType.ML_DSA_65])
        assert parsed.key_type is KeyType.ML_DSA_65

    def test_other_attributes_of_the_subject_are_a_wish(self) -> None:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso"),
                x509.NameAttribute(NameOID.COMMON_NAME, "device-1"),
            ]
        )
        assert parse_csr(request(subject=subject), common_name="device-1", allowed=EC_ONLY)

    @pytest.mark.parametrize("other", ["device-2", "Device-1", "device-1 ", "device", ""])
    def test_another_common_name_is_refused(self, other: str) -> None:
        assert refusal_of(DER, common_name=other) is CsrRefusal.WRONG_COMMON_NAME

    def test_two_common_names_are_refused(self) -> None:
        two = x509.Name([*name("device-1"), *name("device-1")])
        assert refusal_of(request(subject=two)) is CsrRefusal.WRONG_COMMON_NAME

    def test_a_common_name_that_is_no_text_is_refused(self) -> None:
        bits = DER.replace(b"\x0c\x08device-1", b"\x03\x08\0evice-1")
        assert refusal_of(bits) is CsrRefusal.NOT_PKCS10

    def test_no_common_name_is_refused(self) -> None:
        assert refusal_of(request(subject=x509.Name([]))) is CsrRefusal.WRONG_COMMON_NAME

    def test_a_key_type_that_the_policy_does_not_list_is_refused(self) -> None:
        assert refusal_of(DER, allowed=[KeyType.EC_P384]) is CsrRefusal.KEY_NOT_ALLOWED

    def test_nothing_is_accepted_where_nothing_is_allowed(self) -> None:
        assert refusal_of(DER, allowed=[]) is CsrRefusal.KEY_NOT_ALLOWED

    @pytest.mark.parametrize(
        ("private", "hash_algorithm"),
        [
            (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
            (rsa.generate_private_key(65537, 1024), hashes.SHA256()),
            (ed25519.Ed25519PrivateKey.generate(), None),
        ],
        ids=["secp256k1", "RSA-1024", "Ed25519"],
    )
    def test_a_weak_or_unknown_key_is_refused(self, private, hash_algorithm) -> None:
        der = request(private_key=private, hash_algorithm=hash_algorithm)
        assert refusal_of(der, allowed=list(KeyType)) is CsrRefusal.KEY_NOT_ALLOWED

    def test_explicit_curve_parameters_are_refused(self, openssl: OpenSSL) -> None:
        openssl.run("ecparam -name prime256v1 -genkey -param_enc explicit -noout -out key.pem")
        der = openssl.run("req -new -key key.pem -subj /CN=device-1 -outform DER")
        assert refusal_of(der) is CsrRefusal.KEY_NOT_ALLOWED

    def test_a_changed_signature_is_refused(self) -> None:
        assert refusal_of(DER[:-1] + bytes([DER[-1] ^ 1])) is CsrRefusal.BAD_SIGNATURE

    def test_a_changed_key_is_refused(self) -> None:
        point = key("device-1").public_key().public_numbers().x.to_bytes(32, "big")
        changed = key("another").public_key().public_numbers().x.to_bytes(32, "big")
        assert refusal_of(DER.replace(point, changed)) in {
            CsrRefusal.BAD_SIGNATURE,
            CsrRefusal.KEY_NOT_ALLOWED,  # the point is not on the curve
        }

    @pytest.mark.parametrize("digest", ["md5", "sha1"])
    def test_a_signature_with_a_weak_hash_is_refused(self, openssl: OpenSSL, digest: str) -> None:
        der = openssl.run(
            f"req -new -newkey rsa:2048 -nodes -keyout k -subj /CN=device-1 -outform DER -{digest}"
        )
        assert refusal_of(der, allowed=[KeyType.RSA_2048]) is CsrRefusal.BAD_SIGNATURE

    @pytest.mark.parametrize("der", [b"", b"\x30\x00", DER + b"\x00", DER[:-1], DER[1:]])
    def test_what_is_not_exactly_one_pkcs10_is_refused(self, der: bytes) -> None:
        assert refusal_of(der) is CsrRefusal.NOT_PKCS10

    @pytest.mark.filterwarnings("ignore:Attribute's length")
    def test_a_name_as_long_as_a_registration_id_may_be_is_read(self) -> None:
        # X.520 bounds a common name at 64, registration ids go to 128.
        attribute = x509.NameAttribute(NameOID.COMMON_NAME, "d" * 128, _validate=False)
        der = request("d", subject=x509.Name([attribute]))
        assert parse_csr(der, common_name="d" * 128, allowed=EC_ONLY)

    @given(st.binary(max_size=300))
    def test_arbitrary_bytes_are_refused(self, der: bytes) -> None:
        with pytest.raises(CsrRefused):
            parse_csr(der, common_name="device-1", allowed=EC_ONLY)

    @given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
    def test_a_request_changed_anywhere_is_refused(self, at: int, value: int) -> None:
        at += DER.index(SIGNED)
        with pytest.raises(CsrRefused):
            parse_csr(
                DER[:at] + bytes([DER[at] ^ value]) + DER[at + 1 :],
                common_name="device-1",
                allowed=list(KeyType),
            )

    @given(st.integers(0, len(DER) - 1))
    def test_a_request_cut_off_anywhere_is_refused(self, at: int) -> None:
        with pytest.raises(CsrRefused):
            parse_csr(DER[:at], common_name="device-1", allowed=list(KeyType))

    @given(st.integers(0, len(DER)), st.binary(min_size=1, max_size=4))
    def test_a_request_with_something_added_is_refused(self, at: int, added: bytes) -> None:
        with pytest.raises(CsrRefused):
            parse_csr(DER[:at] + added + DER[at:], common_name="device-1", allowed=list(KeyType))
