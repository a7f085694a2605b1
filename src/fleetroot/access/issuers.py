"""OIDC issuers: their table, and the keys that they publish.

Keys are fetched when the first token of an issuer comes, again when a token names a key that is not
among them (at most every half minute: a stranger can name any), and every ten minutes. While an
issuer cannot be reached, its keys are good for a day.

Source: OpenID Connect Discovery 1.0 §4, RFC 7517.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import jwt
import orjson
import structlog
from sqlalchemy import bindparam, delete, select

from fleetroot.access import oidc
from fleetroot.access.model import Grant, Role
from fleetroot.access.oidc import OidcIssuer
from fleetroot.clock import Clock
from fleetroot.errors import InvalidArgument, NotFound, Unavailable
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import upsert_into
from fleetroot.storage.schema import oidc_issuers

_FRESH: Final = 600.0  # seconds
_STALE: Final = 86400.0
_BETWEEN_FETCHES: Final = 30.0
_TIMEOUT: Final = 5.0
_MAX_BYTES: Final = 256 * 1024
_DISCOVERY: Final = "/.well-known/openid-configuration"
_log = structlog.get_logger("fleetroot.access")


def _row(
    name: str,
    issuer: str,
    audience: str,
    role_claim: str,
    roles: str,
    ca: str | None,
    created_at: datetime,
) -> OidcIssuer:
    mapped = {
        value: Grant(Role(role), namespace_id)
        for value, (role, namespace_id) in orjson.loads(roles).items()
    }
    return OidcIssuer(name, issuer, audience, role_claim, mapped, ca, created_at)


_ALL: Final = Query(select(oidc_issuers).order_by(oidc_issuers.c.name), _row)
_BY_ISSUER: Final = Query(
    select(oidc_issuers).where(oidc_issuers.c.issuer == bindparam("url")), _row
)
_PUT: Final = Command(upsert_into(oidc_issuers, keep=["created_at"]))
_DELETE: Final = Command(delete(oidc_issuers).where(oidc_issuers.c.name == bindparam("key")))


def all_(tx: Transaction) -> list[OidcIssuer]:
    """Every issuer, by name."""
    return tx.all(_ALL)


def by_url(tx: Transaction, url: str) -> OidcIssuer | None:
    """The issuer whose tokens have this `iss`."""
    return tx.first(_BY_ISSUER, url=url)


def put(tx: Transaction, issuer: OidcIssuer) -> None:
    """Adds an issuer, or replaces the one of its name."""
    roles = {value: (grant.role.value, grant.namespace_id) for value, grant in issuer.roles.items()}
    tx.run(
        _PUT,
        name=issuer.name,
        issuer=issuer.issuer,
        audience=issuer.audience,
        role_claim=issuer.role_claim,
        roles=orjson.dumps(roles).decode(),
        ca=issuer.ca,
        created_at=issuer.created_at,
    )


def remove(tx: Transaction, name: str) -> None:
    """Removes an issuer: its tokens open nothing any more.

    Raises:
        NotFound: there is none of that name.
    """
    if not tx.run(_DELETE, key=name):
        raise NotFound(f"there is no OIDC issuer {name}")


def check(issuer: OidcIssuer) -> None:
    """Refuses what cannot be an issuer.

    Raises:
        InvalidArgument: the message says what is wrong.
    """
    if not _is_https(issuer.issuer) or len(issuer.issuer) > 2048:
        raise InvalidArgument("issuer: must be an https URL")
    if not issuer.audience or len(issuer.audience) > 512:
        raise InvalidArgument("audience: must not be empty")
    if not issuer.role_claim or len(issuer.role_claim) > 256:
        raise InvalidArgument("roleClaim: must not be empty")
    if not issuer.roles or len(issuer.roles) > 256:
        raise InvalidArgument("roles: must map at least one value")
    if issuer.ca is not None:
        try:
            ssl.create_default_context(cadata=issuer.ca)
        except (ssl.SSLError, ValueError):
            raise InvalidArgument("ca: is not a certificate (PEM)") from None


class PublishedKeys:
    """Fetches keys by OpenID Connect Discovery, and keeps them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, _Keys] = {}

    async def get(self, issuer: OidcIssuer, kid: str | None) -> Mapping[str | None, jwt.PyJWK]:
        """The issuer's keys, with the one of that id if it has one.

        Raises:
            Unavailable: they cannot be had now.
        """
        kept = self._of.get(issuer.name)
        if kept is None or kept.issuer != issuer:
            kept = self._of[issuer.name] = _Keys(issuer)
        async with kept.fetching:
            now = self._clock.monotonic()
            if kept.wants_fetching(kid, now):
                kept.tried_at = now
                try:
                    kept.keys = await _fetch(issuer)
                except (httpx.HTTPError, TimeoutError, OSError, ValueError) as error:
                    _log.error("cannot fetch keys", issuer=issuer.name, error=repr(error))
                else:
                    kept.fetched_at = now
            if kept.fetched_at is None or now - kept.fetched_at > _STALE:
                raise Unavailable(
                    "the issuer's keys cannot be had now",
                    reason="OIDC issuer away",
                    retry_after=int(_BETWEEN_FETCHES),
                )
            return kept.keys


@dataclass(slots=True)
class _Keys:
    """What is known of one issuer's keys; times are of the monotonic clock."""

    issuer: OidcIssuer
    keys: Mapping[str | None, jwt.PyJWK] = field(default_factory=dict)
    fetched_at: float | None = None
    tried_at: float | None = None
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    def wants_fetching(self, kid: str | None, now: float) -> bool:
        if self.tried_at is not None and now - self.tried_at < _BETWEEN_FETCHES:
            return False
        is_fresh = self.fetched_at is not None and now - self.fetched_at < _FRESH
        return not is_fresh or (kid is not None and kid not in self.keys)


async def _fetch(issuer: OidcIssuer) -> dict[str | None, jwt.PyJWK]:
    context = ssl.create_default_context(cadata=issuer.ca)
    async with httpx.AsyncClient(
        verify=context, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
    ) as client:
        async with asyncio.timeout(2 * _TIMEOUT):
            found = await _get(client, issuer.issuer.rstrip("/") + _DISCOVERY)
            url = found.get("jwks_uri")
            if found.get("issuer") != issuer.issuer or not isinstance(url, str):
                raise ValueError("the discovery document is of another issuer")
            if not _is_https(url):
                raise ValueError("jwks_uri is not https")
            return oidc.parse_keys(await _get(client, url))


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    body = bytearray()
    async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise ValueError("the answer is too large")
    parsed = orjson.loads(body)
    if not isinstance(parsed, dict):
        raise ValueError("the answer is not a JSON object")
    return parsed


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
