"""A session with a token, what a token is configured by, and what its answers mean.

A session is of one thread. It remembers the handles of the keys that it has used.
"""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from fleetroot.custody.cryptoki import (
    Attribute,
    CryptokiError,
    Mechanism,
    Module,
    ObjectClass,
    Rv,
    Template,
)
from fleetroot.errors import InvalidArgument, Unavailable

CLOSE_SECONDS: Final = 1.0
_MAX_PIN_BYTES: Final = 256

# What a token answers that is there and will not do this. Anything else, a vendor's own codes among
# it, says that the session, the token or the module may be gone.
REFUSES: Final = frozenset(
    {
        Rv.ATTRIBUTE_TYPE_INVALID,
        Rv.ATTRIBUTE_SENSITIVE,
        Rv.ATTRIBUTE_VALUE_INVALID,
        Rv.DATA_INVALID,
        Rv.DATA_LEN_RANGE,
        Rv.FUNCTION_NOT_SUPPORTED,
        Rv.KEY_SIZE_RANGE,
        Rv.KEY_TYPE_INCONSISTENT,
        Rv.KEY_FUNCTION_NOT_PERMITTED,
        Rv.MECHANISM_INVALID,
        Rv.MECHANISM_PARAM_INVALID,
        Rv.TEMPLATE_INCOMPLETE,
        Rv.TEMPLATE_INCONSISTENT,
        Rv.TOKEN_WRITE_PROTECTED,
        Rv.CURVE_NOT_SUPPORTED,
    }
)
PIN_REFUSED: Final = frozenset(
    {
        Rv.PIN_INCORRECT,
        Rv.PIN_INVALID,
        Rv.PIN_LEN_RANGE,
        Rv.PIN_EXPIRED,
        Rv.PIN_LOCKED,
        Rv.USER_PIN_NOT_INITIALIZED,
    }
)


class TokenAway(Unavailable):
    """The token does not answer now."""

    def __init__(self, token: str, why: str) -> None:
        super().__init__(
            "a key that this needs is not available now",
            reason=f"token is away: {token}, {why}",
            retry_after=5,
        )


class KeyNotInToken(Unavailable):
    """The token answers, and does not hold the key."""

    def __init__(self, token: str, key_id: bytes) -> None:
        super().__init__(
            "a key that this needs is not available now",
            reason=f"key is not in its token: {token}, id {key_id.hex()}",
        )


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """A token as an operator names it.

    Attributes:
        name: what it is called here; stands in what is stored, so it stays.
        module: the PKCS#11 module's shared library.
        label: the token's own label.
        pin: of its user.
        threads: how many sign at the same time, each with a session.
        timeout: seconds after which a call counts as hung.
        retry_seconds: between two looks whether a token that is away is back.
    """

    name: str
    module: Path
    label: str
    pin: str = field(repr=False)
    threads: int = 4
    timeout: float = 5.0
    retry_seconds: float = 1.0


def read_pin(path: Path) -> str:
    """The PIN in a file, without the line's end.

    Raises:
        InvalidArgument: others can read the file, or it holds none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        # systemd's credentials show an ACL as the group's bits, so a group may read.
        if mode & stat.S_IRWXO:
            raise InvalidArgument(f"the PIN file {path} is open to others: chmod 600 {path}")
        pin = file.read(_MAX_PIN_BYTES).strip()
    if not pin:
        raise InvalidArgument(f"the PIN file {path} is empty")
    return pin.decode()


class TokenState(NamedTuple):
    """How a token stands: None, or why it is away."""

    name: str
    away: str | None


class Session:
    """A thread's session. `epoch` is that of the module when it was opened."""

    __slots__ = ("_keys", "epoch", "handle", "module")

    def __init__(self, module: Module, label: str, pin: str, *, writing: bool = False) -> None:
        self.module = module
        self.epoch = module.epoch
        self.handle = module.open_session(module.slot_of(label), writing=writing)
        self._keys: dict[bytes, int] = {}
        try:
            module.login(self.handle, pin)
        except CryptokiError:
            module.close_session(self.handle)
            raise

    def private_keys(self, key_id: bytes) -> list[int]:
        """The handles of the token's private keys of that id."""
        wanted: Template = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.TOKEN: True,
            Attribute.ID: key_id,
        }
        return self.module.find(self.handle, wanted, 2)

    def sign(self, key_id: bytes, mechanism: Mechanism, data: bytes) -> bytes | None:
        """The signature as the mechanism has it; None: there is not exactly one such key."""
        key = self._keys.get(key_id)
        if key is None:
            found = self.private_keys(key_id)
            if len(found) != 1:
                return None
            key = self._keys[key_id] = found[0]
        return self.module.sign(self.handle, key, mechanism, data)


# A module is loaded and initialised once in a process, whoever uses it.
_shared: dict[Path, tuple[Module, int]] = {}
_sharing: Final = threading.Lock()


def share(path: Path) -> Module:
    """The module, for one more user.

    Raises:
        ModuleUnusable: it cannot be loaded.
    """
    with _sharing:
        module, users = _shared.get(path) or (Module(path), 0)
        _shared[path] = module, users + 1
        return module


def release(path: Path) -> None:
    """Takes one user off the module; it is finalised with the last."""
    with _sharing:
        module, users = _shared[path]
        if users > 1:
            _shared[path] = module, users - 1
            return
        del _shared[path]
    module.finalize(CLOSE_SECONDS)
