"""What checks derive from an input besides what it says: splits of a stream, text of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from zlib import crc32


def splits(stream: bytes) -> Iterator[list[bytes]]:
    """The stream as a network may deliver it, in a few ways that depend on nothing but its bytes:
    one byte at a time, in two pieces, in some pieces of which a few are empty.
    """
    yield [stream[at : at + 1] for at in range(len(stream))]
    random = Random(crc32(stream))
    for count in (1, 5):
        cuts = sorted(random.randint(0, len(stream)) for _ in range(count))
        yield [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


def text(data: bytes) -> str:
    """Text as a wire gives it to a reader: of UTF-8, or of Latin-1 as HTTP's headers are."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def two_texts(data: bytes) -> tuple[str, str]:
    """The first line, and the rest."""
    first, _, second = data.partition(b"\n")
    return text(first), text(second)
