"""The one subject that devices have: a Name of a single common name, as DER.

Source: RFC 5280 §4.1.2.6 and appendix A.1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fleetroot.pki.der import element

_UTF8_STRING: Final = 0x0C
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_COMMON_NAME: Final = bytes.fromhex("0603550403")


def encode_name(common_name: str) -> bytes:
    """A Name of that common name, a UTF8String."""
    text = common_name.encode()
    return _before(len(text)) + text


@lru_cache(maxsize=256)
def _before(length: int) -> bytes:
    """How a Name begins, in front of a common name of that many octets."""
    attribute = element(_SEQUENCE, _COMMON_NAME + element(_UTF8_STRING, bytes(length)))
    return element(_SEQUENCE, element(_SET, attribute)).removesuffix(bytes(length))
