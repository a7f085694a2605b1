"""Public areas of a TPM's keys, as TPM2B_PUBLIC."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleetroot.errors import InvalidArgument
from fleetroot.provisioning.tpm_protection import send_key
from fleetroot.provisioning.tpm_public import read_storage_key

TOKENS = (
    bytes.fromhex("0006008000430010"),
    bytes.fromhex("000300b2"),
    bytes.fromhex("00030472"),
    bytes.fromhex("00030010"),
    bytes.fromhex("00010001"),
)
# TPMT_PUBLIC of each kind, by Part 2 of the specification.
_HEAD: Final = (
    rb"\x00\x0b(?P<attributes>.{4})(\x00\x00|\x00\x20.{32})\x00\x06\x00\x80\x00\x43\x00\x10"
)
_RSA: Final = re.compile(
    rb"\x00\x01" + _HEAD + rb"\x08\x00(\x00\x00\x00\x00|\x00\x01\x00\x01)\x01\x00(?P<n>.{256})",
    re.DOTALL,
)
_ECC: Final = re.compile(
    rb"\x00\x23" + _HEAD + rb"\x00\x03\x00\x10(?P<point>\x00.*)",
    re.DOTALL,
)
_SET: Final = 0x00030032
_CLEAR: Final = 0x00040000
_KEY: Final = bytes(32)


def check(data: bytes) -> None:
    """A key is refused with a message, or it is just what the specification's form says; then a
    secret can be sent to it.
    """
    expected = reference(data)
    try:
        key = read_storage_key("key", data)
    except InvalidArgument as refused:
        assert refused.message.startswith("key: ")
        assert expected is None
        return
    match key.public_key.public_numbers():
        case rsa.RSAPublicNumbers() as numbers:
            assert (numbers.n, numbers.e) == expected
        case ec.EllipticCurvePublicNumbers() as point:
            assert (point.x, point.y) == expected
    assert key.encoded == data
    assert key.name == b"\x00\x0b" + sha256(data[2:]).digest()
    assert len(send_key(key, key, _KEY)) <= 1024


def reference(data: bytes) -> tuple[int, int] | None:
    """The numbers of the key, by another reader."""
    area = data[2:]
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(area):
        return None
    found = _RSA.fullmatch(area) or _ECC.fullmatch(area)
    if found is None:
        return None
    attributes = int.from_bytes(found["attributes"], "big")
    if attributes & _SET != _SET or attributes & _CLEAR:
        return None
    if "n" in found.groupdict():
        modulus = int.from_bytes(found["n"], "big")
        return (modulus, 65537) if modulus >> 2047 and modulus & 1 else None
    return _point(found["point"])


def _point(encoded: bytes) -> tuple[int, int] | None:
    """Two coordinates on NIST P-256, each with its size."""
    end = 2 + encoded[1]
    x, rest = encoded[2:end], encoded[end:]
    if end > 34 or len(x) != encoded[1] or len(rest) < 2 or rest[0] or rest[1] > 32:
        return None
    y = rest[2:]
    if len(y) != rest[1]:
        return None
    numbers = int.from_bytes(x, "big"), int.from_bytes(y, "big")
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    on_curve = (numbers[1] ** 2 - numbers[0] ** 3 + 3 * numbers[0] - b) % p == 0
    return numbers if on_curve and max(numbers) < p else None


def seeds() -> dict[str, bytes]:
    """Keys of the templates, and one that signs."""
    modulus = b"\xc5" + bytes(range(1, 256))
    point = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_numbers()
    coordinates = b"".join(b"\0\x20" + each.to_bytes(32, "big") for each in (point.x, point.y))
    policy = b"\0\x20" + bytes(range(32))
    protects = bytes.fromhex("0006008000430010")
    rsa_parts = bytes.fromhex("0800000000000100") + modulus
    ecc_parts = bytes.fromhex("00030010") + coordinates
    areas = {
        "rsa-endorsement": "0001000b000300b2",
        "rsa-storage": "0001000b00030472",
        "ecc-endorsement": "0023000b000300b2",
        "ecc-storage": "0023000b00030472",
        "signs": "0023000b00070472",
    }
    found = {}
    for name, head in areas.items():
        parts = rsa_parts if name.startswith("rsa") else ecc_parts
        authorized = policy if name.endswith("endorsement") else b"\0\0"
        area = bytes.fromhex(head) + authorized + protects + parts
        found[name] = len(area).to_bytes(2, "big") + area
    return found
