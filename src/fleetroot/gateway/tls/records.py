"""TLS record boundaries, followed without decrypting anything.

OpenSSL is called only when a whole record has come in. While a handshake runs, a peer that sends a
byte at a time then costs a few additions per byte, and the calls that cost CPU can be counted.
Afterwards it is asked for as many records as there are, and not once more.

RFC 8446 §5.1: a record is a type byte, two bytes of version, two of length, then that many bytes.
"""

from __future__ import annotations

_HEADER_SIZE = 5
_HANDSHAKE = 22
_MAJOR_VERSION = b"\x03"
# Of TLS 1.2, the larger one (RFC 5246 §6.2.3).
_MAX_LENGTH = (1 << 14) + 2048


class NotTlsError(Exception):
    """What came first is not the start of a TLS handshake."""


class RecordCounter:
    """Counts whole records in a stream that arrives in pieces."""

    __slots__ = ("_header", "_missing", "_started")

    def __init__(self) -> None:
        self._header = b""  # of a record whose header is not complete
        self._missing = 0  # bytes of the current record's payload that are still to come
        self._started = False

    def feed(self, data: memoryview) -> int:
        """The number of records that `data` completes.

        Raises:
            NotTlsError: the first bytes of the stream are not a TLS handshake record's.
        """
        completed = 0
        position = 0
        size = len(data)
        while position < size:
            if self._missing:
                taken = min(self._missing, size - position)
                self._missing -= taken
                position += taken
                completed += not self._missing
                continue
            header = self._header + data[position : position + _HEADER_SIZE - len(self._header)]
            position += len(header) - len(self._header)
            if not self._started:
                _check_start(header)
            if len(header) < _HEADER_SIZE:
                self._header = header
                break
            self._header = b""
            self._started = True
            length = header[3] << 8 | header[4]
            # OpenSSL judges a record without payload like any other, and one that is too large by
            # its header.
            self._missing = length if length <= _MAX_LENGTH else 0
            completed += not self._missing
        return completed


def _check_start(header: bytes) -> None:
    if header[0] != _HANDSHAKE or header[1:2] not in (b"", _MAJOR_VERSION):
        raise NotTlsError
