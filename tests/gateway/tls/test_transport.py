"""What an application protocol may count on, in the words of asyncio's transports."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest
from OpenSSL import SSL

from fleetroot.gateway.tls import TlsLimits

from .certificates import device
from .memory_client import MemoryClient, client_ssl
from .service import Recorder, Serve, Service, client_context, connect

FIVE_MEGABYTES = 5 * 1024 * 1024


async def lost(application: Recorder) -> Exception | None:
    async with asyncio.timeout(5):
        return await application.lost


async def test_five_megabytes_both_ways(serve: Serve, tmp_path: Path) -> None:
    service = await serve(TlsLimits(write_buffer_cap=2 * FIVE_MEGABYTES))
    reader, writer = await connect(service, client_context(tmp_path, device()))
    payload = os.urandom(FIVE_MEGABYTES)
    writer.write(payload)
    async with asyncio.timeout(20):
        assert await reader.readexactly(len(payload)) == payload


async def test_one_large_write_arrives_in_order(serve: Serve) -> None:
    service = await serve()
    # Not uvloop's TLS client: it drops what it has not delivered when the end comes.
    async with MemoryClient.connect(service, client_ssl()) as client:
        application = await service.connection()
        payload = os.urandom(FIVE_MEGABYTES)
        application.transport.write(payload)
        application.transport.close()
        received = bytearray()
        while piece := await client.read():
            received += piece
        assert received == payload
        assert await lost(application) is None


async def test_peer_may_ask_for_small_records(serve: Serve) -> None:
    service = await serve()
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{service.port}", "-quiet"),
        *("-maxfraglen", "512"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    application = await service.connection()
    payload = os.urandom(100_000)
    application.transport.write(payload)
    async with asyncio.timeout(10):
        assert await process.stdout.readexactly(len(payload)) == payload
    application.transport.abort()
    await process.wait()


async def send_until_stuck(writer: asyncio.StreamWriter) -> bytes:
    sent = b""
    while len(sent) < 50 * FIVE_MEGABYTES:
        piece = os.urandom(1024 * 1024)
        sent += piece
        writer.write(piece)
        try:
            await asyncio.wait_for(writer.drain(), 0.2)
        except TimeoutError:
            return sent
    raise AssertionError("nothing holds the sender back")


async def test_paused_application_holds_its_peer_back(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    _, writer = await connect(service, client_context(tmp_path))
    application = await service.connection()
    application.transport.pause_reading()
    assert not application.transport.is_reading()
    payload = await send_until_stuck(writer)
    assert not application.received
    application.echo = False
    application.transport.resume_reading()
    async with asyncio.timeout(20):
        await writer.drain()
        while len(application.received) < len(payload):
            await asyncio.sleep(0.01)
    assert application.received == payload


async def test_data_that_came_with_the_handshake_waits_while_reading_is_paused(
    serve: Serve,
) -> None:
    service = await serve()
    made = service.listener.protocol_factory

    def paused_from_the_start() -> asyncio.Protocol:
        application = made()
        assert isinstance(application, Recorder)
        connected = application.connection_made

        def connection_made(transport: asyncio.BaseTransport) -> None:
            connected(transport)
            application.transport.pause_reading()

        application.connection_made = connection_made  # type: ignore[method-assign]
        return application

    service.listener.protocol_factory = paused_from_the_start
    client = await early_talker(service, b"early")
    application = await service.connection()
    await asyncio.sleep(0.05)
    assert not application.received
    application.transport.resume_reading()
    assert await client.read() == b"early"


async def early_talker(service: Service, data: bytes) -> MemoryClient:
    """A TLS 1.3 client whose first data comes in one segment with its Finished."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    client = MemoryClient(client_ssl(device()), reader, writer)
    with pytest.raises(SSL.WantReadError):
        client.ssl.do_handshake()
    writer.write(client.flight())
    client.ssl.bio_write(await reader.read(65536))
    client.ssl.do_handshake()
    client.ssl.send(data)
    writer.write(client.flight())
    return client


