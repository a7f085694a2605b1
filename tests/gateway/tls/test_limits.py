"""What a stranger can make the listener do is bounded, and each refusal says why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from ipaddress import ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from fleetroot.gateway.tls import RefusalReason, TlsLimits, source_of

from .certificates import Credential, device, issue
from .memory_client import MemoryClient, client_ssl
from .service import Serve, Service


async def dial(service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", service.port)


async def is_cut(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(5):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x10", b"\x16\x02\x00"])
async def test_peer_that_does_not_speak_tls_is_cut(serve: Serve, said: bytes) -> None:
    service = await serve()
    reader, writer = await dial(service)
    writer.write(said)
    refusal = await service.refusal()
    assert refusal.reason is RefusalReason.NOT_TLS
    assert refusal.peer == writer.get_extra_info("sockname")
    assert await is_cut(reader)


async def test_garbage_in_a_tls_record_gets_an_alert(serve: Serve) -> None:
    service = await serve()
    reader, writer = await dial(service)
    writer.write(b"\x16\x03\x01\x00\x04nope")
    async with asyncio.timeout(5):
        assert (await reader.readexactly(7))[0] == 21  # alert
    assert (await service.refusal()).reason is RefusalReason.TLS_ERROR


async def test_silent_peer_is_cut_at_the_first_flight_limit(serve: Serve) -> None:
    service = await serve(TlsLimits(first_flight=0.05))
    reader, _ = await dial(service)
    assert (await service.refusal()).reason is RefusalReason.FIRST_FLIGHT_TIMEOUT
    assert await is_cut(reader)


async def test_peer_that_stops_after_its_first_flight_is_cut_at_the_total_limit(
    serve: Serve,
) -> None:
    service = await serve(TlsLimits(first_flight=0.05, handshake=0.1))
    reader, writer = await dial(service)
    client = MemoryClient(client_ssl(), reader, writer)
    with pytest.raises(SSL.WantReadError):
        client.ssl.do_handshake()
    writer.write(client.flight())
    assert (await service.refusal()).reason is RefusalReason.HANDSHAKE_TIMEOUT
    assert service.listener.stats().handshakes == 0


async def test_peer_that_goes_away_in_the_handshake_is_counted(serve: Serve) -> None:
    service = await serve()
    _, writer = await dial(service)
    writer.write(b"\x16\x03\x01")
    writer.close()
    assert (await service.refusal()).reason is RefusalReason.PEER_CLOSED
    assert service.listener.stats().refused == 1


async def test_peer_that_writes_a_byte_at_a_time_is_served(serve: Serve) -> None:
    service = await serve()
    reader, writer = await dial(service)
    client = MemoryClient(client_ssl(device()), reader, writer)
    while True:
        try:
            client.ssl.do_handshake()
            break
        except SSL.WantReadError:
            await _trickle(client)
            client.ssl.bio_write(await reader.read(65536))
    await _trickle(client)
    assert (await service.connection()).tls.peer_chain == device().chain_der


async def _trickle(client: MemoryClient) -> None:
    for byte in client.flight():
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0)


async def test_handshake_in_tiny_records_is_cut_at_the_step_limit(serve: Serve) -> None:
    service = await serve(TlsLimits(handshake_steps=16))
    reader, writer = await dial(service)
    hello = b"\x01\x00\x10\x00" + bytes(4096)  # a ClientHello of 4,096 bytes, in 1-byte records
    with contextlib.suppress(ConnectionError):
        for byte in hello[:40]:
            if writer.is_closing():  # uvloop says so by another error than a connection's
                break
            writer.write(b"\x16\x03\x01\x00\x01" + bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
    assert (await service.refusal()).reason is RefusalReason.TOO_MANY_STEPS
    assert await is_cut(reader)


async def test_hundred_certificates_are_cut_at_the_byte_limit(serve: Serve) -> None:
    service = await serve()
    key = rsa.generate_private_key(65537, 2048)
    filler = tuple(issue(f"CA {n}", key=key, is_ca=True).certificate for n in range(100))
    flood = client_ssl(Credential(device().certificate, device().key, filler))
    started = time.process_time()
    with pytest.raises((SSL.Error, ConnectionError)):
        async with MemoryClient.connect(service, flood) as client:
            await client.read()
    assert time.process_time() - started < 0.1  # both sides
    refusal = await service.refusal()
    assert refusal.reason is RefusalReason.TOO_LARGE


async def test_application_data_behind_the_handshake_is_not_held_against_it(serve: Serve) -> None:
    service = await serve(TlsLimits(handshake_bytes=8 * 1024))
    async with MemoryClient.connect(service, client_ssl(device())) as client:
        await client.echo(os.urandom(100_000))
    early = MemoryClient(client_ssl(device()), *await dial(service))
    with pytest.raises(SSL.WantReadError):
        early.ssl.do_handshake()
    early.writer.write(early.flight())
    early.ssl.bio_write(await early.reader.read(65536))
    early.ssl.do_handshake()
    body = os.urandom(30_000)
    early.ssl.sendall(body)
    early.writer.write(early.flight())  # certificate, Finished and body in one write
    received = b""
    while len(received) < len(body):
        received += await early.read()
    assert received == body


async def test_unfinished_handshakes_are_capped(serve: Serve) -> None:
    service = await serve(TlsLimits(handshakes=3, handshakes_per_source=100))
    waiting = [await dial(service) for _ in range(3)]
    reader, _ = await dial(service)
    assert (await service.refusal()).reason is RefusalReason.TOO_MANY_HANDSHAKES
    assert await is_cut(reader)
    waiting[0][1].close()
    assert (await service.refusal()).reason is RefusalReason.PEER_CLOSED
    async with MemoryClient.connect(service, client_ssl()) as client:
        await client.echo(b"a place is free again")


async def test_unfinished_handshakes_are_capped_per_source(serve: Serve) -> None:
    service = await serve(TlsLimits(handshakes_per_source=2))
    _waiting = [await dial(service) for _ in range(2)]
    reader, _ = await dial(service)
    assert (await service.refusal()).reason is RefusalReason.TOO_MANY_FROM_SOURCE
    assert await is_cut(reader)
    elsewhere, writer = await asyncio.open_connection(
        "127.0.0.1", service.port, local_addr=("127.0.0.9", 0)
    )
    async with asyncio.timeout(5):
        await MemoryClient(client_ssl(), elsewhere, writer).handshake()


async def test_finished_handshakes_do_not_count_for_their_source(serve: Serve) -> None:
    service = await serve(TlsLimits(handshakes_per_source=1))
    async with MemoryClient.connect(service, client_ssl()) as first:
        await first.echo(b"1")
        async with MemoryClient.connect(service, client_ssl()) as second:
            await second.echo(b"2")
            stats = service.listener.stats()
            assert (stats.connections, stats.handshakes, stats.completed) == (2, 0, 2)


async def test_uncapped_sources_have_no_cap_of_their_own(serve: Serve) -> None:
    limits = TlsLimits(handshakes_per_source=1, uncapped_sources=(ip_network("127.0.0.0/8"),))
    service = await serve(limits)
    _waiting = [await dial(service) for _ in range(3)]
    async with MemoryClient.connect(service, client_ssl()) as client:
        await client.echo(b"x")


async def test_connections_are_capped(serve: Serve) -> None:
    service = await serve(TlsLimits(connections=1))
    async with MemoryClient.connect(service, client_ssl()) as client:
        await client.echo(b"x")
        reader, _ = await dial(service)
        assert (await service.refusal()).reason is RefusalReason.TOO_MANY_CONNECTIONS
        assert await is_cut(reader)
        await client.echo(b"not disturbed")


async def test_stopping_drops_unfinished_handshakes(serve: Serve) -> None:
    service = await serve()
    await dial(service)
    while not service.listener.stats().handshakes:
        await asyncio.sleep(0)
    await service.listener.stop(1.0)
    assert (await service.refusal()).reason is RefusalReason.STOPPING
    assert service.listener.stats().connections == 0
    with pytest.raises(ConnectionRefusedError):
        await dial(service)


async def test_connections_that_nobody_vouched_for_are_capped_per_source(serve: Serve) -> None:
    service = await serve(TlsLimits(strangers_per_source=2))
    async with (
        MemoryClient.connect(service, client_ssl()) as first,
        MemoryClient.connect(service, client_ssl()) as second,
    ):
        await first.echo(b"1")
        await second.echo(b"2")
        reader, _ = await dial(service)
        assert (await service.refusal()).reason is RefusalReason.TOO_MANY_FROM_SOURCE
        assert await is_cut(reader)
        elsewhere, writer = await asyncio.open_connection(
            "127.0.0.1", service.port, local_addr=("127.0.0.9", 0)
        )
        async with asyncio.timeout(5):
            await MemoryClient(client_ssl(), elsewhere, writer).handshake()


async def test_connection_that_was_vouched_for_does_not_count(serve: Serve) -> None:
    service = await serve(TlsLimits(strangers_per_source=1))
    async with MemoryClient.connect(service, client_ssl()) as first:
        await first.echo(b"1")
        (await service.connection()).transport.get_extra_info("vouch")()
        async with MemoryClient.connect(service, client_ssl()) as second:
            await second.echo(b"2")


async def test_connection_that_is_gone_does_not_count(serve: Serve) -> None:
    service = await serve(TlsLimits(strangers_per_source=1))
    for _ in range(3):
        async with MemoryClient.connect(service, client_ssl()) as client:
            await client.echo(b"1")
        await (await service.connection()).lost
        while service.listener.stats().connections:
            await asyncio.sleep(0)
    assert service.refusals.empty()


async def test_source_that_is_barred_is_cut_before_its_handshake(serve: Serve) -> None:
    barred = {"127.0.0.1"}
    service = await serve(is_barred=barred.__contains__)
    reader, _ = await dial(service)
    assert (await service.refusal()).reason is RefusalReason.TOO_MANY_FAILURES
    assert await is_cut(reader)
    barred.clear()
    async with MemoryClient.connect(service, client_ssl()) as client:
        await client.echo(b"let in again")


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("?", "?"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_source_is_an_ipv4_address_or_an_ipv6_network(host: str, source: str) -> None:
    assert source_of(host) == source
