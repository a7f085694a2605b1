"""Tokens of an OIDC issuer, made here with every flaw; the issuer itself is in `tests/clients`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleetroot.access import EVERYWHERE, Caller, Grant, OidcIssuer, Role, oidc
from fleetroot.errors import Unauthorized

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AT = int(NOW.timestamp())
KEY = ec.generate_private_key(ec.SECP256R1())
ADMIN, READER = Grant(Role.OWNER, EVERYWHERE), Grant(Role.READER, "ns")
ISSUER = OidcIssuer(
    name="corp",
    issuer="https://id.example",
    audience="https://fleetroot.example",
    role_claim="roles",
    roles={"admins": ADMIN, "viewers": READER},
    ca=None,
    created_at=NOW,
)
CLAIMS = {
    "iss": ISSUER.issuer,
    "aud": ISSUER.audience,
    "sub": "alice",
    "iat": AT,
    "exp": AT + 300,
    "roles": ["admins"],
}


def jwk(key: Any, kid: str | None = "k1", **more: str) -> dict[str, Any]:
    algorithm = (
        jwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else jwt.algorithms.RSAAlgorithm
    )
    made = json.loads(algorithm.to_jwk(key.public_key()))
    return made | ({"kid": kid} if kid else {}) | more


KEYS = oidc.parse_keys({"keys": [jwk(KEY)]})


def signed(
    claims: dict[str, Any] | None = None,
    *,
    key: Any = KEY,
    alg: str = "ES256",
    kid: str | None = "k1",
    **changes: Any,
) -> str:
    claims = {k: v for k, v in ((claims or CLAIMS) | changes).items() if v is not None}
    return jwt.encode(claims, key, alg, headers={"kid": kid} if kid else None)


def caller(text: str, issuer: OidcIssuer = ISSUER, keys: Any = KEYS) -> Caller:
    return oidc.verify(text, issuer, keys, NOW, peer="p", trace_id="t")


def test_good_token_gives_what_its_claim_is_mapped_to() -> None:
    found = caller(signed())
    assert found.grants == (ADMIN,)
    assert (found.actor.kind, found.actor.name) == ("oidc", "corp/alice")


@pytest.mark.parametrize(
    ("roles", "grants"),
    [
        (["admins", "viewers"], (ADMIN, READER)),
        ("viewers", (READER,)),
        (["others", 7, None, ["admins"], {"admins": 1}], ()),
        ([], ()),
        (None, ()),
        ({"admins": True}, ()),
    ],
)
def test_only_values_that_are_mapped_give_anything(roles: Any, grants: tuple[Grant, ...]) -> None:
    assert caller(signed(roles=roles)).grants == grants


def test_role_claim_may_lie_in_objects() -> None:
    nested = OidcIssuer(**{**_fields(), "role_claim": "realm_access.roles"})
    assert caller(signed(realm_access={"roles": ["admins"]}), nested).grants == (ADMIN,)
    assert caller(signed(realm_access="admins"), nested).grants == ()


def _fields() -> dict[str, Any]:
    return {name: getattr(ISSUER, name) for name in OidcIssuer.__slots__}


def none_algorithm() -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).rstrip(b"=")
    return f"{head.decode()}.{body.decode()}."


def hmac_with_the_public_key() -> str:
    """The classic confusion of algorithms: the public key taken for a shared secret."""
    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"k1"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS).encode()).rstrip(b"=")
    message = head + b"." + body
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(message, pem)
    return (message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def changed_behind_the_signature() -> str:
    head, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS | {"sub": "bob"}).encode()).rstrip(b"=")
    return f"{head}.{body.decode()}.{signature}"


@pytest.mark.parametrize(
    "make",
    [
        none_algorithm,
        hmac_with_the_public_key,
        changed_behind_the_signature,
        lambda: signed(key=ec.generate_private_key(ec.SECP256R1())),
        lambda: signed(kid="other"),
        lambda: signed(iss="https://other.example"),
        lambda: signed(iss=None),
        lambda: signed(aud="https://other.example"),
        lambda: signed(aud=None),
        lambda: signed(sub=None),
        lambda: signed(sub=""),
        lambda: signed(exp=None),
        lambda: signed(exp=AT - 61),
        lambda: signed(exp="tomorrow"),
        lambda: signed(exp=True),
        lambda: signed(nbf=AT + 61),
        lambda: signed(iat=AT + 61),
        lambda: "a.b.c",
        lambda: "",
    ],
)
def test_token_with_a_flaw_is_refused(make: Callable[[], str]) -> None:
    with pytest.raises(Unauthorized):
        caller(make())


def test_clocks_may_differ_by_a_minute() -> None:
    caller(signed(exp=AT - 59))
    caller(signed(nbf=AT + 59, iat=AT + 59))


def test_audience_may_be_among_several() -> None:
    caller(signed(aud=["https://other.example", ISSUER.audience]))


def test_key_id_may_be_left_out_where_there_is_one_key() -> None:
    caller(signed(kid=None))
    two = oidc.parse_keys({"keys": [jwk(KEY), jwk(ec.generate_private_key(ec.SECP256R1()), "k2")]})
    with pytest.raises(Unauthorized):
        caller(signed(kid=None), keys=two)


def test_key_of_rsa_verifies_too() -> None:
    key = rsa.generate_private_key(65537, 2048)
    keys = oidc.parse_keys({"keys": [jwk(key, "r", alg="PS256")]})
    caller(signed(key=key, alg="PS256", kid="r"), keys=keys)
    with pytest.raises(Unauthorized):
        caller(signed(key=key, alg="RS256", kid="r"), keys=keys)


def test_keys_that_cannot_sign_for_us_are_left_out() -> None:
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"}
    encrypting = jwk(ec.generate_private_key(ec.SECP256R1()), "e", use="enc")
    unknown = {"kty": "made-up", "kid": "u"}
    keys = oidc.parse_keys({"keys": [symmetric, encrypting, unknown, "x", jwk(KEY)]})
    assert keys.keys() == {"k1"}


@pytest.mark.parametrize("key_set", [{}, {"keys": {}}, {"keys": [{}] * 100}])
def test_what_is_no_key_set_is_refused(key_set: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller logs it whatever it says
        oidc.parse_keys(key_set)


@pytest.mark.parametrize("text", ["", "x", "a.b", "a.b.c", "é.é.é"])
def test_what_is_no_token_has_no_issuer(text: str) -> None:
    assert oidc.issuer_of(text) is None


def test_token_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(Unauthorized):
        oidc.issuer_of("x" * 20_000)
