"""Enrollments of TPMs like all others: devices that wait, bulk changes, imports."""

from __future__ import annotations

from typing import Any

import pytest
from test_enrollment_bulk import bulk, errors
from test_enrollment_import import imported
from test_quarantine import decide, waiting
from test_tpm_attestation import TpmDevice, refused, storage_root

from fleet import Fleet
from model_tpm import ModelTpm


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
