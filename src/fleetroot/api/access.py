"""Who calls: the bearer token of the operator, or a shared access signature.

Default deny: a route that asks none of these answers only what anybody may know.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, Request

from fleetroot.errors import Unauthorized
from fleetroot.sas import SasToken

_BEARER = "bearer "  # a scheme's case does not matter (RFC 9110 §11.1)
_MAX_TOKEN_CHARACTERS = 4096


class AdminToken:
    """The bootstrap token, known here by its SHA-256 only."""

    __slots__ = ("_sha256",)

    def __init__(self, sha256: bytes) -> None:
        self._sha256 = sha256

    def is_it(self, token: str) -> bool:
        """Whether `token` is the one; compared in constant time."""
        if len(token) > _MAX_TOKEN_CHARACTERS:
            return False
        return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), self._sha256)


def _admin_token(request: Request) -> AdminToken:
    token: AdminToken = request.app.state.admin_token
    return token


def bears_admin_token(request: Request) -> bool:
    """Whether the request bears the operator's token."""
    header = request.headers.get("authorization", "")
    if not header.lower().startswith(_BEARER):
        return False
    return _admin_token(request).is_it(header[len(_BEARER) :].strip())


def require_operator(request: Request) -> None:
    """Lets the operator pass.

    Raises:
        Unauthorized: anybody else.
    """
    if not bears_admin_token(request):
        raise Unauthorized("no operator token")


def shared_access_token(request: Request) -> SasToken:
    """The request's shared access signature, parsed and not verified.

    Raises:
        TokenInvalid: there is none, or it is not of the form.
    """
    return SasToken.parse(request.headers.get("authorization", ""))


def require_operator_or_loopback(request: Request) -> None:
    """Lets the operator pass, and whoever calls from this machine.

    Raises:
        Unauthorized: anybody else.
    """
    if request.client is not None:
        try:
            if ip_address(request.client.host).is_loopback:
                return
        except ValueError:
            pass
    require_operator(request)


OperatorOrLoopback = Annotated[None, Depends(require_operator_or_loopback)]
