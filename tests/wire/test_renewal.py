"""Renewing an operational certificate over the device's own connection."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from renewals import ANSWERS, ISSUE, renewed, request

from fleet import Certified, Fleet, Mqtt, device_csr
from fleetroot.clock import ManualClock


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


@pytest.fixture
async def mqtt(fleet: Fleet, certified: Certified) -> Mqtt:
    """The device, connected and listening for answers."""
    mqtt = await fleet.connect("dev-1", certified)
    await mqtt.subscribe(ANSWERS, qos=1)
    return mqtt


# --- what is issued


async def test_first_answer_is_202_and_says_until_when(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS)
        answer = await mqtt.ask(ISSUE, request())
    assert answer.topic == "$iothub/credentials/res/202/?$rid=1"
    assert answer.body.keys() == {"correlationId", "operationExpires"}
    assert datetime.fromisoformat(answer.body["operationExpires"]) > clock.now()


async def test_final_answer_is_200_with_leaf_issuing_ca_and_root(mqtt: Mqtt) -> None:
    accepted = await mqtt.ask(ISSUE, request(), rid="a-7")
    answer = await mqtt.answer()
    assert answer.topic == "$iothub/credentials/res/200/?$rid=a-7"
    assert answer.body.keys() == {"correlationId", "certificates"}
    assert answer.body["correlationId"] == accepted.body["correlationId"]
    leaf, issuing, root = (
        x509.load_der_x509_certificate(base64.b64decode(der)) for der in answer.body["certificates"]
    )
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    assert leaf.subject.rfc4514_string() == "CN=dev-1"


@pytest.mark.parametrize("qos", [0, 1])
async def test_answers_come_at_the_qos_of_the_subscription(
    fleet: Fleet, certified: Certified, qos: int
) -> None:
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=qos)
        await mqtt.publish(f"{ISSUE}?$rid=1", request(), qos=0)
        assert [(await mqtt.message()).qos for _ in range(2)] == [qos, qos]


async def test_live_session_stays_and_the_old_certificate_remains_valid(
    fleet: Fleet, certified: Certified, mqtt: Mqtt
) -> None:
    new = await renewed(mqtt)
    await mqtt.publish("devices/dev-1/messages/events/", b"still here")
    await mqtt.close()
    for either in (certified, new):
        async with await fleet.connect("dev-1", either):
            pass
    assert [c["origin"] for c in await fleet.certificates("dev-1")] == ["renewal", "provisioning"]


async def test_certificate_is_in_the_inventory_before_the_device_has_it(
    fleet: Fleet, mqtt: Mqtt
) -> None:
    new = await renewed(mqtt)
    [newest, _] = await fleet.certificates("dev-1")
    assert newest["serialNumber"] == format(new.leaf.serial_number, "x")


async def test_device_renews_again_and_again(mqtt: Mqtt) -> None:
    serials = {(await renewed(mqtt, rid=str(rid))).leaf.serial_number for rid in range(5)}
    assert len(serials) == 5


async def test_id_may_be_in_another_case(mqtt: Mqtt) -> None:
    assert (await mqtt.ask(ISSUE, request("DEV-1"))).status == 202


# --- what is refused at once


async def refused(fleet: Fleet, mqtt: Mqtt, body: bytes, field: str) -> None:
    answer = await mqtt.ask(ISSUE, body)
    assert (answer.status, answer.error_code) == (400, 400004)
    assert field in answer.body["message"]
    assert len(await fleet.certificates()) == 1
    assert fleet.rows("credential_requests") == []


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b'"text"', b"null"])
async def test_body_that_is_no_object_is_400004(fleet: Fleet, mqtt: Mqtt, body: bytes) -> None:
    await refused(fleet, mqtt, body, "body")


@pytest.mark.parametrize("field", ["id", "csr"])
async def test_missing_field_is_400004_and_named(fleet: Fleet, mqtt: Mqtt, field: str) -> None:
    body = json.loads(request())
    del body[field]
    await refused(fleet, mqtt, json.dumps(body).encode(), field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extra", 1),
        ("certificate", "x"),
        ("id", "dev-2"),
        ("id", 5),
        ("id", None),
        ("csr", ""),
        ("csr", 5),
        ("csr", "!!!"),
        ("csr", "-----BEGIN CERTIFICATE REQUEST-----"),
        ("csr", "A" * 8196),
        ("replace", ""),
        ("replace", 5),
        ("replace", "abc"),
        ("replace", "-abcd"),
        ("replace", "abcd-"),
        ("replace", "ab_cd"),
        ("replace", "a" * 37),
        ("replace", "**"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bad_field_is_400004_and_named(
    fleet: Fleet, mqtt: Mqtt, field: str, value: object
) -> None:
    body = json.dumps(json.loads(request()) | {field: value}).encode()
    await refused(fleet, mqtt, body, field)


@pytest.mark.parametrize("body", [b"{", b"text", b"\xff"])
async def test_what_is_not_json_is_400006(mqtt: Mqtt, body: bytes) -> None:
    answer = await mqtt.ask(ISSUE, body)
    assert (answer.status, answer.error_code) == (400, 400006)


async def test_error_is_answered_on_exactly_its_topic(mqtt: Mqtt) -> None:
    assert (await mqtt.ask(ISSUE, b"{", rid="7")).topic == "$iothub/credentials/res/400/?$rid=7"


# --- what is refused after 202


def not_pkcs10() -> str:
    return base64.b64encode(b"no certificate signing request").decode()


def broken_signature() -> str:
    der = bytearray(base64.b64decode(device_csr("dev-1")[1]))
    der[-3] ^= 1
    return base64.b64encode(der).decode()


def refused_key() -> str:
    return device_csr("dev-1", curve=ec.SECP224R1())[1]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (not_pkcs10, "not_pkcs10"),
        (broken_signature, "bad_signature"),
        (lambda: device_csr("dev-2")[1], "wrong_common_name"),
        (refused_key, "key_not_allowed"),
    ],
    ids=["not PKCS#10", "broken signature", "another CN", "P-224"],
)
async def test_csr_that_is_refused_is_202_then_400037(
    fleet: Fleet, mqtt: Mqtt, make: Callable[[], str], error: str
) -> None:
    assert (await mqtt.ask(ISSUE, request(csr=make()))).status == 202
    answer = await mqtt.answer()
    assert answer.topic == "$iothub/credentials/res/400/?$rid=1"
    assert answer.error_code == 400037
    assert answer.body["info"].keys() == {"credentialError", "credentialMessage"}
    assert answer.body["info"]["credentialError"] == error
    assert len(await fleet.certificates()) == 1
    await renewed(mqtt)  # and nothing stands in the way of the next
