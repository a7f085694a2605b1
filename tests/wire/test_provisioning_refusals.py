"""What provisioning refuses: each with its documented error, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from fleet import Answer, Fleet, device_csr, refusal
from fleetroot import sas
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode, Connect

REGISTER = "$dps/registrations/PUT/iotdps-register/"


@pytest.fixture
async def untouched(fleet: Fleet) -> AsyncIterator[Fleet]:
    """A fleet on which the test must leave no trace."""
    before = fleet.traces()
    yield fleet
    assert fleet.traces() == before


# --- attestation


def unauthorized(answer: Answer, code: int = 401003) -> None:
    assert (answer.status, answer.error_code) == (401, code)
    assert answer.body["message"] == "Unauthorized"  # and not how close it came


async def test_registration_id_without_an_enrollment_is_404201(fleet: Fleet) -> None:
    await fleet.http.delete("/enrollmentGroups/default")
    before = fleet.traces()
    answer = await fleet.register("dev-1")
    assert (answer.status, answer.error_code) == (404, 404201)
    assert fleet.traces() == before


async def test_key_of_nobody_is_unauthorized(untouched: Fleet) -> None:
    token = untouched.provisioning_token("dev-1", b"k" * 32)
    unauthorized(await untouched.register("dev-1", token=token))


async def test_key_of_another_device_of_the_group_is_unauthorized(untouched: Fleet) -> None:
    token = untouched.provisioning_token("dev-1", untouched.device_key("dev-2"))
    unauthorized(await untouched.register("dev-1", token=token))


async def test_the_groups_own_key_is_unauthorized(untouched: Fleet) -> None:
    token = untouched.provisioning_token("dev-1", untouched.group_key)
    unauthorized(await untouched.register("dev-1", token=token))


async def test_no_credential_is_unauthorized(untouched: Fleet) -> None:
    name = f"{untouched.id_scope}/registrations/dev-1/api-version=2026-11-01"
    async with await untouched.attach(Connect("dev-1", username=name)) as mqtt:
        await mqtt.subscribe("$dps/registrations/res/#")
        unauthorized(await mqtt.ask(REGISTER, b"{}"), 401002)


@pytest.mark.parametrize(
    "resource",
    [
        "{scope}/registrations/dev-2",
        "{scope}/registrations",
        "{scope}",
        "0neOther/registrations/dev-1",
    ],
)
async def test_token_for_another_resource_is_401003(untouched: Fleet, resource: str) -> None:
    token = untouched.provisioning_token(
        "dev-1", resource=resource.format(scope=untouched.id_scope)
    )
    answer = await untouched.register("dev-1", token=token)
    unauthorized(answer)
    assert answer.error_code == 401003


async def test_expired_token_is_401003(untouched: Fleet) -> None:
    token = untouched.provisioning_token("dev-1", expires_in=timedelta(seconds=-1))
    assert (await untouched.register("dev-1", token=token)).error_code == 401003


async def test_token_that_expires_while_connected_is_401003(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    token = timed_fleet.provisioning_token("dev-1", expires_in=timedelta(minutes=1))
    async with await timed_fleet.provisioning("dev-1", token=token) as mqtt:
        assert (await mqtt.ask(REGISTER, b"{}")).status == 200
        clock.advance(timedelta(minutes=1))
        assert (await mqtt.ask(REGISTER, b"{}")).error_code == 401003


async def test_token_that_names_another_key_is_401003(untouched: Fleet) -> None:
    token = sas.sign_token(
        f"{untouched.id_scope}/registrations/dev-1",
        untouched.device_key("dev-1"),
        untouched.server.clock.now() + timedelta(hours=1),
        "provisioningserviceowner",
    )
    assert (await untouched.register("dev-1", token=token.encode())).error_code == 401003


async def test_disabled_enrollment_is_unauthorized(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll("dev-1", provisioningStatus="disabled")
    before = fleet.traces()
    token = fleet.provisioning_token("dev-1", primary)
    answer = await fleet.register("dev-1", token=token)
    assert (answer.status, answer.error_code) == (401, 401002)
    assert answer.body["message"] == "The enrollment is disabled"
    assert fleet.traces() == before


async def test_disabled_individual_enrollment_is_not_passed_over_for_a_group(
    fleet: Fleet,
) -> None:
    await fleet.enroll("dev-1", provisioningStatus="disabled")
    answer = await fleet.register("dev-1")  # with the key of the group
    unauthorized(answer)


async def test_disabled_enrollment_tells_a_wrong_key_nothing(fleet: Fleet) -> None:
    await fleet.enroll("dev-1", provisioningStatus="disabled")
    unauthorized(await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", b"k" * 32)))


async def test_disabled_device_is_unauthorized(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    before = fleet.traces()
    answer = await fleet.register("dev-1", {"csr": device_csr("dev-1")[1]})
    assert (answer.status, answer.error_code) == (401, 401002)
    assert fleet.traces() == before


@pytest.mark.parametrize("body", [{}, {"csr": "!!!"}], ids=["no CSR", "bad CSR"])
async def test_device_without_a_good_key_learns_nothing_about_its_request(
    untouched: Fleet, body: dict[str, Any]
) -> None:
    token = untouched.provisioning_token("dev-1", b"k" * 32)
    unauthorized(await untouched.register("dev-1", body, token=token))


# --- at CONNECT


async def test_malformed_token_is_bad_credentials(untouched: Fleet) -> None:
    code = await refusal(untouched.provisioning("dev-1", token=b"SharedAccessSignature x"))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_token_beyond_ascii_is_bad_credentials(untouched: Fleet) -> None:
    code = await refusal(untouched.provisioning("dev-1", token=b"\xff\xfe"))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_unknown_id_scope_is_not_authorized(untouched: Fleet) -> None:
    code = await refusal(untouched.provisioning("dev-1", id_scope="0ne00000000"))
    assert code is ConnackCode.NOT_AUTHORIZED


async def test_client_id_of_another_registration_is_bad_credentials(untouched: Fleet) -> None:
    name = f"{untouched.id_scope}/registrations/dev-1/api-version=2026-11-01"
    code = await refusal(untouched.attach(Connect("dev-2", username=name)))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD


# --- bodies


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400006),
        (b"not json", 400006),
        (b"\xff\xff", 400006),
        ('{"csr":"MIH"}'.encode("utf-16"), 400006),
        (b'\xef\xbb\xbf{"csr":"MIH"}', 400006),
        (b'{"csr":"\\ud800"}', 400006),
        (b'{"csr":NaN}', 400006),
        (b"[" * 50_000, 400006),
        (b"[]", 400004),
        (b'"dev-1"', 400004),
        (b"null", 400004),
        (b'{"registrationId": "dev-2"}', 400004),
        (b'{"registrationId": 5}', 400004),
        (json.dumps({"payload": "x" * 96 * 1024}).encode(), 413001),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_bad_body_is_its_documented_error(untouched: Fleet, body: bytes, code: int) -> None:
    async with await untouched.provisioning("dev-1") as mqtt:
        answer = await mqtt.ask(REGISTER, body)
    assert (answer.status, answer.error_code) == (code // 1000, code)


async def test_body_may_be_96_kilobytes(fleet: Fleet) -> None:
    body = json.dumps({"payload": ""}).encode()
    body = json.dumps({"payload": "x" * (96 * 1024 - len(body))}).encode()
    async with await fleet.provisioning("dev-1") as mqtt:
        assert (await mqtt.ask(REGISTER, body)).status == 200


@pytest.mark.parametrize("registration_id", ["-dev", "dev_", "d$v", "a" * 129])
async def test_what_is_no_registration_id_is_an_invalid_argument(
    untouched: Fleet, registration_id: str
) -> None:
    answer = await untouched.register(registration_id)
    assert (answer.status, answer.error_code) == (400, 400004)


@pytest.mark.parametrize("operation_id", ["", "other", "a" * 300])
async def test_unknown_operation_is_refused(fleet: Fleet, operation_id: str) -> None:
    poll = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId="
    async with await fleet.provisioning("dev-1") as mqtt:
        await mqtt.ask(REGISTER, b"{}")
        answer = await mqtt.answer_to(poll + operation_id)
    assert answer.error_code == (404202 if operation_id else 400004)


async def test_error_has_the_documented_body(untouched: Fleet) -> None:
    answer = await untouched.register("dev-1", {"csr": "!!!"})
    assert answer.body.keys() == {"errorCode", "trackingId", "message", "timestampUtc"}
    assert answer.topic == "$dps/registrations/res/400/?$rid=1"


async def test_failure_that_passes_says_when_to_come_back(fleet: Fleet) -> None:
    await fleet.execute("DELETE FROM linked_hubs")
    answer = await fleet.register("dev-1")
    assert (answer.status, answer.error_code) == (503, 503001)
    assert list(answer.query) == ["$rid", "retry-after"]
    assert answer.query["retry-after"].isdigit()
    assert await fleet.devices() == []
