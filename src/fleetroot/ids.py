"""Identifiers: those of devices in their one canonical form, and those that we draw.

Registration ids and device ids are ASCII and compared case-insensitively. The canonical form made
here is what keys a row or a table in memory; the spelling that was stored is what HMACs and
certificate names are computed over, so it is kept beside the key and never derived from it.

Source: Azure DPS and IoT Hub documentation on registration ids and device ids.
"""

from __future__ import annotations

import os
import re
import string
from typing import Final

from fleetroot.errors import InvalidArgument

MAX_ID_CHARACTERS: Final = 128

_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

_REGISTRATION_ID: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._:\-]{0,126}[A-Za-z0-9])?", re.ASCII
)
_DEVICE_ID: Final = re.compile(r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]{1,48}[A-Za-z0-9])", re.ASCII)


def canonical(identifier: str) -> str:
    """The form in which two spellings of one id are equal: the letters of ASCII in lower case.
    Those beyond it stay: the Kelvin sign is no K, and must not name what a K names.
    """
    if identifier.isascii():
        return identifier.lower()
    return identifier.translate(_ASCII_LOWER)


def new_uuid() -> str:
    """A random UUID (RFC 9562 §5.4), as text; `uuid4` and `str` take three times as long."""
    drawn = os.urandom(16).hex()
    variant = "89ab"[int(drawn[16], 16) & 3]
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{variant}{drawn[17:20]}-{drawn[20:]}"


def check_registration_id(text: str) -> str:
    """Returns `text` if it is a registration id: 1 to 128 of `A-Z a-z 0-9 . _ : -`, with a letter
    or digit first and last.

    Raises:
        InvalidArgument: it is not.
    """
    if not _REGISTRATION_ID.fullmatch(text):
        raise InvalidArgument(
            "registrationId must be 1 to 128 letters, digits and . _ : -, "
            "with a letter or digit first and last"
        )
    return text


def check_device_id(text: str) -> str:
    """Returns `text` if it is a hub device id: 1 to 128 letters, digits and `-.%_*?!(),:=@$'`.

    Raises:
        InvalidArgument: it is not.
    """
    if not _DEVICE_ID.fullmatch(text):
        raise InvalidArgument("deviceId must be 1 to 128 of the allowed characters")
    return text


def identity_key(device_id: str, module_id: str | None = None) -> str:
    """What keys the identity of a device on a hub, or of a device's module."""
    if module_id is None:
        return canonical(device_id)
    return f"{canonical(device_id)}/{canonical(module_id)}"  # no id has a slash


def device_of(identity_key: str) -> str:
    """The key of the device that an identity's key is of: of a module's, that of its device."""
    return identity_key.partition("/")[0]


def check_module_id(text: str) -> str:
    """Returns `text` if it is a module id, which has the form of a device id.

    Raises:
        InvalidArgument: it is not.
    """
    if not _DEVICE_ID.fullmatch(text):
        raise InvalidArgument("moduleId must be 1 to 128 of the allowed characters")
    return text


def check_name(text: str, what: str) -> str:
    """Returns `text` if it can name a policy, namespace, hub or service: 3 to 50 letters, digits
    and `-`, with a letter or digit first and last.

    Raises:
        InvalidArgument: it is not; the message says `what`.
    """
    if not _NAME.fullmatch(text):
        raise InvalidArgument(
            f"{what} must be 3 to 50 letters, digits and -, with a letter or digit first and last"
        )
    return text
