"""The PROXY protocol's header, version 2."""

from __future__ import annotations

import socket
import struct
from typing import Any, TypeAlias

from fleetroot.gateway.tls.proxy_protocol import (
    MAX_SIZE,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderParser,
)
from fuzz.reading import splits

TOKENS = (SIGNATURE, b"\x21\x11\x00\x0c", b"\x21\x21\x00\x24", b"\x20\x00\x00\x00", b"\x21\x12")
MAX_BYTES = 1200

CLIENT = struct.pack(">4s4sHH", bytes([203, 0, 113, 7]), bytes([198, 51, 100, 1]), 4711, 8883)
CLIENT_6 = struct.pack(">16s16sHH", b"\x20\x01" + bytes(14), bytes(15) + b"\1", 4711, 8883)


# Source and destination, packed, and their ports; None for those of the connection itself.
Ends: TypeAlias = tuple[Any, ...] | None
# These and what follows the header, "refused", or None while more is wanted.
Outcome: TypeAlias = tuple[Ends, bytes] | str | None


def check(data: bytes) -> None:
    """Every split gives the same header and leaves what follows it, and the header is the one that
    a plain reading of the specification finds. So is it for the input behind a valid start.
    """
    for stream in (data, SIGNATURE + data, SIGNATURE + b"\x21\x11" + data):
        whole = outcome([stream])
        assert whole == reference(stream)
        for pieces in splits(stream):
            assert outcome(pieces) == whole, "another split is another header"


def outcome(pieces: list[bytes]) -> Outcome:
    """What the parser makes of a stream."""
    parser = ProxyHeaderParser()
    try:
        for at, piece in enumerate(pieces):
            if (found := parser.feed(piece)) is not None:
                header, rest = found
                return packed(header), rest + b"".join(pieces[at + 1 :])
    except ProxyHeaderError:
        return "refused"
    return None


def packed(header: ProxyHeader) -> Ends:
    """A header with its addresses as they were sent: of one IPv6 address there are many texts."""
    if header.source is None or header.destination is None:
        assert header.source is header.destination is None
        return None
    (source, source_port), (destination, destination_port) = header.source, header.destination
    kind = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(kind, source), socket.inet_pton(kind, destination)
    return *ends, source_port, destination_port


def reference(stream: bytes) -> Outcome:
    """§2.2 read plainly."""
    if not stream.startswith(SIGNATURE):
        return None if SIGNATURE.startswith(stream) else "refused"
    if len(stream) < 16:
        return None
    version_command, family, length = struct.unpack(">BBH", stream[12:16])
    if 16 + length > MAX_SIZE:
        return "refused"
    payload, rest = stream[16 : 16 + length], stream[16 + length :]
    if len(payload) < length:
        return None
    if version_command == 0x20:
        return None, rest
    if version_command != 0x21:
        return "refused"
    forms = {0x11: ">4s4sHH", 0x21: ">16s16sHH"}
    if family not in forms:
        return None, rest
    if length < struct.calcsize(forms[family]):
        return "refused"
    return struct.unpack_from(forms[family], payload), rest


def seeds() -> dict[str, bytes]:
    """What balancers send, and a few that they should not."""
    tls = b"\x16\x03\x01\x00\x05hello"
    crc = b"\x03\x00\x04\xde\xad\xbe\xef"
    return {
        "ipv4": SIGNATURE + b"\x21\x11\x00\x0c" + CLIENT + tls,
        "ipv6": SIGNATURE + b"\x21\x21\x00\x24" + CLIENT_6 + tls,
        "ipv4-in-ipv6": SIGNATURE + b"\x21\x21\x00\x24" + bytes(12) + CLIENT_6[4:],
        "ipv4-tlv": SIGNATURE + b"\x21\x11\x00\x13" + CLIENT + crc,
        "local": SIGNATURE + b"\x20\x00\x00\x00" + tls,
        "unspec": SIGNATURE + b"\x21\x00\x00\x00",
        "udp": SIGNATURE + b"\x21\x12\x00\x0c" + CLIENT,
        "unix": SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        "short": SIGNATURE + b"\x21\x11\x00\x0b" + CLIENT[:-1],
        "too-long": SIGNATURE + b"\x21\x11\x04\x00",
        "version-1": b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 8883\r\n",
        "version-3": SIGNATURE + b"\x31\x11\x00\x0c" + CLIENT,
        "tls": tls,
    }
