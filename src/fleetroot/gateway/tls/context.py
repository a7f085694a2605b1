"""The TLS settings of a listener, as an OpenSSL context that is never changed once it is made.

A connection keeps the context it began with; a new certificate is a new context. Whatever
certificate the client shows is accepted here (see the package's docstring), so the settings are
about three things: good cryptography on the wire, no way for a peer to get around showing its
certificate (resumption), and little CPU to be had from us (depth, renegotiation, compression).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL, crypto

ServerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

# Ephemeral ECDH and authenticated encryption only (RFC 9325 §4.2), in OpenSSL's names with their
# IANA values. The client's order of preference wins: a device without AES hardware knows best.
_TLS13_SUITES = {
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_AES_128_GCM_SHA256": 0x1301,
}
_TLS12_SUITES = {
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
}
CIPHER_SUITES = _TLS13_SUITES | _TLS12_SUITES

# OpenSSL verifies the signatures of what it is shown before we see it; this bounds how many.
_VERIFY_DEPTH = 4


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the server shows: its certificate first, then its issuers, without the root."""

    certificate_chain: tuple[x509.Certificate, ...]
    private_key: ServerKey

    def __post_init__(self) -> None:
        if not self.certificate_chain:
            raise ValueError("a server identity needs a certificate")
        if self.certificate_chain[0].public_key() != self.private_key.public_key():
            raise ValueError("the private key is not the one of the server's certificate")


def make_context(
    identity: ServerIdentity,
    *,
    request_client_certificate: bool,
    alpn: tuple[str, ...] = (),
) -> SSL.Context:
    """The context of one listener, for TLS 1.2 and 1.3.

    Args:
        identity: the server's certificate chain and key.
        request_client_certificate: ask the client for a certificate. It may show none, or any:
            the handshake proves only that it holds the key of what it shows. This waives
            OpenSSL's checks of key strength too (an RSA-1024 leaf passes); `pki` makes them.
        alpn: application protocols, best first. A client that offers none of them is served
            without one, since devices in the field send whatever their library has built in.

    Raises:
        OpenSSL.SSL.Error: OpenSSL does not accept the identity.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(":".join(_TLS12_SUITES).encode())
    context.set_tls13_ciphersuites(":".join(_TLS13_SUITES).encode())
    context.use_certificate(identity.certificate_chain[0])
    for issuer in identity.certificate_chain[1:]:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(identity.private_key)
    context.check_privatekey()

    # No session outlives its connection: a resumed one skips the proof of possession and has no
    # chain to decide about. TLS 1.3 still sends two NewSessionTicket messages (158 bytes), since
    # SSL_CTX_set_num_tickets is not in the binding; with the cache off they name nothing, and a
    # client that offers one gets a full handshake. The session id context is there because
    # without one OpenSSL fails a client whose session it does find, where certificates are asked
    # for, instead of going on without the session.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"fleetroot")
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)

    if request_client_certificate:
        context.set_verify(SSL.VERIFY_PEER, _accept_any_certificate)
        context.set_verify_depth(_VERIFY_DEPTH)
    if alpn:
        context.set_alpn_select_callback(_AlpnChoice(alpn))
    return context


def _accept_any_certificate(
    _connection: SSL.Connection, _certificate: crypto.X509, _error: int, _depth: int, _ok: int
) -> bool:
    return True


class _AlpnChoice:
    """Picks the first of ours that the client offers; never raises, whatever it offers."""

    __slots__ = ("_ours",)

    def __init__(self, alpn: tuple[str, ...]) -> None:
        self._ours = tuple(name.encode("ascii") for name in alpn)

    def __call__(
        self, _connection: SSL.Connection, offered: list[bytes]
    ) -> bytes | SSL._NoOverlappingProtocols:
        for name in self._ours:
            if name in offered:
                return name
        return SSL.NO_OVERLAPPING_PROTOCOLS
