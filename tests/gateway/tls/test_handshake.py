"""The handshake proves possession of a key, and tells the application who showed what."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from fleetroot.gateway.tls import RefusalReason, make_context

from .certificates import Credential, device, issue, server
from .memory_client import MemoryClient, client_ssl, use_stolen_certificate
from .service import Serve, client_context, connect

BOTH_VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLSv1.2", "TLSv1.3"]
)


@BOTH_VERSIONS
async def test_client_chain_is_seen_in_full_leaf_first(
    serve: Serve, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    service = await serve()
    await connect(service, client_context(tmp_path, device(), version))
    tls = (await service.connection()).tls
    assert tls.peer_chain == device().chain_der
    assert len(tls.peer_chain) == 2
    assert tls.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
    assert tls.server_name == "localhost"
    assert tls.alpn is None
    assert "GCM" in tls.cipher or "CHACHA20" in tls.cipher


async def test_client_without_certificate_has_an_empty_chain(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    await connect(service, client_context(tmp_path))
    assert (await service.connection()).tls.peer_chain == ()


async def test_port_that_does_not_ask_sees_no_certificate(serve: Serve, tmp_path: Path) -> None:
    service = await serve(request_client_certificate=False)
    await connect(service, client_context(tmp_path, device()))
    assert (await service.connection()).tls.peer_chain == ()


@BOTH_VERSIONS
@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(lambda: issue("expired", expired=True), id="expired"),
        pytest.param(lambda: issue("self-signed"), id="untrusted"),
        pytest.param(lambda: issue("a CA", is_ca=True), id="ca-as-leaf"),
        pytest.param(
            lambda: issue("weak", key=rsa.generate_private_key(65537, 1024)), id="rsa-1024"
        ),
    ],
)
async def test_certificate_that_the_room_must_judge_completes_the_handshake(
    serve: Serve, tmp_path: Path, credential: object, version: ssl.TLSVersion
) -> None:
    service = await serve()
    shown: Credential = credential()
    await connect(service, client_context(tmp_path, shown, version))
    assert (await service.connection()).tls.peer_chain == shown.chain_der


@BOTH_VERSIONS
async def test_certificate_without_its_key_is_refused(
    serve: Serve, version: ssl.TLSVersion
) -> None:
    service = await serve()
    thief = client_ssl(None, version)
    use_stolen_certificate(thief, device())
    with pytest.raises(SSL.Error, match="alert decrypt error"):
        async with MemoryClient.connect(service, thief) as client:
            await client.read()
    refusal = await service.refusal()
    assert refusal.reason is RefusalReason.TLS_ERROR
    assert "signature" in refusal.detail


@BOTH_VERSIONS
async def test_session_is_never_resumed(serve: Serve, version: ssl.TLSVersion) -> None:
    service = await serve()
    ours = client_ssl(device(), version)
    async with MemoryClient.connect(service, ours) as first:
        await first.echo(b"tickets, if any, come before this")
        session = first.ssl.get_session()
        # In order: OpenSSL forgets the session of a connection that just breaks off.
        first.ssl.shutdown()
        first.writer.write(first.flight())
        assert await first.read() == b""
    assert session is not None
    await service.connection()
    async with MemoryClient.connect(service, ours, session=session) as second:
        await second.echo(b"again")
        assert not SSL._lib.SSL_session_reused(second.ssl._ssl)
    assert (await service.connection()).tls.peer_chain == device().chain_der


async def test_renegotiation_is_refused(serve: Serve) -> None:
    service = await serve()
    async with MemoryClient.connect(
        service, client_ssl(device(), ssl.TLSVersion.TLSv1_2)
    ) as client:
        client.ssl.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            await client.handshake()


async def test_tls_1_1_is_refused_with_an_alert(serve: Serve) -> None:
    service = await serve()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(b"ALL@SECLEVEL=0")
    context.set_min_proto_version(SSL.TLS1_1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    with pytest.raises(SSL.Error, match="alert protocol version"):
        async with MemoryClient.connect(service, context):
            pass
    assert (await service.refusal()).reason is RefusalReason.TLS_ERROR


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([b"h2", b"http/1.1"], "http/1.1"), ([b"x-unknown"], None), ([b"z"] * 8000, None)],
    ids=["known", "unknown", "16 KB of them"],
)
async def test_alpn(serve: Serve, offered: list[bytes], chosen: str | None) -> None:
    service = await serve(alpn=("http/1.1",))
    context = client_ssl(device())
    context.set_alpn_protos(offered)
    async with MemoryClient.connect(service, context) as client:
        await client.echo(b"served all the same")
    assert (await service.connection()).tls.alpn == chosen


async def test_reload_serves_the_new_certificate_and_keeps_live_connections(
    serve: Serve, tmp_path: Path
) -> None:
    service = await serve()
    trusting = client_ssl(device())
    async with MemoryClient.connect(service, trusting) as before:
        renewed = issue("renewed.example")
        service.listener.reload(make_context(renewed.identity(), request_client_certificate=True))
        async with MemoryClient.connect(service, trusting) as after:
            assert _shown(before) == server().certificate
            assert _shown(after) == renewed.certificate
            await before.echo(b"still here")
            await after.echo(b"and here")


def _shown(client: MemoryClient) -> object:
    return client.ssl.get_peer_certificate(as_cryptography=True)


async def test_identity_must_match_its_key() -> None:
    with pytest.raises(ValueError, match="private key"):
        Credential(server().certificate, device().key).identity()


async def test_rsa_server_certificate_serves(serve: Serve) -> None:
    key = rsa.generate_private_key(65537, 2048)
    service = await serve(credential=issue("localhost", key=key))
    async with MemoryClient.connect(
        service, client_ssl(device(), ssl.TLSVersion.TLSv1_2)
    ) as client:
        await client.echo(b"x")
    assert (await service.connection()).tls.cipher.startswith("ECDHE-RSA")


async def test_openssl_command_line_client(serve: Serve, tmp_path: Path) -> None:
    service = await serve()
    chain, key = device().write(tmp_path)
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{service.port}", "-quiet"),
        *("-cert", chain, "-key", key, "-cert_chain", chain, "-servername", "HUB.example"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"hello\n")
    assert await process.stdout.readline() == b"hello\n"
    application = await service.connection()
    assert application.tls.server_name == "hub.example"
    application.transport.close()
    assert await process.wait() == 0
