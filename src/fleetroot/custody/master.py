"""The master key: where it comes from, and what is known about it without knowing it.

In this order, the first that is given wins: a file that the operator names, a key in the
environment, a systemd credential, a passphrase, and at last a file in the data folder, which is
made on first use. The last protects a stolen database, not a stolen data folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

MASTER_KEY_BYTES: Final = 32
MASTER_KEY_ID_BYTES: Final = 8
KEY_FILE_NAME: Final = "master.key"
SCRYPT_FILE_NAME: Final = "master.scrypt.json"
CREDENTIAL_NAME: Final = "fleetroot-master-key"

_ID_LABEL: Final = b"fleetroot/master-key-id/1\x00"
_MAX_FILE_BYTES: Final = 4096

# RFC 7914 §2. 64 MiB and some 150 ms; a file may ask for more, within what a start can bear.
_SCRYPT_N: Final = 2**16
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1
_SCRYPT_MAX_N: Final = 2**20
_SALT_BYTES: Final = 16


class MasterKeyUnusable(Exception):  # a refusal, as everywhere here
    """A master key was given but cannot be used; the message says which and why."""


class MasterKeyKind(StrEnum):
    """The ways in which a master key can be given."""

    FILE = "file"
    ENVIRONMENT = "environment"
    SYSTEMD_CREDENTIAL = "systemd_credential"
    PASSPHRASE = "passphrase"  # noqa: S105  # the name of a way, not a passphrase
    DATA_FOLDER = "data_folder"


@dataclass(frozen=True, slots=True)
class MasterKeySource:
    """Where a master key came from.

    Attributes:
        path: the file, where it came from one.
    """

    kind: MasterKeyKind
    path: Path | None = None

    def __str__(self) -> str:
        match self.kind:
            case MasterKeyKind.FILE:
                return f"file {self.path}"
            case MasterKeyKind.ENVIRONMENT:
                return "environment"
            case MasterKeyKind.SYSTEMD_CREDENTIAL:
                return "systemd credential"
            case MasterKeyKind.PASSPHRASE:
                return "passphrase"
            case MasterKeyKind.DATA_FOLDER:
                return f"in the data folder ({KEY_FILE_NAME})"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The key that wraps every other: 32 bytes.

    Attributes:
        id: 8 bytes that tell master keys apart and tell nothing about them.

    Raises:
        MasterKeyUnusable: the key is not 32 bytes long.
    """

    key: bytes = field(repr=False)
    source: MasterKeySource
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if len(self.key) != MASTER_KEY_BYTES:
            raise MasterKeyUnusable(
                f"the master key ({self.source}) has {len(self.key)} bytes, "
                f"but must have {MASTER_KEY_BYTES}"
            )
        digest = hashlib.sha256(_ID_LABEL + self.key).digest()
        object.__setattr__(self, "id", digest[:MASTER_KEY_ID_BYTES])

    def __repr__(self) -> str:
        return f"MasterKey(id={self.id.hex()}, source={self.where!r})"

    @property
    def where(self) -> str:
        """Where it lives, in words for an operator."""
        return str(self.source)


@dataclass(frozen=True, slots=True)
class MasterKeyConfig:
    """What the operator gave.

    Attributes:
        key_file: a file with the key.
        key: the key itself, as base64 of 32 bytes.
        credentials_directory: systemd's `$CREDENTIALS_DIRECTORY`; counts where it holds
            `fleetroot-master-key`.
        passphrase: what the key is derived from.
    """

    key_file: Path | None = None
    key: str | None = field(default=None, repr=False)
    credentials_directory: Path | None = None
    passphrase: str | None = field(default=None, repr=False)


def load_master_key(config: MasterKeyConfig, data: Path) -> MasterKey:
    """The master key by what the operator gave, or else of the data folder, made if need be.

    A key file holds 32 bytes, or the base64 of them as one line, and only its owner may read it.

    Args:
        config: what the operator gave.
        data: the data folder; it exists.

    Raises:
        MasterKeyUnusable: what was given is not a key, or others can read it.
        OSError: a file cannot be read or written.
    """
    if config.key_file is not None:
        source = MasterKeySource(MasterKeyKind.FILE, config.key_file)
        return MasterKey(_read_key(config.key_file, source), source)
    if config.key is not None:
        source = MasterKeySource(MasterKeyKind.ENVIRONMENT)
        return MasterKey(_decode_key(config.key.encode(), source), source)
    if config.credentials_directory is not None:
        path = config.credentials_directory / CREDENTIAL_NAME
        if path.exists():
            source = MasterKeySource(MasterKeyKind.SYSTEMD_CREDENTIAL, path)
            # systemd grants a service user access by ACL, which shows as the group's bits; the
            # directory above is closed to everybody else.
            return MasterKey(_read_key(path, source, group_may_read=True), source)
    if config.passphrase is not None:
        source = MasterKeySource(MasterKeyKind.PASSPHRASE)
        return MasterKey(_derive_key(config.passphrase, data / SCRYPT_FILE_NAME), source)
    path = data / KEY_FILE_NAME
    source = MasterKeySource(MasterKeyKind.DATA_FOLDER, path)
    if not path.exists():
        fresh = base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)) + b"\n"
        _create_private_file(path, fresh)
    return MasterKey(_read_key(path, source), source)


