"""Devices of an enrollment in quarantine wait for an operator, and are told `assigning`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_provisioning_https import HttpsDevice

from fleet import Answer, Fleet, device_csr
from fleetroot import sas
from fleetroot.clock import ManualClock

QUARANTINE = "/fleetroot/provisioning-services/default/quarantine"


class Newcomer:
    """A device of the group `gate`, which is in quarantine."""

    def __init__(self, fleet: Fleet, group_key: bytes, registration_id: str = "dev-1") -> None:
        self.fleet = fleet
        self.id = registration_id
        self._token = fleet.provisioning_token(
            registration_id, sas.derive_device_key(group_key, registration_id)
        )

    async def register(self, body: dict[str, Any] | None = None) -> Answer:
        return await self.fleet.register(self.id, body, token=self._token)

    async def poll(self, operation_id: str) -> Answer:
        async with await self.fleet.provisioning(self.id, token=self._token) as mqtt:
            return await mqtt.answer_to(
                "$dps/registrations/GET/iotdps-get-operationstatus/"
                f"?$rid=1&operationId={operation_id}"
            )


@pytest.fixture
async def gate(fleet: Fleet) -> bytes:
    """The key of the group."""
    key, _ = await fleet.enroll("gate", group=True, policy="default", quarantine=True)
    return key


@pytest.fixture
def newcomer(fleet: Fleet, gate: bytes) -> Newcomer:
    return Newcomer(fleet, gate)


async def decide(fleet: Fleet, word: str, **body: Any) -> int:
    answer = await fleet.http.post(f"{QUARANTINE}/{word}", json=body)
    assert answer.status_code == 200, answer.text
    decided: int = answer.json()["decided"]
    return decided


async def waiting(fleet: Fleet, **query: Any) -> list[str]:
    answer = await fleet.http.get(QUARANTINE, params=query)
    assert answer.status_code == 200, answer.text
    return [each["registrationId"] for each in answer.json()["value"]]


async def test_new_device_is_assigning_and_gets_nothing(fleet: Fleet, newcomer: Newcomer) -> None:
    answer = await newcomer.register({"csr": device_csr("dev-1")[1]})
    assert (answer.status, answer.body["status"]) == (202, "assigning")
    assert answer.body["registrationState"]["assignedHub"] is None
    assert "issuedCertificateChain" not in answer.body["registrationState"]
    assert await fleet.devices() == []
    assert await fleet.certificates() == []
    assert await waiting(fleet) == ["dev-1"]


async def test_approved_device_gets_with_its_next_poll_what_it_asked_for(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    asked = await newcomer.register({"csr": device_csr("dev-1")[1]})
    operation = asked.body["operationId"]
    assert (await newcomer.poll(operation)).body["status"] == "assigning"
    assert await decide(fleet, "approve", registrationIds=["DEV-1"]) == 1
    done = await newcomer.poll(operation)
    assert (done.status, done.body["status"]) == (200, "assigned")
    assert done.body["operationId"] == operation
    assert len(done.body["registrationState"]["issuedCertificateChain"]) == 3
    assert await waiting(fleet) == []
    again = await newcomer.poll(operation)
    assert again.body["registrationState"] == done.body["registrationState"]


async def test_device_that_asks_again_is_in_the_same_operation(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    first = await newcomer.register()
    again = await newcomer.register({"csr": device_csr("dev-1")[1]})
    assert again.body["operationId"] == first.body["operationId"]
    await decide(fleet, "approve", enrollmentGroup="gate")
    done = await newcomer.register({"csr": device_csr("dev-1")[1]})
    assert done.body["status"] == "assigned"


async def test_rejected_device_is_failed_until_it_is_approved(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    operation = (await newcomer.register()).body["operationId"]
    assert await decide(fleet, "reject", registrationIds=["dev-1"]) == 1
    for answer in (await newcomer.poll(operation), await newcomer.register()):
        assert (answer.status, answer.body["status"]) == (200, "failed")
        assert answer.body["registrationState"]["errorCode"] == 401002
        assert answer.body["registrationState"]["errorMessage"] == "The registration was rejected"
    assert await fleet.devices() == []
    assert await waiting(fleet) == []
    assert await waiting(fleet, rejected=True) == ["dev-1"]
    assert await decide(fleet, "approve", registrationIds=["dev-1"]) == 1
    assert (await newcomer.register()).body["status"] == "assigned"


async def test_device_that_was_let_in_once_does_not_wait_again(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    await newcomer.register()
    await decide(fleet, "approve", enrollmentGroup="gate")
    await newcomer.register()
    assert (await newcomer.register()).status == 200


async def test_approval_whose_answer_was_lost_can_be_sent_again(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    operation = (await newcomer.register()).body["operationId"]
    await decide(fleet, "approve", registrationIds=["dev-1"])
    await newcomer.poll(operation)
    assert await decide(fleet, "approve", registrationIds=["dev-1"]) == 0
    answer = await fleet.http.post(f"{QUARANTINE}/reject", json={"registrationIds": ["dev-1"]})
    assert answer.status_code == 404


async def test_device_with_another_key_does_not_finish_what_was_approved(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    operation = (await newcomer.register()).body["operationId"]
    await decide(fleet, "approve", registrationIds=["dev-1"])
    thief = Newcomer(fleet, b"k" * 32)
    assert (await thief.poll(operation)).status == 401
    assert await fleet.devices() == []


async def test_many_are_decided_about_at_once(fleet: Fleet, gate: bytes) -> None:
    for number in range(5):
        await Newcomer(fleet, gate, f"dev-{number}").register()
    other, _ = await fleet.enroll("other", group=True, quarantine=True)
    await Newcomer(fleet, other, "pump-1").register()
    assert await waiting(fleet, limit=2) == ["dev-0", "dev-1"]
    assert await waiting(fleet, limit=2, after="dev-3") == ["dev-4", "pump-1"]
    assert await waiting(fleet, enrollmentGroup="other") == ["pump-1"]
    assert await decide(fleet, "reject", registrationIds=["dev-0"]) == 1
    assert await decide(fleet, "approve", enrollmentGroup="gate") == 4
    assert await decide(fleet, "approve", enrollmentGroup="gate") == 0
    assert await waiting(fleet) == ["pump-1"]


async def test_one_unknown_id_leaves_all_of_a_decision_undone(
    fleet: Fleet, newcomer: Newcomer
) -> None:
    await newcomer.register()
    body = {"registrationIds": ["dev-1", "dev-2"]}
    answer = await fleet.http.post(f"{QUARANTINE}/approve", json=body)
    assert answer.status_code == 404
    assert await waiting(fleet) == ["dev-1"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"registrationIds": ["dev-1"], "enrollment": "dev-1"},
        {"enrollment": "a", "enrollmentGroup": "b"},
        {"registrationIds": ["dev-1"] * 1001},
        {"registrationIds": "dev-1"},
        {"registrationIds": ["no good"]},
    ],
)
async def test_bad_decision_is_400(fleet: Fleet, body: dict[str, Any]) -> None:
    assert (await fleet.http.post(f"{QUARANTINE}/approve", json=body)).status_code == 400


async def test_deleting_the_enrollment_ends_the_waiting(fleet: Fleet, newcomer: Newcomer) -> None:
    await newcomer.register()
    await fleet.http.delete("/enrollmentGroups/gate")
    assert await waiting(fleet) == []


async def test_decisions_are_in_the_audit_log(fleet: Fleet, newcomer: Newcomer) -> None:
    await newcomer.register()
    await decide(fleet, "reject", registrationIds=["dev-1"])
    await decide(fleet, "approve", registrationIds=["dev-1"])
    answer = await fleet.http.get(
        "/fleetroot/audit/entries", params={"subject": "registration/dev-1"}
    )
    actions = [entry["action"] for entry in answer.json()["value"]]
    assert sorted(actions) == ["registration.approve", "registration.hold", "registration.reject"]


async def test_https_tells_when_to_come_back_and_where(fleet: Fleet, gate: bytes) -> None:
    device = HttpsDevice(fleet, key=sas.derive_device_key(gate, "dev-1"))
    answer = await device.register()
    assert answer.status_code == 202
    assert int(answer.headers["retry-after"]) > 0
    location = answer.headers["location"]
    assert (await device.ask("GET", location)).json()["status"] == "assigning"
    await decide(fleet, "approve", registrationIds=["dev-1"])
    assert (await device.ask("GET", location)).json()["status"] == "assigned"


async def test_disabled_device_is_refused_and_does_not_wait(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    key, _ = await fleet.enroll("dev-1", policy="default", quarantine=True)
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
    assert (answer.status, answer.error_code) == (401, 401002)
    assert answer.body["message"] == "The device is disabled"
    assert await waiting(fleet) == []


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    async with Fleet.running(tmp_path) as fleet:
        key, _ = await fleet.enroll("gate", group=True, policy="default", quarantine=True)
        asked = await Newcomer(fleet, key).register({"csr": device_csr("dev-1")[1]})
    async with Fleet.running(tmp_path) as fleet:
        assert await decide(fleet, "approve", registrationIds=["dev-1"]) == 1
        done = await Newcomer(fleet, key).poll(asked.body["operationId"])
        assert len(done.body["registrationState"]["issuedCertificateChain"]) == 3


async def test_nobody_provisions_under_an_enrollment_that_has_expired(tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC).replace(microsecond=0))
    async with Fleet.running(tmp_path, clock=clock) as fleet:
        expiry = (clock.now() + timedelta(hours=1)).isoformat()
        key, _ = await fleet.enroll("season", group=True, expiryDateTimeUtc=expiry)
        device = Newcomer(fleet, key)
        assert (await device.register()).status == 200
        clock.advance(timedelta(hours=1))
        late = Newcomer(fleet, key)
        answer = await late.register()
        assert (answer.status, answer.error_code) == (401, 401002)
        assert answer.body["message"] == "The enrollment has expired"
        assert await fleet.refusals() == {"enrollment expired": 1}
