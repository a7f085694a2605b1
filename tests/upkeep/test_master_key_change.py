"""Changing the master key, at the database that a server has left behind."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import LargeBinary, Table

import database
from fleet import Fleet
from fleetroot.audit import SYSTEM
from fleetroot.clock import SystemClock
from fleetroot.custody import (
    MasterKey,
    MasterKeyConfig,
    MasterKeyKind,
    MasterKeySource,
    Sealer,
    WrongMasterKey,
    load_master_key,
)
from fleetroot.errors import AlreadyExists
from fleetroot.gateway import server_certificate
from fleetroot.storage import PostgresStore, SqliteStore, schema
from fleetroot.upkeep import rotation as module
from fleetroot.upkeep.rotation import Rotation, open_sealer
from fleetroot.upkeep.sealed import Record, SealedColumn, sealed_columns

NEW = MasterKey(bytes(range(32)), MasterKeySource(MasterKeyKind.ENVIRONMENT))
COLUMNS = sealed_columns([server_certificate.sealed_name])


class Crash(Exception):
    """The process is gone."""


@dataclass
class Place:
    """A database, and the key that the next start is given."""

    store: SqliteStore | PostgresStore
    old: MasterKey
    given: MasterKey

    async def rotation(self, key: MasterKey) -> Rotation:
        """As a start with this key has it."""

        def keep(master: MasterKey) -> None:
            self.given = master

        made = Rotation(
            self.store,
            await open_sealer(self.store, key),
            SystemClock(),
            COLUMNS,
            present=lambda: self.given,
            keep=keep,
            forget=lambda _: None,
        )
        await made.start()
        return made

    async def records(self) -> list[Record]:
        found = []
        for column in COLUMNS:
            page = await self.store.read(lambda tx: column.page(tx, None, 1000))  # noqa: B023
            found += [r for r in page if r.name is not None and r.blob is not None]
        return found

    async def opened(self, sealer: Sealer) -> list[bytes]:
        """Every record, opened."""
        return [sealer.open(r.name, r.blob) for r in await self.records()]  # type: ignore[arg-type]


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Of a server with every kind of secret, in batches of two."""
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    data = tmp_path / "data"
    async with Fleet.running(data) as fleet:
        await fleet.provision("dev-1")
        for n in range(5):
            primary, _ = await fleet.enroll(f"single-{n}")
            token = fleet.provisioning_token(f"single-{n}", primary)
            assert (await fleet.register(f"single-{n}", token=token)).status == 200
        namespace = await fleet.server.namespaces.get("default")
        await fleet.server.policies.create(
            namespace, "plant", subject="Plant 7", bring_your_own_root=True, by=SYSTEM
        )
        await fleet.server.publisher.update()
    old = load_master_key(MasterKeyConfig(), data)
    store = database.store_of(data)
    yield Place(store, old, old)
    store.close()


def test_every_sealed_column_of_the_schema_is_in_the_list() -> None:
    listed = {(column.table.name, column.column) for column in COLUMNS}
    sealed = {
        (table.name, column.name)
        for table in schema.metadata.tables.values()
        for column in table.columns
        if column.name.startswith("sealed_")
    }
    assert sealed | {("installation", "value")} == listed
    assert all(isinstance(column.table.c[column.column].type, LargeBinary) for column in COLUMNS)


@pytest.mark.parametrize("table", [schema.authority_requests, schema.ocsp_responders], ids=str)
async def test_keys_of_waiting_cas_and_of_responders_are_records(
    place: Place, table: Table
) -> None:
    [column] = [column for column in COLUMNS if column.table is table]
    assert await place.store.read(lambda tx: column.page(tx, None, 1))


async def test_every_sealed_row_of_the_installation_has_a_name(place: Place) -> None:
    """What the old key's head begins is sealed, and would be lost without a name."""
    head = Sealer(place.old).seal_check()[:9]
    rows = await place.store.read(lambda tx: COLUMNS[-1].page(tx, None, 1000))
    sealed = [row for row in rows if row.blob is not None and row.blob.startswith(head)]
    assert len(sealed) >= 3
    assert [row.key for row in sealed if row.name is None] == []


async def test_every_record_opens_under_the_new_key_alone(place: Place) -> None:
    before = await place.opened(Sealer(place.old))
    [some, *_] = [r for r in await place.records() if r.blob is not None]
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    place.given = NEW
    await rotation.reseal()
    assert rotation.change is None
    assert await place.opened(Sealer(NEW)) == before
    with pytest.raises(WrongMasterKey):
        rotation._sealer.open(some.name, some.blob)  # type: ignore[arg-type]
    for record in await place.records():
        with pytest.raises(WrongMasterKey):
            Sealer(place.old).open(record.name, record.blob)  # type: ignore[arg-type]
    with pytest.raises(WrongMasterKey):
        (await open_sealer(place.store, place.old)).check(
            next(r.blob for r in await place.records() if r.key == ("seal-check",))  # type: ignore[arg-type]
        )