async def test_slow_reader_pauses_the_writer_and_memory_is_bounded(
    serve: Serve, tmp_path: Path
) -> None:
    service = await serve(TlsLimits(write_buffer=32 * 1024))
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    reader._transport.pause_reading()  # the client stops reading
    sent = 0
    while application.writable.is_set():
        application.transport.write(bytes(16 * 1024))
        sent += 16 * 1024
        await asyncio.sleep(0)
    assert application.transport.get_write_buffer_size() < 128 * 1024
    reader._transport.resume_reading()
    async with asyncio.timeout(10):
        await reader.readexactly(sent)
        await application.writable.wait()
    assert application.calls[:2] == ["pause_writing", "resume_writing"]


async def test_writer_that_does_not_pause_is_cut_at_the_cap(serve: Serve, tmp_path: Path) -> None:
    service = await serve(TlsLimits(write_buffer_cap=256 * 1024))
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    reader._transport.pause_reading()
    while not application.transport.is_closing():
        application.transport.write(bytes(64 * 1024))
        await asyncio.sleep(0)
    assert isinstance(await lost(application), ConnectionAbortedError)


async def test_peer_that_asks_for_answers_and_does_not_read_is_cut_at_the_cap(
    serve: Serve,
) -> None:
    service = await serve(TlsLimits(write_buffer_cap=64 * 1024))
    async with MemoryClient.connect(service, client_ssl()) as client:
        application = await service.connection()
        while not application.transport.is_closing():  # never reads its own echo
            client.send(bytes(16 * 1024))
            await asyncio.sleep(0)
        assert isinstance(await lost(application), ConnectionAbortedError)


async def test_close_notify_of_the_peer_is_end_of_file(serve: Serve) -> None:
    service = await serve()
    async with MemoryClient.connect(service, client_ssl()) as client:
        application = await service.connection()
        client.ssl.shutdown()
        client.writer.write(client.flight())
        assert await client.read() == b""
        assert application.eof.is_set()
        assert await lost(application) is None


async def test_half_closed_connection_can_still_be_written_to(serve: Serve) -> None:
    service = await serve()
    async with MemoryClient.connect(service, client_ssl()) as client:
        application = await service.connection()
        application.keep_open_at_eof = True
        client.ssl.shutdown()
        client.writer.write(client.flight())
        client.writer.write_eof()
        await application.eof.wait()
        await asyncio.sleep(0.05)  # until the listener has seen the FIN too
        application.transport.write(b"the last word")
        application.transport.close()
        client.ssl.bio_write(await client.reader.read())
        assert client.ssl.recv(100) == b"the last word"
        with pytest.raises(SSL.ZeroReturnError):
            client.ssl.recv(100)


