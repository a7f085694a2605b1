"""Taking a backup while serving: a snapshot of the database, and what its master key needs.

The plaintext is a manifest (JSON behind its length in 4 bytes) and then the members that it names,
one behind the other. A master key that the server keeps in its data folder comes along, inside the
seal; one that the operator keeps elsewhere does not, and is needed to restore.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import orjson
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.audit.audit import AuditLog
from fleetroot.clock import Clock
from fleetroot.custody import KEY_FILE_NAME, SCRYPT_FILE_NAME, MasterKeyKind, MasterKeySource
from fleetroot.errors import Conflict, Unavailable
from fleetroot.storage import SqliteStore, Store
from fleetroot.storage.databases import FILE
from fleetroot.upkeep.archive import CHUNK, ArchiveKey, seal
from fleetroot.upkeep.rotation import Rotation

_LEFT_BEHIND: Final = ".backup-*.db"


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    path: Path
    size: int


class Backups:
    """Takes backups of this installation, one at a time."""

    def __init__(
        self,
        store: Store,
        data: Path,
        rotation: Rotation,
        audit_log: AuditLog,
        clock: Clock,
        *,
        master_key: MasterKeySource,
        version: str,
    ) -> None:
        self._store = store
        self._data = data
        self._rotation = rotation
        self._audit_log = audit_log
        self._clock = clock
        self._master_key = master_key
        self._version = version
        self._taking = asyncio.Lock()
        for path in data.glob(_LEFT_BEHIND):
            path.unlink()

    async def take(self, key: ArchiveKey, *, by: Actor) -> Iterator[bytes]:
        """The sealed backup, as it is read; the snapshot is of the time of this call.

        Raises:
            Conflict: the database is not SQLite.
            Unavailable: the master key is being changed, or another backup is being taken.
        """
        if not isinstance(self._store, SqliteStore):
            raise Conflict(
                "the database is PostgreSQL: take it with pg_dump, see docs/custody.md",
                reason="backup of PostgreSQL",
            )
        if self._rotation.change is not None:
            raise Unavailable("the master key is being changed: back up when that is done")
        if self._taking.locked():
            raise Unavailable("another backup is being taken", retry_after=60)
        async with self._taking:
            now = self._clock.now()
            entry = Entry(now, by, Action.TAKE_BACKUP, "installation")
            await self._store.write(lambda tx: audit.append(tx, entry))
            await self._audit_log.write()
            snapshot = self._data / f".backup-{os.urandom(8).hex()}.db"
            await asyncio.to_thread(self._store.snapshot, snapshot)
        return seal(key, self._plaintext(snapshot, now))

    def _plaintext(self, snapshot: Path, taken_at: datetime) -> Iterator[bytes]:
        try:
            members = [
                _Member(name, path, path.stat().st_size)
                for name, path in self._files(snapshot).items()
                if path.exists()
            ]
            audit_key = self._audit_log.public_key.public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            manifest = orjson.dumps(
                {
                    "takenAt": taken_at.isoformat(),
                    "version": self._version,
                    "masterKey": self._rotation.key_id.hex(),
                    "masterKeyFrom": self._master_key.kind.value,
                    "auditKey": audit_key.decode(),
                    "members": [{"name": m.name, "size": m.size} for m in members],
                }
            )
            yield len(manifest).to_bytes(4, "big") + manifest
            for member in members:
                yield from _read(member.path)
        finally:
            snapshot.unlink(missing_ok=True)

    def _files(self, snapshot: Path) -> dict[str, Path]:
        files = {FILE: snapshot}
        if self._master_key.kind is MasterKeyKind.DATA_FOLDER:
            files[KEY_FILE_NAME] = self._data / KEY_FILE_NAME
        if self._master_key.kind is MasterKeyKind.PASSPHRASE:
            files[SCRYPT_FILE_NAME] = self._data / SCRYPT_FILE_NAME
        return files


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")
