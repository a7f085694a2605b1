"""Provisioning, against the whole server and against a service that says what a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from agents import MovingBell, onboarding, provision, true_time
from scripted import Reply, Service, scripted

from fleet import Fleet
from fleetroot.agent.client import Connection, Login
from fleetroot.agent.credential import CredentialRequest
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.errors import (
    AgentError,
    CredentialRefused,
    RequestRefused,
    ServerBusy,
    ServerNotTrusted,
    UnusableAnswer,
)
from fleetroot.agent.tls import Endpoint, ObservedSocket, make_context
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.pki import KeyType, common_name_of, key_type_of, private_key_to_der

SECRET = bytes(range(64))


async def provision_in_thread(how: Onboarding) -> Device:
    return await asyncio.to_thread(provision, how)


def how_to(service: Service, **changes: object) -> Onboarding:
    fields: dict[str, object] = {
        "host": "localhost",
        "port": service.port,
        "id_scope": "0ne",
        "registration_id": "dev-1",
        "ca": service.ca,
        "key_type": KeyType.EC_P256,
        "symmetric_key": SECRET,
    }
    return Onboarding(**(fields | changes))  # type: ignore[arg-type]


def answer(status: int, body: object, retry_after: int | None = None) -> Callable[[str], Reply]:
    def reply(rid: str) -> Reply:
        tail = f"{status}/?$rid={rid}"
        if retry_after is not None:
            tail += f"&retry-after={retry_after}"
        return tail, json.dumps(body).encode()

    return reply


def error(
    status: int, message: str = "no", retry_after: int | None = None
) -> Callable[[str], Reply]:
    return answer(status, {"errorCode": status * 1000 + 1, "message": message}, retry_after)


ASSIGNING = {"operationId": "op.1", "status": "assigning"}


async def test_device_is_assigned_and_certified(fleet: Fleet) -> None:
    device = await provision_in_thread(onboarding(fleet, "dev-1"))
    assert device.hub == fleet.hub_host
    assert device.device_id == "dev-1"
    assert common_name_of(device.credential.leaf) == "dev-1"
    assert len(device.credential.chain) == 3
    assert device.credential.key.public_key() == device.credential.leaf.public_key()


@pytest.mark.parametrize("key_type", ["EC-P256", "EC-P384", "EC-P521"])
async def test_key_is_of_the_kind_that_was_asked_for(fleet: Fleet, key_type: str) -> None:
    how = onboarding(fleet, "dev-1")
    fields = {name: getattr(how, name) for name in Onboarding.__slots__}
    device = await provision_in_thread(Onboarding(**fields | {"key_type": KeyType(key_type)}))
    assert key_type_of(device.credential.key.public_key()) == key_type


async def test_no_key_leaves_the_device(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = bytearray()
    send = ObservedSocket.send

    def recording(self: ObservedSocket, data: bytes, flags: int = 0) -> int:
        sent.extend(data)
        return send(self, data, flags)

    monkeypatch.setattr(ObservedSocket, "send", recording)
    how = onboarding(fleet, "dev-1")
    device = await provision_in_thread(how)
    key = device.credential.key
    scalar = key.private_numbers().private_value.to_bytes(48)
    assert how.symmetric_key is not None
    assert b"iotdps-register" in sent
    for secret in (scalar, private_key_to_der(key), how.symmetric_key):
        assert secret not in sent
        assert base64.b64encode(secret) not in sent


async def test_wrong_key_is_refused_for_good(fleet: Fleet) -> None:
    with pytest.raises(RequestRefused, match="Unauthorized") as refused:
        await provision_in_thread(onboarding(fleet, "dev-1", SECRET))
    assert refused.value.status == 401


async def test_unknown_id_scope_is_refused_for_good(fleet: Fleet) -> None:
    how = onboarding(fleet, "dev-1")
    fields = {name: getattr(how, name) for name in Onboarding.__slots__}
    with pytest.raises(CredentialRefused, match="CONNACK 5"):
        await provision_in_thread(Onboarding(**fields | {"id_scope": "0neNowhere"}))


async def test_enrollment_without_a_policy_is_said_so(fleet: Fleet) -> None:
    key, _ = await fleet.enroll("dev-9")
    with pytest.raises(AgentError, match="policy"):
        await provision_in_thread(onboarding(fleet, "dev-9", key))


def test_server_of_another_ca_is_not_trusted(tmp_path: Path) -> None:
    with (
        scripted(tmp_path) as service,
        pytest.raises(ServerNotTrusted),
    ):
        provision(how_to(service, ca=None))


def test_server_of_another_name_is_not_trusted(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, name="elsewhere") as service,
        pytest.raises(ServerNotTrusted),
    ):
        provision(how_to(service))


def test_slow_assignment_is_polled_as_often_as_the_service_says(tmp_path: Path) -> None:
    bell = MovingBell(true_time())
    with scripted(tmp_path) as service:
        service.replies = [
            answer(202, ASSIGNING, 3),
            answer(202, ASSIGNING, 7),
            answer(200, {"status": "failed", "registrationState": {"errorMessage": "no hub"}}),
        ]
        with pytest.raises(RequestRefused, match="no hub"):
            provision(how_to(service), bell=bell)
    assert bell.pauses == [3.0, 7.0]
    assert "iotdps-get-operationstatus" in service.requests[2][0]
    assert "operationId=op.1" in service.requests[2][0]


def test_assignment_that_never_comes_is_given_up(tmp_path: Path) -> None:
    bell = MovingBell(true_time())
    with scripted(tmp_path) as service:
        service.replies = [answer(202, ASSIGNING, 25)] * 10
        with pytest.raises(AgentError, match="assigned no hub"):
            provision(how_to(service), bell=bell, timeout=60)
    assert bell.pauses == [25.0, 25.0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_service_is_asked_again_when_it_says(tmp_path: Path, status: int) -> None:
    bell = MovingBell(true_time())
    with scripted(tmp_path) as service:
        service.replies = [error(status, retry_after=5), error(403, "never")]
        with pytest.raises(RequestRefused, match="never"):
            provision(how_to(service), bell=bell)
    [wait] = bell.pauses
    assert 5 <= wait <= 6


def test_unavailable_service_is_asked_again(tmp_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.connack = [ConnackCode.SERVER_UNAVAILABLE]
        service.replies = [error(403, "never")]
        with pytest.raises(RequestRefused, match="never"):
            provision(how_to(service))
    assert len(service.connects) == 2


def test_busy_service_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    bell = MovingBell(true_time())
    with scripted(tmp_path) as service:
        service.replies = [error(429, retry_after=4)] * 20
        with pytest.raises(ServerBusy):
            provision(how_to(service), bell=bell, timeout=20)
    assert 1 <= len(bell.pauses) <= 5
    assert sum(bell.pauses) <= 20


def test_connection_that_breaks_is_tried_again(tmp_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.replies = [None, error(403, "never")]
        with pytest.raises(RequestRefused, match="never"):
            provision(how_to(service))


@pytest.mark.parametrize("chain", [["AAAA"], ["*"], [], [7], [None] * 9])
def test_answer_that_is_no_chain_is_unusable(chain: list[str]) -> None:
    with pytest.raises(UnusableAnswer):
        CredentialRequest.make(KeyType.EC_P256, "dev-1").fulfilled(chain)


def test_answer_for_another_key_is_unusable(tmp_path: Path) -> None:
    with scripted(tmp_path) as service:
        pem = service.ca
    der = "".join(pem.splitlines()[1:-1])
    with pytest.raises(UnusableAnswer, match="another key"):
        CredentialRequest.make(KeyType.EC_P256, "dev-1").fulfilled([der])


def test_words_of_a_server_stay_on_one_line(tmp_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.replies = [error(400, "bad\n\x1b[31mthing" + "x" * 1000)]
        with pytest.raises(RequestRefused) as refused:
            provision(how_to(service))
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_address_is_dialled_and_name_is_checked(tmp_path: Path) -> None:
    with scripted(tmp_path, name="hub.example") as service:
        connection = Connection(
            Endpoint("hub.example", "127.0.0.1", service.port),
            make_context("hub.example", service.ca),
            Login("dev-1", "hub.example/dev-1/?api-version=1"),
            MovingBell(true_time()),
        )
        connection.open()
        connection.close()
    [connect] = service.connects
    assert connect.password is None
