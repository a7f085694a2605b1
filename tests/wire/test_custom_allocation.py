"""Devices whose hub a webhook chooses: over the wires, with a real webhook behind TLS."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import onboardings
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from test_provisioning_https import HttpsDevice

from fleet import SECONDS, Answer, Fleet, device_csr
from fleetroot import sas
from fleetroot.clock import ManualClock
from manufacturer import individual, self_signed
from webhook_server import Asked, WebhookServer, answer

SECOND = "second.localhost"
SECRETS = "/fleetroot/provisioning-services/default/webhookSecrets"
TWIN = "$iothub/twin/res/#"
GET_TWIN = "$iothub/twin/GET/"


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with WebhookServer.running(tmp_path / "webhook") as running:
        yield running


@pytest.fixture
async def fleet(tmp_path: Path, webhook: WebhookServer) -> AsyncIterator[Fleet]:
    """A server with two hubs that may call webhooks on this machine."""
    settings = {
        "webhook_ca": webhook.ca,
        "webhook_networks": ["127.0.0.0/8"],
        "webhook_tries": 1,
        "webhook_seconds": 5.0,
        "polls_per_device": 10**6,  # these do not wait between polls
    }
    async with Fleet.running(tmp_path / "data", **settings) as running:
        for method, path in (
            ("PUT", "hubs/second"),
            ("POST", "namespaces/default/synchronize"),
            ("PUT", f"provisioning-services/default/hubs/{SECOND}"),
        ):
            done = await running.http.request(method, f"/fleetroot/{path}")
            assert done.is_success, done.text
        yield running


class Device:
    """A device of the group `line`, whose hub the webhook chooses."""

    def __init__(self, fleet: Fleet, group_key: bytes, id_: str = "dev-1") -> None:
        self.fleet = fleet
        self.id = id_
        self.key = sas.derive_device_key(group_key, id_)
        self._token = fleet.provisioning_token(id_, self.key)

    @classmethod
    async def enrolled(cls, fleet: Fleet, webhook: WebhookServer, **more: Any) -> Device:
        return cls(fleet, await enroll(fleet, webhook.url(), **more))

    async def register(self, **body: Any) -> Answer:
        return await self.fleet.register(self.id, body, token=self._token)

    async def poll(self, operation_id: str) -> Answer:
        async with await self.fleet.provisioning(self.id, token=self._token) as mqtt:
            return await mqtt.answer_to(
                "$dps/registrations/GET/iotdps-get-operationstatus/"
                f"?$rid=1&operationId={operation_id}"
            )

    async def finish(self, began: Answer) -> Answer:
        """Polls until it is told the end."""
        operation = began.body["operationId"]
        async with asyncio.timeout(3 * SECONDS):
            while began.status in (202, 429):
                if began.status == 429:  # on a slow machine this polls more often than it may
                    await asyncio.sleep(int(began.query["retry-after"]))
                began = await self.poll(operation)
        return began

    async def provision(self, **body: Any) -> Any:
        """The registration state at the end."""
        done = await self.finish(await self.register(**body))
        assert done.status == 200, done.body
        return done.body["registrationState"]

    async def twin(self, host: str) -> Any:
        token = sas.sign_token(
            f"{host}/devices/{self.id}",
            self.key,
            self.fleet.server.clock.now() + timedelta(hours=1),
        )
        async with await self.fleet.connect(self.id, token=token.encode(), host=host) as mqtt:
            await mqtt.subscribe(TWIN)
            return (await mqtt.ask(GET_TWIN)).body


async def enroll(fleet: Fleet, url: str, **more: Any) -> bytes:
    key, _ = await fleet.enroll(
        "line",
        group=True,
        allocationPolicy="custom",
        customAllocationDefinition={"webhookUrl": url, "apiVersion": "2021-10-01"},
        **more,
    )
    return key


@pytest.fixture
async def device(fleet: Fleet, webhook: WebhookServer) -> Device:
    return await Device.enrolled(fleet, webhook)


def goes_to(host: str, **more: Any) -> bytes:
    return answer({"iotHubHostName": host, **more})


# --- what happens


async def test_device_is_assigning_and_then_on_the_hub_that_the_webhook_chose(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND)]
    began = await device.register()
    assert (began.status, began.body["status"]) == (202, "assigning")
    assert began.body["registrationState"]["assignedHub"] is None
    done = await device.finish(began)
    assert (done.status, done.body["status"]) == (200, "assigned")
    assert done.body["operationId"] == began.body["operationId"]
    assert done.body["registrationState"]["assignedHub"] == SECOND
    assert done.body["registrationState"]["substatus"] == "initialAssignment"


async def test_device_that_asked_for_a_certificate_gets_it_at_the_end(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    device = await Device.enrolled(fleet, webhook, credentialPolicyName="default")
    webhook.answers = [goes_to(SECOND)]
    began = await device.register(csr=device_csr("dev-1")[1])
    assert await fleet.certificates() == []
    state = (await device.finish(began)).body["registrationState"]
    assert len(state["issuedCertificateChain"]) == 3
    assert len(await fleet.certificates("dev-1")) == 1


async def test_device_over_https_polls_and_is_assigned(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND)]
    https = HttpsDevice(fleet, key=device.key)
    began = await https.register()
    assert (began.status_code, began.json()["status"]) == (202, "assigning")
    assert int(began.headers["retry-after"]) > 0
    async with asyncio.timeout(3 * SECONDS):
        while (done := await https.poll(began.json()["operationId"])).status_code == 202:
            pass
    assert done.json()["registrationState"]["assignedHub"] == SECOND


async def test_webhook_is_asked_what_azure_asks(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(fleet.hub_host)]
    await device.provision(payload={"model": "M7", "rev": [1, None, "ñ"]})
    [asked] = webhook.asked
    assert asked.line == "POST /allocate?api-version=2021-10-01 HTTP/1.1"
    assert asked.json.keys() == {"enrollmentGroup", "deviceRuntimeContext", "linkedHubs"}
    assert asked.json["deviceRuntimeContext"] == {
        "registrationId": "dev-1",
        "symmetricKey": {},
        "payload": {"model": "M7", "rev": [1, None, "ñ"]},
    }
    assert sorted(asked.json["linkedHubs"]) == sorted([fleet.hub_host, SECOND])
    group = asked.json["enrollmentGroup"]
    assert (group["enrollmentGroupId"], group["allocationPolicy"]) == ("line", "custom")
    assert group["attestation"] == {"type": "symmetricKey"}


async def test_webhook_is_told_where_the_device_is(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND), goes_to(fleet.hub_host)]
    await device.provision()
    await device.provision()
    context = webhook.asked[1].json["deviceRuntimeContext"]
    assert (context["currentIotHubHostName"], context["currentDeviceId"]) == (SECOND, "dev-1")


async def test_individual_enrollment_has_a_webhook_too(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    webhook.answers = [goes_to(SECOND)]
    key, _ = await fleet.enroll(
        "dev-1",
        deviceId="pump-8",
        allocationPolicy="custom",
        customAllocationDefinition={"webhookUrl": webhook.url(), "apiVersion": "1"},
    )
    device = Device(fleet, key)
    device._token = fleet.provisioning_token("dev-1", key)
    state = await device.provision()
    assert (state["assignedHub"], state["deviceId"]) == (SECOND, "pump-8")
    assert webhook.asked[0].json["individualEnrollment"]["registrationId"] == "dev-1"


async def test_webhook_is_told_the_certificate_that_the_device_attested_by(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    held = self_signed("dev-1")
    body = {
        "attestation": individual(held),
        "allocationPolicy": "custom",
        "customAllocationDefinition": {"webhookUrl": webhook.url(), "apiVersion": "1"},
    }
    assert (await fleet.http.put("/enrollments/dev-1", json=body)).status_code == 200
    webhook.answers = [goes_to(SECOND)]
    async with asyncio.timeout(3 * SECONDS):
        while (done := await onboardings.register(fleet, "mqtt", "dev-1", held)).status == 202:
            pass
    assert done.state["assignedHub"] == SECOND
    told = webhook.asked[0].json["deviceRuntimeContext"]["x509"]["certificateInfo"]
    assert told["sha256Thumbprint"] == held.leaf.fingerprint(SHA256()).hex().upper()


async def test_enrollment_that_names_hubs_offers_no_others(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    device = await Device.enrolled(fleet, webhook, iotHubs=[SECOND])
    webhook.answers = [goes_to(fleet.hub_host)]
    state = await device.provision()
    assert webhook.asked[0].json["linkedHubs"] == [SECOND]
    assert (state["status"], state["errorCode"]) == ("failed", 400207)


async def test_payload_of_the_webhook_reaches_the_device(
    webhook: WebhookServer, device: Device
) -> None:
    payload = {"a": [1, {"b": None}], "c": "ñ"}
    webhook.answers = [goes_to(SECOND, payload=payload)]
    state = await device.provision()
    assert state["payload"] == payload


async def test_twin_of_the_webhook_is_what_the_device_begins_with(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    own = {"properties": {"desired": {"rate": 1}}}
    device = await Device.enrolled(fleet, webhook, initialTwin=own)
    twin = {"tags": {"site": "yard"}, "properties": {"desired": {"rate": 7}}}
    webhook.answers = [goes_to(SECOND, initialTwin=twin)]
    await device.provision()
    assert (await device.twin(SECOND))["desired"] == {"rate": 7, "$version": 1}


# --- signatures


def is_signed(asked: Asked, secret: str) -> bool:
    """As docs/allocation.md tells receivers to."""
    fields = [part.split("=", 1) for part in asked.headers["fleetroot-signature"].split(",")]
    [time] = [value for name, value in fields if name == "t"]
    key = base64.b64decode(secret)
    expected = hmac.new(key, time.encode() + b"." + asked.body, sha256).hexdigest()
    return any(hmac.compare_digest(v, expected) for name, v in fields if name == "v1")


async def secrets(fleet: Fleet) -> dict[str, str]:
    found = await fleet.http.post(SECRETS)
    assert found.status_code == 200, found.text
    return dict(found.json())


async def rotate(fleet: Fleet, key: str) -> dict[str, str]:
    rotated = await fleet.http.post(f"{SECRETS}/rotate", json={"key": key})
    assert rotated.status_code == 200, rotated.text
    return dict(rotated.json())


async def test_call_is_signed_with_both_secrets(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND)]
    await device.provision()
    found = await secrets(fleet)
    assert found["primary"] != found["secondary"]
    assert all(is_signed(webhook.asked[0], secret) for secret in found.values())
    assert not is_signed(webhook.asked[0], base64.b64encode(b"another").decode())


async def test_secrets_are_rolled_without_a_call_that_a_receiver_refuses(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND)]
    old = await secrets(fleet)
    new = await rotate(fleet, "secondary")
    await device.provision()
    assert (new["primary"], is_signed(webhook.asked[0], old["primary"])) == (old["primary"], True)
    newest = await rotate(fleet, "primary")
    await device.provision()
    assert is_signed(webhook.asked[1], new["secondary"])
    assert is_signed(webhook.asked[1], newest["primary"])
    assert not any(is_signed(webhook.asked[1], secret) for secret in old.values())


async def test_reading_and_rotating_secrets_is_in_the_audit_log(fleet: Fleet) -> None:
    found = await secrets(fleet)
    await rotate(fleet, "primary")
    query = {"subject": "provisioning-service/default"}
    entries = (await fleet.http.get("/fleetroot/audit/entries", params=query)).json()["value"]
    assert [entry["action"] for entry in entries[:2]] == ["keys.rotate", "keys.read"]
    assert not any(secret in json.dumps(entries) for secret in found.values())


# --- when the webhook fails


async def failed(device: Device) -> tuple[int, str]:
    state = await device.provision()
    assert (state["status"], state["assignedHub"]) == ("failed", None)
    fleet = device.fleet
    assert await fleet.devices() == []
    assert fleet.rows("identities") == []
    return state["errorCode"], state["errorMessage"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, (400209, "Custom allocation failed: unauthorized")),
        (404, (400207, "Custom allocation failed with status code: 404")),
        (307, (400207, "Custom allocation failed with status code: 307")),
    ],
)
async def test_device_is_told_that_the_webhook_refused(
    webhook: WebhookServer, device: Device, status: int, error: tuple[int, str]
) -> None:
    webhook.answers = [answer({}, status, location="https://localhost/")]
    assert await failed(device) == error
    assert len(webhook.asked) == 1


@pytest.mark.parametrize(
    ("lie", "error"),
    [
        (answer(b"{"), (400207, "Custom allocation failed: the answer is not JSON")),
        (answer({}), (400208, "Custom allocation failed: no hub named")),
    ],
    ids=["not JSON", "no hub"],
)
async def test_answer_that_does_not_count_fails_the_registration(
    webhook: WebhookServer, device: Device, lie: bytes, error: tuple[int, str]
) -> None:
    webhook.answers = [lie]
    assert await failed(device) == error


async def test_device_that_failed_comes_in_with_its_next_registration(
    webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [answer({}, 503), goes_to(SECOND)]
    assert (await failed(device))[0] == 400207
    assert (await device.provision())["assignedHub"] == SECOND


async def test_webhook_that_is_down_fails_the_registration(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    device = Device(fleet, await enroll(fleet, "https://127.9.9.9:1/"))
    assert await failed(device) == (400207, "Custom allocation failed")


async def test_failure_does_not_tell_the_device_where_the_webhook_is(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    device = Device(fleet, await enroll(fleet, "https://127.9.9.9:1/?code=hunter2"))
    error = await failed(device)
    assert "127.9.9.9" not in error[1]
    assert "hunter2" not in json.dumps(webhook.answers + list(error), default=str)


async def test_name_that_leads_inward_is_not_called(tmp_path: Path, webhook: WebhookServer) -> None:
    async with Fleet.running(tmp_path / "strict", webhook_ca=webhook.ca) as strict:
        device = Device(strict, await enroll(strict, webhook.url("localhost")))
        assert await failed(device) == (400207, "Custom allocation failed")
    assert webhook.asked == []


async def test_calls_are_in_the_metrics_by_outcome(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(SECOND), answer({}), answer(b"{"), answer({}, 404)]
    for _ in range(4):
        await device.provision()
    text = (await fleet.http.get("/metrics")).text
    for outcome, count in (("assigned", 1), ("refused", 2), ("bad_answer", 1)):
        assert f'fleetroot_webhook_calls_total{{outcome="{outcome}"}} {count}.0' in text
    assert "fleetroot_webhook_call_seconds_count 4.0" in text


# --- while the webhook thinks


class Slow:
    """An answer that a test holds back."""

    def __init__(self, then: bytes) -> None:
        self.is_asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self._then = then

    async def __call__(self, _: Asked) -> bytes:
        self.is_asked.set()
        await self.go_on.wait()
        return self._then


async def test_device_polls_while_the_webhook_thinks(
    webhook: WebhookServer, device: Device
) -> None:
    slow = Slow(goes_to(SECOND))
    webhook.answers = [slow]
    began = await device.register()
    await slow.is_asked.wait()
    for _ in range(3):
        assert (await device.poll(began.body["operationId"])).body["status"] == "assigning"
        again = await device.register()
        assert again.body["operationId"] == began.body["operationId"]
    slow.go_on.set()
    assert (await device.finish(began)).body["registrationState"]["assignedHub"] == SECOND
    assert len(webhook.asked) == 1


async def test_slow_webhook_is_given_up(tmp_path: Path, webhook: WebhookServer) -> None:
    slow = Slow(goes_to(SECOND))
    webhook.answers = [slow]
    settings = {"webhook_networks": ["127.0.0.0/8"], "webhook_tries": 1, "webhook_seconds": 0.5}
    async with Fleet.running(tmp_path / "hasty", webhook_ca=webhook.ca, **settings) as hasty:
        device = Device(hasty, await enroll(hasty, webhook.url()))
        assert await failed(device) == (400207, "Custom allocation failed")


async def test_decision_is_not_taken_for_a_hub_that_was_unlinked_meanwhile(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    slow = Slow(goes_to(SECOND))
    webhook.answers = [slow, goes_to(fleet.hub_host)]
    began = await device.register()
    await slow.is_asked.wait()
    path = f"/fleetroot/provisioning-services/default/hubs/{SECOND}"
    assert (await fleet.http.delete(path)).status_code == 204
    slow.go_on.set()
    done = await device.finish(began)
    assert done.body["registrationState"]["assignedHub"] == fleet.hub_host
    assert fleet.rows("pending_registrations") == []


async def test_server_that_stops_in_between_goes_on_with_the_next_poll(
    tmp_path: Path, webhook: WebhookServer, clock: ManualClock
) -> None:
    settings = {
        "webhook_networks": ["127.0.0.0/8"],
        "webhook_ca": webhook.ca,
        "clock": clock,
    }
    data, slow = tmp_path / "again", Slow(b"")
    webhook.answers = [slow, answer({"iotHubHostName": "localhost"})]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Fleet.running(data, **settings))
        key = await enroll(first, webhook.url())
        began = await Device(first, key).register()
        await slow.is_asked.wait()
    clock.advance(timedelta(minutes=2))  # nobody else asks while one may still be asking
    async with Fleet.running(data, **settings) as second:
        device = Device(second, key)
        done = await device.finish(await device.poll(began.body["operationId"]))
        assert done.body["operationId"] == began.body["operationId"]
        assert done.body["registrationState"]["assignedHub"] == second.hub_host
        assert len(await second.devices()) == 1
        assert second.rows("pending_registrations") == []


async def test_decision_outlives_the_server_that_got_it(
    tmp_path: Path, webhook: WebhookServer
) -> None:
    settings = {"webhook_networks": ["127.0.0.0/8"], "webhook_ca": webhook.ca}
    data = tmp_path / "again"
    webhook.answers = [goes_to("localhost", payload={"kept": True}), answer({}, 404)]
    async with Fleet.running(data, **settings) as first:
        key = await enroll(first, webhook.url())
        began = await Device(first, key).register()
        async with asyncio.timeout(SECONDS):
            while not any("kept" in str(row) for row in first.rows("pending_registrations")):
                await asyncio.sleep(0.01)
    async with Fleet.running(data, **settings) as second:
        done = await Device(second, key).poll(began.body["operationId"])
    assert done.body["registrationState"]["payload"] == {"kept": True}
    assert len(webhook.asked) == 1


# --- a device that comes again


@pytest.mark.parametrize(
    ("policy", "twin", "substatus", "reported"),
    [
        ({"updateHubAssignment": True, "migrateDeviceData": True}, None, "deviceDataMigrated", 9),
        ({"updateHubAssignment": True, "migrateDeviceData": False}, None, "deviceDataReset", None),
        (
            {"updateHubAssignment": True, "migrateDeviceData": True},
            {"properties": {"desired": {"rate": 7}}},
            "deviceDataReset",
            None,
        ),
    ],
    ids=["with its data", "without its data", "with a twin of the webhook's"],
)
async def test_device_moves_where_the_webhook_says_now(
    fleet: Fleet,
    webhook: WebhookServer,
    policy: dict[str, bool],
    twin: Any,
    substatus: str,
    reported: int | None,
) -> None:
    device = await Device.enrolled(fleet, webhook, reprovisionPolicy=policy)
    webhook.answers = [goes_to(fleet.hub_host), goes_to(SECOND, initialTwin=twin)]
    await device.provision()
    token = fleet.hub_token("dev-1", device.key)
    async with await fleet.connect("dev-1", token=token) as mqtt:
        await mqtt.subscribe(TWIN)
        await mqtt.ask("$iothub/twin/PATCH/properties/reported/", b'{"speed":9}')
    state = await device.provision()
    assert (state["assignedHub"], state["substatus"]) == (SECOND, substatus)
    found = await device.twin(SECOND)
    assert found["reported"].get("speed") == reported
    assert found["desired"].get("rate") == (7 if twin else None)


async def test_device_that_shall_stay_is_answered_without_the_webhook(
    fleet: Fleet, webhook: WebhookServer
) -> None:
    stay = {"updateHubAssignment": False, "migrateDeviceData": True}
    device = await Device.enrolled(fleet, webhook, reprovisionPolicy=stay)
    webhook.answers = [goes_to(SECOND)]
    await device.provision()
    again = await device.register()
    assert again.body["registrationState"]["assignedHub"] == SECOND
    assert again.body["registrationState"]["substatus"] == "reprovisionedToInitialAssignment"
    assert len(webhook.asked) == 1


async def test_device_stays_connected_while_its_webhook_thinks_again(
    fleet: Fleet, webhook: WebhookServer, device: Device
) -> None:
    webhook.answers = [goes_to(fleet.hub_host), answer({}, 500)]
    await device.provision()
    token = fleet.hub_token("dev-1", device.key)
    async with await fleet.connect("dev-1", token=token) as mqtt:
        assert (await device.provision())["status"] == "failed"
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


# --- what an enrollment may say


async def test_enrollment_that_could_allocate_nobody_is_refused(fleet: Fleet) -> None:
    for allocation, url, message in (
        ("custom", None, "needs customAllocationDefinition"),
        ("static", None, "static needs iotHubs"),
        ("hashed", "https://h.example", "goes with allocationPolicy custom"),
        ("custom", "http://h.example", "must be an https URL"),
        ("custom", "https://10.0.0.1", "not public"),
    ):
        body: dict[str, Any] = {
            "attestation": {"type": "symmetricKey"},
            "allocationPolicy": allocation,
        }
        if url:
            body["customAllocationDefinition"] = {"webhookUrl": url, "apiVersion": "1"}
        refused = await fleet.http.put("/enrollmentGroups/line", json=body)
        assert refused.status_code == 400
        assert message in refused.json()["message"]
