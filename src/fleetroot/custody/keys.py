"""Signing keys: made, kept sealed, and opened to sign.

`KeyCustody` is what the other rooms know. `KeyStore` keeps keys in software, sealed; `Custody` has
it and the tokens that were configured.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fleetroot.custody.sealing import RecordName, Sealer
from fleetroot.errors import InvalidArgument
from fleetroot.pki import (
    KeyType,
    PrivateKey,
    PublicKey,
    generate_key,
    private_key_from_der,
    private_key_to_der,
)

DEFAULT_OPEN_KEYS: Final = 256
SOFTWARE: Final = "software"  # as the place of a key: sealed, in the database


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key pair as it is stored.

    Attributes:
        sealed: what `load` needs to give the private key back; opaque, and no secret in itself.
    """

    sealed: bytes = field(repr=False)
    public_key: PublicKey


class KeyCustody(Protocol):
    """Where private keys live and how they sign."""

    @property
    def authorities_in(self) -> str:
        """Where the keys of new CAs are made, unless somebody says otherwise."""
        ...

    def generate(
        self, key_type: KeyType, name: RecordName, *, keep_in: str = SOFTWARE
    ) -> SealedKey:
        """Makes a key pair under this name. The caller stores what is returned.

        Args:
            keep_in: `SOFTWARE`, or a token's name. A token may take its time: not on the event
                loop.

        Raises:
            InvalidArgument: there is no such token, or it holds no keys of this type.
            Unavailable: the token does not answer now.
        """
        ...

    def load(self, name: RecordName, sealed: bytes) -> PrivateKey:
        """The private key of this name, to sign with.

        Raises:
            SealBroken: the bytes are not those that were made under this name.
            WrongMasterKey: they were made under another master key.
        """
        ...

    def forget(self, name: RecordName) -> None:
        """Drops what is held open of this key, as when its CA was revoked."""
        ...


class KeyStore:
    """Keys in software, sealed under the master key. Safe to share between threads.

    A signing key is opened once and then held, for as long as it is among the last
    `max_open_keys` used: issuing a certificate should cost a signature and not an unsealing.
    """

    __slots__ = ("_lock", "_max_open_keys", "_open", "_read", "_sealer")

    authorities_in: Final = SOFTWARE

    def __init__(
        self,
        sealer: Sealer,
        *,
        max_open_keys: int = DEFAULT_OPEN_KEYS,
        read: Callable[[bytes], PrivateKey] = private_key_from_der,
    ) -> None:
        """`read`: the key of what was sealed."""
        self._sealer = sealer
        self._read = read
        self._max_open_keys = max_open_keys
        self._lock = threading.Lock()
        # With the blob that it came from: another blob under the same name is no hit.
        self._open: OrderedDict[RecordName, tuple[bytes, PrivateKey]] = OrderedDict()

    def generate(
        self, key_type: KeyType, name: RecordName, *, keep_in: str = SOFTWARE
    ) -> SealedKey:
        """Makes a key pair and seals its private key under this name.

        Raises:
            InvalidArgument: it shall be kept elsewhere.
        """
        if keep_in != SOFTWARE:
            raise InvalidArgument(f"there is no token {keep_in}")
        key = generate_key(key_type)
        return self.put(name, private_key_to_der(key), key)

    def put(self, name: RecordName, plaintext: bytes, key: PrivateKey) -> SealedKey:
        """Seals what `read` makes this key of."""
        sealed = self._sealer.seal(name, plaintext)
        self._hold(name, sealed, key)
        return SealedKey(sealed, key.public_key())

    def load(self, name: RecordName, sealed: bytes) -> PrivateKey:
        """The private key that was sealed under this name.

        Raises:
            SealBroken: the blob was altered, or sealed under another name.
            WrongMasterKey: it was sealed under another master key.
        """
        with self._lock:
            held = self._open.get(name)
            if held is not None and held[0] == sealed:
                self._open.move_to_end(name)
                return held[1]
        key = self._read(self._sealer.open(name, sealed))
        self._hold(name, sealed, key)
        return key

    def forget(self, name: RecordName) -> None:
        """Drops the opened key of this name, if it is held."""
        with self._lock:
            self._open.pop(name, None)

    def _hold(self, name: RecordName, sealed: bytes, key: PrivateKey) -> None:
        with self._lock:
            self._open[name] = (sealed, key)
            self._open.move_to_end(name)
            while len(self._open) > self._max_open_keys:
                self._open.popitem(last=False)
