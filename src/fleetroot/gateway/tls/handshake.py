"""The part of a connection where a stranger is served: PROXY header, then TLS handshake.

No I/O and no clock: bytes go in, OpenSSL's answers wait in its outgoing BIO. Everything that a
peer can make us do here is counted against `TlsLimits`.
"""

from __future__ import annotations

from collections.abc import Callable

from OpenSSL import SSL

from fleetroot.gateway.tls.limits import RefusalReason, TlsLimits
from fleetroot.gateway.tls.proxy_protocol import ProxyHeader, ProxyHeaderError, ProxyHeaderParser
from fleetroot.gateway.tls.records import NotTlsError, RecordCounter

# What goes into a memory BIO at a time, and so into one record that we send. A memory BIO never
# shrinks: with 16 KB, the most that a record holds (RFC 8446 §5.1), a connection that has carried
# 200 KB once keeps 103 KB of memory, with this 56 KB. Small devices like small records, too.
PIECE_SIZE = 4 * 1024


class HandshakeError(Exception):
    """The peer broke a rule or a limit."""

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class Handshake:
    """One handshake, server side.

    Attributes:
        ssl: OpenSSL's state; None until the first bytes of the handshake are here.
        records: those that the peer has sent.
        steps: that OpenSSL has made.
        done: the handshake is finished.
    """

    __slots__ = (
        "_limits",
        "_new_ssl",
        "_on_proxy_header",
        "_proxy",
        "_received",
        "done",
        "records",
        "ssl",
        "steps",
    )

    def __init__(
        self,
        limits: TlsLimits,
        new_ssl: Callable[[], SSL.Connection],
        on_proxy_header: Callable[[ProxyHeader], None] | None,
    ) -> None:
        """Prepares for the first byte.

        Args:
            limits: of the listener.
            new_ssl: makes a fresh pyOpenSSL connection over memory BIOs.
            on_proxy_header: called once with the PROXY header that must come first; may raise
                HandshakeError. None when the connection starts with TLS.
        """
        self.ssl: SSL.Connection | None = None
        self.done = False
        self._limits = limits
        self._new_ssl = new_ssl
        self._on_proxy_header = on_proxy_header
        self._proxy = ProxyHeaderParser() if on_proxy_header else None
        self.records = RecordCounter()
        self._received = 0
        self.steps = 0

    def receive(self, data: memoryview) -> memoryview:
        """Takes bytes from the peer; gives back those that came after the handshake's end.

        Raises:
            HandshakeError: the connection must end. With `RefusalReason.TLS_ERROR` an alert for
                the peer waits in `ssl`.
        """
        if self._proxy is not None:
            data = self._take_proxy_header(self._proxy, data)
        allowed = self._limits.handshake_bytes
        while data and not self.done:
            piece = data[: min(PIECE_SIZE, allowed - self._received)]
            if not piece:
                raise HandshakeError(RefusalReason.TOO_LARGE, f"more than {allowed} bytes")
            data = data[len(piece) :]
            self._received += len(piece)
            try:
                completed = self.records.feed(piece)
            except NotTlsError:
                raise HandshakeError(RefusalReason.NOT_TLS) from None
            if self.ssl is None:
                self.ssl = self._new_ssl()
            self.ssl.bio_write(piece)
            if completed:
                self._step(self.ssl)
        return data

    def _take_proxy_header(self, parser: ProxyHeaderParser, data: memoryview) -> memoryview:
        try:
            parsed = parser.feed(data)
        except ProxyHeaderError as invalid:
            raise HandshakeError(RefusalReason.PROXY_HEADER, str(invalid)) from None
        if parsed is None:
            return data[:0]
        header, rest = parsed
        self._proxy = None
        if self._on_proxy_header is not None:
            self._on_proxy_header(header)
        return memoryview(rest)

    def _step(self, ssl: SSL.Connection) -> None:
        self.steps += 1
        if self.steps > self._limits.handshake_steps:
            raise HandshakeError(RefusalReason.TOO_MANY_STEPS)
        try:
            ssl.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise HandshakeError(RefusalReason.TLS_ERROR, words_of(error)) from None
        self.done = True


def words_of(error: SSL.Error) -> str:
    """OpenSSL's reasons, without its library and function names."""
    if error.args and isinstance(error.args[0], list):
        return "; ".join(reason for _library, _function, reason in error.args[0])
    return str(error) or type(error).__name__
