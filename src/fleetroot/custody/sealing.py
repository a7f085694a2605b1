"""The envelope that secrets are stored in: AES-256-GCM under a key of each record's own.

A fresh data key encrypts the record, the master key wraps the data key. Both are bound to the
record's name and to the head of the blob, so a blob moved to another record, kind, namespace or
version does not open. While the master key is changed there are two: both open, the new one seals.

    offset  length  what
    0       1       format, 1
    1       8       id of the master key
    9       12      nonce of the wrapped data key
    21      48      data key under the master key, with its tag
    69      12      nonce of the plaintext
    81      n + 16  plaintext under the data key, with its tag

The associated data of both is a label of its own, then bytes 0 to 8, then the record's name with
the length of each field before it. Nonces are random: one master key seals some 2**32 records
before chance would make a nonce repeat (NIST SP 800-38D §8.3), and a data key seals one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleetroot.custody.master import MASTER_KEY_ID_BYTES, MasterKey

_FORMAT: Final = b"\x01"
_KEY: Final = 32
_NONCE: Final = 12
_TAG: Final = 16

_HEAD_END: Final = len(_FORMAT) + MASTER_KEY_ID_BYTES
_KEY_NONCE_END: Final = _HEAD_END + _NONCE
_WRAPPED_END: Final = _KEY_NONCE_END + _KEY + _TAG
_NONCE_END: Final = _WRAPPED_END + _NONCE
_SHORTEST: Final = _NONCE_END + _TAG

_WRAP_LABEL: Final = b"fleetroot/seal/1/key"
_DATA_LABEL: Final = b"fleetroot/seal/1/data"


class SealBroken(Exception):  # a refusal, as everywhere here
    """A blob is not what was sealed under this name: altered, cut off, moved or never ours."""


class WrongMasterKey(Exception):  # a refusal, as everywhere here
    """A blob was sealed under another master key."""


@dataclass(frozen=True, slots=True)
class RecordName:
    """What a sealed record is, so that its blob opens in its own place only.

    Attributes:
        kind: what it holds, such as `ca-key`.
        namespace: whose it is; empty for what belongs to the installation.
        id: which one it is.
        version: counts its replacements, so that an old blob does not pass for the new one.
    """

    kind: str
    namespace: str
    id: str
    version: int

    def to_bytes(self) -> bytes:
        """An unambiguous encoding: every text field preceded by its length, then the version."""
        fields = (self.kind.encode(), self.namespace.encode(), self.id.encode())
        return b"".join(
            [
                *(part for field in fields for part in (len(field).to_bytes(4, "big"), field)),
                self.version.to_bytes(8, "big"),
            ]
        )


CHECK_NAME: Final = RecordName(kind="master-key-check", namespace="", id="", version=1)


def sealed_under(blob: bytes) -> bytes:
    """The id of the master key that a blob was sealed under."""
    return blob[len(_FORMAT) : _HEAD_END]


class _Wrapping(NamedTuple):
    """A master key, ready to use."""

    master: MasterKey
    head: bytes
    cipher: AESGCM

    @classmethod
    def of(cls, master: MasterKey) -> _Wrapping:
        return cls(master, _FORMAT + master.id, AESGCM(master.key))


class Sealer:
    """Seals and opens records under the master key. Safe to share between threads."""

    __slots__ = ("_keys",)

    def __init__(self, master: MasterKey, former: MasterKey | None = None) -> None:
        """`former`: the master key before, while records are still sealed under it."""
        self._keys = tuple(_Wrapping.of(key) for key in (master, former) if key is not None)

    def __repr__(self) -> str:
        return f"Sealer({', '.join(repr(key.master) for key in self._keys)})"

    @property
    def master(self) -> MasterKey:
        """What is sealed with."""
        return self._keys[0].master

    def change_to(self, master: MasterKey) -> None:
        """Seals with this master key from now on; what the one before sealed still opens."""
        self._keys = (_Wrapping.of(master), self._keys[0])

    def end_change(self) -> None:
        """Opens what the present master key sealed, and nothing else."""
        self._keys = self._keys[:1]

    def is_current(self, blob: bytes) -> bool:
        """Whether the present master key sealed it."""
        return blob[:_HEAD_END] == self._keys[0].head

    def seal(self, name: RecordName, plaintext: bytes) -> bytes:
        """The blob of `plaintext` under this name."""
        _, head, cipher = self._keys[0]
        bound = head + name.to_bytes()
        random = os.urandom(_KEY + 2 * _NONCE)
        data_key, key_nonce, nonce = (
            random[:_KEY],
            random[_KEY : _KEY + _NONCE],
            random[_KEY + _NONCE :],
        )
        wrapped = cipher.encrypt(key_nonce, data_key, _WRAP_LABEL + bound)
        sealed = AESGCM(data_key).encrypt(nonce, plaintext, _DATA_LABEL + bound)
        return b"".join((head, key_nonce, wrapped, nonce, sealed))

    def open(self, name: RecordName, blob: bytes) -> bytes:
        """What was sealed under this name.

        Raises:
            WrongMasterKey: it was sealed under another master key.
            SealBroken: it was altered, cut off, or sealed under another name.
        """
        if len(blob) < _SHORTEST:
            raise SealBroken("the sealed record is cut off")
        if blob[:1] != _FORMAT:
            raise SealBroken("the sealed record has an unknown format")
        head = blob[:_HEAD_END]
        keys = self._keys
        cipher = next((key.cipher for key in keys if key.head == head), None)
        if cipher is None:
            master = keys[0].master
            raise WrongMasterKey(
                f"sealed under master key {blob[1:_HEAD_END].hex()}, "
                f"not under {master.id.hex()} ({master.where})"
            )
        bound = head + name.to_bytes()
        try:
            data_key = cipher.decrypt(
                blob[_HEAD_END:_KEY_NONCE_END],
                blob[_KEY_NONCE_END:_WRAPPED_END],
                _WRAP_LABEL + bound,
            )
            return AESGCM(data_key).decrypt(
                blob[_WRAPPED_END:_NONCE_END], blob[_NONCE_END:], _DATA_LABEL + bound
            )
        except InvalidTag:
            raise SealBroken(
                "the sealed record was altered, or belongs to another record"
            ) from None

    def seal_check(self) -> bytes:
        """A blob to keep with the data, by which `check` later knows the master key again."""
        return self.seal(CHECK_NAME, b"")

    def check(self, blob: bytes) -> None:
        """Whether the data that `blob` was kept with was made with this master key.

        Raises:
            WrongMasterKey: it was made with another.
            SealBroken: the blob is no check.
        """
        self.open(CHECK_NAME, blob)
