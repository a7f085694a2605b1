"""How the management API names the key types of CAs.

It has one, `ECC`, which is a key on P-384. The others are an extension of ours, by our names.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from fleetroot.pki import KeyType

_ECC: Final = "ECC"


def _parsed(value: Any) -> Any:
    return KeyType.EC_P384 if isinstance(value, str) and value.upper() == _ECC else value


WireKeyType = Annotated[KeyType, Field(strict=False), BeforeValidator(_parsed)]


def wire_name(key_type: KeyType) -> str:
    """The name by which clients know the key type."""
    return _ECC if key_type is KeyType.EC_P384 else key_type.value
