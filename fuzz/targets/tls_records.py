"""TLS record boundaries, as they are followed to call OpenSSL when it has something to do."""

from __future__ import annotations

from fleetroot.gateway.tls.records import NotTlsError, RecordCounter
from fuzz.reading import splits

TOKENS = (b"\x16\x03\x01", b"\x16\x03\x03\x00\x01", b"\x14\x03\x03\x00\x01\x01", b"\x00\x00")


def check(data: bytes) -> None:
    """Every split counts the same records, those that a plain walk over the stream finds."""
    expected = reference(data)
    assert count([data]) == expected
    for pieces in splits(data):
        assert count(pieces) == expected, "another split has other records"


def count(pieces: list[bytes]) -> int | None:
    """The number of whole records; None where the stream is no TLS."""
    counter = RecordCounter()
    try:
        return sum(counter.feed(memoryview(piece)) for piece in pieces)
    except NotTlsError:
        return None


def reference(stream: bytes) -> int | None:
    """RFC 8446 §5.1 read plainly."""
    if stream[:2] not in (b"", b"\x16", b"\x16\x03"):
        return None
    records = 0
    while len(stream) >= 5:
        length = int.from_bytes(stream[3:5])
        end = 5 if length > 18432 else 5 + length  # too large: its header says all there is to say
        if len(stream) < end:
            break
        records += 1
        stream = stream[end:]
    return records


def seeds() -> dict[str, bytes]:
    """Flights of a client."""
    hello = b"\x16\x03\x01\x00\x08\x01\x00\x00\x04helo"
    return {
        "hello": hello,
        "tls-1.2": hello + b"\x14\x03\x03\x00\x01\x01" + b"\x16\x03\x03\x00\x02ok",
        "empty-record": b"\x16\x03\x01\x00\x00" + hello,
        "cut": hello[:-1],
        "alert-first": b"\x15\x03\x03\x00\x02\x02\x28",
        "sslv2": b"\x80\x2e\x01\x03\x01",
        "http": b"GET / HTTP/1.1\r\n\r\n",
        "huge": b"\x16\x03\x01\xff\xff" + bytes(40),
    }
