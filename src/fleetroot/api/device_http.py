"""What the HTTPS calls of devices have in common: plain ASGI, because fleets go through it and the
framework's part of a request would cost more than everything else around it.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import unquote

from starlette.types import Receive, Scope, Send

from fleetroot.errors import InvalidArgument, TooLarge
from fleetroot.sas import SasToken

MAX_PATH_BYTES: Final = 2048
CHALLENGE: Final = (b"www-authenticate", b"SharedAccessSignature")
JSON: Final = (b"content-type", b"application/json; charset=utf-8")
Header = tuple[bytes, bytes]


class Gone(Exception):
    """The client left before its request was here."""


class WrongMethod(InvalidArgument):
    """The path is there, and is not for this method."""

    def __init__(self, allowed: str) -> None:
        super().__init__(f"the method must be {allowed}", reason="wrong method")
        self.allowed = allowed


def peer_chain(scope: Scope) -> tuple[bytes, ...]:
    """What the TLS handshake proved possession of, as the server's ASGI TLS extension has it."""
    shown = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return tuple(map(ssl.PEM_cert_to_DER_cert, shown))


def header(scope: Scope, wanted: bytes) -> bytes:
    """The header of that name, in lower case; empty if there is none."""
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return b""


def token_of(scope: Scope) -> SasToken | None:
    """The token of the request, if it has one.

    Raises:
        TokenInvalid: it is not in the form of one.
    """
    authorization = header(scope, b"authorization")
    return SasToken.parse(authorization.decode("latin-1")) if authorization else None


def api_version(query: bytes) -> str | None:
    """The `api-version` of a query."""
    for field in query.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"api-version":
            return unquote(value.decode("ascii", "replace"))
    return None


async def read_body(scope: Scope, receive: Receive, most: int, what: str) -> bytes:
    """The body of a request.

    Raises:
        TooLarge: it is over `most` bytes.
        Gone: the rest of it will not come.
    """
    length = header(scope, b"content-length")
    if len(length) > 12 or int(length or b"0") > most:
        raise _too_large(most, what)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most, what)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(most: int, what: str) -> TooLarge:
    return TooLarge(f"{what} is at most {most} bytes")


async def respond(
    send: Send, status: int, body: bytes, trace_id: str, headers: list[Header]
) -> None:
    """Answers."""
    always = [(b"content-length", str(len(body)).encode()), (b"x-ms-request-id", trace_id.encode())]
    if status == 204:
        always = always[1:]  # RFC 9110 §8.6
    await send({"type": "http.response.start", "status": status, "headers": always + headers})
    await send({"type": "http.response.body", "body": body})
