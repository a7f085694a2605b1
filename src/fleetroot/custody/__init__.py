"""Where secrets live: private keys and how they sign, and the sealing of every other secret.

This room owns the master key, the envelope that everything worth stealing is kept in, and the
opening of signing keys. It does not store what it seals. It may import the types of `pki`,
`cryptography` and the standard library. No secret appears in a `repr`, a message or a log.
"""

from fleetroot.custody.keys import KeyCustody, KeyStore, SealedKey
from fleetroot.custody.master import (
    MasterKey,
    MasterKeyConfig,
    MasterKeyKind,
    MasterKeySource,
    MasterKeyUnusable,
    load_master_key,
)
from fleetroot.custody.sealing import RecordName, SealBroken, Sealer, WrongMasterKey

__all__ = [
    "KeyCustody",
    "KeyStore",
    "MasterKey",
    "MasterKeyConfig",
    "MasterKeyKind",
    "MasterKeySource",
    "MasterKeyUnusable",
    "RecordName",
    "SealBroken",
    "SealedKey",
    "Sealer",
    "WrongMasterKey",
    "load_master_key",
]
