"""The PROXY protocol, version 2: a balancer says whose connection it passes on.

No I/O: bytes in, one header out. Format: HAProxy, "The PROXY protocol", §2.2: a signature of 12
bytes, version and command, family and transport, length, then addresses and TLVs of that length.
The header comes first on the connection, before TLS, and is believed only from balancers that the
operator has named: who may send it is the listener's rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_SIZE = len(SIGNATURE) + 4
# The specification has receivers take at least 536 bytes in one piece (§2.2). Addresses and the
# TLVs of common balancers stay far below; a peer that says more is not one that we know.
MAX_SIZE = 1024

_VERSION = 0x20
_LOCAL = 0x0
_PROXY = 0x1
_STREAM = 0x1
_INET = 0x1
_INET6 = 0x2


class ProxyHeaderError(Exception):
    """The connection does not start with a valid header. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """Who connected to the balancer (`source`), and to which address of its (`destination`).

    Both are None when the balancer speaks for itself (LOCAL, a health check) or passes on
    something other than TCP over IP; the connection's own addresses hold then.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None


_NO_ADDRESSES = ProxyHeader(None, None)


class ProxyHeaderParser:
    """Takes the header off the front of a stream that arrives in pieces."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> tuple[ProxyHeader, bytes] | None:
        """The header and the bytes that follow it, or None while more bytes are wanted.

        Raises:
            ProxyHeaderError: this is no header, or one that is too long or contradicts itself.
        """
        buffer = self._buffer
        buffer += data
        seen = min(len(buffer), len(SIGNATURE))
        if buffer[:seen] != SIGNATURE[:seen]:
            raise ProxyHeaderError("no signature")
        if len(buffer) < _FIXED_SIZE:
            return None
        size = _FIXED_SIZE + int.from_bytes(buffer[14:16])
        if size > MAX_SIZE:
            raise ProxyHeaderError(f"{size} bytes long")
        if len(buffer) < size:
            return None
        header = _parse(buffer[12], buffer[13], bytes(buffer[_FIXED_SIZE:size]))
        return header, bytes(buffer[size:])


def _parse(version_and_command: int, family_and_transport: int, payload: bytes) -> ProxyHeader:
    if version_and_command & 0xF0 != _VERSION:
        raise ProxyHeaderError(f"version {version_and_command >> 4}")
    command = version_and_command & 0x0F
    if command == _LOCAL:
        return _NO_ADDRESSES
    if command != _PROXY:
        raise ProxyHeaderError(f"command {command}")
    family, transport = family_and_transport >> 4, family_and_transport & 0x0F
    if transport != _STREAM or family not in (_INET, _INET6):
        # "the receiver should ... use the real connection endpoints" (§2.2, UNSPEC).
        return _NO_ADDRESSES
    width = 4 if family == _INET else 16
    if len(payload) < 2 * width + 4:
        raise ProxyHeaderError("addresses cut short")
    ports = payload[2 * width : 2 * width + 4]
    return ProxyHeader(
        source=(_address(payload[:width]), int.from_bytes(ports[:2])),
        destination=(_address(payload[width : 2 * width]), int.from_bytes(ports[2:])),
    )


def _address(packed: bytes) -> str:
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
