"""Public areas of keys in a TPM, as devices and operators tell them: TPM2B_PUBLIC.

Only keys that protect other keys are read: restricted decryption keys that a TPM made and that
never leave it, RSA 2048 or NIST P-256, with SHA-256 for their names and AES-128-CFB for what they
protect. Endorsement keys by the TCG's default templates and storage root keys are of that form.

Source: TPM 2.0 Library, Part 2, 8.3 (TPMA_OBJECT), 11.2 and 12.2 (public areas), Part 1, 16
(names); TCG EK Credential Profile for TPM 2.0, templates L-1, L-2, H-1 and H-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from hashlib import sha256
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleetroot.errors import InvalidArgument

MAX_PUBLIC_BYTES: Final = 1024  # the largest that a TPM of today makes has 600
_RSA_BITS: Final = 2048
_DEFAULT_EXPONENT: Final = 65537
_COORDINATE: Final = 32  # bytes
_DIGEST: Final = 32  # bytes, of SHA-256
_NIST_P256: Final = 0x0003

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Algorithm(IntEnum):
    """TPM_ALG_ID, those that are spoken of."""

    RSA = 0x0001
    HMAC = 0x0005
    AES = 0x0006
    KEYEDHASH = 0x0008
    SHA256 = 0x000B
    NULL = 0x0010
    ECC = 0x0023
    CFB = 0x0043


class ObjectAttribute(IntFlag):
    """TPMA_OBJECT, those that are spoken of."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


# A TPM promises them only of keys that it made, that it alone can use, and that open nothing but
# what the TPM itself protects (Part 1, 25). Without them a program could pass for a TPM.
_PROTECTS: Final = (
    ObjectAttribute.FIXED_TPM
    | ObjectAttribute.FIXED_PARENT
    | ObjectAttribute.SENSITIVE_DATA_ORIGIN
    | ObjectAttribute.RESTRICTED
    | ObjectAttribute.DECRYPT
)


@dataclass(frozen=True, slots=True)
class StorageKey:
    """A key in a TPM that protects others.

    Attributes:
        encoded: the TPM2B_PUBLIC that it was read from.
        name: what the TPM knows it by: the hash algorithm, two bytes, and the hash of its public
            area, 34 bytes together.
    """

    encoded: bytes
    name: bytes
    public_key: PublicKey


def read_storage_key(what: str, encoded: bytes) -> StorageKey:
    """Reads a TPM2B_PUBLIC; `what` names it in errors.

    Raises:
        InvalidArgument: it is too long, malformed, or not of a key that is accepted.
    """
    try:
        return _read(encoded)
    except _Refused as refused:
        raise InvalidArgument(f"{what}: {refused}", reason="TPM key refused") from None


class _Refused(Exception):
    """What is wrong with it."""


class _Reader:
    """Big-endian numbers and sized buffers, from the front."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def take(self, count: int) -> bytes:
        if count > len(self._rest):
            raise _Refused("is cut off")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return bytes(taken)

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def sized(self, most: int) -> bytes:
        """A TPM2B."""
        size = self.u16()
        if size > most:
            raise _Refused("has a field that is too long")
        return self.take(size)

    def expect(self, wanted: int, otherwise: str) -> None:
        if self.u16() != wanted:
            raise _Refused(otherwise)

    def end(self) -> None:
        if self._rest:
            raise _Refused("has more behind its end")


def _read(encoded: bytes) -> StorageKey:
    if len(encoded) > MAX_PUBLIC_BYTES:
        raise _Refused("is too long")
    outer = _Reader(encoded)
    area = outer.sized(MAX_PUBLIC_BYTES)
    outer.end()
    reader = _Reader(area)
    kind = reader.u16()
    reader.expect(Algorithm.SHA256, "its name is not made with SHA-256")
    attributes = reader.u32()
    if attributes & _PROTECTS != _PROTECTS or attributes & ObjectAttribute.SIGN:
        raise _Refused("is not a restricted decryption key that a TPM made and keeps")
    if len(reader.sized(_DIGEST)) not in (0, _DIGEST):
        raise _Refused("its policy is not a SHA-256 digest")
    match kind:
        case Algorithm.RSA:
            public_key: PublicKey = _read_rsa(reader)
        case Algorithm.ECC:
            public_key = _read_ecc(reader)
        case _:
            raise _Refused("is neither an RSA nor an ECC key")
    reader.end()
    name = Algorithm.SHA256.to_bytes(2, "big") + sha256(area).digest()
    return StorageKey(encoded, name, public_key)


def _read_protection(reader: _Reader) -> None:
    """TPMT_SYM_DEF_OBJECT and the scheme, which a restricted decryption key has none of."""
    reader.expect(Algorithm.AES, "does not protect with AES-128-CFB")
    reader.expect(128, "does not protect with AES-128-CFB")
    reader.expect(Algorithm.CFB, "does not protect with AES-128-CFB")
    reader.expect(Algorithm.NULL, "has a scheme of its own")


def _read_rsa(reader: _Reader) -> rsa.RSAPublicKey:
    _read_protection(reader)
    reader.expect(_RSA_BITS, "is not RSA 2048")
    if reader.u32() not in (0, _DEFAULT_EXPONENT):  # 0 stands for it
        raise _Refused("its exponent is not 65537")
    modulus = int.from_bytes(reader.sized(_RSA_BITS // 8), "big")
    if modulus.bit_length() != _RSA_BITS or not modulus % 2:
        raise _Refused("is not RSA 2048")
    return rsa.RSAPublicNumbers(_DEFAULT_EXPONENT, modulus).public_key()


def _read_ecc(reader: _Reader) -> ec.EllipticCurvePublicKey:
    _read_protection(reader)
    reader.expect(_NIST_P256, "is not on NIST P-256")
    reader.expect(Algorithm.NULL, "has a key derivation of its own")
    x, y = (int.from_bytes(reader.sized(_COORDINATE), "big") for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        raise _Refused("is not a point on NIST P-256") from None
