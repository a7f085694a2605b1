"""What goes out in how many pieces: each is a call of the kernel, and a packet."""

from __future__ import annotations

import ssl

import pytest
from OpenSSL import SSL

from .peer import Peer
from .service import Serve


async def test_session_tickets_go_out_with_the_first_record(serve: Serve):
    service = await serve()
    peer = Peer(service.listener, ssl.TLSVersion.TLSv1_3)
    await peer.shake_hands()
    application = await service.connection()
    assert peer.receive() == []
    application.transport.write(b"hello")
    assert len(peer.receive()) == 1
    assert peer.ssl.recv(100) == b"hello"


async def test_session_tickets_go_out_before_a_close(serve: Serve):
    service = await serve()
    peer = Peer(service.listener, ssl.TLSVersion.TLSv1_3)
    await peer.shake_hands()
    (await service.connection()).transport.close()
    assert len(peer.receive()) == 1
    with pytest.raises(SSL.ZeroReturnError):
        peer.ssl.recv(100)


async def test_finished_of_tls_1_2_goes_out_at_once(serve: Serve):
    service = await serve()
    peer = Peer(service.listener, ssl.TLSVersion.TLSv1_2)
    await peer.shake_hands()
    await service.connection()
    assert len(peer.receive()) == 1
    peer.ssl.do_handshake()


async def test_who_has_said_close_notify_is_not_waited_for(serve: Serve):
    service = await serve()
    peer = Peer(service.listener)
    await peer.shake_hands()
    peer.ssl.shutdown()
    peer.send()
    assert len(peer.receive()) == 1
    assert peer.ssl.shutdown()
    peer.raw.close.assert_called_once_with()
    peer.raw.write_eof.assert_not_called()