def new_master_key(config: MasterKeyConfig, data: Path, given: MasterKeyConfig) -> MasterKey:
    """The master key that shall take the place of the present one: the key or the passphrase of
    `given`; or where it is in the data folder and nothing is given, a fresh one.

    Raises:
        MasterKeyUnusable: what was given is not a key, or nothing was and the key is elsewhere.
        OSError: the passphrase's parameters cannot be read or written.
    """
    if given.key is not None:
        source = MasterKeySource(MasterKeyKind.ENVIRONMENT)
        return MasterKey(_decode_key(given.key.encode(), source), source)
    if given.passphrase is not None:
        source = MasterKeySource(MasterKeyKind.PASSPHRASE)
        return MasterKey(_derive_key(given.passphrase, data / SCRYPT_FILE_NAME), source)
    present = load_master_key(config, data).source
    if present.kind is not MasterKeyKind.DATA_FOLDER:
        raise MasterKeyUnusable(f"the master key is not kept by the server ({present}): give one")
    return MasterKey(secrets.token_bytes(MASTER_KEY_BYTES), present)


def keep_master_key(master: MasterKey, data: Path) -> None:
    """Puts the key into the data folder, in the place of the one that is there.

    Raises:
        OSError: it cannot be written.
    """
    _create_private_file(data / KEY_FILE_NAME, base64.b64encode(master.key) + b"\n")


def forget_master_keys(but: MasterKey, data: Path) -> None:
    """Removes the data folder's key, unless it is this one.

    Raises:
        OSError: it cannot be removed.
    """
    path = data / KEY_FILE_NAME
    if not path.exists():
        return
    there = _read_key(path, MasterKeySource(MasterKeyKind.DATA_FOLDER, path))
    if there != but.key:
        path.unlink()


def _read_key(path: Path, source: MasterKeySource, *, group_may_read: bool = False) -> bytes:
    with path.open("rb") as file:
        # Of the opened file, so that nobody swaps it between the check and the reading.
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & (stat.S_IRWXO if group_may_read else stat.S_IRWXO | stat.S_IRWXG):
            raise MasterKeyUnusable(
                f"the master key file {path} is open to others (mode {mode:04o}); "
                f"make it readable by its owner only: chmod 600 {path}"
            )
        return _decode_key(file.read(_MAX_FILE_BYTES), source)


def _decode_key(text: bytes, source: MasterKeySource) -> bytes:
    """Either the bytes of the key, or their base64; the two differ in length."""
    if len(text) == MASTER_KEY_BYTES:
        return text
    try:
        return binascii.a2b_base64(text.strip(), strict_mode=True)
    except ValueError:
        raise MasterKeyUnusable(
            f"the master key ({source}) is neither {MASTER_KEY_BYTES} bytes nor base64 of them"
        ) from None


def _derive_key(passphrase: str, parameters: Path) -> bytes:
    """The key of a passphrase, with the salt and cost that this data folder was begun with."""
    if not passphrase:
        raise MasterKeyUnusable("the passphrase of the master key is empty")
    if not parameters.exists():
        fresh = {
            "kdf": "scrypt",
            "salt": base64.b64encode(secrets.token_bytes(_SALT_BYTES)).decode(),
            "n": _SCRYPT_N,
            "r": _SCRYPT_R,
            "p": _SCRYPT_P,
        }
        _create_private_file(parameters, json.dumps(fresh, indent=2).encode() + b"\n")
    try:
        stored = json.loads(parameters.read_bytes())
        salt = base64.b64decode(stored["salt"], validate=True)
        n, r, p = int(stored["n"]), int(stored["r"]), int(stored["p"])
        known = stored["kdf"] == "scrypt"
    except (ValueError, KeyError, TypeError) as error:
        raise MasterKeyUnusable(f"{parameters} cannot be read as scrypt parameters") from error
    if (
        not known
        or len(salt) < _SALT_BYTES
        or not _SCRYPT_N <= n <= _SCRYPT_MAX_N
        or n & (n - 1)
        or (r, p) != (_SCRYPT_R, _SCRYPT_P)
    ):
        raise MasterKeyUnusable(f"{parameters} has scrypt parameters that are not acceptable")
    return Scrypt(salt=salt, length=MASTER_KEY_BYTES, n=n, r=r, p=p).derive(passphrase.encode())


def _create_private_file(path: Path, content: bytes) -> None:
    """Writes a new file for its owner only: it has its name when it is whole and durable, because a
    part of one, left by a power cut, would be refused ever after. Who calls has the folder to
    himself.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
