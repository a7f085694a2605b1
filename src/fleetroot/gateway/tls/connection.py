"""One TLS connection: the handshake, then records in both directions.

Theory of operation. The TCP transport (`raw`) calls us with ciphertext in a buffer that all
connections of the listener share. We push it through OpenSSL, which sits between two memory BIOs,
and call the application with plaintext before we return, so nothing waits between the two layers:

- Handshakes take turns, one step for each turn of the loop (`turns`).
- Incoming bytes are decrypted and delivered at once. An application that pauses reading pauses
  the TCP transport, and so the peer.
- Outgoing bytes are encrypted at once and wait in the TCP transport's buffer only. Its
  `pause_writing` and `resume_writing` go through to the application. TLS 1.3's session tickets,
  which nobody waits for, go out with the first record.

A connection is in one of three states, and moves only forward:

    HANDSHAKE ──handshake done──▶ OPEN ──close, abort, error, peer gone──▶ CLOSING

HANDSHAKE is where a stranger is served, so everything in it is bounded (`TlsLimits`). On the way
to CLOSING the application hears `connection_lost` once and the OpenSSL object is let go. The TCP
connection may linger there for a moment: bytes that the peer had already sent would otherwise
make the kernel reset the connection and throw away the last that we said, an alert or a `413`.

There is no task per connection, and one timer at most. The time limits of a handshake are the
peer's: while bytes that OpenSSL can go on with wait for their turn, its clock stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

from OpenSSL import SSL

from fleetroot.gateway.tls.handshake import PIECE_SIZE, Handshake, HandshakeError, words_of
from fleetroot.gateway.tls.limits import Address, Refusal, RefusalReason
from fleetroot.gateway.tls.owner import Owner
from fleetroot.gateway.tls.peer import read_peer_chain, read_tls_info
from fleetroot.gateway.tls.proxy_protocol import ProxyHeader
from fleetroot.gateway.tls.records import RecordCounter
from fleetroot.gateway.tls.transport import TlsTransport

_NOTHING = memoryview(b"")
# The most plaintext in a record (RFC 8446 §5.1); the peer chooses.
_RECORD_SIZE = 16 * 1024
# Room for a record of ours with its header, nonce and tag, or for a flight of the handshake.
_CIPHERTEXT_SIZE = 2 * PIECE_SIZE


# Whoever leaves after so many seconds of waiting for its turn left because we were busy.
_KEPT_WAITING: Final = 1.0

# What the application may ask about TLS; each is read when it asks.
_OF_OPENSSL: Final[dict[str, Callable[[SSL.Connection], object]]] = {
    "peer_chain": read_peer_chain,
    "sslcontext": SSL.Connection.get_context,
    "tls": read_tls_info,
}


class _State(Enum):
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()


class TlsConnection(asyncio.BufferedProtocol):
    """Joins a TCP transport to an application protocol through TLS, server side."""

    __slots__ = (
        "_answered",
        "_began",
        "_due",
        "_due_since",
        "_error",
        "_handshake",
        "_held",
        "_lost",
        "_owner",
        "_peer_closed",
        "_proxy_header",
        "_reading_paused",
        "_records",
        "_ssl",
        "_state",
        "_tcp_eof",
        "_timer",
        "_unsent",
        "application",
        "peer",
        "raw",
    )

    raw: asyncio.Transport
    application: asyncio.Protocol
    _records: RecordCounter

    def __init__(self, owner: Owner) -> None:
        self.peer: Address | None = None
        self._owner = owner
        self._state = _State.HANDSHAKE
        self._handshake: Handshake | None = None
        self._ssl: SSL.Connection | None = None
        self._proxy_header: ProxyHeader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self._reading_paused = False
        self._began = 0.0  # by the loop's clock; moved on by what we kept the peer waiting
        self._due = b""  # of the handshake, until its turn
        self._due_since = 0.0
        self._held = b""  # records that go out with the next
        self._answered = False  # the first flight was here and has been answered
        self._peer_closed = False  # the peer's close_notify has come
        self._tcp_eof = False
        self._lost = True  # the application has no connection, not yet or no longer
        self._unsent = 0

    # The TCP transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        owner = self._owner
        self.raw = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self.peer = (name[0], name[1]) if isinstance(name, tuple) else None
        reason = owner.admit(self)
        if reason is None and not owner.expects_proxy_header:
            reason = owner.admit_source(self)
        if reason is not None:
            self._refuse(reason)
            return
        limits = owner.limits
        self.raw.set_write_buffer_limits(limits.write_buffer)
        self._handshake = Handshake(
            limits, self._new_ssl, self._take_proxy_header if owner.expects_proxy_header else None
        )
        self._began = owner.loop.time()
        self._timer = owner.loop.call_later(limits.first_flight, self._check_time)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Shared, which is safe because the loops fill it and call `buffer_updated` in one go.
        return self._owner.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._owner.read_buffer[:nbytes]
        if self._state is _State.OPEN:
            self._receive(data)
        elif self._handshake is not None:
            self._wait_for_turn(data)

    def eof_received(self) -> bool:
        self._tcp_eof = True
        if not self._answered and self._was_kept_waiting():
            return False  # nobody is there for an answer
        self.take_turn()
        if self._state is not _State.OPEN:
            return False
        if self._peer_closed:
            return True  # half-closed; the application goes on writing
        self._fail(ConnectionResetError("the peer closed the connection without close_notify"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake is not None:
            waited = self._was_kept_waiting()
            self._refuse(RefusalReason.KEPT_WAITING if waited else RefusalReason.PEER_CLOSED)
        self._state = _State.CLOSING
        self._stop_timer()
        self._owner.gone(self)
        self._lose(self._error or exc)

    def pause_writing(self) -> None:
        if self._state is _State.OPEN:
            self.application.pause_writing()

    def resume_writing(self) -> None:
        if self._state is _State.OPEN:
            self.application.resume_writing()

    # The handshake

    def _wait_for_turn(self, data: memoryview) -> None:
        waits = bool(self._due)
        self._due += data
        if len(self._due) > self._owner.limits.handshake_bytes:
            self.take_turn()  # is refused for it
        elif not waits:
            self._due_since = self._owner.loop.time()
            reason = self._owner.wait_for_turn(self, begins=not self._answered)
            if reason is not None:
                self._refuse(reason)

    def take_turn(self) -> bool:
        """Goes on with the handshake, if anything came that it can go on with, and says whether it
        did.
        """
        due, self._due = self._due, b""
        handshake = self._handshake
        if not due or handshake is None:
            return False
        waited, steps = self._owner.loop.time() - self._due_since, handshake.steps
        if not self._answered and waited > self._owner.limits.handshake_wait:
            self._refuse(RefusalReason.BUSY)
            return False
        self._receive_handshake(handshake, memoryview(due))
        if handshake.steps > steps:  # or else who sends bytes singly would stop its clock
            self._began += waited
        if self._timer is None and self._handshake is not None:
            self._check_time()
        return True

    def _receive_handshake(self, handshake: Handshake, data: memoryview) -> None:
        try:
            rest = handshake.receive(data)
        except HandshakeError as refused:
            if handshake.ssl is not None and refused.reason is RefusalReason.TLS_ERROR:
                self._flush(handshake.ssl)  # the alert
            self._refuse(refused.reason, refused.detail)
            return
        ssl = handshake.ssl
        if ssl is None:
            return
        if not handshake.done:
            self._answered = self._flush(ssl) or self._answered
        elif self._state is _State.HANDSHAKE:
            self._records = handshake.records
            self._send_handshake_end(ssl)
            self._open(ssl)
            self._receive(_NOTHING)  # there may be more in the piece that ended the handshake
            if rest:
                self._receive(rest)

    def _send_handshake_end(self, ssl: SSL.Connection) -> None:
        """TLS 1.3's session tickets: nobody waits for them, so they go out with what comes next.
        TLS 1.2's Finished goes at once.
        """
        if ssl.get_protocol_version() != SSL.TLS1_3_VERSION:
            self._flush(ssl)
            return
        with contextlib.suppress(SSL.WantReadError):
            self._held = ssl.bio_read(_CIPHERTEXT_SIZE)

    def _new_ssl(self) -> SSL.Connection:
        ssl = SSL.Connection(self._owner.context)
        ssl.set_accept_state()
        return ssl

    def _take_proxy_header(self, header: ProxyHeader) -> None:
        if header.source is not None:
            self._proxy_header = header
            self.peer = header.source
        reason = self._owner.admit_source(self)
        if reason is not None:
            raise HandshakeError(reason)

    def _open(self, ssl: SSL.Connection) -> None:
        self._handshake = None
        self._stop_timer()
        self._ssl = ssl
        self._state = _State.OPEN
        self._owner.handshake_done(self)
        self.application = self._owner.protocol_factory()
        self._lost = False
        self.application.connection_made(TlsTransport(self))

    def _check_time(self) -> None:
        """The timer of the handshake."""
        self._timer = None
        if self._due:
            return  # its turn comes, and looks again
        limits, loop = self._owner.limits, self._owner.loop
        limit = limits.handshake if self._answered else limits.first_flight
        left = self._began + limit - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._check_time)
        elif self._answered:
            self._refuse(RefusalReason.HANDSHAKE_TIMEOUT)
        else:
            self._refuse(RefusalReason.FIRST_FLIGHT_TIMEOUT)

    def _was_kept_waiting(self) -> bool:
        waiting = bool(self._due) and self._handshake is not None
        return waiting and self._owner.loop.time() - self._due_since >= _KEPT_WAITING

    def _refuse(self, reason: RefusalReason, detail: str = "") -> None:
        self._handshake = None
        self._state = _State.CLOSING
        self._stop_timer()
        self._owner.refused(self, Refusal(reason, self.peer, detail))
        if reason is RefusalReason.TLS_ERROR:
            self._linger()
        else:
            self.raw.abort()

    # Records

    def _receive(self, data: memoryview) -> None:
        """Delivers what `data` and anything that waits in OpenSSL decrypt to."""
        ssl = self._ssl
        if ssl is None or self._peer_closed:
            return
        if self._reading_paused:
            if data:
                self._take(ssl, data)  # came together with the handshake's end
            return
        plain: list[bytes] = []
        failure: SSL.Error | None = None
        records = 0
        try:
            for start in range(0, len(data), PIECE_SIZE):
                complete = self._take(ssl, data[start : start + PIECE_SIZE])
                records += complete
                self._decrypt(ssl, plain, complete)
            if not data:
                self._decrypt(ssl, plain, None)
        except SSL.Error as error:
            failure = error
        if (
            # Not all of them had data: OpenSSL may have to say an alert, or the answer to a
            # KeyUpdate, which a peer that does not read can ask for.
            (failure or not data or len(plain) < records)
            and self._flush(ssl)
            and self._is_over_cap()
        ):
            self._fail(ConnectionAbortedError("the peer does not read"))
        if plain and self._state is _State.OPEN:
            self.application.data_received(plain[0] if len(plain) == 1 else b"".join(plain))
        if self._state is not _State.OPEN:
            return
        if failure is not None:
            self._fail(ConnectionResetError(f"TLS: {words_of(failure)}"))
        elif self._peer_closed and not self.application.eof_received():
            self.close()

    def _receive_waiting(self) -> None:
        try:
            self._receive(_NOTHING)
        except BaseException:
            self.abort()  # as asyncio does when a protocol's method fails
            raise

    def _take(self, ssl: SSL.Connection, data: memoryview) -> int:
        """Gives OpenSSL what the peer has sent; the number of records that it completes."""
        ssl.bio_write(data)
        return self._records.feed(data)

    def _decrypt(self, ssl: SSL.Connection, plain: list[bytes], records: int | None) -> None:
        """Decrypts so many records, or with None, all that wait."""
        try:
            for _ in itertools.count() if records is None else range(records):
                plain.append(ssl.recv(_RECORD_SIZE))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._peer_closed = True

    def _flush(self, ssl: SSL.Connection) -> bool:
        """Sends what OpenSSL has to say; whether there was anything."""
        said = False
        try:
            while not self.raw.is_closing():
                waiting = ssl.bio_read(_CIPHERTEXT_SIZE)
                self._send(waiting)
                said = True
                if len(waiting) < _CIPHERTEXT_SIZE:
                    break
        except SSL.WantReadError:
            pass
        return said

    def _send(self, records: bytes) -> None:
        if self._held:
            records, self._held = self._held + records, b""
        self.raw.write(records)

    def _is_over_cap(self) -> bool:
        return self.raw.get_write_buffer_size() > self._owner.limits.write_buffer_cap

    # The application's side, through `TlsTransport`

    def write(self, data: bytes | bytearray | memoryview) -> None:
        ssl = self._ssl
        if ssl is None or self._state is not _State.OPEN or not data:
            return
        if self._is_over_cap():
            self._fail(ConnectionAbortedError("too much is waiting to be sent"))
            return
        try:
            # A record at a time, shorter where the peer asked for that (RFC 6066 §4,
            # max_fragment_length).
            sent = ssl.send(data if len(data) <= PIECE_SIZE else memoryview(data)[:PIECE_SIZE])
            records = [ssl.bio_read(_CIPHERTEXT_SIZE)]
            while sent < len(data):
                sent += ssl.send(memoryview(data)[sent : sent + PIECE_SIZE])
                records.append(ssl.bio_read(_CIPHERTEXT_SIZE))
        except SSL.Error as error:
            self._fail(ConnectionResetError(f"TLS: {words_of(error)}"))
            return
        self._send(records[0] if len(records) == 1 else b"".join(records))

    def is_reading(self) -> bool:
        return self._state is _State.OPEN and not self._reading_paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._reading_paused = True
            self.raw.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and self._state is _State.OPEN:
            self._reading_paused = False
            self.raw.resume_reading()
            self._owner.loop.call_soon(self._receive_waiting)

    def extra_info(self, name: str, default: object = None) -> object:
        if name == "vouch":
            return self._vouch
        if name in _OF_OPENSSL:
            return default if self._ssl is None else _OF_OPENSSL[name](self._ssl)
        if self._proxy_header is not None:
            if name == "peername":
                return self._proxy_header.source
            if name == "sockname":
                return self._proxy_header.destination
            if name == "socket":
                return default
        return self.raw.get_extra_info(name, default)

    def _vouch(self) -> None:
        self._owner.vouched(self)

    def is_closing(self) -> bool:
        return self._state is _State.CLOSING

    def close(self) -> None:
        """Ends an open connection in order, or one whose handshake is not done at once."""
        if self._handshake is not None:
            self._refuse(RefusalReason.STOPPING)
        ssl = self._ssl
        if ssl is None or self._state is not _State.OPEN:
            return
        with contextlib.suppress(SSL.Error):
            ssl.shutdown()  # close_notify
        self._flush(ssl)
        self._state = _State.CLOSING
        self._ssl = None
        self._linger()
        self._owner.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._state = _State.CLOSING
        self._ssl = None
        self.raw.abort()

    # The end

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.abort()

    def _lose(self, error: Exception | None) -> None:
        self._ssl = None
        if not self._lost:
            self._lost = True
            application = self.application
            del self.application  # it holds our transport; no cycle is left for the collector
            application.connection_lost(error)

    def _linger(self) -> None:
        """Sends the rest and FIN, then drops what comes in until the peer closes too; unless the
        peer has said that nothing will.
        """
        raw = self.raw
        if raw.is_closing():
            return
        if self._tcp_eof or self._peer_closed:
            raw.close()
        else:
            try:
                raw.write_eof()
            except OSError:  # asyncio: the peer has reset the connection
                raw.abort()
                return
            if self._reading_paused:
                raw.resume_reading()
        self._unsent = raw.get_write_buffer_size()
        if not self._unsent and raw.is_closing():
            return  # `connection_lost` comes next
        self._timer = self._owner.loop.call_later(self._owner.limits.linger, self._on_linger)

    def _on_linger(self) -> None:
        unsent = self.raw.get_write_buffer_size()
        if unsent and unsent < self._unsent:
            self._unsent = unsent
            self._timer = self._owner.loop.call_later(self._owner.limits.linger, self._on_linger)
        else:
            self.raw.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
