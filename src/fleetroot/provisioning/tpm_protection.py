"""Sending a secret to one TPM: what TPM2_ActivateCredential and TPM2_Import open there.

No state and no I/O. A key is sent under two locks. The outer one is the storage root key's: nothing
but the TPM that has it opens it, and only into a key that the TPM keeps. The key to the inner one
is a credential, which the TPM gives out only if the endorsement key *and* the storage root key are
both its own. So whoever uses the key has that very TPM.

Source: TPM 2.0 Library, Part 1, 11.4.10 (KDFa, KDFe), 23.3 (duplication), 24 (credentials), B.10
and C.6 (seeds by RSA and ECC); the layout of the whole by the Azure SDKs for TPM devices.
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from fleetroot.provisioning.tpm_public import Algorithm, ObjectAttribute, StorageKey

KEY_BYTES: Final = 32  # of the HMAC keys that are sent
_SEED: Final = 32  # bytes; as many as the digest has
_AES_KEY: Final = 16
_COORDINATE: Final = 32
_NO_IV: Final = bytes(16)  # each key encrypts one message
_EMPTY: Final = b"\0\0"
# Label (Part 1, 24.4 and 23.3.2.3) of what is shared, with the zero that ends it.
_IDENTITY: Final = b"IDENTITY\0"
_DUPLICATE: Final = b"DUPLICATE\0"


class _Shared(NamedTuple):
    """A seed, and what tells it to the TPM: the body of a TPM2B_ENCRYPTED_SECRET."""

    seed: bytes
    encrypted: bytes


def send_key(endorsement: StorageKey, storage_root: StorageKey, key: bytes) -> bytes:
    """The blob by which the TPM of these two keys gets the HMAC-SHA256 key `key`, for itself alone.

    TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET, TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET, TPM2B_PUBLIC,
    and TPM2B_DATA, which is empty. It differs each time.
    """
    inner_key = os.urandom(_AES_KEY)
    id_object, id_secret = make_credential(endorsement, storage_root.name, inner_key)
    public, sensitive = hmac_object(key)
    duplicate, duplicate_secret = protect(storage_root, public, sensitive, inner_key)
    return b"".join(
        _sized(each) for each in (id_object, id_secret, duplicate, duplicate_secret, public, b"")
    )


def make_credential(endorsement: StorageKey, name: bytes, credential: bytes) -> tuple[bytes, bytes]:
    """The bodies of a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET by which the TPM of the
    endorsement key gives out `credential`, if it has the object of that name (Part 1, 24.4).
    """
    shared = _share_seed(endorsement, _IDENTITY)
    return _lock(shared.seed, name, _sized(credential)), shared.encrypted


def protect(
    parent: StorageKey, public: bytes, sensitive: bytes, inner_key: bytes
) -> tuple[bytes, bytes]:
    """The bodies of a TPM2B_PRIVATE and a TPM2B_ENCRYPTED_SECRET by which the TPM of `parent`
    imports an object, given `inner_key` (Part 1, 23.3.2).

    Args:
        parent: under which the object will be.
        public: TPMT_PUBLIC of the object.
        sensitive: TPMT_SENSITIVE of the object.
        inner_key: of AES-128, for this object alone.
    """
    name = _name(public)
    integrity = sha256(_sized(sensitive) + name).digest()
    inner = _encrypt(inner_key, _sized(integrity) + _sized(sensitive))
    shared = _share_seed(parent, _DUPLICATE)
    return _lock(shared.seed, name, inner), shared.encrypted


def hmac_object(key: bytes) -> tuple[bytes, bytes]:
    """TPMT_PUBLIC and TPMT_SENSITIVE of a key for HMAC-SHA256. Its empty policy lets nobody
    duplicate it to another TPM.
    """
    obfuscation = os.urandom(_SEED)
    attributes = ObjectAttribute.USER_WITH_AUTH | ObjectAttribute.NO_DA | ObjectAttribute.SIGN
    public = b"".join(
        (
            _u16(Algorithm.KEYEDHASH),
            _u16(Algorithm.SHA256),
            attributes.to_bytes(4, "big"),
            _EMPTY,
            _u16(Algorithm.HMAC),
            _u16(Algorithm.SHA256),
            _sized(sha256(obfuscation + key).digest()),
        )
    )
    sensitive = _u16(Algorithm.KEYEDHASH) + _EMPTY + _sized(obfuscation) + _sized(key)
    return public, sensitive


def _lock(seed: bytes, name: bytes, content: bytes) -> bytes:
    """Encrypts, then signs over the object's name (Part 1, 22.4): the outer wrapper."""
    encrypted = _encrypt(_kdfa(seed, b"STORAGE", name, 8 * _AES_KEY), content)
    integrity = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), encrypted + name, "sha256")
    return _sized(integrity) + encrypted


def _share_seed(with_key: StorageKey, label: bytes) -> _Shared:
    match with_key.public_key:
        case rsa.RSAPublicKey() as public_key:
            seed = os.urandom(_SEED)
            oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), label)
            return _Shared(seed, public_key.encrypt(seed, oaep))
        case ec.EllipticCurvePublicKey() as public_key:
            ephemeral = ec.generate_private_key(public_key.curve)
            ours, theirs = (each.public_numbers() for each in (ephemeral.public_key(), public_key))
            secret = ephemeral.exchange(ec.ECDH(), public_key)
            info = label + _coordinate(ours.x) + _coordinate(theirs.x)
            seed = ConcatKDFHash(SHA256(), _SEED, info).derive(secret)
            return _Shared(seed, _sized(_coordinate(ours.x)) + _sized(_coordinate(ours.y)))


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa: NIST SP 800-108 in counter mode with HMAC-SHA256."""
    derivation = KBKDFHMAC(
        SHA256(),
        Mode.CounterMode,
        bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    )
    return derivation.derive(key)


def _encrypt(key: bytes, content: bytes) -> bytes:
    encryptor = Cipher(AES128(key), CFB(_NO_IV)).encryptor()
    return encryptor.update(content) + encryptor.finalize()


def _name(public: bytes) -> bytes:
    return _u16(Algorithm.SHA256) + sha256(public).digest()


def _sized(content: bytes) -> bytes:
    return _u16(len(content)) + content


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _coordinate(value: int) -> bytes:
    return value.to_bytes(_COORDINATE, "big")
