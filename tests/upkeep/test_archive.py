"""The sealed stream that a backup is written as."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.errors import InvalidArgument
from fleetroot.upkeep.archive import CHUNK, ArchiveBroken, ArchiveKey, seal, unseal

KEY = ArchiveKey(key=bytes(range(32)))
OTHER = ArchiveKey(key=bytes(32))
PHRASE = ArchiveKey(passphrase="correct horse battery")
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 7]


def sealed(plaintext: bytes, key: ArchiveKey = KEY) -> bytes:
    return b"".join(seal(key, [plaintext]))


def opened(blob: bytes, key: ArchiveKey = KEY) -> bytes:
    return b"".join(unseal(key, io.BytesIO(blob)))


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_sealed_opens(length: int) -> None:
    plaintext = bytes(n % 251 for n in range(length))
    assert opened(sealed(plaintext)) == plaintext


@given(st.lists(st.binary(max_size=3 * CHUNK), max_size=5))
def test_it_does_not_matter_in_which_parts_it_came(parts: list[bytes]) -> None:
    assert opened(b"".join(seal(KEY, parts))) == b"".join(parts)


def test_a_passphrase_opens_what_it_sealed() -> None:
    assert opened(sealed(b"data", PHRASE), PHRASE) == b"data"


@pytest.mark.parametrize("key", [OTHER, PHRASE, ArchiveKey(passphrase="another passphrase")])
def test_another_key_is_refused(key: ArchiveKey) -> None:
    with pytest.raises(ArchiveBroken):
        opened(sealed(b"data"), key)
    with pytest.raises(ArchiveBroken):
        opened(sealed(b"data", PHRASE), OTHER)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_stream_that_is_cut_off_anywhere_near_a_chunk_is_refused(length: int) -> None:
    blob = sealed(bytes(length))
    start = blob.index(b"\n") + 1
    ends = range(start, len(blob), CHUNK + 16)
    for end in {max(0, at + off) for at in (*ends, len(blob)) for off in (-17, -1, 0, 1, 17)}:
        if end < len(blob):
            with pytest.raises(ArchiveBroken):
                opened(blob[:end])


def test_a_stream_with_something_behind_it_is_refused() -> None:
    with pytest.raises(ArchiveBroken):
        opened(sealed(bytes(CHUNK)) + b"x")


def test_chunks_in_another_order_are_refused() -> None:
    blob = sealed(bytes(3 * CHUNK))
    start, size = blob.index(b"\n") + 1, CHUNK + 16
    head, first, second = blob[:start], blob[start:][:size], blob[start + size :][:size]
    with pytest.raises(ArchiveBroken):
        opened(head + second + first + blob[start + 2 * size :])


@given(st.data())
def test_any_changed_byte_is_found(data: st.DataObject) -> None:
    blob = bytearray(sealed(b"data" * 10))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArchiveBroken):
        opened(bytes(blob))


@pytest.mark.parametrize("junk", [b"", b"\n", b"{}\n", b"SQLite format 3\0", b"x" * 10_000])
def test_what_is_no_backup_is_refused(junk: bytes) -> None:
    with pytest.raises(ArchiveBroken):
        opened(junk)


@pytest.mark.parametrize(
    "given",
    [{}, {"key": bytes(31)}, {"passphrase": "short"}, {"key": bytes(32), "passphrase": "x"}],
)
def test_a_key_that_is_none_is_refused(given: dict[str, bytes]) -> None:
    with pytest.raises(InvalidArgument):
        ArchiveKey(**given)  # type: ignore[arg-type]
