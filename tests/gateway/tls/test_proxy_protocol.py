"""PROXY protocol v2: what is parsed, what is refused, and whom the listener believes."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.gateway.tls import RefusalReason, TlsLimits
from fleetroot.gateway.tls.proxy_protocol import (
    MAX_SIZE,
    SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderParser,
)

from .certificates import device
from .memory_client import MemoryClient, client_ssl
from .service import Serve, Service

LOOPBACK = (ip_network("127.0.0.0/8"),)

PORTS = st.integers(0, 65535)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), PORTS, st.ip_addresses(v=4), PORTS),
    st.tuples(st.ip_addresses(v=6), PORTS, st.ip_addresses(v=6), PORTS),
)


def header(
    source: IPv4Address | IPv6Address,
    source_port: int,
    destination: IPv4Address | IPv6Address,
    destination_port: int,
    tlvs: bytes = b"",
) -> bytes:
    ports = source_port.to_bytes(2) + destination_port.to_bytes(2)
    payload = source.packed + destination.packed + ports + tlvs
    family = 0x11 if source.version == 4 else 0x21
    return SIGNATURE + bytes([0x21, family]) + len(payload).to_bytes(2) + payload


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
DEVICE = header(IPv4Address("203.0.113.7"), 4711, IPv4Address("198.51.100.1"), 8883)


@given(ADDRESSES, st.binary(max_size=400), st.binary(max_size=50), st.data())
def test_header_in_arbitrary_pieces(
    addresses: tuple[IPv4Address, int, IPv4Address, int],
    tlvs: bytes,
    after: bytes,
    data: st.DataObject,
) -> None:
    stream = header(*addresses, tlvs) + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = ProxyHeaderParser()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start == end:
            continue
        parsed = parser.feed(stream[start:end])
        if parsed is not None:
            found, rest = parsed
            assert found == ProxyHeader(
                (str(addresses[0]), addresses[1]), (str(addresses[2]), addresses[3])
            )
            assert rest + stream[end:] == after
            return
    raise AssertionError("the header was not found")


def outcome(pieces: list[bytes]) -> tuple[ProxyHeader, bytes] | str | None:
    """The header and all that follows it, why there is none, or None while more is wanted."""
    parser = ProxyHeaderParser()
    try:
        for at, piece in enumerate(pieces):
            if (parsed := parser.feed(piece)) is not None:
                return parsed[0], parsed[1] + b"".join(pieces[at + 1 :])
    except ProxyHeaderError as error:
        return str(error)
    return None


@given(
    st.integers(0, 16),
    st.integers(0x1F, 0x23),
    st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31]),
    st.integers(0, MAX_SIZE + 10),
    st.binary(max_size=60),
    st.data(),
)
def test_any_split_of_any_stream_ends_the_same_way(
    signed: int, command: int, family: int, length: int, after: bytes, data: st.DataObject
) -> None:
    start = SIGNATURE + bytes([command, family]) + length.to_bytes(2)
    stream = start[:signed] + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert outcome(pieces) == outcome([stream])


@given(st.lists(st.binary(max_size=64), max_size=20), st.booleans())
def test_garbage_raises_nothing_but_its_error(pieces: list[bytes], signed: bool) -> None:
    parser = ProxyHeaderParser()
    if signed:
        parser.feed(SIGNATURE)
    try:
        for piece in pieces:
            if parser.feed(piece) is not None:
                return
    except ProxyHeaderError:
        pass


@pytest.mark.parametrize(
    "stream",
    [
        LOCAL,
        pytest.param(SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12), id="LOCAL with addresses"),
        pytest.param(SIGNATURE + b"\x21\x00\x00\x00", id="UNSPEC"),
        pytest.param(SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12), id="UDP over IPv4"),
        pytest.param(SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), id="Unix socket"),
    ],
)
def test_header_without_an_address_of_ours(stream: bytes) -> None:
    assert ProxyHeaderParser().feed(stream + b"rest") == (ProxyHeader(None, None), b"rest")


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 8883\r\n", id="version 1"),
        pytest.param(b"\x16", id="TLS"),
        pytest.param(SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12), id="version in the header"),
        pytest.param(SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12), id="unknown command"),
        pytest.param(SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11), id="short IPv4"),
        pytest.param(SIGNATURE + b"\x21\x21\x00\x23" + bytes(35), id="short IPv6"),
        pytest.param(SIGNATURE + b"\x21\x11" + MAX_SIZE.to_bytes(2), id="too long"),
    ],
)
def test_what_is_no_valid_header_is_refused(stream: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        ProxyHeaderParser().feed(stream)


async def through_balancer(service: Service, head: bytes) -> MemoryClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head)
    client = MemoryClient(client_ssl(device()), reader, writer)
    async with asyncio.timeout(5):
        await client.handshake()
    return client


async def test_application_sees_the_addresses_of_the_header(serve: Serve) -> None:
    service = await serve(trusted_proxies=LOOPBACK)
    client = await through_balancer(service, DEVICE)
    await client.echo(b"x")
    transport = (await service.connection()).transport
    assert transport.get_extra_info("peername") == ("203.0.113.7", 4711)
    assert transport.get_extra_info("sockname") == ("198.51.100.1", 8883)
    assert transport.get_extra_info("socket") is None


async def test_balancer_that_speaks_for_itself_has_its_own_address(serve: Serve) -> None:
    service = await serve(trusted_proxies=LOOPBACK)
    client = await through_balancer(service, LOCAL)
    transport = (await service.connection()).transport
    assert transport.get_extra_info("peername") == client.writer.get_extra_info("sockname")


async def test_connection_without_the_header_is_refused(serve: Serve) -> None:
    service = await serve(trusted_proxies=LOOPBACK)
    with pytest.raises(ConnectionError):
        await through_balancer(service, b"")
    assert (await service.refusal()).reason is RefusalReason.PROXY_HEADER


async def test_header_of_a_stranger_is_refused(serve: Serve) -> None:
    service = await serve(trusted_proxies=(ip_network("192.0.2.0/24"),))
    with pytest.raises(ConnectionError):
        await through_balancer(service, DEVICE)
    assert (await service.refusal()).reason is RefusalReason.UNTRUSTED_PROXY


async def test_header_on_a_port_that_expects_none_is_not_tls(serve: Serve) -> None:
    service = await serve()
    with pytest.raises(ConnectionError):
        await through_balancer(service, DEVICE)
    assert (await service.refusal()).reason is RefusalReason.NOT_TLS


async def test_source_cap_counts_the_source_in_the_header(serve: Serve) -> None:
    service = await serve(TlsLimits(handshakes_per_source=1), trusted_proxies=LOOPBACK)
    _, waiting = await asyncio.open_connection("127.0.0.1", service.port)
    waiting.write(DEVICE)
    other = header(IPv4Address("203.0.113.8"), 1, IPv4Address("198.51.100.1"), 8883)
    await (await through_balancer(service, other)).echo(b"another device is served")
    with pytest.raises(ConnectionError):
        await through_balancer(service, DEVICE)
    refusal = await service.refusal()
    assert refusal.reason is RefusalReason.TOO_MANY_FROM_SOURCE
    assert refusal.peer == ("203.0.113.7", 4711)


async def test_ipv6_sources_are_counted_by_their_64(serve: Serve) -> None:
    service = await serve(TlsLimits(handshakes_per_source=1), trusted_proxies=LOOPBACK)
    here = IPv6Address("2001:db8::1")
    _, waiting = await asyncio.open_connection("127.0.0.1", service.port)
    waiting.write(header(IPv6Address("2001:db8:0:7::1"), 1, here, 2))
    with pytest.raises(ConnectionError):
        await through_balancer(service, header(IPv6Address("2001:db8:0:7::2"), 1, here, 2))
    await through_balancer(service, header(IPv6Address("2001:db8:0:8::1"), 1, here, 2))
