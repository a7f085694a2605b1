"""A device's TPM, as far as provisioning deals with one: it opens what is sent to it, and checks
nothing of it. All devices have the keys of one TPM, because making RSA keys is slow.

Source: TPM 2.0 Library, Part 1, 11.4.10, 23.3, 24 and B.10; Part 2, 12.2.
"""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.hashes import SHA256

from fleetroot import sas
from fleetroot.provisioning.tpm_protection import KEY_BYTES

_DIGEST: Final = 34  # with its size
# fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, with adminWithPolicy or with
# userWithAuth and noDA; no policy; AES-128-CFB, no scheme, RSA 2048, exponent 65537.
_ENDORSEMENT: Final = bytes.fromhex("0001000b000300b2")
_STORAGE_ROOT: Final = bytes.fromhex("0001000b00030472")
_PARAMETERS: Final = bytes.fromhex("0000" + "000600800043" + "0010" + "0800" + "00000000")


def new_token(resource: str, key: bytes) -> str:
    """A device's token, good for as long as a benchmark may take."""
    return sas.sign_token(resource, key, datetime.now(UTC) + timedelta(hours=6))


class Tpm:
    """An RSA endorsement key and an RSA storage root key."""

    def __init__(self) -> None:
        self._endorsement = rsa.generate_private_key(65537, 2048)
        self._storage_root = rsa.generate_private_key(65537, 2048)
        self.endorsement_key = _public(_ENDORSEMENT, self._endorsement)
        self.storage_root_key = _public(_STORAGE_ROOT, self._storage_root)
        self.told = {
            "endorsementKey": base64.b64encode(self.endorsement_key).decode(),
            "storageRootKey": base64.b64encode(self.storage_root_key).decode(),
        }
        self._name = b"\x00\x0b" + sha256(self.storage_root_key[2:]).digest()

    def open(self, authentication_key: str) -> bytes:
        """The HMAC key that is sent to this TPM (base64)."""
        left = base64.b64decode(authentication_key)
        parts = []
        while left:
            end = 2 + int.from_bytes(left[:2], "big")
            parts.append(left[2:end])
            left = left[end:]
        id_object, id_secret, duplicate, secret, public, _ = parts
        seed = _seed(self._endorsement, id_secret, b"IDENTITY\0")
        inner_key = _unlock(seed, self._name, id_object)[2:]
        name = b"\x00\x0b" + sha256(public).digest()
        inner = _unlock(_seed(self._storage_root, secret, b"DUPLICATE\0"), name, duplicate)
        return _decrypt(inner_key, inner)[-KEY_BYTES:]


def _public(head: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """TPM2B_PUBLIC."""
    area = head + _PARAMETERS + _sized(key.public_key().public_numbers().n.to_bytes(256, "big"))
    return _sized(area)


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _seed(key: rsa.RSAPrivateKey, secret: bytes, label: bytes) -> bytes:
    return key.decrypt(secret, padding.OAEP(padding.MGF1(SHA256()), SHA256(), label))


def _unlock(seed: bytes, name: bytes, content: bytes) -> bytes:
    """What is inside an outer wrapper: KDFa in one block gives its key."""
    derived = hmac.digest(seed, b"\0\0\0\x01STORAGE\0" + name + b"\0\0\0\x80", "sha256")
    return _decrypt(derived[:16], content[_DIGEST:])


def _decrypt(key: bytes, content: bytes) -> bytes:
    decryptor = Cipher(AES128(key), CFB(bytes(16))).decryptor()
    return decryptor.update(content) + decryptor.finalize()
