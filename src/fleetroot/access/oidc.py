"""Bearer tokens of an OIDC issuer: JSON Web Tokens, verified with the issuer's published keys.

Only signatures with a public key count, of the algorithms listed here; the issuer, the audience and
the expiry must be there and fit. What a caller may do comes from one claim, whose values the
operator maps to roles. A value that is not mapped gives nothing.

Source: RFC 7519 and RFC 8725 (JWT and its best current practices), OpenID Connect Core §3.1.3.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from fleetroot.access.model import Caller, Grant
from fleetroot.audit import Actor, ActorKind
from fleetroot.errors import Unauthorized

MAX_TOKEN_CHARACTERS: Final = 16 * 1024
MAX_KEYS: Final = 64
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
_LEEWAY: Final = timedelta(seconds=60)  # of clocks that differ
_MAX_VALUES: Final = 256  # of a role claim
_REQUIRED: Final = ("exp", "iss", "aud", "sub")


@dataclass(frozen=True, slots=True)
class OidcIssuer:
    """An issuer whose tokens are taken.

    Attributes:
        issuer: the `iss` of its tokens, an https URL, exactly.
        audience: the `aud` that names this installation.
        role_claim: the name of the claim that is mapped; dots lead into objects, as in
            `realm_access.roles`.
        roles: what the claim's values give.
        ca: PEM of the CA to trust for it; None for the system's.
    """

    name: str
    issuer: str
    audience: str
    role_claim: str
    roles: Mapping[str, Grant]
    ca: str | None
    created_at: datetime


def issuer_of(text: str) -> str | None:
    """The `iss` that a token claims, not verified; None if it is no JSON Web Token.

    Raises:
        Unauthorized: it is too long to be looked at.
    """
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise Unauthorized("token too long")
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) else None


def key_id_of(text: str) -> str | None:
    """The `kid` of a token's header, not verified."""
    try:
        kid = jwt.get_unverified_header(text).get("kid")
    except jwt.PyJWTError:
        return None
    return kid if isinstance(kid, str) else None


def parse_keys(key_set: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """The signing keys of a JWK set (RFC 7517 §5), by their ids; those that cannot sign for us are
    left out.

    Raises:
        ValueError: it is no JWK set.
    """
    listed = key_set.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError("not a JWK set")
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in listed:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue  # of a kind that this library does not know
        if key.algorithm_name in ALGORITHMS:
            keys[key.key_id] = key
    return keys


def verify(
    text: str,
    issuer: OidcIssuer,
    keys: Mapping[str | None, jwt.PyJWK],
    now: datetime,
    *,
    peer: str | None,
    trace_id: str,
) -> Caller:
    """Who bears this token.

    Raises:
        Unauthorized: it is not signed by the issuer, not for us, or not good now.
    """
    kid = key_id_of(text)
    key = keys.get(kid) if kid is not None else _only(keys)
    if key is None:
        raise Unauthorized("token signed with an unknown key")
    try:
        claims = jwt.decode(
            text,
            key,
            algorithms=[key.algorithm_name],  # the key's own, whatever the token says
            audience=issuer.audience,
            issuer=issuer.issuer,
            # The times are held against our clock, below.
            options={
                "require": list(_REQUIRED),
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.PyJWTError as error:
        raise Unauthorized(f"token refused: {type(error).__name__}") from None
    _check_times(claims, now)
    subject = claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise Unauthorized("token refused: no subject")
    actor = Actor(ActorKind.OIDC, f"{issuer.name}/{subject}", peer, trace_id)
    return Caller(actor, _grants(claims, issuer))


def _only(keys: Mapping[str | None, jwt.PyJWK]) -> jwt.PyJWK | None:
    """A token may leave the key's id out where there is one key."""
    return next(iter(keys.values())) if len(keys) == 1 else None


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    """RFC 7519 §4.1.4 to §4.1.6, by our own clock."""
    at, leeway = now.timestamp(), _LEEWAY.total_seconds()
    for claim in ("exp", "nbf", "iat"):
        value = claims.get(claim)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unauthorized(f"token refused: {claim}")
        is_wrong = at >= value + leeway if claim == "exp" else at < value - leeway
        if is_wrong:
            raise Unauthorized(f"token refused: {claim}")


def _grants(claims: Mapping[str, Any], issuer: OidcIssuer) -> tuple[Grant, ...]:
    value: Any = claims
    for part in issuer.role_claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return tuple(
        issuer.roles[each]
        for each in values[:_MAX_VALUES]
        if isinstance(each, str) and each in issuer.roles
    )