async def test_stream_cut_without_close_notify_is_an_error(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    _, writer = await connect(service, client_context(tmp_path))
    application = await service.connection()
    writer.transport.abort()
    raw = writer.get_extra_info("socket")
    assert raw is not None
    assert isinstance(await lost(application), ConnectionError)
    assert not application.eof.is_set()


async def test_tampered_record_ends_the_connection(serve: Serve) -> None:
    service = await serve()
    async with MemoryClient.connect(service, client_ssl()) as client:
        await client.echo(b"x")
        client.ssl.send(b"tampered with")
        record = bytearray(client.flight())
        record[-1] ^= 1
        client.writer.write(record)
        with pytest.raises(SSL.Error, match="alert bad record mac"):
            await client.read()
    error = await lost(await service.connection())
    assert isinstance(error, ConnectionResetError)
    assert "mac" in str(error)


async def test_key_update_is_answered(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    chain, key = device().write(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{service.port}", "-tls1_3"),
        *("-cert", chain, "-key", key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    application = await service.connection()
    process.stdin.write(b"K\n")  # s_client: KeyUpdate, update_requested
    async with asyncio.timeout(10):
        await process.stdout.readuntil(b"KEYUPDATE")
        process.stdin.write(b"after\n")
        while application.received != b"after\n":
            await asyncio.sleep(0.01)
        await process.stdout.readuntil(b"after\n")
    application.transport.abort()
    await process.wait()


async def test_aborted_connection_drops_what_was_not_sent(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    application.transport.write(b"x" * FIVE_MEGABYTES)
    application.transport.abort()
    assert await lost(application) is None
    with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
        await reader.readexactly(FIVE_MEGABYTES)


async def test_write_after_close_is_ignored(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    transport = application.transport
    transport.write(b"before")
    transport.close()
    transport.write(b"after")
    transport.close()
    transport.abort()
    transport.resume_reading()
    async with asyncio.timeout(5):
        assert await reader.read() in (b"before", b"")
    assert await lost(application) is None


async def test_last_words_survive_a_peer_that_is_still_sending(
    serve: Serve, tmp_path: Path
) -> None:
    service = await serve()
    reader, writer = await connect(service, client_context(tmp_path))
    application = await service.connection()
    application.echo = False
    writer.write(bytes(FIVE_MEGABYTES))
    while not application.received:
        await asyncio.sleep(0)
    application.transport.write(b"413")
    application.transport.close()
    async with asyncio.timeout(5):
        assert await reader.read() == b"413"


async def test_peer_that_does_not_close_is_cut_after_the_linger_limit(serve: Serve) -> None:
    service = await serve(TlsLimits(linger=0.05))
    async with MemoryClient.connect(service, client_ssl()) as client:
        application = await service.connection()
        application.transport.close()
        assert await lost(application) is None
        async with asyncio.timeout(5):
            while service.listener.stats().connections:
                await asyncio.sleep(0.01)
        assert await client.read() == b""


async def test_application_can_be_replaced(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    _, writer = await connect(service, client_context(tmp_path))
    first, second = await service.connection(), Recorder()
    second.transport = first.transport
    first.transport.set_protocol(second)
    assert first.transport.get_protocol() is second
    writer.write(b"for the second")
    async with asyncio.timeout(5):
        while not second.received:
            await asyncio.sleep(0)
    assert not first.received


async def test_extra_info(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    _, writer = await connect(service, client_context(tmp_path, device()))
    transport = (await service.connection()).transport
    assert transport.get_extra_info("peername") == writer.get_extra_info("sockname")
    assert transport.get_extra_info("sockname") == ("127.0.0.1", service.port)
    assert transport.get_extra_info("socket").type == socket.SOCK_STREAM
    assert transport.get_extra_info("ssl_object") is None
    assert isinstance(transport.get_extra_info("sslcontext"), SSL.Context)
    assert transport.get_extra_info("unknown", "default") == "default"


async def test_failing_application_loses_its_connection_only(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    _, writer = await connect(service, client_context(tmp_path))
    application = await service.connection()

    def fail(data: bytes) -> None:
        raise RuntimeError("a bug in the application")

    application.data_received = fail  # type: ignore[method-assign]
    writer.write(b"x")
    assert isinstance(await lost(application), RuntimeError)
    assert problems
    await connect(service, client_context(tmp_path))
    await service.connection()


async def test_stop_closes_connections_in_order(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    application.transport.write(b"goodbye")
    await service.listener.stop(5.0)
    assert await lost(application) is None
    assert await reader.read() == b"goodbye"
    assert service.listener.stats().connections == 0


async def test_stop_aborts_what_does_not_end_within_the_grace(serve: Serve, tmp_path: Path) -> None:
    service = await serve(TlsLimits(linger=30.0))
    reader, _ = await connect(service, client_context(tmp_path))
    application = await service.connection()
    reader._transport.pause_reading()
    application.transport.write(bytes(4 * FIVE_MEGABYTES))
    async with asyncio.timeout(5):
        await service.listener.stop(0.05)
    assert service.listener.stats().connections == 0
    assert await lost(application) is None
