"""Restoring a backup onto an empty machine, and what was lost with the time since.

Everything is done in a folder beside its place: the backup is opened to its last byte, the database
is checked, the restore is written into it, revocations of a log that was shipped are made again.
Only then it gets its name, at once.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fleetroot import audit
from fleetroot.audit import SYSTEM, Action, Entry
from fleetroot.audit.chain import Verifier
from fleetroot.audit.export import MAX_LINE_BYTES, NotALine, parse_line
from fleetroot.audit.model import LoggedEntry, Outcome
from fleetroot.bus import LocalBus
from fleetroot.clock import Clock
from fleetroot.custody import KEY_FILE_NAME, SCRYPT_FILE_NAME
from fleetroot.errors import AlreadyExists, FleetrootError, NotFound
from fleetroot.hub.hubs import Trust
from fleetroot.registry import namespaces, restores
from fleetroot.registry.model import Namespace
from fleetroot.registry.registry import Registry
from fleetroot.registry.restores import Restore
from fleetroot.storage import Store, Transaction, databases
from fleetroot.storage.databases import FILE
from fleetroot.upkeep.archive import ArchiveBroken, ArchiveKey, unseal

_FOLDER: Final = ".restoring"
_MAX_MANIFEST: Final = 64 * 1024
_MEMBERS: Final = frozenset({FILE, KEY_FILE_NAME, SCRYPT_FILE_NAME})
_REPLAYED: Final = frozenset(
    {
        Action.REVOKE_DEVICE,
        Action.DISABLE_DEVICE,
        Action.ENABLE_DEVICE,
        Action.REVOKE_ISSUER,
    }
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    taken_at: datetime
    version: str
    master_key_from: str
    audit_key: ec.EllipticCurvePublicKey
    members: dict[str, int]


@dataclass(slots=True)
class Replay:
    """What a shipped audit log gave back, and what it tells of that is lost.

    Attributes:
        issuers: policies whose CAs were revoked again.
        unknown: of devices and CAs that the backup does not have.
        lost: other changes since the backup, by action.
        open: entries that no checkpoint vouches for; left out.
    """

    revoked: int = 0
    enabled: int = 0
    issuers: int = 0
    unknown: int = 0
    open: int = 0
    lost: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was restored."""

    manifest: Manifest
    marked: Marked


