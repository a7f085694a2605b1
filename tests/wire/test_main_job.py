"""The main job, end to end over the wire."""

from __future__ import annotations

import base64
import json

import pytest

from fleet import Certified, Fleet, Refused, device_csr
from fleetroot.gateway.mqtt import ConnackCode

EVENTS = "devices/dev-1/messages/events/"
CREDENTIALS = "$iothub/credentials/res/#"
ISSUE = "$iothub/credentials/POST/issueCertificate/"


async def test_device_is_issued_its_chain_in_the_first_answer(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    assert len(certified.chain) == 3
    assert certified.leaf.subject.rfc4514_string() == "CN=dev-1"


async def test_telemetry_is_in_the_event_log_when_it_is_acknowledged(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(EVENTS + "%24.ct=application%2Fjson&room=7", b'{"t":21}')
        [event] = await fleet.events()
    assert event["text"] == '{"t":21}'
    assert event["properties"] == {"room": "7"}
    assert event["systemProperties"]["contentType"] == "application/json"


async def test_device_renews_over_its_connection_and_reconnects(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(CREDENTIALS, qos=1)
        key, csr = device_csr("dev-1")
        accepted = await mqtt.ask(ISSUE, json.dumps({"id": "dev-1", "csr": csr}).encode())
        assert accepted.status == 202
        issued = await mqtt.answer()
        assert issued.status == 200
        assert issued.body["correlationId"] == accepted.body["correlationId"]
    renewed = Certified(tuple(base64.b64decode(der) for der in issued.body["certificates"]), key)
    async with await fleet.connect("dev-1", renewed) as mqtt:
        await mqtt.publish(EVENTS, b"renewed")
    async with await fleet.connect("dev-1", certified):
        pass  # the old one stays valid


async def test_revocation_drops_the_connection_and_refuses_every_certificate(
    fleet: Fleet,
) -> None:
    old = await fleet.provision("dev-1")
    new = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", new)
    answer = await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    assert answer.json()["certificatesRevoked"] == 2
    await mqtt.wait_closed()
    for certified in (old, new):
        with pytest.raises(Refused) as refused:
            await fleet.connect("dev-1", certified)
        assert refused.value.code is ConnackCode.NOT_AUTHORIZED
    back = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", back) as mqtt:
        await mqtt.publish(EVENTS, b"back")
