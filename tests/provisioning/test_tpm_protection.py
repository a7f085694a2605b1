"""What is sent to a TPM: the TPM of both keys opens it, and no other does."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.provisioning.tpm_protection import KEY_BYTES, send_key
from fleetroot.provisioning.tpm_public import StorageKey, read_storage_key
from model_tpm import ModelTpm, PrivateKey, TpmRefused, rsa_key, split
from swtpm import needs_swtpm, running_tpm

ANSWERS = json.loads((Path(__file__).parent / "tpm2_pytss.json").read_text())
KEY = bytes(range(KEY_BYTES))
P256 = [ec.derive_private_key(number, ec.SECP256R1()) for number in (7, 8)]
KINDS = {
    "rsa": ModelTpm(rsa_key(1), rsa_key(2)),
    "ecc": ModelTpm(*P256),
    "rsa and ecc": ModelTpm(rsa_key(1), P256[0]),
}
each_kind = pytest.mark.parametrize("tpm", KINDS.values(), ids=KINDS.keys())


def keys_of(tpm: ModelTpm) -> tuple[StorageKey, StorageKey]:
    return (
        read_storage_key("endorsementKey", tpm.endorsement_key),
        read_storage_key("storageRootKey", tpm.storage_root_key),
    )


def another(key: PrivateKey) -> PrivateKey:
    """Another key of the same kind."""
    if isinstance(key, rsa.RSAPrivateKey):
        return rsa_key(3)
    return ec.derive_private_key(9, ec.SECP256R1())


@pytest.mark.parametrize("answer", ANSWERS, ids=["rsa", "ecc"])
def test_the_model_of_a_tpm_opens_what_tpm2_pytss_made(answer: dict[str, str]) -> None:
    private = [
        load_der_private_key(base64.b64decode(answer[which]), None)
        for which in ("endorsement", "storageRoot")
    ]
    tpm = ModelTpm(*private)
    assert tpm.endorsement_key == base64.b64decode(answer["endorsementKey"])
    assert tpm.storage_root_key == base64.b64decode(answer["storageRootKey"])
    tpm.activate(base64.b64decode(answer["blob"]))
    assert tpm.keys["key"] == bytes.fromhex(answer["key"])


@each_kind
@given(key=st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES))
def test_the_tpm_of_both_keys_opens_it(tpm: ModelTpm, key: bytes) -> None:
    tpm.activate(send_key(*keys_of(tpm), key))
    assert tpm.keys["key"] == key


@each_kind
def test_another_endorsement_key_does_not_open_it(tpm: ModelTpm) -> None:
    blob = send_key(*keys_of(tpm), KEY)
    with pytest.raises(TpmRefused, match=r"seed|outer integrity"):
        replace(tpm, endorsement=another(tpm.endorsement)).activate(blob)


@each_kind
def test_another_storage_root_key_does_not_open_it(tpm: ModelTpm) -> None:
    blob = send_key(*keys_of(tpm), KEY)
    with pytest.raises(TpmRefused, match="outer integrity"):
        replace(tpm, storage_root=another(tpm.storage_root)).activate(blob)


@each_kind
def test_the_credential_alone_does_not_open_the_key(tpm: ModelTpm) -> None:
    """Who has the inner key and another storage root key has nothing."""
    parts = [part[2:] for part in split(send_key(*keys_of(tpm), KEY))]
    inner = tpm.activate_credential(*parts[:2])
    other = replace(tpm, storage_root=another(tpm.storage_root))
    with pytest.raises(TpmRefused, match=r"seed|outer integrity"):
        other.import_key(parts[4], parts[2], parts[3], inner)


@each_kind
def test_the_storage_root_key_alone_does_not_open_the_key(tpm: ModelTpm) -> None:
    parts = [part[2:] for part in split(send_key(*keys_of(tpm), KEY))]
    with pytest.raises(TpmRefused, match="inner integrity"):
        tpm.import_key(parts[4], parts[2], parts[3], bytes(16))


@each_kind
@given(data=st.data())
def test_an_altered_blob_is_not_opened(tpm: ModelTpm, data: st.DataObject) -> None:
    blob = bytearray(send_key(*keys_of(tpm), KEY))
    at = data.draw(st.integers(0, len(blob) - 3))  # behind it is the empty TPM2B_DATA
    blob[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(TpmRefused):
        tpm.activate(bytes(blob))


@each_kind
def test_it_differs_each_time(tpm: ModelTpm) -> None:
    first, second = (split(send_key(*keys_of(tpm), KEY)) for _ in range(2))
    assert all(one != other for one, other in zip(first[:5], second[:5], strict=True))


def test_it_is_laid_out_as_devices_read_it() -> None:
    parts = split(send_key(*keys_of(KINDS["rsa"]), KEY))
    assert [len(part) for part in parts] == [2 + 52, 2 + 256, 2 + 142, 2 + 256, 2 + 48, 2]
    assert parts[4][2:18].hex() == "0008000b000404400000" + "0005000b" + "0020"
    assert parts[5] == b"\0\0"


@needs_swtpm
@pytest.mark.parametrize("endorsement", ["rsa", "ecc"])
@pytest.mark.parametrize("storage_root", ["rsa2048", "ecc256"])
def test_a_tpm_opens_it_and_signs_with_it(
    tmp_path: Path, endorsement: str, storage_root: str
) -> None:
    with running_tpm(tmp_path) as tpm:
        tpm.make_keys(endorsement=endorsement, storage_root=storage_root)
        keys = (
            read_storage_key("endorsementKey", tpm.endorsement_key),
            read_storage_key("storageRootKey", tpm.storage_root_key),
        )
        tpm.activate(send_key(*keys, KEY))
        assert tpm.sign(b"message") == hmac.digest(KEY, b"message", "sha256")


@needs_swtpm
def test_a_tpm_does_not_open_what_is_for_another(tmp_path: Path) -> None:
    with running_tpm(tmp_path / "one") as one, running_tpm(tmp_path / "other") as other:
        one.make_keys()
        other.make_keys()
        root = read_storage_key("storageRootKey", one.storage_root_key)
        foreign_root = read_storage_key("storageRootKey", other.storage_root_key)
        endorsement = read_storage_key("endorsementKey", one.endorsement_key)
        with pytest.raises(TpmRefused, match="activatecredential"):
            other.activate(send_key(endorsement, root, KEY))
        with pytest.raises(TpmRefused, match="activatecredential"):
            one.activate(send_key(endorsement, foreign_root, KEY))
        one.activate(send_key(endorsement, root, KEY))
