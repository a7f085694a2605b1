"""A database that cannot answer: devices and operators are told to come back, and need no restart.

A server cannot know who was revoked while it cannot read, so after its lease time it drops who is
connected. What happens when the disk fails is in `tests/durability`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet import Certified, Closed, Fleet, Mqtt, Refused, device_csr
from fleetroot.errors import Unavailable
from fleetroot.gateway.mqtt import ConnackCode, Puback, Publish
from fleetroot.storage import sqlite
from postgresql_cluster import cluster

SECONDS = 20.0
DATABASE_FILE = "fleetroot.db"
LEASE = 2.0
TOPIC = "devices/dev-1/messages/events/"
BODY = json.dumps({"registrationId": "dev-2", "csr": device_csr("dev-2")[1]}).encode()
REGISTER = "$dps/registrations/PUT/iotdps-register/"


class Database:
    """A server's database, which goes away and comes back."""

    def __init__(self, fleet: Fleet) -> None:
        self._store: Any = fleet.server.store

    def go_away(self) -> None:
        async def fail(_: object) -> Any:
            raise Unavailable("the database cannot answer now", retry_after=5)

        self._store.read = self._store.write = fail
        self._store.submit = lambda _: None

    def come_back(self) -> None:
        del self._store.read, self._store.write, self._store.submit


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Fleet.running(tmp_path / "data", lease_seconds=LEASE, drain_seconds=0) as running:
        yield running


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


@pytest.fixture
def database(fleet: Fleet) -> Database:
    return Database(fleet)


async def refused_for_now(fleet: Fleet, certified: Certified) -> None:
    with pytest.raises(Refused) as refused:
        await fleet.connect("dev-1", certified)
    assert refused.value.code is ConnackCode.SERVER_UNAVAILABLE


