"""TLS record boundaries, followed without decrypting anything.

While a handshake runs, OpenSSL is called only when a whole record has come in. A peer that sends a
byte at a time then costs a few additions per byte, and the calls that cost CPU can be counted.

RFC 8446 §5.1: a record is a type byte, two bytes of version, two of length, then that many bytes.
"""

from __future__ import annotations

_HEADER_SIZE = 5
_HANDSHAKE = 22
_MAJOR_VERSION = b"\x03"


class NotTlsError(Exception):
    """What came first is not the start of a TLS handshake."""


class RecordCounter:
    """Counts whole records in a stream that arrives in pieces."""

    __slots__ = ("_header", "_missing", "_started")

    def __init__(self) -> None:
        self._header = bytearray()
        self._missing = 0  # bytes of the current record's payload that are still to come
        self._started = False

    def feed(self, data: memoryview) -> int:
        """The number of records that `data` completes.

        Raises:
            NotTlsError: the first bytes of the stream are not a TLS handshake record's.
        """
        completed = 0
        position = 0
        while position < len(data):
            if self._missing:
                taken = min(self._missing, len(data) - position)
                self._missing -= taken
                position += taken
                completed += not self._missing
                continue
            wanted = _HEADER_SIZE - len(self._header)
            self._header += data[position : position + wanted]
            position += wanted
            if not self._started:
                self._check_start()
            if len(self._header) == _HEADER_SIZE:
                self._started = True
                self._missing = int.from_bytes(self._header[3:])
                # OpenSSL judges a record without payload like any other.
                completed += not self._missing
                self._header.clear()
        return completed

    def _check_start(self) -> None:
        if self._header[0] != _HANDSHAKE or self._header[1:2] not in (b"", _MAJOR_VERSION):
            raise NotTlsError
