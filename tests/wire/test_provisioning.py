"""Provisioning over MQTT: who is attested, and what stands in the answers."""

from __future__ import annotations

import base64
import hmac
import json
import re
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet import Answer, Certified, Fleet, Mqtt, device_csr
from fleetroot import sas
from fleetroot.gateway.mqtt import Publish, SubackCode

REGISTER = "$dps/registrations/PUT/iotdps-register/"
POLL = "$dps/registrations/GET/iotdps-get-operationstatus/"
CSR_VERSIONS = ["2025-07-01-preview", "2026-11-01", "2026-11-02-preview", "2026-11-15-preview"]


def state(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.body["registrationState"]
    return found


async def register(mqtt: Mqtt, registration_id: str, **body: Any) -> Answer:
    content = {"registrationId": registration_id, **body}
    return await mqtt.ask(REGISTER, json.dumps(content).encode())


# --- attestation


@pytest.mark.parametrize("which", [0, 1], ids=["primary", "secondary"])
async def test_individual_enrollment_attests_with_either_key(fleet: Fleet, which: int) -> None:
    keys = await fleet.enroll("dev-1")
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", keys[which]))
    assert answer.body["status"] == "assigned"


@pytest.mark.parametrize("which", [0, 1], ids=["primary", "secondary"])
async def test_group_attests_with_a_key_derived_from_either_of_its_keys(
    fleet: Fleet, which: int
) -> None:
    keys = await fleet.enroll("line-4", group=True)
    key = sas.derive_device_key(keys[which], "dev-1")
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
    assert state(answer)["symmetricKey"] == {"enrollmentGroupId": "line-4"}


async def test_individual_enrollment_wins_over_a_group(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll("dev-1", deviceId="pump-7")
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", primary))
    assert state(answer)["deviceId"] == "pump-7"
    by_group = await fleet.register("dev-1")  # with the key of the group
    assert by_group.status == 401


async def test_token_without_a_key_name_attests(fleet: Fleet) -> None:
    expires_at = fleet.server.clock.now().replace(year=2999)
    token = sas.sign_token(
        f"{fleet.id_scope}/registrations/dev-1", fleet.device_key("dev-1"), expires_at
    )
    assert (await fleet.register("dev-1", token=token.encode())).status == 200


async def test_token_with_an_unencoded_resource_attests(fleet: Fleet) -> None:
    resource = f"{fleet.id_scope}/registrations/dev-1"
    signature = base64.b64encode(
        hmac.digest(fleet.device_key("dev-1"), f"{resource}\n4000000000".encode(), "sha256")
    ).decode()
    token = f"SharedAccessSignature sr={resource}&sig={signature}&skn=registration&se=4000000000"
    assert (await fleet.register("dev-1", token=token.encode())).status == 200


# --- ids


async def test_spellings_of_a_registration_id_are_one_device(fleet: Fleet) -> None:
    await fleet.provision("Dev-1")
    key = fleet.device_key("Dev-1")
    answer = await fleet.register("DEV-1", token=fleet.provisioning_token("DEV-1", key))
    assert state(answer)["registrationId"] == "Dev-1"
    assert [device["deviceId"] for device in await fleet.devices()] == ["Dev-1"]


async def test_group_key_is_derived_from_the_spelling_that_was_stored(fleet: Fleet) -> None:
    await fleet.register("Dev-1")
    answer = await fleet.register("dev-1")  # with the key of the new spelling
    assert answer.status == 401


async def test_individual_enrollment_may_name_another_device_id(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll("dev-1", deviceId="pump-7", policy="default")
    certified = await fleet.provision("dev-1", token=fleet.provisioning_token("dev-1", primary))
    assert certified.leaf.subject.rfc4514_string() == "CN=pump-7"
    async with await fleet.connect("pump-7", certified):
        assert [device["deviceId"] for device in await fleet.devices()] == ["pump-7"]


@pytest.mark.parametrize("registration_id", ["a", "a.b_c:d-e", "x" * 128])
async def test_every_form_of_registration_id_is_issued_a_certificate(
    fleet: Fleet, registration_id: str
) -> None:
    answer = await fleet.register(registration_id)
    assert state(answer)["deviceId"] == registration_id


# --- certificate requests by generation of the API


async def test_csr_is_ignored_by_versions_that_do_not_know_it(fleet: Fleet) -> None:
    _, csr = device_csr("dev-1")
    answer = await fleet.register(
        "dev-1", {"csr": csr, "clientCertificateCsr": csr}, version="2019-03-31"
    )
    assert not {"issuedCertificateChain", "issuedClientCertificate"} & state(answer).keys()
    assert await fleet.certificates() == []


@pytest.mark.parametrize("armoured", [True, False], ids=["PEM", "base64"])
async def test_preview_of_2021_takes_pem_or_base64_and_answers_pem(
    fleet: Fleet, armoured: bool
) -> None:
    key, csr = device_csr("dev-1")
    if armoured:
        der = base64.b64decode(csr)
        csr = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    answer = await fleet.register(
        "dev-1", {"clientCertificateCsr": csr}, version="2021-11-01-preview"
    )
    pem = state(answer)["issuedClientCertificate"]
    leaf, *above = x509.load_pem_x509_certificates(pem.encode())
    assert leaf.public_key() == key.public_key()
    assert len(above) == 2
    assert "issuedCertificateChain" not in state(answer)


async def test_null_in_the_preview_of_2021_means_no_csr(fleet: Fleet) -> None:
    answer = await fleet.register(
        "dev-1", {"clientCertificateCsr": None}, version="2021-11-01-preview"
    )
    assert "issuedClientCertificate" not in state(answer)


@pytest.mark.parametrize("version", CSR_VERSIONS)
async def test_chain_is_leaf_first_and_root_last(fleet: Fleet, version: str) -> None:
    certified = await fleet.provision("dev-1", version=version)
    leaf, issuing, root = map(x509.load_der_x509_certificate, certified.chain)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


async def test_newer_versions_tell_the_connection_profile(fleet: Fleet) -> None:
    assert state(await fleet.register("dev-1"))["connectionProfile"] == "classic"


async def test_older_versions_tell_no_connection_profile(fleet: Fleet) -> None:
    assert "connectionProfile" not in state(await fleet.register("dev-1", version="2021-10-01"))


@pytest.mark.parametrize("topic", [REGISTER, POLL])
async def test_unknown_api_version_is_told_which_there_are(fleet: Fleet, topic: str) -> None:
    async with await fleet.provisioning("dev-1", version="2031-01-01") as mqtt:
        answer = await mqtt.ask(topic, b"{}")
    assert (answer.status, answer.error_code) == (400, 400004)
    assert "2019-03-31" in answer.body["message"]
    assert "2026-11-01" in answer.body["message"]


# --- answers


async def test_answer_has_the_documented_fields(fleet: Fleet) -> None:
    answer = await fleet.register("dev-1")
    assert answer.body.keys() == {"operationId", "status", "registrationState"}
    assert re.fullmatch(r"[A-Za-z0-9.-]+", answer.body["operationId"])
    registered = state(answer)
    assert registered["registrationId"] == registered["deviceId"] == "dev-1"
    assert registered["assignedHub"] == fleet.hub_host
    assert registered["status"] == "assigned"
    assert registered["etag"]
    for field in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", registered[field])


async def test_poll_repeats_the_answer_with_the_same_chain(fleet: Fleet) -> None:
    _, csr = device_csr("dev-1")
    async with await fleet.provisioning("dev-1") as mqtt:
        first = await register(mqtt, "dev-1", csr=csr)
        polled = await mqtt.answer_to(f"{POLL}?$rid=2&operationId={first.body['operationId']}")
    assert state(polled)["issuedCertificateChain"]
    assert polled.body == first.body


async def test_rid_is_the_only_first_parameter_of_the_topic(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        answer = await mqtt.ask(REGISTER, b"{}", rid="a-b.c_7")
    assert answer.topic == "$dps/registrations/res/200/?$rid=a-b.c_7"


async def test_answer_is_ascii(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        await mqtt.publish(f"{REGISTER}?$rid=1", '{"registrationId": "dév"}'.encode(), qos=0)
        message = await mqtt.message()
    assert message.topic.startswith("$dps/registrations/res/400/")
    assert message.payload.isascii()


async def test_request_without_rid_is_not_answered(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        await mqtt.publish(REGISTER, b"{}", qos=0)
        answer = await mqtt.ask(REGISTER, b"{}", rid="second")
    assert answer.query["$rid"] == "second"


# --- subscriptions and topics


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, SubackCode.QOS_0), (1, SubackCode.QOS_1), (2, SubackCode.QOS_1)]
)
async def test_subscription_is_granted_at_most_qos_1(
    fleet: Fleet, asked: int, granted: SubackCode
) -> None:
    async with await fleet.provisioning("dev-1", subscribe=False) as mqtt:
        assert await mqtt.subscribe("$dps/registrations/res/#", qos=asked) == (granted,)


async def test_other_filters_are_refused_one_by_one(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1", subscribe=False) as mqtt:
        codes = await mqtt.subscribe("#", "$dps/registrations/res/#", "$iothub/twin/res/#")
    assert codes == (SubackCode.FAILURE, SubackCode.QOS_0, SubackCode.FAILURE)


async def test_unsubscribe_is_answered(fleet: Fleet) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        await mqtt.unsubscribe("$dps/registrations/res/#")


@pytest.mark.parametrize(
    "topic", ["a", "$dps/registrations/POST/x/?$rid=1", f"{REGISTER}?$rid=a%2"]
)
async def test_other_topic_closes_the_connection(fleet: Fleet, topic: str) -> None:
    async with await fleet.provisioning("dev-1") as mqtt:
        await mqtt.send(Publish(topic, b"{}"))
        await mqtt.wait_closed()
    assert sum((await fleet.refusals()).values()) == 1


# --- assignment


async def test_second_registration_is_a_reprovisioning(fleet: Fleet) -> None:
    first, second = await fleet.register("dev-1"), await fleet.register("dev-1")
    assert state(first)["substatus"] == "initialAssignment"
    assert state(second)["substatus"] == "reprovisionedToInitialAssignment"
    assert state(first)["createdDateTimeUtc"] == state(second)["createdDateTimeUtc"]


async def test_initial_twin_is_what_the_device_reads(fleet: Fleet) -> None:
    primary, _ = await fleet.enroll(
        "dev-1",
        policy="default",
        initialTwin={"tags": {"site": "x"}, "properties": {"desired": {"rate": 5}}},
    )
    certified = await fleet.provision("dev-1", token=fleet.provisioning_token("dev-1", primary))
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        twin = await mqtt.ask("$iothub/twin/GET/")
    assert twin.body["desired"] == {"rate": 5, "$version": 1}
    assert "tags" not in twin.body


async def test_reprovisioning_leaves_the_twin_as_it_is(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        await mqtt.ask("$iothub/twin/PATCH/properties/reported/", b'{"on":true}')
    again = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", again) as mqtt:
        await mqtt.subscribe("$iothub/twin/res/#")
        twin = await mqtt.ask("$iothub/twin/GET/")
    assert twin.body["reported"] == {"on": True, "$version": 2}


async def test_each_provisioning_issues_another_certificate(fleet: Fleet) -> None:
    first: Certified = await fleet.provision("dev-1")
    second: Certified = await fleet.provision("dev-1")
    assert first.leaf.serial_number != second.leaf.serial_number
    assert [c["origin"] for c in await fleet.certificates("dev-1")] == ["provisioning"] * 2
