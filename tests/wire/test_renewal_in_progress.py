"""Renewals that meet others, that nobody listens to, and whose ground is gone before the end."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from renewals import ANSWERS, ISSUE, Barrier, renewed, request

from fleet import Answer, Certified, Fleet, Mqtt, device_csr
from fleetroot.clock import ManualClock
from fleetroot.errors import Unavailable


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    return await fleet.provision("dev-1")


@pytest.fixture
async def mqtt(fleet: Fleet, certified: Certified) -> Mqtt:
    """The device, connected and listening for answers."""
    mqtt = await fleet.connect("dev-1", certified)
    await mqtt.subscribe(ANSWERS, qos=1)
    return mqtt


@pytest.fixture
def barrier(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Barrier:
    return Barrier(fleet, monkeypatch)


# --- one request at a time


async def test_second_request_is_409_and_tells_of_the_first(mqtt: Mqtt, barrier: Barrier) -> None:
    first = await mqtt.ask(ISSUE, request(), rid="first")
    second = await mqtt.ask(ISSUE, request(), rid="second")
    assert (second.status, second.error_code) == (409, 409004)
    assert second.body["info"] == {"requestId": "first", **first.body}
    barrier.let_go()
    assert (await mqtt.answer()).query["$rid"] == "first"


async def test_pipelined_second_request_is_409(mqtt: Mqtt, barrier: Barrier) -> None:
    for rid in ("first", "second"):
        await mqtt.publish(f"{ISSUE}?$rid={rid}", request(), qos=0)
    answers = [await mqtt.answer() for _ in range(2)]
    barrier.let_go()
    answers.append(await mqtt.answer())
    assert sorted((a.query["$rid"], a.status) for a in answers) == [
        ("first", 200),
        ("first", 202),
        ("second", 409),
    ]


@pytest.mark.parametrize("replace", ["*", "first"])
async def test_request_that_replaces_is_the_only_one_answered(
    fleet: Fleet, mqtt: Mqtt, barrier: Barrier, replace: str
) -> None:
    assert (await mqtt.ask(ISSUE, request(), rid="first")).status == 202
    second = await mqtt.ask(ISSUE, request(replace=replace), rid="second")
    assert second.status == 202
    barrier.let_go()
    answer = await mqtt.answer()
    assert (answer.query["$rid"], answer.status) == ("second", 200)
    assert answer.body["correlationId"] == second.body["correlationId"]
    assert len(await fleet.certificates()) == 2  # what was replaced was never issued


async def test_replacing_whatever_there_is_needs_nothing_to_be_there(mqtt: Mqtt) -> None:
    assert (await mqtt.ask(ISSUE, request(replace="*"))).status == 202


async def test_replacing_what_is_not_active_is_412(mqtt: Mqtt) -> None:
    answer = await mqtt.ask(ISSUE, request(replace="gone"))
    assert (answer.status, answer.error_code) == (412, 412001)
    assert answer.body["info"] == {"requestId": "gone"}


async def test_replacing_another_than_the_active_is_412(mqtt: Mqtt, barrier: Barrier) -> None:
    await mqtt.ask(ISSUE, request(), rid="first")
    answer = await mqtt.ask(ISSUE, request(replace="other"), rid="second")
    assert (answer.status, answer.body["info"]) == (412, {"requestId": "other"})
    barrier.let_go()
    assert (await mqtt.answer()).query["$rid"] == "first"


# --- devices that do not listen


async def test_request_without_rid_is_not_answered_and_issues_nothing(
    fleet: Fleet, mqtt: Mqtt
) -> None:
    await mqtt.publish(ISSUE, request(), qos=0)
    assert (await mqtt.ask(ISSUE, b"{", rid="second")).query["$rid"] == "second"
    assert len(await fleet.certificates()) == 1


async def pending(mqtt: Mqtt, fleet: Fleet) -> None:
    """Asks without listening, and waits until the answer is there."""
    await mqtt.publish(f"{ISSUE}?$rid=early", request(), qos=0)
    while not any("answered" in row for row in fleet.rows("credential_requests")):
        await mqtt.publish("devices/dev-1/messages/events/", b"a round trip")


def delivered(answers: list[Answer]) -> None:
    assert [(a.query["$rid"], a.status) for a in answers] == [("early", 202), ("early", 200)]
    assert answers[0].body["correlationId"] == answers[1].body["correlationId"]


async def test_answer_waits_for_a_later_subscription(fleet: Fleet, certified: Certified) -> None:
    async with await fleet.connect("dev-1", certified) as mqtt:
        await pending(mqtt, fleet)
        await mqtt.subscribe(ANSWERS, qos=1)
        delivered([await mqtt.answer(), await mqtt.answer()])


async def test_answer_waits_for_a_subscription_on_a_later_connection(
    fleet: Fleet, certified: Certified
) -> None:
    async with await fleet.connect("dev-1", certified) as mqtt:
        await pending(mqtt, fleet)
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        delivered([await mqtt.answer(), await mqtt.answer()])


async def test_kept_subscription_is_answered_on_reconnect(
    fleet: Fleet, certified: Certified, barrier: Barrier
) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        assert (await mqtt.ask(ISSUE, request(), rid="early")).status == 202
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        barrier.let_go()
        delivered([await mqtt.answer(), await mqtt.answer()])
    assert len(await fleet.certificates()) == 2


async def test_answer_that_was_delivered_does_not_come_again(
    fleet: Fleet, certified: Certified
) -> None:
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        await renewed(mqtt, rid="early")
    async with await fleet.connect("dev-1", certified, clean_session=False) as mqtt:
        assert (await mqtt.ask(ISSUE, b"{", rid="late")).query["$rid"] == "late"


async def test_answer_that_nobody_fetched_is_gone_when_the_request_expires(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await pending(mqtt, timed_fleet)
        clock.advance(timedelta(hours=1))
        await mqtt.subscribe(ANSWERS, qos=1)
        assert (await mqtt.ask(ISSUE, b"{", rid="late")).query["$rid"] == "late"
        await renewed(mqtt)


async def test_certificate_that_was_revoked_is_not_delivered_later(
    fleet: Fleet, certified: Certified
) -> None:
    async with await fleet.connect("dev-1", certified) as mqtt:
        await pending(mqtt, fleet)
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    again = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", again) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        assert (await mqtt.answer()).status == 202
        assert (await mqtt.answer()).status == 401


# --- who may not have one


async def test_device_revoked_in_between_gets_no_certificate(
    fleet: Fleet, mqtt: Mqtt, barrier: Barrier
) -> None:
    assert (await mqtt.ask(ISSUE, request())).status == 202
    await barrier.reached.wait()
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    barrier.let_go()
    await mqtt.wait_closed()
    [only] = await fleet.certificates("dev-1")
    assert (only["origin"], only["status"]) == ("provisioning", "revoked")


async def test_device_disabled_in_between_gets_no_certificate(
    fleet: Fleet, mqtt: Mqtt, barrier: Barrier
) -> None:
    assert (await mqtt.ask(ISSUE, request())).status == 202
    await barrier.reached.wait()
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    barrier.let_go()
    await mqtt.wait_closed()
    assert len(await fleet.certificates("dev-1")) == 1


async def test_identity_without_a_policy_cannot_renew(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll("dev-1")
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", primary))
    async with await fleet.connect("dev-1", token=fleet.hub_token("dev-1", primary)) as mqtt:
        await mqtt.subscribe(ANSWERS)
        answer = await mqtt.ask(ISSUE, request())
    assert (answer.status, answer.error_code) == (400, 400004)


async def test_issuing_ca_whose_time_is_over_is_a_failure_that_passes(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS)
        clock.advance(timedelta(days=6 * 365))
        assert (await mqtt.ask(ISSUE, request())).status == 202
        answer = await mqtt.answer()
    assert (answer.status, answer.error_code) == (503, 503001)


async def test_renewal_that_the_database_failed_does_not_block_the_next(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe("$iothub/credentials/res/#")
        write, failed = fleet.server.store.write, 0

        async def failing(unit: Any) -> Any:
            nonlocal failed
            failed += 1
            if failed in (2, 3):  # the certificate, and then the failure itself
                raise Unavailable("the database cannot answer now")
            return await write(unit)

        fleet.server.store.write = failing  # type: ignore[method-assign]
        _, csr = device_csr("dev-1")
        body = json.dumps({"id": "dev-1", "csr": csr}).encode()
        topic = "$iothub/credentials/POST/issueCertificate/"
        assert (await mqtt.ask(topic, body, rid="1")).status == 202
        assert (await mqtt.answer()).status == 503
        assert (await mqtt.ask(topic, body, rid="2")).status == 202
        assert (await mqtt.answer()).status == 200
