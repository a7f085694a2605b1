"""A sealed stream: what a backup is written as.

    line    `{"format": "fleetroot-backup/1", "kdf": …, "salt": …}`, JSON, at most 4 KiB
    chunks  64 KiB each, the last may be shorter; AES-256-GCM, the tag of 16 bytes behind it

A chunk's nonce is its number in 11 bytes and one byte that says whether it is the last, so none can
be left out, moved, added or cut off (STREAM: Hoang, Reyhanitabar, Rogaway, Vizár 2015). The line is
bound to each. The key is HKDF-SHA256 of the operator's key, or of scrypt of a passphrase, with a
salt of this stream's own: so a number is a nonce only once under a key.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fleetroot.errors import InvalidArgument

FORMAT: Final = "fleetroot-backup/1"
KEY_BYTES: Final = 32
MIN_PASSPHRASE: Final = 12
CHUNK: Final = 64 * 1024

_MAX_LINE: Final = 4096
_TAG: Final = 16
_SALT: Final = 16
_SCRYPT: Final = {"n": 2**16, "r": 8, "p": 1}  # 64 MiB, as for the master key


class ArchiveBroken(InvalidArgument):
    """The file is no backup, was altered or cut off, or the key is another one."""


@dataclass(frozen=True, slots=True)
class ArchiveKey:
    """What an operator seals a backup with: 32 bytes, or a passphrase.

    Raises:
        InvalidArgument: the key is not 32 bytes long, or the passphrase too short.
    """

    key: bytes | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.key is None) == (self.passphrase is None):
            raise InvalidArgument("a backup is sealed with a key or a passphrase")
        if self.key is not None and len(self.key) != KEY_BYTES:
            raise InvalidArgument(f"the key of a backup has {KEY_BYTES} bytes")
        if self.passphrase is not None and len(self.passphrase) < MIN_PASSPHRASE:
            raise InvalidArgument(f"a passphrase has at least {MIN_PASSPHRASE} characters")

    def derive(self, salt: bytes) -> AESGCM:
        """The cipher of the stream with this salt. A passphrase takes some 150 ms."""
        secret = self.key
        if self.passphrase is not None:
            secret = Scrypt(salt=salt, length=KEY_BYTES, **_SCRYPT).derive(self.passphrase.encode())
        assert secret is not None  # noqa: S101 - it has one of them
        stretched = HKDF(hashes.SHA256(), KEY_BYTES, salt, FORMAT.encode()).derive(secret)
        return AESGCM(stretched)


def seal(key: ArchiveKey, plaintext: Iterable[bytes]) -> Iterator[bytes]:
    """The stream of what `plaintext` gives."""
    salt = os.urandom(_SALT)
    line = orjson.dumps(
        {
            "format": FORMAT,
            "kdf": "scrypt" if key.passphrase is not None else "none",
            "salt": base64.b64encode(salt).decode(),
        }
    )
    cipher = key.derive(salt)
    yield line + b"\n"
    waiting, number = bytearray(), 0
    for part in plaintext:
        waiting += part
        while len(waiting) > CHUNK:  # what is left is never empty, but for an empty plaintext
            yield cipher.encrypt(_nonce(number, last=False), bytes(waiting[:CHUNK]), line)
            del waiting[:CHUNK]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(waiting), line)


def unseal(key: ArchiveKey, file: BinaryIO) -> Iterator[bytes]:
    """What was sealed. Nothing counts before the last of it came.

    Raises:
        ArchiveBroken: it is not what was sealed with this key.
    """
    line = file.readline(_MAX_LINE + 1)
    if not line.endswith(b"\n"):
        raise ArchiveBroken("this is no backup of Fleetroot")
    line = line[:-1]
    cipher = key.derive(_salt_of(line, key))
    number, chunk = 0, file.read(CHUNK + _TAG)
    while True:
        following = file.read(CHUNK + _TAG)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, line)
        except InvalidTag:
            what = "the key is another one, or the file" if number == 0 else "the file"
            raise ArchiveBroken(f"{what} was altered or cut off") from None
        if not following:
            return
        number, chunk = number + 1, following


def _salt_of(line: bytes, key: ArchiveKey) -> bytes:
    try:
        fields: dict[str, Any] = orjson.loads(line)
        kdf, salt = fields["kdf"], base64.b64decode(fields["salt"], validate=True)
        known = fields["format"] == FORMAT and kdf in ("scrypt", "none") and len(salt) == _SALT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ArchiveBroken("this is no backup of Fleetroot, or of a newer one")
    if (kdf == "scrypt") != (key.passphrase is not None):
        raise ArchiveBroken(
            "the backup is sealed with a passphrase"
            if kdf == "scrypt"
            else "the backup is sealed with a key"
        )
    return salt


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
