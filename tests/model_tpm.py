"""The part of a TPM 2.0 that provisioning deals with, in Python, by the book.

It opens what `provisioning.tpm_protection` makes, and its own secrets can be seen and replaced. It
is held to a TPM's own words by answers that tpm2-pytss made (`tests/provisioning`), and has the
same methods as the device with a real one in `swtpm.py`.

Source: TPM 2.0 Library, Part 1, 23.3 and 24, Part 3, 12.5 and 13.3.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.hashes import SHA256

# fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt, with adminWithPolicy or with
# userWithAuth and noDA: of the templates.
ENDORSEMENT: Final = 0x000300B2
STORAGE_ROOT: Final = 0x00030472
POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class TpmRefused(Exception):
    """The TPM did not do it."""


def sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def split(blob: bytes) -> list[bytes]:
    """The six sized buffers of an authentication key, each with its size."""
    parts = []
    while blob:
        content, blob = _take(blob)
        parts.append(sized(content))
    if len(parts) != 6:
        raise TpmRefused("layout")
    return parts


def public_area(
    key: PrivateKey,
    *,
    attributes: int = STORAGE_ROOT,
    policy: bytes = b"",
    name_algorithm: int = 0x000B,
    symmetric: tuple[int, ...] = (0x0006, 128, 0x0043),
    scheme: int = 0x0010,
    exponent: int = 0,
    kdf: int = 0x0010,
) -> bytes:
    """TPM2B_PUBLIC of a key."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    area = (0x0001 if is_rsa else 0x0023).to_bytes(2, "big") + name_algorithm.to_bytes(2, "big")
    area += attributes.to_bytes(4, "big") + sized(policy)
    area += b"".join(each.to_bytes(2, "big") for each in (*symmetric, scheme))
    if isinstance(key, rsa.RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        area += key.key_size.to_bytes(2, "big") + exponent.to_bytes(4, "big")
        area += sized(modulus.to_bytes(key.key_size // 8, "big"))
    else:
        numbers = key.public_key().public_numbers()
        curve = {256: 0x0003, 384: 0x0004}[key.curve.key_size]
        area += curve.to_bytes(2, "big") + kdf.to_bytes(2, "big")
        for coordinate in (numbers.x, numbers.y):
            area += sized(coordinate.to_bytes(key.curve.key_size // 8, "big"))
    return sized(area)


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of that number, the same each time within a run: making one is slow."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class ModelTpm:
    """A TPM with these two keys."""

    endorsement: PrivateKey = field(default_factory=lambda: rsa_key(1))
    storage_root: PrivateKey = field(default_factory=lambda: rsa_key(2))
    keys: dict[str, bytes] = field(default_factory=dict)

    @property
    def endorsement_key(self) -> bytes:
        """TPM2B_PUBLIC."""
        return public_area(self.endorsement, attributes=ENDORSEMENT, policy=POLICY)

    @property
    def storage_root_key(self) -> bytes:
        """TPM2B_PUBLIC."""
        return public_area(self.storage_root)

    def clear(self) -> None:
        """Clears the TPM: its next storage root key is another one, its endorsement key is not."""
        self.storage_root = ec.generate_private_key(ec.SECP256R1())
        self.keys.clear()

    def activate(self, blob: bytes, key: str = "key") -> None:
        """Takes in the key that the blob holds for this TPM.

        Raises:
            TpmRefused: it is for another TPM, or was altered.
        """
        parts = [part[2:] for part in split(blob)]
        inner_key = self.activate_credential(*parts[:2])
        self.keys[key] = self.import_key(parts[4], parts[2], parts[3], inner_key)

    def sign(self, message: bytes, key: str = "key") -> bytes:
        """HMAC-SHA256 by a key that was taken in."""
        return hmac.digest(self.keys[key], message, "sha256")

    def activate_credential(self, id_object: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential over the storage root key."""
        seed = open_seed(self.endorsement, secret, b"IDENTITY\0")
        name = b"\x00\x0b" + sha256(self.storage_root_key[2:]).digest()
        return _one_sized(unlock(seed, name, id_object))

    def import_key(self, public: bytes, duplicate: bytes, secret: bytes, inner_key: bytes) -> bytes:
        """TPM2_Import under the storage root key, then TPM2_Load of a keyed hash."""
        seed = open_seed(self.storage_root, secret, b"DUPLICATE\0")
        name = b"\x00\x0b" + sha256(public).digest()
        inner = decrypt(inner_key, unlock(seed, name, duplicate))
        integrity, sensitive = inner[2:34], inner[34:]
        if integrity != sha256(sensitive + name).digest():
            raise TpmRefused("inner integrity")
        kind, rest = sensitive[2:4], sensitive[4:]
        authorization, rest = _take(rest)
        obfuscation, rest = _take(rest)
        key, rest = _take(rest)
        if rest or authorization or kind != b"\x00\x08":
            raise TpmRefused("sensitive area")
        expected = bytes.fromhex("0008000b00040440" + "0000" + "0005000b")
        if public != expected + sized(sha256(obfuscation + key).digest()):
            raise TpmRefused("public area")
        return key


def open_seed(key: PrivateKey, secret: bytes, label: bytes) -> bytes:
    """The seed that was shared (Part 1, B.10.3 and C.6.3)."""
    if isinstance(key, rsa.RSAPrivateKey):
        try:
            return key.decrypt(secret, padding.OAEP(padding.MGF1(SHA256()), SHA256(), label))
        except ValueError:
            raise TpmRefused("seed") from None
    first, rest = _take(secret)
    second, rest = _take(rest)
    x, y = (int.from_bytes(each, "big") for each in (first, second))
    try:
        theirs = ec.EllipticCurvePublicNumbers(x, y, key.curve).public_key()
    except ValueError:
        raise TpmRefused("point") from None
    if rest:
        raise TpmRefused("size")
    ours = key.public_key().public_numbers().x.to_bytes(32, "big")
    shared = key.exchange(ec.ECDH(), theirs)
    return sha256(b"\0\0\0\x01" + shared + label + first + ours).digest()


def unlock(seed: bytes, name: bytes, content: bytes) -> bytes:
    """What is inside an outer wrapper."""
    integrity, encrypted = _take(content)
    key = kdfa(seed, b"INTEGRITY\0", b"", 256)
    if not hmac.compare_digest(hmac.digest(key, encrypted + name, "sha256"), integrity):
        raise TpmRefused("outer integrity")
    return decrypt(kdfa(seed, b"STORAGE\0", name, 128), encrypted)


def kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Part 1, 11.4.10.2, where one block is enough."""
    message = b"\0\0\0\x01" + label + context + bits.to_bytes(4, "big")
    return hmac.digest(key, message, "sha256")[: bits // 8]


def decrypt(key: bytes, content: bytes) -> bytes:
    decryptor = Cipher(AES128(key), CFB(bytes(16))).decryptor()
    return decryptor.update(content) + decryptor.finalize()


def _take(content: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(content[:2], "big")
    if end > len(content):
        raise TpmRefused("size")
    return content[2:end], content[end:]


def _one_sized(content: bytes) -> bytes:
    only, rest = _take(content)
    if rest:
        raise TpmRefused("size")
    return only
