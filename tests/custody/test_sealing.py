"""What a sealed record gives away, and when it opens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.custody import (
    MasterKey,
    MasterKeyKind,
    MasterKeySource,
    MasterKeyUnusable,
    RecordName,
    SealBroken,
    Sealer,
    WrongMasterKey,
)

SOURCE = MasterKeySource(MasterKeyKind.ENVIRONMENT)
MASTER = MasterKey(bytes(range(32)), SOURCE)
SEALER = Sealer(MASTER)
NAME = RecordName("ca-key", "default", "issuing-1", 1)
SECRET = b"the secret of a certificate authority"
BLOB = SEALER.seal(NAME, SECRET)

NAMES = st.builds(RecordName, st.text(), st.text(), st.text(), st.integers(0, 2**64 - 1))


def test_what_is_sealed_opens_under_its_name() -> None:
    assert SEALER.open(NAME, BLOB) == SECRET


def test_nothing_can_be_sealed_too() -> None:
    assert SEALER.open(NAME, SEALER.seal(NAME, b"")) == b""


def test_another_process_with_the_same_master_key_opens_it() -> None:
    assert Sealer(MasterKey(bytes(range(32)), SOURCE)).open(NAME, BLOB) == SECRET


def test_a_blob_does_not_show_its_plaintext_and_costs_97_bytes() -> None:
    assert SECRET not in BLOB
    assert len(BLOB) == len(SECRET) + 97


def test_the_same_record_sealed_twice_gives_different_blobs() -> None:
    first, second = SEALER.seal(NAME, SECRET), SEALER.seal(NAME, SECRET)
    assert first[9:21] != second[9:21]
    assert first[21:69] != second[21:69]
    assert first[81:] != second[81:]


@pytest.mark.parametrize(
    "change",
    [{"kind": "device-key"}, {"namespace": "other"}, {"id": "issuing-2"}, {"version": 2}],
    ids=lambda change: next(iter(change)),
)
def test_a_blob_in_the_place_of_another_record_does_not_open(change: dict) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(replace(NAME, **change), BLOB)


def test_names_that_only_run_together_alike_are_different() -> None:
    blob = SEALER.seal(RecordName("ab", "c", "d", 1), SECRET)
    with pytest.raises(SealBroken):
        SEALER.open(RecordName("a", "bc", "d", 1), blob)


@given(NAMES, NAMES)
def test_two_names_have_one_encoding_only_if_they_are_equal(
    one: RecordName, other: RecordName
) -> None:
    assert (one.to_bytes() == other.to_bytes()) is (one == other)


@pytest.mark.parametrize("at", range(len(BLOB)))
def test_a_blob_changed_in_any_byte_does_not_open(at: int) -> None:
    changed = BLOB[:at] + bytes([BLOB[at] ^ 0x80]) + BLOB[at + 1 :]
    with pytest.raises((SealBroken, WrongMasterKey)):
        SEALER.open(NAME, changed)


@pytest.mark.parametrize("length", [0, 1, 9, 80, 96, len(BLOB) - 1])
def test_a_blob_cut_off_does_not_open(length: int) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(NAME, BLOB[:length])


def test_a_blob_with_something_after_it_does_not_open() -> None:
    with pytest.raises(SealBroken):
        SEALER.open(NAME, BLOB + b"\x00")


def test_the_halves_of_two_blobs_do_not_make_one() -> None:
    other = SEALER.seal(NAME, SECRET)
    with pytest.raises(SealBroken):
        SEALER.open(NAME, BLOB[:69] + other[69:])


def test_an_unknown_format_does_not_open() -> None:
    with pytest.raises(SealBroken, match="format"):
        SEALER.open(NAME, b"\x02" + BLOB[1:])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_do_not_open(blob: bytes) -> None:
    with pytest.raises((SealBroken, WrongMasterKey)):
        SEALER.open(NAME, blob)


def test_another_master_key_is_recognised_as_such() -> None:
    with pytest.raises(WrongMasterKey):
        Sealer(MasterKey(bytes(32), SOURCE)).open(NAME, BLOB)


class TestCheck:
    def test_the_master_key_of_the_data_passes(self) -> None:
        SEALER.check(SEALER.seal_check())

    def test_another_master_key_does_not(self) -> None:
        with pytest.raises(WrongMasterKey):
            Sealer(MasterKey(bytes(32), SOURCE)).check(SEALER.seal_check())

    def test_another_record_is_no_check(self) -> None:
        with pytest.raises(SealBroken):
            SEALER.check(BLOB)


class TestMasterKey:
    def test_its_id_tells_keys_apart(self) -> None:
        assert len(MASTER.id) == 8
        assert MASTER.id != MasterKey(bytes(32), SOURCE).id

    def test_it_is_32_bytes(self) -> None:
        with pytest.raises(MasterKeyUnusable, match="31 bytes"):
            MasterKey(bytes(31), SOURCE)

    def test_it_is_in_no_representation(self) -> None:
        for text in (repr(MASTER), str(MASTER), repr(SEALER), f"{MASTER}"):
            assert repr(MASTER.key) not in text
            assert MASTER.key.hex() not in text
            assert MASTER.id.hex() in text
