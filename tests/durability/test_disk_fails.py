"""A disk that is full or fails while the server runs.

Everybody is told to come back, nothing is half done, what was acknowledged stays, and all works
again by itself when the disk does.

A disk is full in truth where this user may mount one; everywhere, the tracing layer lets the calls
of the server fail as a disk would.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from filetrace import FileTrace

from fleet import Certified, Closed, Fleet, Refused, device_csr
from fleetroot.gateway.mqtt import ConnackCode, Puback, Publish
from server_process import ServerProcess, serving

ANSWERS = "$iothub/credentials/res/#"
ISSUE = "$iothub/credentials/POST/issueCertificate/"
UNAVAILABLE = 503001
SECONDS = 20.0


class Disk(Protocol):
    """A disk with a server's data folder on it."""

    def fail(self) -> None: ...

    def heal(self) -> None: ...


class SmallDisk:
    """A disk of its own, which something else fills."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fail(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 - it ends the loop

    def heal(self) -> None:
        self._filler.unlink()


class FailingWrites:
    """Calls that would change a file fail."""

    def __init__(self, trace: FileTrace, error: int) -> None:
        self._trace, self._error = trace, error

    def fail(self) -> None:
        self._trace.fail_writes(self._error)

    def heal(self) -> None:
        self._trace.fail_writes(0)


class FailingSyncs:
    """What is written does not reach the disk, and the disk says so."""

    def __init__(self, trace: FileTrace) -> None:
        self._trace = trace

    def fail(self) -> None:
        self._trace.fail_syncs(errno.EIO)

    def heal(self) -> None:
        self._trace.fail_syncs(0)


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small disk; its failures are simulated beside this")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class Place:
    """A server, and the disk that its data is on."""

    def __init__(self, server: ServerProcess, disk: Disk) -> None:
        self.server = server
        self._disk = disk
        self._devices = 0

    def device_id(self) -> str:
        """One that no other test has."""
        self._devices += 1
        return f"dev-{self._devices}"

    @contextmanager
    def without_disk(self) -> Iterator[None]:
        self._disk.fail()
        try:
            yield
        finally:
            self._disk.heal()


@pytest.fixture(scope="module", params=["full in truth", "full", "writes fail", "syncs fail"])
def place(
    request: pytest.FixtureRequest, tracing: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    own = tmp_path_factory.mktemp("disk")
    if request.param == "full in truth":
        with mounted(own / "small") as folder, serving(folder / "data") as server:
            yield Place(server, SmallDisk(folder))
        return
    trace = FileTrace(tracing, own / "data", own)
    disk = {
        "full": FailingWrites(trace, errno.ENOSPC),
        "writes fail": FailingWrites(trace, errno.EIO),
        "syncs fail": FailingSyncs(trace),
    }[request.param]
    with serving(own / "data", environment=trace.environment) as server:
        yield Place(server, disk)


@pytest.fixture
async def fleet(place: Place) -> AsyncIterator[Fleet]:
    made = place.server.fleet()
    yield made
    await made.http.aclose()


def kept(fleet: Fleet) -> dict[str, list[tuple[Any, ...]]]:
    """What is in the database, but for who is connected."""
    found = fleet.traces() | {"events": fleet.messages()}
    return {name: rows for name, rows in found.items() if name != "identities"}


async def test_provisioning_device_is_told_to_come_back(place: Place, fleet: Fleet) -> None:
    device_id, before = place.device_id(), kept(fleet)
    with place.without_disk():
        answer = await fleet.register(device_id, {"csr": device_csr(device_id)[1]})
        assert (answer.status, answer.error_code) == (503, UNAVAILABLE)
        assert int(answer.query["retry-after"]) > 0
        assert kept(fleet) == before
    certified = await fleet.provision(device_id)
    async with await fleet.connect(device_id, certified):
        pass


async def test_connecting_device_is_told_to_come_back(place: Place, fleet: Fleet) -> None:
    """CONNACK 3: after 4 or 5, SDKs give up or throw their certificate away."""
    device_id = place.device_id()
    certified = await fleet.provision(device_id)
    with place.without_disk():
        with pytest.raises(Refused) as refused:
            await fleet.connect(device_id, certified)
        assert refused.value.code is ConnackCode.SERVER_UNAVAILABLE
    async with await fleet.connect(device_id, certified):
        pass


async def test_operator_is_told_to_come_back(place: Place, fleet: Fleet) -> None:
    device_id = place.device_id()
    certified = await fleet.provision(device_id)
    before = kept(fleet)
    with place.without_disk():
        answer = await fleet.http.post(f"/fleetroot/devices/{device_id}/revoke")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert kept(fleet) == before
    async with await fleet.connect(device_id, certified):  # it was not revoked
        pass
    answer = await fleet.http.post(f"/fleetroot/devices/{device_id}/revoke")
    assert answer.json()["certificatesRevoked"] == 1
    with pytest.raises(Refused):
        await fleet.connect(device_id, certified)


async def test_message_is_not_acknowledged_and_can_be_sent_again(
    place: Place, fleet: Fleet
) -> None:
    device_id = place.device_id()
    certified = await fleet.provision(device_id)
    topic = f"devices/{device_id}/messages/events/"
    mqtt = await fleet.connect(device_id, certified)
    await mqtt.publish(topic, b"before")
    with place.without_disk():
        await mqtt.send(Publish(topic, b"meanwhile", 1, False, False, 7))
        with pytest.raises(Closed):
            await mqtt.expect(Puback)
    async with await fleet.connect(device_id, certified) as mqtt:
        await mqtt.publish(topic, b"meanwhile")
    assert [event["text"] for event in await fleet.events(device=device_id)] == [
        "before",
        "meanwhile",
    ]


async def test_renewing_device_is_told_to_come_back(place: Place, fleet: Fleet) -> None:
    device_id = place.device_id()
    async with await fleet.connect(device_id, await fleet.provision(device_id)) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        key, csr = device_csr(device_id)
        body = json.dumps({"id": device_id, "csr": csr}).encode()
        before = kept(fleet)
        with place.without_disk():
            answer = await mqtt.ask(ISSUE, body)
            assert (answer.status, answer.error_code) == (503, UNAVAILABLE)
            assert kept(fleet) == before
        assert (await mqtt.ask(ISSUE, body)).status == 202
        answer = await mqtt.answer()
        chain = tuple(map(base64.b64decode, answer.body["certificates"]))
    async with await fleet.connect(device_id, Certified(chain, key)):
        pass


async def test_connected_device_stays_and_is_served_what_is_only_read(
    place: Place, fleet: Fleet
) -> None:
    device_id = place.device_id()
    async with await fleet.connect(device_id, await fleet.provision(device_id)) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        with place.without_disk():
            assert (await mqtt.ask("$iothub/twin/GET/")).status == 200


async def test_health_tells_of_it(place: Place, fleet: Fleet) -> None:
    with place.without_disk():
        async with asyncio.timeout(SECONDS):  # it writes once in a few seconds
            while (await fleet.http.get("/healthz")).status_code == 200:
                await asyncio.sleep(0.1)
    assert (await fleet.http.get("/healthz")).status_code == 200
