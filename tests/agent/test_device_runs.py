"""A device at work, against the whole server."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from agents import Agent, agent, at_work, certified, provisioned

from fleet import Closed, Fleet
from fleetroot.agent.errors import CredentialRefused, RequestRefused
from fleetroot.agent.report import Happening
from fleetroot.agent.runner import Settings


async def run_once(worker: Agent) -> None:
    await asyncio.to_thread(worker.runner.run_once)


async def post(fleet: Fleet, path: str) -> None:
    answer = await fleet.http.post(path)
    assert answer.status_code == 200, answer.text


async def test_device_connects_reports_and_is_done(fleet: Fleet, folder_path: Path) -> None:
    worker = agent(await provisioned(fleet, folder_path))
    await run_once(worker)
    assert worker.happenings() == [Happening.CONNECTED, Happening.REPORTED]


async def test_certificate_dates_are_reported_in_the_twin(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    await run_once(agent(folder))
    async with await fleet.connect("dev-1", certified(folder)) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        twin = await mqtt.ask("$iothub/twin/GET/")
    assert twin.body["reported"]["certificate"] == folder.load().credential.described()


async def test_heartbeat_is_sent_as_telemetry(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    await run_once(agent(folder, Settings(telemetry_interval=60)))
    [event] = await fleet.events()
    assert event["deviceId"] == "dev-1"
    assert event["properties"] == {"kind": "heartbeat"}
    assert event["systemProperties"]["contentType"] == "application/json"


async def test_heartbeats_follow_each_other_at_the_interval(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    async with at_work(folder, Settings(telemetry_interval=60)) as worker:
        for _ in range(3):
            await worker.saw(Happening.SENT)
            worker.move(timedelta(seconds=60))
        await worker.saw(Happening.SENT)


async def test_certificate_is_renewed_after_two_thirds_of_its_life(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    old = folder.load()
    async with at_work(folder) as worker:
        await worker.saw(Happening.REPORTED)
        worker.move(old.renew_at(2 / 3) - worker.clock.now() - timedelta(seconds=1))
        worker.move(timedelta(seconds=1))
        await worker.saw(Happening.RENEWED)
        connected = await worker.saw(Happening.CONNECTED)
    new = folder.load()
    assert new.credential.sha256 == connected.fields["sha256"] != old.credential.sha256
    assert new.credential.key.private_numbers() != old.credential.key.private_numbers()
    assert worker.happenings().count(Happening.RENEWED) == 1
    origins = [c["origin"] for c in await fleet.certificates("dev-1")]
    assert origins == ["renewal", "provisioning"]


async def test_certificate_is_not_renewed_before_it_is_time(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    worker = agent(folder)
    worker.clock.advance(folder.load().renew_at(2 / 3) - worker.clock.now() - timedelta(seconds=1))
    await run_once(worker)
    assert Happening.RENEWING not in worker.happenings()


async def test_server_and_device_agree_on_a_moved_clock(
    timed_fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(timed_fleet, folder_path)
    old = folder.load()
    worker = agent(folder)
    for clock in (worker.clock, timed_fleet.server.clock):
        clock.advance(timedelta(days=23))
    await run_once(worker)
    new = folder.load()
    assert new.credential.not_before - old.credential.not_before == timedelta(days=23)


async def test_expired_certificate_is_replaced_by_provisioning(
    timed_fleet: Fleet, folder_path: Path
) -> None:
    worker = agent(await provisioned(timed_fleet, folder_path))
    for clock in (worker.clock, timed_fleet.server.clock):
        clock.advance(timedelta(days=31))
    await run_once(worker)
    assert worker.happenings() == [
        Happening.REFUSED,
        Happening.PROVISIONING,
        Happening.PROVISIONED,
        Happening.CONNECTED,
        Happening.REPORTED,
    ]


async def test_device_that_is_told_to_renews_at_once_and_only_once(
    fleet: Fleet, folder_path: Path
) -> None:
    worker = agent(await provisioned(fleet, folder_path), Settings(renew_now=True))
    await run_once(worker)
    assert worker.happenings() == [
        Happening.CONNECTED,
        Happening.REPORTED,
        Happening.RENEWING,
        Happening.RENEWED,
        Happening.CONNECTED,
        Happening.REPORTED,
    ]


async def test_revoked_device_provisions_again_and_is_back(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    async with at_work(folder) as worker:
        await worker.saw(Happening.REPORTED)
        await post(fleet, "/fleetroot/devices/dev-1/revoke")
        await worker.saw(Happening.LOST)
        await worker.saw(Happening.REFUSED)
        await worker.saw(Happening.PROVISIONED)
        connected = await worker.saw(Happening.CONNECTED)
    assert folder.load().credential.sha256 == connected.fields["sha256"]
    assert len(worker.bell.pauses) == 1  # for the lost connection; none before the new certificate


async def test_disabled_device_backs_off(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    before = folder.load()
    await post(fleet, "/fleetroot/devices/dev-1/disable")
    worker = agent(folder, stop_after=12)
    await asyncio.to_thread(worker.runner.run)
    assert worker.happenings().count(Happening.PROVISIONING) == len(worker.bell.pauses) == 12
    assert all(
        wait <= window
        for wait, window in zip(
            worker.bell.pauses,
            itertools.chain((1, 2, 4, 8, 16, 32), itertools.repeat(60)),
            strict=False,
        )
    )
    assert folder.load().credential.sha256 == before.credential.sha256


async def test_device_that_is_enabled_again_comes_back(fleet: Fleet, folder_path: Path) -> None:
    folder = await provisioned(fleet, folder_path)
    async with at_work(folder) as worker:
        await worker.saw(Happening.REPORTED)
        await post(fleet, "/fleetroot/devices/dev-1/disable")
        await worker.saw(Happening.REFUSED)
        await post(fleet, "/fleetroot/devices/dev-1/enable")
        await worker.saw(Happening.CONNECTED)


async def test_device_without_its_key_does_not_provision_again(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    folder.store(folder.load().without_key())
    await post(fleet, "/fleetroot/devices/dev-1/revoke")
    worker = agent(folder, stop_after=3)
    await asyncio.to_thread(worker.runner.run)
    assert worker.happenings().count(Happening.REFUSED) == 3
    assert Happening.PROVISIONING not in worker.happenings()
    with pytest.raises(CredentialRefused):
        await run_once(agent(folder))


async def test_once_fails_for_a_device_that_may_not_provision(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    await post(fleet, "/fleetroot/devices/dev-1/disable")
    with pytest.raises(RequestRefused) as refused:
        await run_once(agent(folder))
    assert refused.value.status == 401


async def test_second_device_of_one_identity_evicts_the_first_which_waits(
    fleet: Fleet, folder_path: Path
) -> None:
    folder = await provisioned(fleet, folder_path)
    async with at_work(folder) as worker:
        await worker.saw(Happening.REPORTED)
        # The agent's waits take no time here: it may be back, and evict in turn, before CONNACK.
        with suppress(Closed):
            await (await fleet.connect("dev-1", certified(folder))).wait_closed()
        await worker.saw(Happening.LOST)
        await worker.saw(Happening.WAITING)
    assert Happening.PROVISIONING not in worker.happenings()