async def restore(
    file: BinaryIO,
    key: ArchiveKey,
    data: Path,
    clock: Clock,
    log: Iterable[bytes] | None = None,
    *,
    rotate_issuers: bool = False,
) -> Restored:
    """Restores a backup into `data`, which has no database yet.

    Args:
        file: the backup.
        data: the data folder; it exists, and is the caller's own.
        log: an exported audit log, as lines.
        rotate_issuers: whether every issuing CA is revoked; the next start makes others.

    Raises:
        AlreadyExists: there is a database or a key in the folder.
        ArchiveBroken: the backup or its database is not whole, or the key is another one.
        LogBroken: the log is not as it was written, or of another installation.
    """
    there = [name for name in sorted(_MEMBERS) if (data / name).exists()]
    if there:
        raise AlreadyExists(f"{data} is not empty: it has {', '.join(there)}")
    folder = data / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        manifest = _unpack(unseal(key, file), folder)
        _check_database(folder / FILE)
        entries = None if log is None else read_log(log, manifest.audit_key)
        database = databases.open_sqlite(folder)
        try:
            made = await mark_restored(
                database.store, manifest.taken_at, clock, entries, rotate_issuers=rotate_issuers
            )
        finally:
            database.store.close()
        # The database last: until it is there, nothing was restored.
        for name in sorted(manifest.members, key=lambda member: member == FILE):
            _sync(folder / name)
            (folder / name).rename(data / name)
        _sync(data)
        return Restored(manifest, made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Marked:
    """A restore that was written down.

    Attributes:
        replay: None where no log was shipped.
        rotated: the policies that get another CA with the next start.
    """

    restored_at: datetime
    replay: Replay | None
    rotated: list[str]


async def mark_restored(
    store: Store,
    taken_at: datetime,
    clock: Clock,
    entries: VerifiedLog | None,
    *,
    rotate_issuers: bool = False,
) -> Marked:
    """Writes down that a database is of an earlier time, and makes the log's revocations again."""
    now = clock.now()

    def unit(tx: Transaction) -> list[str]:
        restores.record(tx, Restore(taken_at, now))
        details = {"takenAt": taken_at.isoformat()}
        audit.append(tx, Entry(now, SYSTEM, Action.RESTORE, "installation", details=details))
        return restores.revoke_every_issuer(tx, Trust(), now) if rotate_issuers else []

    rotated = await store.write(unit)
    replay = None
    if entries is not None:
        replay = await _replay(store, taken_at, clock, entries)
    return Marked(now, replay, rotated)


async def mark_postgresql(
    url: str,
    taken_at: datetime,
    clock: Clock,
    entries: VerifiedLog | None,
    *,
    rotate_issuers: bool = False,
) -> Marked:
    """`mark_restored` of a database that was restored by PostgreSQL's own means.

    Raises:
        InvalidArgument: it is no URL of PostgreSQL.
        Unavailable: it cannot be used, or a server uses it.
    """
    database = databases.open_postgresql(url)
    try:
        return await mark_restored(
            database.store, taken_at, clock, entries, rotate_issuers=rotate_issuers
        )
    finally:
        database.store.close()


def read_audit_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key that an audit log is verified with.

    Raises:
        LogBroken: it is none.
    """
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise LogBroken("the audit key is not a public key (PEM)") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise LogBroken("the audit key is not an elliptic key")
    return key


class LogBroken(FleetrootError):
    """The audit log is not as it was written, or of another installation."""


@dataclass(frozen=True, slots=True)
class VerifiedLog:
    """The entries that checkpoints vouch for, and how many nothing does."""

    entries: list[dict[str, Any]]
    open: int


def read_log(lines: Iterable[bytes], key: ec.EllipticCurvePublicKey) -> VerifiedLog:
    """The entries of an exported log.

    Raises:
        LogBroken: it does not verify by this key.
    """
    verifier, every = Verifier(key), []
    try:
        for line in lines:
            parsed = parse_line(line[: MAX_LINE_BYTES + 1].rstrip(b"\n"))
            if isinstance(parsed, LoggedEntry):
                verifier.entry(parsed)
                every.append(parsed)
            else:
                verifier.checkpoint(parsed)
    except NotALine as error:
        raise LogBroken(f"the audit log cannot be read: {error}") from error
    found = verifier.finish()
    if found.wrong or not found.checkpoints:
        why = found.wrong[0] if found.wrong else "it has no checkpoint"
        raise LogBroken(f"the audit log does not verify: {why}")
    vouched = every[: len(every) - found.open_entries]
    return VerifiedLog([orjson.loads(entry.line) for entry in vouched], found.open_entries)


async def _replay(store: Store, taken_at: datetime, clock: Clock, log: VerifiedLog) -> Replay:
    registry = Registry(store, LocalBus(), clock)
    replay = Replay(open=log.open)
    found: dict[str, Namespace | None] = {}
    for entry in log.entries:
        done = entry["outcome"] == Outcome.DONE
        if not done or datetime.fromisoformat(entry["at"]) < taken_at:
            continue
        if entry["action"] not in _REPLAYED:
            replay.lost[entry["action"]] += 1
            continue
        id_ = str(entry["namespace"])
        if id_ not in found:
            found[id_] = await store.read(partial(_namespace, id_=id_))
        namespace = found[id_]
        if namespace is None:
            replay.unknown += 1
            continue
        if entry["action"] == Action.REVOKE_ISSUER:
            await _revoke_issuer(store, clock, namespace, entry, replay)
        else:
            await _once_more(registry, namespace, entry, replay)
    return replay


def _namespace(tx: Transaction, id_: str) -> Namespace | None:
    try:
        return namespaces.get(tx, id_)
    except NotFound:
        return None


async def _once_more(
    registry: Registry, namespace: Namespace, entry: dict[str, Any], replay: Replay
) -> None:
    device_id = str(entry["subject"]).removeprefix("device/")
    try:
        if entry["action"] == Action.REVOKE_DEVICE:
            disable = bool((entry["details"] or {}).get("disable"))
            await registry.revoke(namespace, device_id, disable=disable, by=SYSTEM)
            replay.revoked += 1
        else:
            enabled = entry["action"] == Action.ENABLE_DEVICE
            await registry.set_enabled(namespace, device_id, enabled, by=SYSTEM)
            replay.enabled += 1
    except NotFound:
        replay.unknown += 1


async def _revoke_issuer(
    store: Store, clock: Clock, namespace: Namespace, entry: dict[str, Any], replay: Replay
) -> None:
    name = str(entry["subject"]).removeprefix("policy/")
    revoked = [str(id_) for id_ in (entry["details"] or {}).get("revoked", ())]
    now = clock.now()
    try:
        await store.write(
            lambda tx: restores.revoke_again(tx, Trust(), namespace.id, name, revoked, now)
        )
        replay.issuers += 1
    except NotFound:
        replay.unknown += 1


def _unpack(plaintext: Iterator[bytes], folder: Path) -> Manifest:
    reader = _Reader(plaintext)
    size = int.from_bytes(reader.take(4), "big")
    if size > _MAX_MANIFEST:
        raise ArchiveBroken("the backup's manifest is too long")
    manifest = _parse(reader.take(size))
    for name, length in manifest.members.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for part in reader.parts(length):
                file.write(part)
    if reader.has_more():
        raise ArchiveBroken("the backup has more than it says")
    return manifest


class _Reader:
    """Takes bytes from parts of any length."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._waiting = b""

    def parts(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._waiting and not self._fill():
                raise ArchiveBroken("the backup ends too soon")
            part, self._waiting = self._waiting[:size], self._waiting[size:]
            size -= len(part)
            yield part

    def take(self, size: int) -> bytes:
        return b"".join(self.parts(size))

    def has_more(self) -> bool:
        return bool(self._waiting) or self._fill()

    def _fill(self) -> bool:
        while not self._waiting:
            part = next(self._parts, None)
            if part is None:
                return False
            self._waiting = part
        return True


def _parse(manifest: bytes) -> Manifest:
    try:
        fields = orjson.loads(manifest)
        key = load_pem_public_key(fields["auditKey"].encode())
        members = {str(m["name"]): int(m["size"]) for m in fields["members"]}
        made = Manifest(
            datetime.fromisoformat(fields["takenAt"]),
            str(fields["version"]),
            str(fields["masterKeyFrom"]),
            key,  # type: ignore[arg-type]  # looked at below
            members,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveBroken("the backup's manifest cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not members.keys() <= _MEMBERS:
        raise ArchiveBroken("the backup has what this program does not know")
    if FILE not in members:
        raise ArchiveBroken("the backup has no database")
    return made


def _check_database(path: Path) -> None:
    """Raises:
    ArchiveBroken: SQLite finds something wrong with it.
    """
    try:
        connection = sqlite3.connect(path)
        try:
            [(found,)] = connection.execute("PRAGMA integrity_check(1)").fetchall()
            wrong = connection.execute("PRAGMA foreign_key_check").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ArchiveBroken(f"the backup's database cannot be used: {error}") from error
    if found != "ok" or wrong:
        raise ArchiveBroken(f"the backup's database is broken: {found}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