async def let_in_again(fleet: Fleet, certified: Certified) -> Mqtt:
    """Connects, as soon as the server knows again who was revoked."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                return await fleet.connect("dev-1", certified)
            except Refused as refused:
                if refused.code is not ConnackCode.SERVER_UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)


async def test_device_that_comes_to_provision_is_told_to_come_back(
    fleet: Fleet, database: Database
) -> None:
    database.go_away()
    with pytest.raises(Refused) as refused:
        await fleet.provisioning("dev-2")
    assert refused.value.code is ConnackCode.SERVER_UNAVAILABLE
    database.come_back()
    await fleet.provision("dev-2")


async def test_registration_is_answered_503_and_when_to_come_back(
    fleet: Fleet, database: Database
) -> None:
    async with await fleet.provisioning("dev-2") as mqtt:
        database.go_away()
        answer = await mqtt.ask(REGISTER, BODY)
        assert (answer.status, answer.error_code) == (503, 503001)
        assert answer.query["retry-after"] == "5"
        database.come_back()
        assert (await mqtt.ask(REGISTER, BODY)).status == 200


async def test_registration_over_https_is_answered_503_and_when_to_come_back(
    fleet: Fleet, database: Database
) -> None:
    async def register() -> httpx.Response:
        return await fleet.http.put(
            f"/{fleet.id_scope}/registrations/dev-2/register?api-version=2026-11-01",
            content=BODY,
            headers={"authorization": fleet.provisioning_token("dev-2").decode()},
        )

    database.go_away()
    answer = await register()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["x-ms-error-code"] == str(answer.json()["errorCode"]) == "503001"
    assert fleet.rows("registrations") == []
    database.come_back()
    assert (await register()).status_code == 200


async def test_connecting_device_is_told_to_come_back(
    fleet: Fleet, database: Database, certified: Certified
) -> None:
    database.go_away()
    await refused_for_now(fleet, certified)
    database.come_back()
    await (await let_in_again(fleet, certified)).close()


async def test_message_is_not_acknowledged(
    fleet: Fleet, database: Database, certified: Certified
) -> None:
    mqtt = await fleet.connect("dev-1", certified)
    database.go_away()
    await mqtt.send(Publish(TOPIC, b"meanwhile", 1, False, False, 7))
    with pytest.raises(Closed):
        await mqtt.expect(Puback)
    database.come_back()
    async with await let_in_again(fleet, certified) as mqtt:
        await mqtt.publish(TOPIC, b"again")
    assert [event["text"] for event in await fleet.events()] == ["again"]


@pytest.mark.parametrize("path", ["/healthz", "/fleetroot/devices", "/enrollmentGroups/default"])
async def test_operator_is_told_to_come_back(fleet: Fleet, database: Database, path: str) -> None:
    database.go_away()
    answer = await fleet.http.get(path)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    database.come_back()
    assert (await fleet.http.get(path)).status_code == 200


async def test_connected_device_is_dropped_after_the_lease_and_let_in_again(
    fleet: Fleet, database: Database, certified: Certified
) -> None:
    mqtt = await fleet.connect("dev-1", certified)
    database.go_away()
    await mqtt.wait_closed()
    await refused_for_now(fleet, certified)
    database.come_back()
    await (await let_in_again(fleet, certified)).close()


# --- another process holds SQLite's write lock

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def write_lock_held(fleet: Fleet) -> Iterator[None]:
    database = fleet.server.settings.data / DATABASE_FILE
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.communicate("\n", timeout=SECONDS)


@pytest.fixture
async def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """A server that does not wait long for the lock."""
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.05)
    async with Fleet.running(tmp_path / "data") as running:
        yield running


@pytest.mark.sqlite(reason="on PostgreSQL a row is locked: `tests/storage/test_postgresql_store`")
async def test_locked_database_is_an_answer_for_everybody_who_writes(impatient: Fleet) -> None:
    fleet, certified = impatient, await impatient.provision("dev-1")
    with write_lock_held(fleet):
        assert (await fleet.register("dev-2")).status == 503
        await refused_for_now(fleet, certified)
        revoking = await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        assert revoking.status_code == 503
    await fleet.provision("dev-2")
    async with await fleet.connect("dev-1", certified):
        pass


@pytest.mark.sqlite(reason="on PostgreSQL nobody can lock the whole database out")
async def test_locked_database_drops_nobody(impatient: Fleet) -> None:
    async with await impatient.connect("dev-1", await impatient.provision("dev-1")) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        with write_lock_held(impatient):
            assert (await mqtt.ask("$iothub/twin/GET/")).status == 200
        await mqtt.publish(TOPIC, b"after")


# --- PostgreSQL is stopped and started


@pytest.mark.postgresql(reason="SQLite has no server that could be away")
async def test_server_outlives_the_loss_of_its_database_server(tmp_path: Path) -> None:
    """At once, as by a loss of power: everybody is told to come back, and nothing is lost."""
    with cluster() as own:
        async with Fleet.running(
            tmp_path / "data", database_url=own.url("postgres"), lease_seconds=LEASE
        ) as fleet:
            certified = await fleet.provision("dev-1")
            live = await fleet.connect("dev-1", certified)
            await live.publish(TOPIC, b"before")
            provisioning = await fleet.provisioning("dev-2")
            await asyncio.to_thread(own.stop)
            answer = await provisioning.ask(REGISTER, BODY)
            assert answer.status == 503
            assert int(answer.query["retry-after"]) > 0
            await refused_for_now(fleet, certified)
            assert (await fleet.http.get("/fleetroot/devices")).status_code == 503
            await live.wait_closed()  # the lease is over
            await asyncio.to_thread(own.start)
            async with await let_in_again(fleet, certified) as mqtt:
                await mqtt.publish(TOPIC, b"after")
            assert (await provisioning.ask(REGISTER, BODY)).status == 200
            await provisioning.close()
            assert [event["text"] for event in await fleet.events()] == ["before", "after"]
