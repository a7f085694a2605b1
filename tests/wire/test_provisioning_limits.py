"""How often devices may ask to be provisioned, on every wire; and what whoever guesses keys can do
to others: nothing.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from renewals import ANSWERS, ISSUE, renewed, request

from fleet import Answer, Fleet, Mqtt, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import Connect
from fleetroot.gateway.tls.proxy_protocol import SIGNATURE
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings

REGISTER = "$dps/registrations/PUT/iotdps-register/"
VERSION = {"api-version": "2026-11-01"}
HERE, ELSEWHERE = "203.0.113.7", "203.0.113.8"
Limited = Callable[..., AbstractAsyncContextManager[Fleet]]


@pytest.fixture
def limited(tmp_path: Path, clock: ManualClock) -> Limited:
    """Runs a server with such limits; no token comes back unless the test moves the clock."""
    return lambda **limits: Fleet.running(tmp_path / "data", clock=clock, **limits)


async def over_https(fleet: Fleet, registration_id: str, **body: Any) -> httpx.Response:
    return await fleet.http.put(
        f"/{fleet.id_scope}/registrations/{registration_id}/register",
        params=VERSION,
        json={"registrationId": registration_id} | body,
        headers={"authorization": fleet.provisioning_token(registration_id).decode()},
    )


# --- a device


async def test_device_that_registers_too_often_is_told_when_to_come_back_over_mqtt(
    limited: Limited,
) -> None:
    async with limited(registrations_per_device=2) as fleet:
        assert [(await fleet.register("dev-1")).status for _ in range(2)] == [200, 200]
        answer = await fleet.register("dev-1")
        assert (answer.status, answer.error_code, answer.query["retry-after"]) == (429, 429001, "1")
        assert (await fleet.register("dev-2")).status == 200


async def test_device_that_registers_too_often_is_told_when_to_come_back_over_https(
    limited: Limited,
) -> None:
    async with limited(
        registrations_per_device=1, registrations_per_device_per_second=0.1
    ) as fleet:
        assert (await over_https(fleet, "dev-1")).status_code == 200
        answer = await over_https(fleet, "dev-1")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
        assert answer.json()["errorCode"] == 429001


async def test_device_is_let_in_again_once_it_waited(limited: Limited, clock: ManualClock) -> None:
    async with limited(registrations_per_device=1) as fleet:
        await fleet.register("dev-1")
        answer = await fleet.register("dev-1")
        clock.advance(timedelta(seconds=int(answer.query["retry-after"])))
        assert (await fleet.register("dev-1")).status == 200


async def test_limit_of_certificates_leaves_registrations_without_one(limited: Limited) -> None:
    async with limited(certificates_per_device=1) as fleet:
        _, csr = device_csr("dev-1")
        answers = [await fleet.register("dev-1", {"csr": csr}) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 429]
        assert len(await fleet.certificates("dev-1")) == 1
        assert (await fleet.register("dev-1")).status == 200


async def test_renewals_count_against_the_limit_of_certificates(
    limited: Limited, clock: ManualClock
) -> None:
    async with limited(certificates_per_device=2) as fleet:
        certified = await fleet.provision("dev-1")
        async with await fleet.connect("dev-1", certified) as mqtt:
            await mqtt.subscribe(ANSWERS)
            await renewed(mqtt)
            refused = await mqtt.ask(ISSUE, request(), rid="2")
            assert refused.topic == "$iothub/credentials/res/429/?$rid=2"
            assert (refused.error_code, refused.body["info"]) == (429001, {"retryAfter": "5"})
            registered = await fleet.register("dev-1", {"csr": device_csr("dev-1")[1]})
            assert registered.status == 429
            assert len(await fleet.certificates("dev-1")) == 2
            clock.advance(timedelta(seconds=int(refused.body["info"]["retryAfter"])))
            await renewed(mqtt, rid="3")


async def test_spelling_of_an_id_makes_no_other_device(limited: Limited) -> None:
    async with limited(registrations_per_device=1) as fleet:
        assert (await fleet.register("dev-1")).status == 200
        token = fleet.provisioning_token("dev-1")
        assert (await fleet.register("DEV-1", token=token)).status == 429


@pytest.mark.parametrize("over", ["mqtt", "https"])
async def test_device_that_polls_too_often_is_told_when_to_come_back(
    limited: Limited, over: str
) -> None:
    async with limited(polls_per_device=1) as fleet:
        operation = (await fleet.register("dev-1")).body["operationId"]
        found = [await poll(fleet, over, operation) for _ in range(2)]
        assert found == [(200, None), (429, "1")]


async def poll(fleet: Fleet, over: str, operation: str) -> tuple[int, str | None]:
    if over == "https":
        answer = await fleet.http.get(
            f"/{fleet.id_scope}/registrations/dev-1/operations/{operation}",
            params=VERSION,
            headers={"authorization": fleet.provisioning_token("dev-1").decode()},
        )
        return answer.status_code, answer.headers.get("retry-after")
    async with await fleet.provisioning("dev-1") as mqtt:
        topic = "$dps/registrations/GET/iotdps-get-operationstatus/"
        told = await mqtt.answer_to(f"{topic}?$rid=1&operationId={operation}")
        return told.status, told.query.get("retry-after")


async def test_stranger_who_uses_a_devices_name_does_not_use_up_its_limits(
    limited: Limited,
) -> None:
    async with limited(registrations_per_device=1, polls_per_device=1) as fleet:
        wrong = fleet.provisioning_token("dev-1", key=b"x" * 64)
        for _ in range(5):
            assert (await fleet.register("dev-1", token=wrong)).status == 401
        operation = (await fleet.register("dev-1")).body["operationId"]
        assert await poll(fleet, "mqtt", operation) == (200, None)


# --- a provisioning service, and a source


async def test_scope_has_a_limit_that_failed_attestations_do_not_use_up(limited: Limited) -> None:
    async with limited(registrations_per_scope=2) as fleet:
        wrong = fleet.provisioning_token("dev-1", key=b"x" * 64)
        for _ in range(5):
            assert (await fleet.register("dev-1", token=wrong)).status == 401
        statuses = [(await fleet.register(f"dev-{n}")).status for n in range(3)]
        assert statuses == [200, 200, 429]
        assert (await fleet.refusals())["provisioning service is busy"] == 1


@pytest.mark.parametrize("uncapped", [False, True])
async def test_source_has_a_limit_unless_it_is_uncapped(limited: Limited, uncapped: bool) -> None:
    networks = ("127.0.0.0/8",) if uncapped else ()
    async with limited(requests_per_source=2, uncapped_sources=networks) as fleet:
        statuses = [(await fleet.register(f"dev-{n}")).status for n in range(3)]
        assert statuses == [200, 200, 200 if uncapped else 429]


async def test_who_is_told_to_come_back_for_others_sake_is_not_charged_for_it(
    limited: Limited,
) -> None:
    async with limited(registrations_per_scope=1, failures_per_source=1) as fleet:
        statuses = [(await fleet.register(f"dev-{n}")).status for n in range(4)]
        assert statuses == [200, 429, 429, 429]


async def test_refusal_says_which_limit_it_was(limited: Limited) -> None:
    async with limited(certificates_per_device=1) as fleet:
        _, csr = device_csr("dev-1")
        for _ in range(2):
            await fleet.register("dev-1", {"csr": csr})
        assert (await fleet.refusals())["device asks for certificates too often"] == 1
        answer = await fleet.http.get("/fleetroot/registrations/dev-1/explanation")
        assert "device asks for certificates too often" in answer.text


# --- guesses


@pytest.fixture
async def balanced(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Fleet]:
    """A server behind a balancer, so that a test calls from where it likes, with more groups than
    anybody may have tried, and a budget for one guess.
    """
    async with Fleet.running(
        tmp_path / "data",
        clock=clock,
        trusted_proxies=("127.0.0.0/8",),
        trials_per_source=1,
        failures_per_source=3,
    ) as fleet:
        yield fleet


async def call(fleet: Fleet, source: str, registration_id: str, token: bytes) -> Answer:
    """Registers a device from an address."""
    connection = socket.create_connection((fleet.bootstrap["bind"], fleet.bootstrap["mqttPort"]))
    connection.sendall(
        SIGNATURE
        + b"\x21\x11\x00\x0c"
        + socket.inet_aton(source)
        + socket.inet_aton("198.51.100.1")
        + (4711).to_bytes(2)
        + (8883).to_bytes(2)
    )
    connection.setblocking(False)
    mqtt = Mqtt(
        *await asyncio.open_connection(
            sock=connection, ssl=fleet.trust(), server_hostname="localhost"
        )
    )
    async with mqtt:
        username = f"{fleet.id_scope}/registrations/{registration_id}/api-version=2026-11-01"
        await mqtt.connect(Connect(registration_id, username=username, password=token))
        await mqtt.subscribe("$dps/registrations/res/#")
        return await mqtt.ask(REGISTER, json.dumps({"registrationId": registration_id}).encode())


async def add_groups(fleet: Fleet, count: int) -> None:
    """Groups that a token is held against before `default`."""
    service = await fleet.server.administration.service()
    for number in range(count):
        await fleet.server.administration.put(
            service,
            EnrollmentKind.GROUP,
            f"a{number:04}",
            EnrollmentSettings(),
            by=SYSTEM,
        )


async def test_guesses_from_elsewhere_refuse_no_device(balanced: Fleet) -> None:
    await add_groups(balanced, 40)
    wrong = balanced.provisioning_token("dev-1", key=b"x" * 64)
    statuses = [(await call(balanced, ELSEWHERE, "dev-1", wrong)).status for _ in range(3)]
    assert statuses == [401, 429, 429]
    right = balanced.provisioning_token("dev-1")
    assert (await call(balanced, HERE, "dev-1", right)).status == 200


async def test_right_key_of_a_known_device_is_taken_from_where_somebody_guesses(
    balanced: Fleet,
) -> None:
    await add_groups(balanced, 40)
    right = balanced.provisioning_token("dev-1")
    assert (await call(balanced, HERE, "dev-1", right)).status == 200
    wrong = balanced.provisioning_token("dev-1", key=b"x" * 64)
    assert [(await call(balanced, HERE, "dev-1", wrong)).status for _ in range(2)] == [401, 429]
    assert (await call(balanced, HERE, "dev-1", right)).status == 200


async def test_newcomer_waits_for_guesses_of_its_own_source_and_is_let_in_then(
    balanced: Fleet, clock: ManualClock
) -> None:
    await add_groups(balanced, 40)
    wrong = balanced.provisioning_token("dev-1", key=b"x" * 64)
    assert (await call(balanced, HERE, "dev-1", wrong)).status == 401
    right = balanced.provisioning_token("dev-2")
    answer = await call(balanced, HERE, "dev-2", right)
    assert (answer.status, answer.error_code) == (429, 429001)
    clock.advance(timedelta(seconds=int(answer.query["retry-after"])))
    assert (await call(balanced, HERE, "dev-2", right)).status == 200
