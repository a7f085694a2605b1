"""Public areas of a TPM's keys: which are read, and what is said of the others."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.tpm_public import MAX_PUBLIC_BYTES, read_storage_key
from model_tpm import ENDORSEMENT, POLICY, STORAGE_ROOT, public_area, rsa_key, sized

ANSWERS = json.loads((Path(__file__).parent / "tpm2_pytss.json").read_text())
P256 = ec.derive_private_key(7, ec.SECP256R1())
RSA = rsa_key(1)
FIXED_TPM, FIXED_PARENT, ORIGIN, SIGN = 1 << 1, 1 << 4, 1 << 5, 1 << 18
RESTRICTED, DECRYPT = 1 << 16, 1 << 17


@pytest.mark.parametrize("answer", ANSWERS, ids=["rsa", "ecc"])
@pytest.mark.parametrize("which", ["endorsement", "storageRoot"])
def test_a_name_is_the_one_that_tpm2_pytss_computes(answer: dict[str, str], which: str) -> None:
    key = read_storage_key("key", base64.b64decode(answer[f"{which}Key"]))
    assert key.name.hex() == answer[f"{which}Name"]


@pytest.mark.parametrize("private", [RSA, P256], ids=["rsa", "ecc"])
@pytest.mark.parametrize(
    ("attributes", "policy"), [(ENDORSEMENT, POLICY), (STORAGE_ROOT, b"")], ids=["EK", "SRK"]
)
def test_keys_of_the_templates_are_read(private: Any, attributes: int, policy: bytes) -> None:
    key = read_storage_key("key", public_area(private, attributes=attributes, policy=policy))
    assert key.public_key == private.public_key()


def test_the_default_exponent_may_be_said() -> None:
    key = read_storage_key("key", public_area(RSA, exponent=65537))
    assert key.public_key == RSA.public_key()


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        *(
            (public_area(RSA, attributes=STORAGE_ROOT & ~missing), "restricted decryption key")
            for missing in (FIXED_TPM, FIXED_PARENT, ORIGIN, RESTRICTED, DECRYPT)
        ),
        (public_area(RSA, attributes=STORAGE_ROOT | SIGN), "restricted decryption key"),
        (public_area(RSA, policy=POLICY[:20]), "policy"),
        (public_area(RSA, policy=POLICY * 2), "too long"),
        (public_area(RSA, name_algorithm=0x000C), "SHA-256"),
        (public_area(RSA, symmetric=(0x0006, 256, 0x0043)), "AES-128-CFB"),
        (public_area(RSA, symmetric=(0x0006, 128, 0x0042)), "AES-128-CFB"),
        (public_area(RSA, symmetric=(0x0010,)), "AES-128-CFB"),
        (public_area(RSA, scheme=0x0014), "scheme"),
        (public_area(RSA, exponent=3), "exponent"),
        (public_area(rsa_key(1, 1024)), "RSA 2048"),
        (public_area(rsa_key(1, 3072)), "RSA 2048"),
        (public_area(ec.derive_private_key(7, ec.SECP384R1())), "P-256"),
        (public_area(P256, kdf=0x0020), "key derivation"),
        (public_area(P256)[:-1] + b"\0", "point"),
        (sized(b"\0\x08" + public_area(RSA)[4:]), "neither an RSA nor an ECC key"),
        (sized(public_area(RSA)[2:] + b"\0"), "more behind"),
        (public_area(RSA) + b"\0", "more behind"),
        (public_area(RSA)[:-1], "cut off"),
        (sized(bytes(MAX_PUBLIC_BYTES)), "too long"),
        (b"", "cut off"),
    ],
)
def test_other_keys_are_refused_with_a_reason(refused: bytes, why: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^key: .*{why}"):
        read_storage_key("key", refused)


def test_an_rsa_modulus_that_is_even_or_short_is_refused() -> None:
    area = bytearray(public_area(RSA))
    area[-1] &= 0xFE
    with pytest.raises(InvalidArgument, match="RSA 2048"):
        read_storage_key("key", bytes(area))
    area[-256], area[-1] = 0, area[-1] | 1
    with pytest.raises(InvalidArgument, match="RSA 2048"):
        read_storage_key("key", bytes(area))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_storage_key("key", data)


@given(st.data())
def test_a_changed_key_is_refused_or_has_another_name(data: st.DataObject) -> None:
    area = bytearray(public_area(data.draw(st.sampled_from([RSA, P256]))))
    before = read_storage_key("key", bytes(area)).name
    area[data.draw(st.integers(0, len(area) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        key = read_storage_key("key", bytes(area))
    except InvalidArgument:
        return
    assert key.name != before
