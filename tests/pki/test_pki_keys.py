"""Which keys are accepted, and how they are kept."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from pki_workshop import OpenSSL, request

from fleetroot.pki import (
    KeyRefusal,
    KeyRefused,
    KeyType,
    certified_key,
    generate_key,
    is_strongly_signed,
    key_type_of,
    private_key_from_der,
    private_key_to_der,
    signature_hash,
)
from fleetroot.pki.keys import _EC_KEY_STARTS, public_key_info

QUICK = [each for each in KeyType if each not in {KeyType.RSA_3072, KeyType.RSA_4096}]


@pytest.mark.parametrize("key_type", QUICK)
def test_a_generated_key_is_of_the_type_asked_for(key_type: KeyType) -> None:
    assert key_type_of(generate_key(key_type).public_key()) is key_type


@pytest.mark.parametrize("key_type", QUICK)
def test_a_private_key_survives_being_stored(key_type: KeyType) -> None:
    key = generate_key(key_type)
    assert private_key_from_der(private_key_to_der(key)).public_key() == key.public_key()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ec.generate_private_key(ec.SECP224R1()), KeyRefusal.UNKNOWN_CURVE),
        (ec.generate_private_key(ec.SECP256K1()), KeyRefusal.UNKNOWN_CURVE),
        (ec.generate_private_key(ec.BrainpoolP256R1()), KeyRefusal.UNKNOWN_CURVE),
        (rsa.generate_private_key(65537, 1024), KeyRefusal.RSA_SIZE),
        (rsa.generate_private_key(65537, 2056), KeyRefusal.RSA_SIZE),
        (rsa.generate_private_key(3, 2048), KeyRefusal.RSA_EXPONENT),
        (dsa.generate_private_key(1024), KeyRefusal.UNKNOWN_ALGORITHM),
        (ed25519.Ed25519PrivateKey.generate(), KeyRefusal.UNKNOWN_ALGORITHM),
        (ed448.Ed448PrivateKey.generate(), KeyRefusal.UNKNOWN_ALGORITHM),
    ],
    ids=["P-224", "secp256k1", "brainpool", "RSA-1024", "RSA-2056", "e=3", "DSA", "25519", "448"],
)
def test_a_key_of_no_accepted_kind_is_refused(key, reason: KeyRefusal) -> None:
    with pytest.raises(KeyRefused) as refused:
        key_type_of(key.public_key())
    assert refused.value.reason is reason


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(KeyRefused):
        key_type_of(None)


def test_bytes_that_are_no_private_key_are_refused() -> None:
    with pytest.raises(KeyRefused):
        private_key_from_der(b"\x30\x00")


@pytest.mark.parametrize(
    ("key_type", "expected"),
    [
        (KeyType.EC_P256, hashes.SHA256),
        (KeyType.EC_P384, hashes.SHA384),
        (KeyType.EC_P521, hashes.SHA512),
        (KeyType.RSA_2048, hashes.SHA256),
    ],
)
def test_the_hash_has_the_strength_of_the_key(key_type: KeyType, expected: type) -> None:
    assert isinstance(signature_hash(generate_key(key_type)), expected)


def test_ml_dsa_signs_without_a_hash() -> None:
    assert signature_hash(generate_key(KeyType.ML_DSA_44)) is None


def test_explicit_curve_parameters_are_refused_though_they_equal_a_named_curve(
    openssl: OpenSSL,
) -> None:
    openssl.run("ecparam -name prime256v1 -genkey -param_enc explicit -noout -out key.pem")
    der = openssl.run("req -new -key key.pem -subj /CN=device-1 -outform DER")
    with pytest.raises(KeyRefused) as refused:
        certified_key(x509.load_der_x509_csr(der))
    assert refused.value.reason is KeyRefusal.EXPLICIT_PARAMETERS


def test_a_named_curve_with_a_compressed_point_is_accepted(openssl: OpenSSL) -> None:
    openssl.run("ecparam -name prime256v1 -genkey -noout -out plain.pem")
    openssl.run("ec -in plain.pem -conv_form compressed -out key.pem")
    der = openssl.run("req -new -key key.pem -subj /CN=device-1 -outform DER")
    assert certified_key(x509.load_der_x509_csr(der))[1] is KeyType.EC_P256


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha224"])
def test_signatures_weaker_than_sha_256_are_not_strong(openssl: OpenSSL, digest: str) -> None:
    der = openssl.run(
        f"req -new -newkey rsa:2048 -nodes -keyout k -subj /CN=d -outform DER -{digest}"
    )
    assert not is_strongly_signed(x509.load_der_x509_csr(der))


def test_rsa_pss_with_sha_256_is_strong(openssl: OpenSSL) -> None:
    der = openssl.run(
        "req -new -newkey rsa:2048 -nodes -keyout k -subj /CN=d -outform DER "
        "-sigopt rsa_padding_mode:pss"
    )
    assert is_strongly_signed(x509.load_der_x509_csr(der))


def test_ecdsa_with_sha_3_is_not_among_the_accepted() -> None:
    der = request(hash_algorithm=hashes.SHA3_256())
    assert not is_strongly_signed(x509.load_der_x509_csr(der))


@pytest.mark.parametrize("key_type", [KeyType.EC_P256, KeyType.EC_P384, KeyType.EC_P521])
def test_usual_spelling_of_an_ec_key_is_known_by_its_beginning(key_type: KeyType) -> None:
    spelt = public_key_info(generate_key(key_type).public_key())
    assert spelt.startswith(_EC_KEY_STARTS[key_type])
