"""Sessions to test with: a client that is connected, what it was sent, what it did wrong."""

from __future__ import annotations

import pytest

from fleetroot.gateway.mqtt import (
    Connect,
    Decoder,
    Packet,
    Publish,
    ServerSession,
    SessionViolation,
    encode,
)

CONNECT = Connect("device-1", clean_session=False, keep_alive=60)
MESSAGE = Publish("devices/device-1/messages/events/", b"{}", 1, packet_id=7)


def sent(session: ServerSession) -> list[Packet]:
    """What the session has for the client now."""
    return Decoder(1 << 20).feed(session.data_to_send())


def connected(connect: Connect = CONNECT, **limits) -> ServerSession:
    session = ServerSession(**limits)
    session.receive_data(encode(connect))
    session.accept(session_present=False)
    session.data_to_send()
    return session


def violation(session: ServerSession, *packets: Packet | bytes) -> SessionViolation:
    stream = b"".join(p if isinstance(p, bytes) else encode(p) for p in packets)
    with pytest.raises(SessionViolation) as caught:
        session.receive_data(stream)
    return caught.value