async def test_both_keys_open_while_the_change_is_under_way(place: Place) -> None:
    before = await place.opened(Sealer(place.old))
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    await crash_after(rotation, 2)
    for key in (place.old, NEW):
        assert await place.opened(await open_sealer(place.store, key)) == before


async def test_the_old_key_is_good_until_the_new_one_is_in_its_place(place: Place) -> None:
    """So that no crash leaves a server that cannot start."""
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    await rotation.reseal()
    assert rotation.change is not None
    assert rotation.change.all_resealed
    assert await place.opened(await open_sealer(place.store, place.old))
    place.given = NEW
    assert await rotation.finish()


async def test_a_key_that_the_server_keeps_is_put_in_its_place(place: Place) -> None:
    own = MasterKey(NEW.key, MasterKeySource(MasterKeyKind.DATA_FOLDER))
    rotation = await place.rotation(place.old)
    await rotation.begin(own, by=SYSTEM)
    await rotation.reseal()
    assert rotation.change is None
    assert place.given.id == own.id


async def test_a_start_that_is_given_neither_key_is_refused(place: Place) -> None:
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    other = MasterKey(b"x" * 32, MasterKeySource(MasterKeyKind.ENVIRONMENT))
    with pytest.raises(WrongMasterKey):
        await open_sealer(place.store, other)


async def test_a_second_change_at_the_same_time_is_refused(place: Place) -> None:
    rotation = await place.rotation(place.old)
    with pytest.raises(AlreadyExists):
        await rotation.begin(place.old, by=SYSTEM)
    await rotation.begin(NEW, by=SYSTEM)
    with pytest.raises(AlreadyExists):
        await rotation.begin(place.old, by=SYSTEM)


async def test_a_record_that_somebody_changes_meanwhile_is_not_overwritten(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    place.given = NEW
    replace, changed = SealedColumn.replace, []

    def after_another(self: SealedColumn, tx: Any, records: Any) -> int:
        record = records[0][0]
        if not changed and self.table is schema.enrollments:
            theirs = rotation._sealer.seal(record.name, b"theirs")
            changed.append((record.key, theirs))
            replace(self, tx, [(record, theirs)])
        return replace(self, tx, records)

    monkeypatch.setattr(SealedColumn, "replace", after_another)
    await rotation.reseal()
    [(key, theirs)] = changed
    assert theirs in [r.blob for r in await place.records() if r.key == key]


async def crash_after(rotation: Rotation, batches: int) -> bool:
    """Goes on until so many batches were written; whether there were as many."""
    write, left = rotation._write, [batches]

    async def until_then(column: SealedColumn, anew: Any) -> None:
        if not left[0]:
            raise Crash
        left[0] -= 1
        await write(column, anew)

    rotation._write = until_then  # type: ignore[method-assign]
    try:
        await rotation.reseal()
    except Crash:
        return True
    return False


@pytest.mark.parametrize("restarted_with_new", [False, True])
async def test_a_crash_between_any_two_batches_is_taken_up(
    place: Place, restarted_with_new: bool
) -> None:
    before = await place.opened(Sealer(place.old))
    batches, old = 0, place.old
    while True:
        new = MasterKey(bytes([batches + 1]) * 32, NEW.source)
        rotation = await place.rotation(old)
        await rotation.begin(new, by=SYSTEM)
        crashed = await crash_after(rotation, batches)
        place.given = new if restarted_with_new else old
        again = await place.rotation(place.given)
        assert again.change is not None
        place.given = new
        await again.reseal()
        assert again.change is None
        assert await place.opened(Sealer(new)) == before
        if not crashed:
            break
        old, batches = new, batches + 1
    assert batches > 8


async def test_the_row_of_a_change_shows_no_key(place: Place) -> None:
    rotation = await place.rotation(place.old)
    await rotation.begin(NEW, by=SYSTEM)
    rows = await place.store.read(lambda tx: COLUMNS[-1].page(tx, None, 1000))
    [row] = [row.blob for row in rows if row.key == (module.ROW,)]
    fields = orjson.loads(row or b"")
    stored = b"".join(base64.b64decode(fields[name]) for name in ("newUnderOld", "oldUnderNew"))
    assert NEW.key not in stored
    assert place.old.key not in stored
