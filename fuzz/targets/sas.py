"""Shared access signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from fleetroot.errors import InvalidArgument, TokenInvalid
from fleetroot.sas import MAX_TOKEN_CHARACTERS, SasToken, covers, decode_key, encode_key, sign_token
from fuzz.reading import text

KEY = b"0123456789abcdef0123456789abcdef"
OTHER_KEY = b"another key, of another device.."
SCHEME = "SharedAccessSignature "
TOKENS = (SCHEME.encode(), b"sr=", b"&sig=", b"&se=", b"&skn=", b"%2F", b"1893456000", b"%3D")


def check(data: bytes) -> None:
    """A token says what its fields say, whichever way they are written, and only the HMAC over `sr`
    and `se` as they were sent signs it.
    """
    given = text(data)
    check_token(given)
    check_token(SCHEME + given)
    check_key(given)
    granted, _, wanted = given.partition("\n")
    assert covers(granted, wanted) == reference_covers(granted, wanted)


def check_token(given: str) -> None:
    """A token, or what should have been one."""
    try:
        token = SasToken.parse(given)
    except TokenInvalid:
        return
    parts = given.removeprefix(SCHEME).strip().split("&")
    fields = {name: value for name, _, value in (part.partition("=") for part in parts)}
    assert token.resource == unquote(fields["sr"])
    assert token.key_name == (unquote(fields.get("skn", "")) or None)
    assert token.expires_at.timestamp() == min(int(fields["se"]), 253_402_300_799)
    assert len(token.signature) < 16 or repr(token.signature) not in repr(token)
    signed = f"{fields['sr']}\n{fields['se']}".encode()
    mac = hmac.new(KEY, signed, hashlib.sha256).digest()
    assert token.is_signed_by(KEY) == (token.signature == mac)
    assert not token.is_signed_by(OTHER_KEY)
    ours = sign_token(token.resource, KEY, token.expires_at, token.key_name)
    for spelt, signed_by_us in (
        # The same fields in another order, signed, and with a signature that is off by a bit.
        (written(fields, mac), True),
        (written(fields, mac[:-1] + bytes([mac[-1] ^ 1])), False),
        (ours, True),
    ):
        if len(spelt) > MAX_TOKEN_CHARACTERS:
            continue
        again = SasToken.parse(spelt)
        assert again.is_signed_by(KEY) is signed_by_us
        assert (again.resource, again.key_name, again.expires_at) == (
            token.resource,
            token.key_name,
            token.expires_at,
        )


def written(fields: dict[str, str], signature: bytes) -> str:
    """A token of these fields, in the order of their names."""
    fields = fields | {"sig": quote(base64.b64encode(signature), safe="")}
    return SCHEME + "&".join(f"{name}={fields[name]}" for name in sorted(fields))


def check_key(given: str) -> None:
    """A key, or what should have been one."""
    try:
        key = decode_key(given)
    except InvalidArgument:
        return
    assert 16 <= len(key) <= 64
    assert decode_key(encode_key(key)) == key


def reference_covers(granted: str, wanted: str) -> bool:
    """Segment by segment, and ASCII alone is without case."""
    lower = {ord(upper): ord(upper) + 32 for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    granted = granted.translate(lower).rstrip("/")
    return bool(granted) and f"{wanted.translate(lower)}/".startswith(f"{granted}/")


def seeds() -> dict[str, bytes]:
    """Tokens as the SDKs write them, and as they must not be."""
    end = datetime(2030, 1, 1, tzinfo=UTC)
    device = sign_token("hub.example/devices/dev-1", KEY, end)
    registration = sign_token("0ne0/registrations/dev-1", KEY, end, "registration")
    scheme, _, fields = device.partition(" ")
    return {
        "device": device.encode(),
        "registration": registration.encode(),
        "raw-resource": device.replace("%2F", "/").encode(),
        "lower-case-escapes": device.replace("%2F", "%2f").encode(),
        "backwards": f"{scheme} {'&'.join(reversed(fields.split('&')))}".encode(),
        "policy": sign_token("hub.example", KEY, end, "iothubowner").encode(),
        "repeated": f"{device}&se=1".encode(),
        "unknown-field": f"{device}&x=1".encode(),
        "negative": device.replace("se=", "se=-").encode(),
        "far-end": device.replace("se=", "se=99").encode(),
        "white-space": f"{device} \t\n".encode(),
        "key": base64.b64encode(KEY),
        "covers-not": b"hub.example/dev\nhub.example/devices/d",
        "covers": b"HUB.example/devices\nhub.example/devices/d",
    }
