"""Record boundaries are found however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.gateway.tls.records import NotTlsError, RecordCounter


@given(st.lists(st.integers(0, 300), max_size=10), st.data())
def test_whole_records_are_counted(sizes: list[int], data: st.DataObject) -> None:
    stream = b"".join(b"\x16\x03\x01" + size.to_bytes(2) + bytes(size) for size in sizes)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    counter = RecordCounter()
    pieces = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    completed = sum(counter.feed(memoryview(stream)[start:end]) for start, end in pieces)
    assert completed == len(sizes)


@given(st.sampled_from([b"", b"\x16", b"\x16\x03\x01"]), st.binary(max_size=60), st.data())
def test_any_split_of_any_stream_has_the_same_records(
    start: bytes, rest: bytes, data: st.DataObject
) -> None:
    def count(pieces: list[bytes]) -> int | None:
        counter = RecordCounter()
        try:
            return sum(counter.feed(memoryview(piece)) for piece in pieces)
        except NotTlsError:
            return None

    stream = start + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert count(pieces) == count([stream])


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_garbage_raises_nothing_but_its_error(pieces: list[bytes]) -> None:
    counter = RecordCounter()
    try:
        for piece in pieces:
            counter.feed(memoryview(piece))
    except NotTlsError:
        assert b"".join(pieces)[:2] not in (b"\x16\x03", b"\x16", b"")


def test_a_record_is_counted_once_it_is_whole() -> None:
    counter = RecordCounter()
    assert counter.feed(memoryview(b"\x16\x03\x01\x00\x03ab")) == 0
    assert counter.feed(memoryview(b"c")) == 1


@pytest.mark.parametrize("start", [b"G", b"\x16\x02", b"\x17\x03\x03", b"\x80"])
def test_stream_that_does_not_start_a_handshake(start: bytes) -> None:
    with pytest.raises(NotTlsError):
        RecordCounter().feed(memoryview(start))
