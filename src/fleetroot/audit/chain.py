"""The chain: what a checkpoint states, how it is signed, and how a log is held against it.

A statement names a stretch of entries by the SHA-256 over the SHA-256 of each line, and the
checkpoint before it by the SHA-256 of that one's statement and signature. Nothing here reads a
database, so a log that was exported is verified by the same lines as one that is being served.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fleetroot.audit.model import Checkpoint, LoggedEntry
from fleetroot.clock import iso8601
from fleetroot.pki.keys import public_key_info

NOTHING_BEFORE: Final = "0" * 64  # what the first checkpoint names as its predecessor
_MAX_FINDINGS: Final = 20
_ALGORITHM: Final = ec.ECDSA(hashes.SHA384())


@dataclass(slots=True)
class Findings:
    """What came of holding a log against its checkpoints.

    Attributes:
        wrong: what does not fit, in words; empty when everything does.
        entries: how many entries the checkpoints cover.
        checkpoints: how many there are.
        open_entries: entries behind the last checkpoint, which nothing vouches for yet.
        head: the SHA-256 that the next checkpoint would name, hexadecimal.
    """

    wrong: list[str] = field(default_factory=list)
    entries: int = 0
    checkpoints: int = 0
    open_entries: int = 0
    head: str = NOTHING_BEFORE

    def add(self, what: str) -> None:
        """Adds a finding; of very many, the first."""
        if len(self.wrong) < _MAX_FINDINGS:
            self.wrong.append(what)


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal."""
    return sha256(public_key_info(key)).hexdigest()


def checkpoint_id(checkpoint: Checkpoint) -> str:
    """What the next checkpoint names this one by, hexadecimal."""
    return sha256(checkpoint.statement + checkpoint.signature).hexdigest()


def sign(
    key: ec.EllipticCurvePrivateKey,
    entries: list[LoggedEntry],
    before: Checkpoint | None,
    now: datetime,
) -> Checkpoint:
    """The checkpoint over `entries`, which follow `before` in the log and are not empty."""
    number = before.number + 1 if before else 1
    fields = {
        "number": number,
        "first": entries[0].seq,
        "last": entries[-1].seq,
        "count": len(entries),
        "entries": _digest(entry.line for entry in entries),
        "previous": checkpoint_id(before) if before else NOTHING_BEFORE,
        "key": key_id(key.public_key()),
        "at": iso8601(now),
    }
    statement = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    signature = key.sign(statement, _ALGORITHM)
    return Checkpoint(number, entries[0].seq, entries[-1].seq, statement, signature)


class Verifier:
    """Holds a log against its checkpoints: give it every entry and every checkpoint in the order of
    their numbers, a checkpoint behind the entries that it covers.
    """

    def __init__(self, key: ec.EllipticCurvePublicKey, *, expected: str | None = None) -> None:
        """Describes what to verify with.

        Args:
            key: what the checkpoints are signed by, from where nobody could have changed it.
            expected: the id of a checkpoint that was kept elsewhere, and that must be there.
        """
        self._key = key
        self._expected = expected
        self._open: list[LoggedEntry] = []
        self._last_seq = 0
        self._found = Findings()

    def entry(self, entry: LoggedEntry) -> None:
        """Takes the next entry."""
        self._open.append(entry)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Takes the next checkpoint."""
        found, number = self._found, checkpoint.number
        fields = _fields(checkpoint, self._key, found)
        if number != found.checkpoints + 1:
            found.add(f"checkpoint {found.checkpoints + 1} is missing: {number} comes next")
        if fields.get("previous") != found.head:
            found.add(f"checkpoint {number} does not follow the one before it")
        covered = [entry for entry in self._open if entry.seq <= checkpoint.last_seq]
        del self._open[: len(covered)]
        _check_covered(checkpoint, fields, covered, self._last_seq, found)
        self._last_seq = checkpoint.last_seq
        found.entries += len(covered)
        found.checkpoints = number
        found.head = checkpoint_id(checkpoint)
        if found.head == self._expected:
            self._expected = None

    def finish(self) -> Findings:
        """What was found, now that everything was given."""
        self._found.open_entries = len(self._open)
        if self._expected is not None:
            self._found.add("the checkpoint that was kept elsewhere is not in this log")
        return self._found


def _fields(
    checkpoint: Checkpoint, key: ec.EllipticCurvePublicKey, found: Findings
) -> dict[str, Any]:
    try:
        key.verify(checkpoint.signature, checkpoint.statement, _ALGORITHM)
    except InvalidSignature:
        found.add(f"checkpoint {checkpoint.number} is not signed by this key")
    try:
        fields = orjson.loads(checkpoint.statement)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        found.add(f"checkpoint {checkpoint.number} cannot be read")
        return {}
    said = (fields.get("number"), fields.get("first"), fields.get("last"))
    if said != (checkpoint.number, checkpoint.first_seq, checkpoint.last_seq):
        found.add(f"checkpoint {checkpoint.number} says that it is another one")
    return fields


def _check_covered(
    checkpoint: Checkpoint,
    fields: dict[str, Any],
    covered: list[LoggedEntry],
    last_seq: int,
    found: Findings,
) -> None:
    first, last = checkpoint.first_seq, checkpoint.last_seq
    if first <= last_seq or (covered and covered[0].seq < first):
        found.add(f"entries before {first} were added behind checkpoint {checkpoint.number - 1}")
    if len(covered) != fields.get("count"):
        found.add(
            f"of entries {first} to {last} there are {len(covered)}, "
            f"where checkpoint {checkpoint.number} counted {fields.get('count')}"
        )
    elif _digest(entry.line for entry in covered) != fields.get("entries"):
        found.add(f"one of entries {first} to {last} is not as it was when it was written")


def _digest(lines: Iterable[bytes]) -> str:
    total = sha256()
    for line in lines:
        total.update(sha256(line).digest())
    return total.hexdigest()
