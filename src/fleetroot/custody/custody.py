"""Which custody holds a key: the sealed software store, or one of the configured tokens.

What is stored of a key is sealed in either case, under the record's name and the master key. Opened
it is a private key, or says in which token the key is. So keys of before there were tokens load as
they did, and nobody who writes to the database can make a CA sign with another key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from cryptography.hazmat.primitives import serialization

from fleetroot.custody import token_keys
from fleetroot.custody.keys import DEFAULT_OPEN_KEYS, SOFTWARE, KeyStore, SealedKey
from fleetroot.custody.sealing import RecordName, SealBroken, Sealer
from fleetroot.custody.session import TokenState
from fleetroot.custody.token import Token
from fleetroot.custody.token_keys import TokenEcPrivateKey, TokenRsaPrivateKey
from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.pki import KeyType, PrivateKey, private_key_from_der
from fleetroot.pki.keys import public_key_info

T = TypeVar("T")

# What is sealed of a key in a token: this, the token's name after its length, the key's id after
# its length, and the SubjectPublicKeyInfo. A private key is DER, which begins with 0x30.
_IN_TOKEN: Final = b"fleetroot/pkcs11/1\0"
_MAX_NAME: Final = 64


class Custody:
    """Keys in software, and in tokens. Safe to share between threads."""

    __slots__ = ("_authorities_in", "_store", "_tokens")

    def __init__(
        self,
        sealer: Sealer,
        tokens: Iterable[Token] = (),
        *,
        authorities_in: str = SOFTWARE,
        max_open_keys: int = DEFAULT_OPEN_KEYS,
    ) -> None:
        """Raises:
        InvalidArgument: `authorities_in` is no token of these.
        """
        self._tokens = {token.name: token for token in tokens}
        self._store = KeyStore(sealer, max_open_keys=max_open_keys, read=self._read)
        self._authorities_in = authorities_in
        if authorities_in != SOFTWARE:
            self._token(authorities_in)

    @property
    def authorities_in(self) -> str:
        """Where the keys of new CAs are made, unless somebody says otherwise."""
        return self._authorities_in

    def generate(
        self, key_type: KeyType, name: RecordName, *, keep_in: str = SOFTWARE
    ) -> SealedKey:
        """Makes a key pair under this name; in a token, it never leaves it.

        Raises:
            InvalidArgument: there is no such token, or it holds no keys of this type.
            Unavailable: the token does not answer now.
        """
        if keep_in == SOFTWARE:
            return self._store.generate(key_type, name)
        token = self._token(keep_in)
        public = token_keys.generate(token, key_type, name)
        id_ = token_keys.key_id(name)
        key = token_keys.private_key(token, id_, public)
        return self._store.put(name, _reference(token.name, id_, public_key_info(public)), key)

    def load(self, name: RecordName, sealed: bytes) -> PrivateKey:
        """The private key of this name, to sign with. A token is not asked before it signs.

        Raises:
            SealBroken: the bytes are not those that were made under this name.
            WrongMasterKey: they were made under another master key.
            Unavailable: the key is in a token that is not configured any more.
        """
        return self._store.load(name, sealed)

    def forget(self, name: RecordName) -> None:
        """Drops what is held open of this key."""
        self._store.forget(name)

    def states(self) -> list[TokenState]:
        """How every token stands."""
        return [token.state for token in self._tokens.values()]

    def look(self) -> None:
        """Finds out which tokens are there. Waits for each as long as a call may take."""
        for token in self._tokens.values():
            token.look()

    def close(self) -> None:
        """Lets go of the tokens."""
        for token in self._tokens.values():
            token.close()

    def _token(self, name: str) -> Token:
        try:
            return self._tokens[name]
        except KeyError:
            raise InvalidArgument(f"there is no token {name}") from None

    def _read(self, opened: bytes) -> PrivateKey:
        if not opened.startswith(_IN_TOKEN):
            return private_key_from_der(opened)
        rest = opened[len(_IN_TOKEN) :]
        name, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        id_, info = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        token = self._tokens.get(name.decode())
        if token is None:
            raise Unavailable(
                "a key that this needs is not available now",
                reason=f"token is not configured: {name.decode()}",
            )
        try:
            return token_keys.private_key(
                token,
                id_,
                serialization.load_der_public_key(info),  # type: ignore[arg-type]
            )
        except (ValueError, TypeError) as error:
            raise SealBroken("the key of a token cannot be read") from error


async def sign_with(key: PrivateKey, job: Callable[[], T]) -> T:
    """What `job` gives, which signs with `key`: at once, or in a thread of the key's token.

    Raises:
        Unavailable: the token cannot sign now.
    """
    if isinstance(key, TokenEcPrivateKey | TokenRsaPrivateKey):
        return await key.token.run(job)
    return job()


def waits(key: PrivateKey) -> bool:
    """Whether signing with this key may wait for a token, and so is for `sign_with`."""
    return isinstance(key, TokenEcPrivateKey | TokenRsaPrivateKey)


def _reference(token: str, id_: bytes, info: bytes) -> bytes:
    name = token.encode()
    return b"".join((_IN_TOKEN, bytes([len(name)]), name, bytes([len(id_)]), id_, info))
