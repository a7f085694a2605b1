"""The leaf template holds against the library's builder, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.pki.der import element, unwrap_sequence
from fleetroot.pki.issuer import extension, subject_key_identifier
from fleetroot.pki.keys import (
    KeyType,
    PrivateKey,
    generate_key,
    public_key_info,
    signature_hash,
)
from fleetroot.pki.template import LeafTemplate, encode_extensions, signature_scheme

FIXED = [
    extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
    extension(
        x509.CRLDistributionPoints(
            [
                x509.DistributionPoint(
                    [x509.UniformResourceIdentifier("http://pki.example/crl/7.crl" + "x" * 120)],
                    None,
                    None,
                    None,
                )
            ]
        )
    ),
    extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.999999.5"), b"\x05\x00")
    ),
]
ISSUER = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuing CA é")])
URI = "urn:uuid:00000000-0000-4000-8000-000000000000"
NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
DEVICE = generate_key(KeyType.EC_P256)
SIGNER = generate_key(KeyType.EC_P256)


def built(
    signer: PrivateKey, device: PrivateKey, serial: int, start: datetime, end: datetime, name: str
) -> x509.Certificate:
    """The same certificate by the library's builder."""
    return x509.CertificateBuilder(
        issuer_name=ISSUER,
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False)]),
        public_key=device.public_key(),
        serial_number=serial,
        not_valid_before=start,
        not_valid_after=end,
        extensions=[
            *FIXED,
            subject_key_identifier(device.public_key()),
            extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)])),
        ],
    ).sign(signer, signature_hash(signer))


def templated(
    signer: PrivateKey, device: PrivateKey, serial: int, start: datetime, end: datetime, name: str
) -> bytes:
    scheme = signature_scheme(signer.public_key())
    template = LeafTemplate(scheme, ISSUER.public_bytes(), (encode_extensions(FIXED),))
    return template.sign(
        signer,
        serial=serial,
        not_before=start,
        not_after=end,
        common_name=name,
        public_key_info=public_key_info(device.public_key()),
        uri=URI,
        shard=0,
    )


@given(
    serial=st.integers(1, 2**159 - 1),
    start=st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),
    length=st.integers(0, 40_000),
    name=st.text(
        st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=128
    ),
)
def test_what_is_signed_is_what_the_builder_would_sign(
    serial: int, start: datetime, length: int, name: str
) -> None:
    begin = start.replace(microsecond=0, tzinfo=UTC)
    end = begin + timedelta(days=length)
    ours = x509.load_der_x509_certificate(templated(SIGNER, DEVICE, serial, begin, end, name))
    theirs = built(SIGNER, DEVICE, serial, begin, end, name)
    assert ours.tbs_certificate_bytes == theirs.tbs_certificate_bytes


@pytest.mark.parametrize("signer", list(KeyType))
def test_every_kind_of_issuer_signs_verifiably(signer: KeyType) -> None:
    key = generate_key(signer)
    certificate = x509.load_der_x509_certificate(
        templated(key, DEVICE, 7, NOW, NOW + timedelta(days=1), "dev-1")
    )
    theirs = built(key, DEVICE, 7, NOW, NOW + timedelta(days=1), "dev-1")
    assert certificate.tbs_certificate_bytes == theirs.tbs_certificate_bytes
    issuer = x509.CertificateBuilder(
        issuer_name=ISSUER,
        subject_name=ISSUER,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(days=1),
        extensions=[],
    ).sign(key, signature_hash(key))
    certificate.verify_directly_issued_by(issuer)


@pytest.mark.parametrize("device", [KeyType.EC_P384, KeyType.EC_P521, KeyType.RSA_2048])
def test_every_kind_of_device_key_is_certified(device: KeyType) -> None:
    key = generate_key(device)
    ours = templated(SIGNER, key, 7, NOW, NOW + timedelta(days=1), "dev-1")
    theirs = built(SIGNER, key, 7, NOW, NOW + timedelta(days=1), "dev-1")
    assert x509.load_der_x509_certificate(ours).tbs_certificate_bytes == (
        theirs.tbs_certificate_bytes
    )


@given(st.binary(max_size=70_000))
def test_an_element_unwraps_to_its_contents(contents: bytes) -> None:
    assert unwrap_sequence(element(0x30, contents)) == contents
