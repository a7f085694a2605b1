"""Bearer tokens of ours: their text, and their table.

A token is `fleetroot_{id}_{secret}`: the word is there for scanners that look for secrets where
none should be, the id finds the row, the secret is 256 random bits. The database has the SHA-256 of
the whole text, which is enough for a secret that cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select, update

from fleetroot.access.model import Grant, Role, Token
from fleetroot.errors import NotFound
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import tokens

MAX_CHARACTERS: Final = 256
_FORM: Final = re.compile(r"fleetroot_([a-z0-9]{12})_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as its bearer has it."""

    id: str
    text: str = field(repr=False)

    @classmethod
    def new(cls, token_id: str | None = None) -> TokenText:
        """A new token, or a new secret for one that is there."""
        token_id = token_id or secrets.token_hex(6)
        return cls(token_id, f"fleetroot_{token_id}_{secrets.token_urlsafe(32)}")

    @classmethod
    def parse(cls, text: str) -> TokenText | None:
        """The token that the text is; None if it is not of the form."""
        if len(text) > MAX_CHARACTERS or (found := _FORM.fullmatch(text)) is None:
            return None
        return cls(found[1], text)

    @property
    def sha256(self) -> bytes:
        """What the database has of it."""
        return hashlib.sha256(self.text.encode()).digest()


class KeptToken(NamedTuple):
    """A row of the table."""

    token: Token
    sha256: bytes
    former_sha256: bytes | None

    def is_good(self, text: TokenText, now: datetime) -> bool:
        """Whether `text` is this token's and opens something now; compared in constant time."""
        given, token = text.sha256, self.token
        former = self.former_sha256 or self.sha256
        is_current = hmac.compare_digest(given, self.sha256)
        is_former = hmac.compare_digest(given, former)
        in_overlap = token.former_until is not None and now < token.former_until
        return (is_current or (is_former and in_overlap)) and token.status(now) == "active"


def _row(
    id_: str,
    name: str,
    role: str,
    namespace_id: str | None,
    sha256: bytes,
    former_sha256: bytes | None,
    former_until: datetime | None,
    created_by: str,
    created_at: datetime,
    rotated_at: datetime | None,
    expires_at: datetime,
    last_used_at: datetime | None,
    revoked_at: datetime | None,
) -> KeptToken:
    token = Token(
        id_,
        name,
        Grant(Role(role), namespace_id),
        created_by,
        created_at,
        rotated_at,
        expires_at,
        former_until,
        last_used_at,
        revoked_at,
    )
    return KeptToken(token, sha256, former_sha256)


_INSERT: Final = Command(insert_into(tokens))
_GET: Final = Query(select(tokens).where(tokens.c.id == bindparam("key")), _row)
_ALL: Final = Query(select(tokens).order_by(tokens.c.created_at, tokens.c.id), _row)
_ROTATE: Final = Command(
    update(tokens)
    .where(tokens.c.id == bindparam("key"))
    .values(
        former_sha256=tokens.c.sha256,
        former_until=bindparam("until"),
        sha256=bindparam("new_sha256"),
        rotated_at=bindparam("now"),
        expires_at=bindparam("expires"),
    )
)
_REVOKE: Final = Command(
    update(tokens).where(tokens.c.id == bindparam("key")).values(revoked_at=bindparam("now"))
)
_USED: Final = Command(
    update(tokens).where(tokens.c.id == bindparam("key")).values(last_used_at=bindparam("at"))
)


def find(tx: Transaction, token_id: str) -> KeptToken | None:
    """The token of that id."""
    return tx.first(_GET, key=token_id)


def get(tx: Transaction, name: str) -> Token:
    """The token of that id, or the one of that name that is not revoked.

    Raises:
        NotFound: there is none.
    """
    for kept in tx.all(_ALL):
        token = kept.token
        if name == token.id or (name == token.name and token.revoked_at is None):
            return token
    raise NotFound(f"there is no token {name}")


def all_(tx: Transaction) -> list[Token]:
    """Every token, oldest first."""
    return [kept.token for kept in tx.all(_ALL)]


def insert(tx: Transaction, token: Token, text: TokenText) -> None:
    """Adds a token."""
    tx.run(
        _INSERT,
        id=token.id,
        name=token.name,
        role=token.grant.role.value,
        namespace_id=token.grant.namespace_id,
        sha256=text.sha256,
        former_sha256=None,
        former_until=None,
        created_by=token.created_by,
        created_at=token.created_at,
        rotated_at=None,
        expires_at=token.expires_at,
        last_used_at=None,
        revoked_at=None,
    )


def rotate(
    tx: Transaction, text: TokenText, *, until: datetime, expires: datetime, now: datetime
) -> None:
    """Gives the token a new secret; the one before is good until `until`."""
    tx.run(_ROTATE, key=text.id, until=until, new_sha256=text.sha256, now=now, expires=expires)


def revoke(tx: Transaction, token_id: str, now: datetime) -> None:
    """Ends the token."""
    tx.run(_REVOKE, key=token_id, now=now)


def used(tx: Transaction, token_id: str, at: datetime) -> None:
    """Notes when the token was used last."""
    tx.run(_USED, key=token_id, at=at)
