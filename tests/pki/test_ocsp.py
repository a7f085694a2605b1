"""OCSP requests and answers, against the library and OpenSSL."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from pki_workshop import DAY, NOW, OpenSSL, ca, key, leaf, root

import pkilint_opinion
from fleetroot.pki import (
    CrlReason,
    KeyType,
    LintFailed,
    OcspAnswer,
    OcspError,
    OcspRefused,
    Responder,
    ResponderProfile,
    Revoked,
    Standing,
    Status,
    encode_error,
    generate_key,
    issuer_hashes,
    parse_request,
)

HOUR = timedelta(hours=1)
ISSUING = ca()
LEAF = leaf()
KEY = generate_key(KeyType.EC_P256)
CERTIFICATE = ResponderProfile(ISSUING, 14 * DAY).issue(key("issuing"), KEY.public_key(), NOW)
RESPONDER = Responder(CERTIFICATE, KEY)
UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def ask(
    *extensions: tuple[x509.ExtensionType, bool],
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(LEAF, ISSUING, algorithm or hashes.SHA1())
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.build().public_bytes(Encoding.DER)


def answer(status: Status, request: bytes | None = None, now: datetime = NOW) -> OcspAnswer:
    return RESPONDER.answer(parse_request(request or ask()), status, now, HOUR)


def read(status: Status, request: bytes | None = None) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(answer(status, request).der)


# --- requests


@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()],
    ids=lambda algorithm: algorithm.name,
)
def test_request_names_its_issuer_by_either_hash(algorithm: hashes.HashAlgorithm) -> None:
    request = parse_request(ask(algorithm=algorithm))
    assert request.issuer in set(issuer_hashes(ISSUING))
    assert request.issuer not in set(issuer_hashes(root()))
    assert request.serial == LEAF.serial_number


def test_same_name_with_another_key_is_another_issuer() -> None:
    other = ca(public_key=key("another").public_key())
    assert parse_request(ask()).issuer not in set(issuer_hashes(other))


@pytest.mark.parametrize("length", [1, 16, 32, 128])
def test_nonce_comes_back(length: int) -> None:
    nonce = bytes(range(length))
    response = read(Standing.GOOD, ask((x509.OCSPNonce(nonce), False)))
    [extension] = response.extensions
    assert extension.value == x509.OCSPNonce(nonce)


def test_answer_to_a_request_without_nonce_has_none() -> None:
    assert list(read(Standing.GOOD).extensions) == []


@pytest.mark.parametrize("length", [0, 129])
def test_nonce_of_a_forbidden_length_is_malformed(length: int) -> None:
    refuse(ask((x509.OCSPNonce(bytes(length)), False)), OcspError.MALFORMED_REQUEST)


def test_extension_that_is_not_critical_is_passed_over() -> None:
    assert parse_request(ask((UNKNOWN_EXTENSION, False))).nonce is None


def test_critical_extension_that_is_not_understood_is_malformed() -> None:
    refuse(ask((UNKNOWN_EXTENSION, True)), OcspError.MALFORMED_REQUEST)


@pytest.mark.parametrize(
    "request_",
    [b"", b"\x30\x00", b"\x30\x80", ask()[:-1], ask() + b"\0", b"0" * 4097, bytes(100)],
    ids=["empty", "nothing", "indefinite", "short", "trailing", "long", "zeros"],
)
def test_what_is_no_request_is_malformed(request_: bytes) -> None:
    refuse(request_, OcspError.MALFORMED_REQUEST)


def test_request_about_two_certificates_is_malformed() -> None:
    one = ask()[6:]  # OCSPRequest, TBSRequest, requestList
    listed = b"\x30\x81" + bytes([2 * len(one)]) + one + one
    request = b"\x30\x81" + bytes([len(listed)]) + listed
    refuse(b"\x30\x81" + bytes([len(request)]) + request, OcspError.MALFORMED_REQUEST)


def test_request_by_a_hash_that_is_not_ours_is_about_nobody_of_ours() -> None:
    sha1 = bytes.fromhex("06052b0e03021a")
    assert sha1 in ask()
    refuse(ask().replace(sha1, bytes.fromhex("06052b0e03021b")), OcspError.UNAUTHORIZED)


@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_are_a_request_or_refused(junk: bytes) -> None:
    try:
        parse_request(junk)
    except OcspRefused:
        return


@given(st.integers(0, len(ask()) - 1), st.integers(0, 255))
def test_request_with_an_octet_changed_is_a_request_or_refused(at: int, octet: int) -> None:
    changed = bytearray(ask((x509.OCSPNonce(bytes(32)), False)))
    changed[at] = octet
    try:
        request = parse_request(bytes(changed))
    except OcspRefused:
        return
    RESPONDER.answer(request, Standing.UNKNOWN, NOW, HOUR)


def refuse(request: bytes, error: OcspError) -> None:
    with pytest.raises(OcspRefused) as refused:
        parse_request(request)
    assert refused.value.error is error


# --- answers


def test_good_is_good() -> None:
    assert read(Standing.GOOD).certificate_status is ocsp.OCSPCertStatus.GOOD


def test_what_was_never_issued_is_unknown() -> None:
    assert read(Standing.UNKNOWN).certificate_status is ocsp.OCSPCertStatus.UNKNOWN


@pytest.mark.parametrize("reason", CrlReason)
def test_revoked_says_when_and_why(reason: CrlReason) -> None:
    response = read(Revoked(LEAF.serial_number, NOW - DAY, reason))
    assert response.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert response.revocation_time_utc == NOW - DAY
    why = response.revocation_reason
    assert (why.value if why else "unspecified") == reason.word


def test_revocation_that_is_dated_ahead_is_written_as_of_now() -> None:
    assert read(Revoked(1, NOW + DAY)).revocation_time_utc == NOW


def test_answer_names_the_certificate_as_it_was_named() -> None:
    request = ask()
    # Some clients leave the parameters of the hash out, and compare bytes.
    without = request.replace(
        bytes.fromhex("300906052b0e03021a0500"), bytes.fromhex("300706052b0e03021a")
    )
    shorter = bytearray(without)
    for at in (1, 3, 5, 7, 9):  # the lengths around it
        shorter[at] -= 2
    for each in (request, bytes(shorter)):
        assert parse_request(each).certificate_id in answer(Standing.GOOD, each).der


def test_answer_is_signed_by_the_responder_whose_certificate_it_brings() -> None:
    response = read(Standing.GOOD)
    assert response.certificates == [CERTIFICATE]
    CERTIFICATE.verify_directly_issued_by(ISSUING)
    digest = response.signature_hash_algorithm
    assert digest is not None
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    KEY.public_key().verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))


def test_answer_is_of_now_and_ends_with_the_responder() -> None:
    made = answer(Standing.GOOD)
    assert (made.this_update, made.next_update) == (NOW, NOW + HOUR)
    end = CERTIFICATE.not_valid_after_utc
    assert answer(Standing.GOOD, now=end - timedelta(minutes=5)).next_update == end


def test_responder_that_is_not_valid_now_signs_nothing() -> None:
    with pytest.raises(LintFailed):
        answer(Standing.GOOD, now=NOW + 15 * DAY)


def test_key_of_another_is_no_responder() -> None:
    with pytest.raises(ValueError, match="private key"):
        Responder(CERTIFICATE, generate_key(KeyType.EC_P256))


@pytest.mark.parametrize("key_type", [KeyType.EC_P384, KeyType.RSA_2048, KeyType.ML_DSA_44])
def test_responder_may_have_any_kind_of_key(key_type: KeyType) -> None:
    own = generate_key(key_type)
    made = ResponderProfile(ISSUING, DAY).issue(key("issuing"), own.public_key(), NOW)
    der = Responder(made, own).answer(parse_request(ask()), Standing.GOOD, NOW, HOUR).der
    assert ocsp.load_der_ocsp_response(der).certificates == [made]
    assert pkilint_opinion.of_answer(der) == []


def test_nobody_need_ask_whether_the_responder_was_revoked() -> None:
    assert CERTIFICATE.extensions.get_extension_for_class(x509.OCSPNoCheck)
    assert pkilint_opinion.of_certificate(CERTIFICATE.public_bytes(Encoding.DER)) == []


@pytest.mark.parametrize(
    "status",
    [Standing.GOOD, Standing.UNKNOWN, Revoked(1, NOW, CrlReason.KEY_COMPROMISE), Revoked(1, NOW)],
    ids=["good", "unknown", "revoked", "revoked for no reason"],
)
@pytest.mark.parametrize("nonce", [None, bytes(32)], ids=["without nonce", "with nonce"])
def test_pkilint_finds_no_error(status: Status, nonce: bytes | None) -> None:
    request = ask((x509.OCSPNonce(nonce), False)) if nonce else ask()
    assert pkilint_opinion.of_answer(answer(status, request).der) == []


@pytest.mark.parametrize("error", OcspError)
def test_error_reads_back(error: OcspError) -> None:
    response = ocsp.load_der_ocsp_response(encode_error(error))
    assert response.response_status.value == error


def test_openssl_verifies_an_answer() -> None:
    openssl = OpenSSL()
    try:
        openssl.write("root.pem", root())
        openssl.write("ca.pem", ISSUING)
        (openssl.folder / "answer.der").write_bytes(answer(Standing.GOOD).der)
        at = int(NOW.timestamp())
        said = openssl.run(
            "ocsp -respin answer.der -CAfile root.pem -verify_other ca.pem -issuer ca.pem"
            f" -serial {LEAF.serial_number} -attime {at} -validity_period 999999999 -no_nonce"
        )
        assert b": good" in said
    finally:
        openssl.close()
