r"""Shared access signatures: the tokens that symmetric keys sign.

A token is `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={key name}]`, its
fields in any order; the signature is the base64 of HMAC-SHA256(key, "{sr as sent}\n{se as sent}").
Clients differ in how they encode `sr`, so it is verified exactly as received and decoded only to be
compared with the resource that is asked for.

Source: Azure IoT Hub, "Control access with shared access signatures", and the Azure SDKs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

from fleetroot.errors import InvalidArgument, TokenInvalid
from fleetroot.ids import canonical

MAX_TOKEN_CHARACTERS: Final = 4096
KEY_BYTES: Final = 64  # of the keys that we generate; what Azure generates for enrollments
_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64
_SCHEME: Final = "SharedAccessSignature "
_ENCODED: Final = re.compile("[!-~]+")
_FIELDS: Final = frozenset({"sr", "sig", "se", "skn"})
_MAX_EXPIRY: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, where datetime ends


@dataclass(frozen=True, slots=True)
class SasToken:
    """A parsed token; nothing in it has been verified.

    Attributes:
        resource: `sr`, percent-decoded.
        key_name: `skn`, percent-decoded; None when absent or empty.
        expires_at: `se`.
    """

    resource: str
    key_name: str | None
    expires_at: datetime
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SasToken:
        """Parses a token as a password or `Authorization` header carries it.

        Raises:
            TokenInvalid: it is not of the form.
        """
        if len(text) > MAX_TOKEN_CHARACTERS:
            raise TokenInvalid("token too long")
        if not text.startswith(_SCHEME):
            raise TokenInvalid("not a shared access signature")
        encoded = text[len(_SCHEME) :].strip(" \t\r\n")
        if not _ENCODED.fullmatch(encoded):
            raise TokenInvalid("token is not percent-encoded")
        fields: dict[str, str] = {}
        for part in encoded.split("&"):
            name, _, value = part.partition("=")
            if name not in _FIELDS or name in fields:
                raise TokenInvalid("token has an unknown or repeated field")
            fields[name] = value
        if not {"sr", "sig", "se"} <= fields.keys():
            raise TokenInvalid("token lacks a field")
        expiry = fields["se"]
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
            raise TokenInvalid("token expiry is not a number")
        try:
            signature = base64.b64decode(unquote(fields["sig"]), validate=True)
        except (binascii.Error, ValueError):
            raise TokenInvalid("token signature is not base64") from None
        return cls(
            resource=unquote(fields["sr"]),
            key_name=unquote(fields.get("skn", "")) or None,
            expires_at=datetime.fromtimestamp(min(int(expiry), _MAX_EXPIRY), UTC),
            signed=f"{fields['sr']}\n{expiry}".encode(),
            signature=signature,
        )

    def check_not_expired(self, now: datetime) -> None:
        """Raises:
        TokenInvalid: the token's time is over.
        """
        if self.expires_at <= now:
            raise TokenInvalid("token expired")

    def is_signed_by(self, key: bytes) -> bool:
        """Whether `key` (raw bytes) made the signature; compared in constant time."""
        return hmac.compare_digest(hmac.digest(key, self.signed, "sha256"), self.signature)


def sign_token(resource: str, key: bytes, expires_at: datetime, key_name: str | None = None) -> str:
    """Makes a token for `resource` (not yet encoded), signed with the raw `key`."""
    sr = quote(resource, safe="")
    se = str(int(expires_at.timestamp()))
    signature = base64.b64encode(hmac.digest(key, f"{sr}\n{se}".encode(), "sha256")).decode()
    token = f"{_SCHEME}sr={sr}&sig={quote(signature, safe='')}&se={se}"
    return f"{token}&skn={quote(key_name, safe='')}" if key_name else token


def covers(granted: str, wanted: str) -> bool:
    """Whether a token for the resource `granted` reaches `wanted`: the same or below it, segment by
    segment, case-insensitively.
    """
    granted, wanted = canonical(granted.rstrip("/")), canonical(wanted)
    return bool(granted) and (wanted == granted or wanted.startswith(granted + "/"))


def derive_device_key(group_key: bytes, registration_id: str) -> bytes:
    """The key of a device under a group: HMAC-SHA256(group key, registration id in UTF-8)."""
    return hmac.digest(group_key, registration_id.encode(), "sha256")


def new_key() -> bytes:
    """A new symmetric key, raw."""
    return secrets.token_bytes(KEY_BYTES)


def encode_key(key: bytes) -> str:
    """A key as the wires show it: base64."""
    return base64.b64encode(key).decode()


def decode_key(text: str) -> bytes:
    """A key from the wire: base64 of 16 to 64 bytes.

    Raises:
        InvalidArgument: it is not.
    """
    try:
        key = base64.b64decode(text, validate=True) if len(text) <= 2 * _MAX_KEY_BYTES else b""
    except (binascii.Error, ValueError):
        key = b""
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise InvalidArgument(f"a key must be base64 of {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes")
    return key
