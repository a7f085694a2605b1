"""DER elements: making them, and walking over those whose structure the library has checked.

Reading is only for what `cryptography` parses but does not show: never the first reader of foreign
bytes.

Source: ITU-T X.690 §8.1 (identifier, length, contents) and §10.1 (definite lengths).
"""

from __future__ import annotations

from typing import Final

_LONG_FORM: Final = 0x80


def element(tag: int, contents: bytes) -> bytes:
    """An element of one tag octet."""
    length = len(contents)
    if length < _LONG_FORM:
        return bytes((tag, length)) + contents
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(octets))) + octets + contents


def skip_element(der: bytes) -> bytes:
    """What follows the first element of `der`.

    Raises:
        ValueError: the element does not fit into `der`.
    """
    _, end = _contents(der)
    return der[end:]


def first_element(der: bytes) -> bytes:
    """The first element of `der`, without what follows it.

    Raises:
        ValueError: the element does not fit into `der`.
    """
    _, end = _contents(der)
    return der[:end]


def split_element(der: bytes) -> tuple[bytes, bytes]:
    """The first element of `der`, and what follows it.

    Raises:
        ValueError: the element does not fit into `der`.
    """
    _, end = _contents(der)
    return der[:end], der[end:]


def unwrap_sequence(der: bytes) -> bytes:
    """The contents of the first element of `der`, a SEQUENCE; what follows it is dropped.

    Raises:
        ValueError: the element does not fit into `der`.
    """
    start, end = _contents(der)
    return der[start:end]


def _contents(der: bytes) -> tuple[int, int]:
    """Where the contents of the first element begin and end. Tags are one octet in X.509."""
    if len(der) < 2:
        raise ValueError("truncated DER")
    start, length = 2, der[1]
    if length >= _LONG_FORM:
        octets = length - _LONG_FORM
        start += octets
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("truncated DER")
    return start, start + length
