"""How signing keys are made, kept and opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleetroot.custody import (
    KeyCustody,
    KeyStore,
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    RecordName,
    SealBroken,
    Sealer,
    WrongMasterKey,
)
from fleetroot.pki import KeyType, key_type_of, private_key_to_der

NAME = RecordName("ca-key", "default", "issuing-1", 1)
OTHER = RecordName("ca-key", "default", "issuing-2", 1)


def key_store(master: bytes = bytes(32), max_open_keys: int = 256) -> KeyStore:
    source = MasterKeySource(MasterKeyKind.ENVIRONMENT)
    return KeyStore(Sealer(MasterKey(master, source)), max_open_keys=max_open_keys)


def test_it_is_a_custody_of_keys() -> None:
    custody: KeyCustody = key_store()
    assert custody.generate(KeyType.EC_P256, NAME).sealed


@pytest.mark.parametrize("key_type", [KeyType.EC_P384, KeyType.RSA_2048, KeyType.ML_DSA_65])
def test_a_key_outlives_the_process(key_type: KeyType) -> None:
    made = key_store().generate(key_type, NAME)
    loaded = key_store().load(NAME, made.sealed)
    assert loaded.public_key() == made.public_key
    assert key_type_of(made.public_key) is key_type


def test_a_loaded_key_signs() -> None:
    made = key_store().generate(KeyType.EC_P256, NAME)
    loaded = key_store().load(NAME, made.sealed)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert isinstance(made.public_key, ec.EllipticCurvePublicKey)
    signature = loaded.sign(b"data", ec.ECDSA(hashes.SHA256()))
    made.public_key.verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


def test_what_is_stored_is_not_the_key() -> None:
    store = key_store()
    made = store.generate(KeyType.EC_P256, NAME)
    assert private_key_to_der(store.load(NAME, made.sealed)) not in made.sealed


def test_a_key_is_opened_once() -> None:
    store = key_store()
    sealed = key_store().generate(KeyType.EC_P256, NAME).sealed
    assert store.load(NAME, sealed) is store.load(NAME, sealed)


def test_a_key_does_not_load_under_another_name_even_while_it_is_open() -> None:
    store = key_store()
    sealed = store.generate(KeyType.EC_P256, NAME).sealed
    with pytest.raises(SealBroken):
        store.load(OTHER, sealed)


def test_another_blob_under_an_open_name_is_not_answered_from_memory() -> None:
    store = key_store()
    sealed = store.generate(KeyType.EC_P256, NAME).sealed
    with pytest.raises(SealBroken):
        store.load(NAME, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_a_replaced_key_is_loaded_anew() -> None:
    store = key_store()
    first = store.generate(KeyType.EC_P256, NAME)
    second = store.generate(KeyType.EC_P256, NAME)
    assert store.load(NAME, first.sealed).public_key() == first.public_key
    assert store.load(NAME, second.sealed).public_key() == second.public_key


def test_a_key_of_another_master_key_is_refused() -> None:
    sealed = key_store(b"\x01" * 32).generate(KeyType.EC_P256, NAME).sealed
    with pytest.raises(WrongMasterKey):
        key_store().load(NAME, sealed)


def test_a_forgotten_key_is_opened_anew() -> None:
    store = key_store()
    sealed = store.generate(KeyType.EC_P256, NAME).sealed
    before = store.load(NAME, sealed)
    store.forget(NAME)
    assert store.load(NAME, sealed) is not before


def test_only_the_last_used_keys_are_held_open() -> None:
    store = key_store(max_open_keys=1)
    first = store.generate(KeyType.EC_P256, NAME)
    held = store.load(NAME, first.sealed)
    store.generate(KeyType.EC_P256, OTHER)
    assert store.load(NAME, first.sealed) is not held


def test_threads_may_share_it() -> None:
    store = key_store(max_open_keys=2)
    names = [RecordName("ca-key", "default", str(n), 1) for n in range(4)]
    made = [store.generate(KeyType.EC_P256, name) for name in names]

    def load(n: int) -> bool:
        n %= 4
        return store.load(names[n], made[n].sealed).public_key() == made[n].public_key

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(load, range(400)))


def test_a_sealed_key_shows_nothing_of_its_blob() -> None:
    made = key_store().generate(KeyType.EC_P256, NAME)
    assert "sealed" not in repr(made)
