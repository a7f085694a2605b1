"""What a finished handshake says about the connection and its peer."""

from __future__ import annotations

from dataclasses import dataclass

from OpenSSL import SSL, crypto


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The facts of one TLS connection, fixed when its handshake is done.

    Attributes:
        version: `TLSv1.2` or `TLSv1.3`.
        cipher: OpenSSL's name of the cipher suite.
        server_name: the host name that the client asked for (SNI, RFC 6066 §3), in lower case.
        alpn: the application protocol that was agreed on (RFC 7301).
        peer_chain: the certificates that the peer showed, DER, the leaf first; empty when it
            showed none. The peer holds the leaf's key; nothing else about them has been checked.
    """

    version: str
    cipher: str
    server_name: str | None
    alpn: str | None
    peer_chain: tuple[bytes, ...]


def read_tls_info(connection: SSL.Connection) -> TlsInfo:
    """The facts of a connection whose handshake is done."""
    return TlsInfo(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        server_name=_server_name(connection.get_servername()),
        alpn=connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None,
        peer_chain=read_peer_chain(connection),
    )


def read_peer_chain(connection: SSL.Connection) -> tuple[bytes, ...]:
    """`TlsInfo.peer_chain` alone."""
    # The bytes, not parsed certificates: whether they can be parsed is for `pki` to find out. On
    # the server's side OpenSSL's chain lacks the leaf (SSL_get_peer_cert_chain(3)).
    leaf = connection.get_peer_certificate()
    if leaf is None:
        return ()
    chain = [leaf, *(connection.get_peer_cert_chain() or ())]
    encoded = [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in chain]
    if len(encoded) > 1 and encoded[1] == encoded[0]:
        del encoded[1]
    return tuple(encoded)


def _server_name(sent: bytes | None) -> str | None:
    if not sent or not sent.isascii():
        return None
    return sent.decode("ascii").lower()
