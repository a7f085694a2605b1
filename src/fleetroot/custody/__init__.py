"""Where secrets live: private keys and how they sign, and the sealing of every other secret.

This room owns the master key, the envelope that everything worth stealing is kept in, and the
opening of signing keys, in software and in PKCS#11 tokens. It does not store what it seals. It may
import `pki`, `errors`, `cryptography` and the standard library. No secret appears in a `repr`, a
message or a log.
"""

from fleetroot.custody.custody import Custody, sign_with, waits
from fleetroot.custody.keys import SOFTWARE, KeyCustody, KeyStore, SealedKey
from fleetroot.custody.master import (
    KEY_FILE_NAME,
    SCRYPT_FILE_NAME,
    MasterKey,
    MasterKeyConfig,
    MasterKeyKind,
    MasterKeySource,
    MasterKeyUnusable,
    forget_master_keys,
    keep_master_key,
    load_master_key,
    new_master_key,
)
from fleetroot.custody.sealing import (
    CHECK_NAME,
    RecordName,
    SealBroken,
    Sealer,
    WrongMasterKey,
    sealed_under,
)
from fleetroot.custody.session import TokenAway, TokenConfig, TokenState, read_pin
from fleetroot.custody.token import Token

__all__ = [
    "CHECK_NAME",
    "KEY_FILE_NAME",
    "SCRYPT_FILE_NAME",
    "SOFTWARE",
    "Custody",
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
    "Token",
    "TokenAway",
    "TokenConfig",
    "TokenState",
    "WrongMasterKey",
    "forget_master_keys",
    "keep_master_key",
    "load_master_key",
    "new_master_key",
    "read_pin",
    "sealed_under",
    "sign_with",
    "waits",
]
