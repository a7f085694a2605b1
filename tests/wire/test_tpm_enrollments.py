"""Enrollments of TPMs like all others: devices that wait, bulk changes, imports."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from test_enrollment_bulk import bulk, errors
from test_enrollment_import import imported
from test_quarantine import decide, waiting
from test_tpm_attestation import TpmDevice, refused, storage_root

from fleet import SECONDS, Fleet
from fleetroot.clock import ManualClock
from model_tpm import ModelTpm
from webhook_server import Asked, WebhookServer
from webhook_server import answer as http_answer


@pytest.fixture
def device(fleet: Fleet) -> TpmDevice:
    """A device that nobody has enrolled yet."""
    return TpmDevice(fleet, ModelTpm())


def row(device: TpmDevice, **tpm: str) -> dict[str, Any]:
    keys = {"endorsementKey": device.told["endorsementKey"]} | tpm
    return {"registrationId": device.id, "attestation": {"type": "tpm", "tpm": keys}}


async def hold(device: TpmDevice) -> tuple[str, str]:
    """The device proves itself and waits for approval: its operation, and its token."""
    await device.take_challenge()
    token = await device.token()
    answer = await device.register(token)
    assert (answer.status_code, answer.json()["status"]) == (202, "assigning")
    assert answer.json()["registrationState"]["tpm"] == {}
    operation: str = answer.json()["operationId"]
    return operation, token


async def test_approved_device_gets_the_key_for_its_hub_with_its_next_poll(
    device: TpmDevice,
) -> None:
    await device.enroll(quarantine=True)
    operation, token = await hold(device)
    held = await device.ask("GET", f"/operations/{operation}", token)
    assert (held.status_code, held.json()["status"]) == (202, "assigning")
    assert await decide(device.fleet, "approve", registrationIds=["dev-1"]) == 1
    done = await device.ask("GET", f"/operations/{operation}", token)
    assert (done.status_code, done.json()["status"]) == (200, "assigned")
    assert done.json()["operationId"] == operation
    await device.activate(done.json()["registrationState"]["tpm"]["authenticationKey"], "hub")
    async with await device.fleet.connect("dev-1", token=await device.hub_token()):
        pass


async def test_storage_root_key_of_a_device_that_waits_is_kept(device: TpmDevice) -> None:
    await device.enroll(quarantine=True)
    await hold(device)
    assert await storage_root(device) == device.told["storageRootKey"]


async def test_webhook_is_told_the_keys_of_the_tpm_that_it_allocates(
    tmp_path: Path,
) -> None:
    async with WebhookServer.running(tmp_path / "webhook") as webhook:
        settings = {"webhook_ca": webhook.ca, "webhook_networks": ["127.0.0.0/8"]}
        async with Fleet.running(tmp_path / "data", **settings) as fleet:
            device, decides = TpmDevice(fleet, ModelTpm()), asyncio.Event()

            async def decide(_: Asked) -> bytes:
                await decides.wait()
                return http_answer({"iotHubHostName": fleet.hub_host})

            webhook.answers = [decide]
            definition = {"webhookUrl": webhook.url(), "apiVersion": "1"}
            enrolled = await device.enroll(
                allocationPolicy="custom", customAllocationDefinition=definition
            )
            assert enrolled.status_code == 200, enrolled.text
            operation, token = await hold(device)
            decides.set()
            async with asyncio.timeout(SECONDS):
                while (
                    done := await device.ask("GET", f"/operations/{operation}", token)
                ).status_code == 202:
                    await asyncio.sleep(0.1)
            state = done.json()["registrationState"]
            assert (done.json()["status"], state["assignedHub"]) == ("assigned", fleet.hub_host)
            assert webhook.asked[0].json["deviceRuntimeContext"]["tpm"] == device.told
            await device.activate(state["tpm"]["authenticationKey"], "hub")
            async with await fleet.connect("dev-1", token=await device.hub_token()):
                pass


async def test_expiry_of_the_enrollment_is_said_to_the_tpm_alone(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    device = TpmDevice(timed_fleet, ModelTpm())
    expiry = (clock.now() + timedelta(hours=1)).isoformat()
    assert (await device.enroll(expiryDateTimeUtc=expiry)).status_code == 200
    await device.provision()
    token, registrations = await device.token(), timed_fleet.rows("registrations")
    clock.advance(timedelta(hours=1))
    assert (await device.register()).status_code == 401  # a challenge, as ever
    assert refused(await device.register(token), 401002) == "The enrollment has expired"
    assert timed_fleet.rows("registrations") == registrations


async def test_device_that_proved_nothing_does_not_wait(device: TpmDevice) -> None:
    await device.enroll(quarantine=True)
    await device.take_challenge()
    refused(await device.register(device.fleet.provisioning_token("dev-1").decode()), 401003)
    assert await waiting(device.fleet) == []


async def test_tpm_that_is_cleared_while_its_device_waits_finishes_the_same_operation(
    device: TpmDevice,
) -> None:
    await device.enroll(quarantine=True)
    operation, before = await hold(device)
    device.tpm.clear()  # type: ignore[union-attr]
    again, token = await hold(device)
    assert again == operation
    await decide(device.fleet, "approve", registrationIds=["dev-1"])
    refused(await device.ask("GET", f"/operations/{operation}", before), 401003)
    done = await device.ask("GET", f"/operations/{operation}", token)
    assert done.json()["status"] == "assigned"


async def test_bulk_change_tells_of_the_tpm_that_is_none_and_makes_the_other(
    device: TpmDevice,
) -> None:
    bad = row(device, endorsementKey="AAAA") | {"registrationId": "dev-2"}
    assert errors(await bulk(device.fleet, "create", bad, row(device))) == {"dev-2": 400004}
    await device.provision()


async def test_import_refuses_the_row_of_a_tpm_that_is_none_alone(device: TpmDevice) -> None:
    bad = row(device, storageRootKey="AAAA") | {"registrationId": "dev-2"}
    done = await imported(device.fleet, bad, row(device))
    assert (done["created"], len(done["refused"])) == (1, 1)
    await device.provision()


async def test_import_keeps_what_a_tpm_was_given(device: TpmDevice) -> None:
    await imported(device.fleet, row(device))
    await device.provision()
    token = await device.token()
    done = await imported(device.fleet, row(device) | {"iotEdge": False}, mode="update")
    assert done["updated"] == 1
    assert await storage_root(device) == device.told["storageRootKey"]
    assert (await device.register(token)).status_code == 200
