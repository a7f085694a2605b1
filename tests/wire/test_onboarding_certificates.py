"""Provisioning by certificate: individual enrollments, groups, and what their devices then have."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from onboardings import Outcome, https_device, over_every_wire, register

from fleet import Certified, Fleet, device_csr, refusal
from fleetroot.clock import ManualClock, iso8601
from fleetroot.gateway.mqtt import ConnackCode
from manufacturer import DAY, Ca, group, individual, rsa_key, self_signed

UPLOADS = "/fleetroot/provisioning-services/default/certificates"


async def enroll(
    fleet: Fleet, path: str, attestation: dict[str, Any], *, again: bool = False, **more: Any
) -> None:
    headers = {"if-match": "*"} if again else {}
    body = {"attestation": attestation, **more}
    answer = await fleet.http.put(f"/{path}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def upload(fleet: Fleet, name: str, ca: Ca, *, verified: bool, again: bool = False) -> None:
    headers = {"if-match": "*"} if again else {}
    body = {"certificate": ca.pem, "isVerified": verified}
    answer = await fleet.http.put(f"{UPLOADS}/{name}", json=body, headers=headers)
    assert answer.status_code in (200, 201), answer.text


def used_slots(fleet: Fleet) -> list[Any]:
    return [row[15] for row in fleet.rows("registrations")]


def chain_of(outcome: Outcome, key: Any) -> Certified:
    issued = outcome.state["issuedCertificateChain"]
    return Certified(tuple(map(base64.b64decode, issued)), key)


# --- individual enrollments


@over_every_wire
@pytest.mark.parametrize("which", ["primary", "secondary"])
async def test_device_shows_either_certificate_of_its_enrollment(
    fleet: Fleet, wire: str, which: str
) -> None:
    held = {"primary": self_signed("dev-1"), "secondary": self_signed("dev-1")}
    await enroll(fleet, "enrollments/dev-1", individual(**held))
    outcome = await register(fleet, wire, "dev-1", held[which])
    assert outcome.state["assignedHub"] == fleet.hub_host
    assert used_slots(fleet) == [which]
    for each in held.values():
        async with await fleet.connect("dev-1", each):
            pass


@over_every_wire
@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa_key(2048)], ids=["EC", "RSA"]
)
async def test_device_of_a_policy_gets_a_certificate_for_its_onboarding_certificate(
    fleet: Fleet, wire: str, key: Any
) -> None:
    onboarding = Ca.root().device("dev-1", key=key)
    more = {"credentialPolicyName": "default"}
    await enroll(fleet, "enrollments/dev-1", individual(onboarding), **more)
    of_its_own, csr = device_csr("dev-1")
    outcome = await register(fleet, wire, "dev-1", onboarding, csr=csr)
    async with await fleet.connect("dev-1", chain_of(outcome, of_its_own)):
        pass
    refused = await refusal(fleet.connect("dev-1", onboarding))
    assert refused is ConnackCode.NOT_AUTHORIZED


async def test_password_flag_may_be_off(fleet: Fleet) -> None:
    onboarding = self_signed("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(onboarding))
    answer = await fleet.register("dev-1", certified=onboarding)
    assert answer.status == 200


async def test_registration_shows_the_certificate(fleet: Fleet) -> None:
    onboarding = self_signed("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(onboarding))
    state = (await register(fleet, "mqtt", "dev-1", onboarding)).state
    leaf = onboarding.leaf
    serial = format(leaf.serial_number, "X")
    assert state["x509"] == {
        "certificateInfo": {
            "subjectName": "CN=dev-1, O=Manufacturer",
            "issuerName": "CN=dev-1, O=Manufacturer",
            "sha1Thumbprint": leaf.fingerprint(hashes.SHA1()).hex().upper(),
            "sha256Thumbprint": leaf.fingerprint(hashes.SHA256()).hex().upper(),
            "notBeforeUtc": iso8601(leaf.not_valid_before_utc),
            "notAfterUtc": iso8601(leaf.not_valid_after_utc),
            "serialNumber": serial.rjust(len(serial) + len(serial) % 2, "0"),
            "version": 3,
        }
    }
    assert "symmetricKey" not in state


@over_every_wire
async def test_poll_and_look_up_are_attested_by_the_certificate(fleet: Fleet, wire: str) -> None:
    onboarding = self_signed("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(onboarding))
    registered = await register(fleet, wire, "dev-1", onboarding)
    path = f"/{fleet.id_scope}/registrations/dev-1"
    how = {"params": {"api-version": "2026-11-01"}}
    async with https_device(fleet, onboarding) as device:
        polled = await device.get(f"{path}/operations/{registered.body['operationId']}", **how)
        assert polled.json() == registered.body
        assert (await device.post(path, **how)).json() == registered.state
    async with https_device(fleet, self_signed("dev-1")) as stranger:
        assert (await stranger.post(path, **how)).status_code == 401


@over_every_wire
async def test_other_than_the_enrollments_certificate_is_refused_and_leaves_nothing(
    fleet: Fleet, wire: str
) -> None:
    ca = Ca.root()
    enrolled = ca.device("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(enrolled))
    await enroll(fleet, "enrollmentGroups/factory", group(ca))  # which it wins over
    before = fleet.traces()
    same_key = ca.device("dev-1", key=enrolled.key)
    for shown in (None, ca.device("dev-1"), same_key, self_signed("dev-1")):
        outcome = await register(fleet, wire, "dev-1", shown)
        assert (outcome.status, outcome.body["errorCode"]) == (401, 401002)
    assert fleet.traces() == before


@over_every_wire
async def test_token_does_not_count_under_an_enrollment_of_certificates(
    fleet: Fleet, wire: str
) -> None:
    await enroll(fleet, "enrollments/dev-1", individual(self_signed("dev-1")))
    token = fleet.provisioning_token("dev-1")  # of the group `default`
    outcome = await register(fleet, wire, "dev-1", None, token=token)
    assert (outcome.status, outcome.body["errorCode"]) == (401, 401002)
    assert fleet.rows("registrations") == []


@over_every_wire
async def test_certificate_does_not_count_under_an_enrollment_of_keys(
    fleet: Fleet, wire: str
) -> None:
    ca = Ca.root()
    await enroll(fleet, "enrollmentGroups/factory", group(ca))
    await fleet.enroll("dev-1")
    outcome = await register(fleet, wire, "dev-1", ca.device("dev-1"))
    assert (outcome.status, outcome.body["errorCode"]) == (401, 401002)


async def test_device_with_a_key_may_show_a_certificate_as_well(fleet: Fleet) -> None:
    token = fleet.provisioning_token("dev-1")
    outcome = await register(fleet, "mqtt", "dev-1", self_signed("dev-1"), token=token)
    assert outcome.state["symmetricKey"] == {"enrollmentGroupId": "default"}


async def test_common_name_is_the_registration_id_in_any_case(fleet: Fleet) -> None:
    good, bad = self_signed("DEV-1"), self_signed("dev-2")
    await enroll(fleet, "enrollments/dev-1", individual(good, bad))
    assert (await register(fleet, "mqtt", "Dev-1", good)).state["registrationId"] == "dev-1"
    assert (await register(fleet, "mqtt", "dev-1", bad)).status == 401


async def test_enrolled_certificate_counts_while_it_is_valid(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    onboarding = self_signed("dev-1", start=DAY, end=2 * DAY)
    await enroll(timed_fleet, "enrollments/dev-1", individual(onboarding))
    statuses = []
    for _ in range(3):
        outcome = await register(timed_fleet, "mqtt", "dev-1", onboarding)
        statuses.append(outcome.status)
        clock.advance(timedelta(days=1, minutes=1))
    assert statuses == [401, 200, 401]


async def test_retry_changes_nothing(fleet: Fleet) -> None:
    onboarding = self_signed("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(onboarding))
    await register(fleet, "mqtt", "dev-1", onboarding)
    once = fleet.traces()
    async with await fleet.connect("dev-1", onboarding):
        connected = fleet.rows("identities")
        outcome = await register(fleet, "mqtt", "dev-1", onboarding)
        assert outcome.state["substatus"] == "reprovisionedToInitialAssignment"
        assert fleet.rows("identities") == connected  # the live session has kept its ground
    for table in ("devices", "certificates", "twins", "outbox"):
        assert fleet.rows(table) == once[table]
    assert len(fleet.rows("registrations")) == 1


async def test_rolled_certificate_counts_from_the_next_registration_on(fleet: Fleet) -> None:
    old, new = self_signed("dev-1"), self_signed("dev-1")
    await enroll(fleet, "enrollments/dev-1", individual(old))
    await register(fleet, "mqtt", "dev-1", old)
    mqtt = await fleet.connect("dev-1", old)
    await enroll(fleet, "enrollments/dev-1", individual(new), again=True)
    await register(fleet, "mqtt", "dev-1", new)
    await mqtt.wait_closed()
    assert await refusal(fleet.connect("dev-1", old)) is ConnackCode.NOT_AUTHORIZED
    async with await fleet.connect("dev-1", new):
        pass


# --- groups


@over_every_wire
@pytest.mark.parametrize("send_root", [False, True], ids=["without-root", "with-root"])
@pytest.mark.parametrize("length", [1, 2, 4])
async def test_chain_of_up_to_five_leads_to_the_groups_root(
    fleet: Fleet, wire: str, length: int, send_root: bool
) -> None:
    last = Ca.line(length)
    await enroll(fleet, "enrollmentGroups/factory", group(last.top))
    device = last.device("dev-1", send_root=send_root)
    assert len(device.chain) == length + send_root
    outcome = await register(fleet, wire, "dev-1", device)
    shown = outcome.state["x509"]
    assert shown["enrollmentGroupId"] == "factory"
    assert shown["certificateInfo"]["subjectName"] == "CN=dev-1, O=Manufacturer"
    assert shown["signingCertificateInfo"]["subjectName"] == "CN=Root, O=Manufacturer"
    async with await fleet.connect("dev-1", device):
        pass


@over_every_wire
async def test_five_certificates_and_the_root_pass(fleet: Fleet, wire: str) -> None:
    last = Ca.line(5, key=rsa_key(4096))
    device = last.device("dev-1", send_root=True)
    assert len(device.chain) == 6
    await enroll(fleet, "enrollmentGroups/factory", group(last.top))
    outcome = await register(fleet, wire, "dev-1", device)
    assert outcome.status == 200, await fleet.refusals()


@over_every_wire
@pytest.mark.parametrize("place", [0, 1, 2], ids=["issuing", "middle", "root"])
async def test_any_ca_of_the_chain_can_be_the_groups(fleet: Fleet, wire: str, place: int) -> None:
    last = Ca.line(3)
    await enroll(fleet, "enrollmentGroups/factory", group((last, *last.above)[place]))
    device = last.device("dev-1", send_root=True)
    for shown in (device, Certified(device.chain[: place + 1], device.key)):
        assert (await register(fleet, wire, "dev-1", shown)).status == 200


async def test_either_signing_certificate_counts_and_the_registration_tells_which(
    fleet: Fleet,
) -> None:
    old, new = Ca.root("Old"), Ca.root("New")
    await enroll(fleet, "enrollmentGroups/factory", group(old, new))
    for ca, slot in ((old, "primary"), (new, "secondary")):
        await register(fleet, "mqtt", "dev-1", ca.device("dev-1"))
        assert used_slots(fleet) == [slot]


@over_every_wire
async def test_device_of_a_group_with_a_policy_gets_a_certificate(fleet: Fleet, wire: str) -> None:
    ca = Ca.root(key=rsa_key(3072))
    await enroll(fleet, "enrollmentGroups/factory", group(ca), credentialPolicyName="default")
    key, csr = device_csr("dev-1")
    outcome = await register(fleet, wire, "dev-1", ca.device("dev-1"), csr=csr)
    async with await fleet.connect("dev-1", chain_of(outcome, key)):
        pass


async def test_new_certificate_of_a_groups_device_is_what_the_hub_takes(fleet: Fleet) -> None:
    ca = Ca.root()
    await enroll(fleet, "enrollmentGroups/factory", group(ca))
    old, new = ca.device("dev-1"), ca.device("dev-1")
    await register(fleet, "mqtt", "dev-1", old)
    assert await refusal(fleet.connect("dev-1", new)) is ConnackCode.NOT_AUTHORIZED
    await register(fleet, "mqtt", "dev-1", new)
    assert await refusal(fleet.connect("dev-1", old)) is ConnackCode.NOT_AUTHORIZED
    async with await fleet.connect("dev-1", new):
        pass


async def test_group_does_not_reach_a_device_of_another(fleet: Fleet) -> None:
    ours, theirs = Ca.root("Ours"), Ca.root("Theirs")
    await enroll(fleet, "enrollmentGroups/ours", group(ours))
    await enroll(fleet, "enrollmentGroups/theirs", group(theirs))
    assert (await register(fleet, "mqtt", "dev-1", ours.device("dev-1"))).status == 200
    before = fleet.traces()
    outcome = await register(fleet, "mqtt", "dev-1", theirs.device("dev-1"))
    assert (outcome.status, outcome.body["errorCode"]) == (401, 401002)
    assert fleet.traces() == before


async def test_group_whose_ca_is_nearest_decides_also_when_it_is_disabled(fleet: Fleet) -> None:
    root = Ca.root()
    factory = root.below("Factory")
    await enroll(fleet, "enrollmentGroups/all", group(root))
    more = {"provisioningStatus": "disabled"}
    await enroll(fleet, "enrollmentGroups/stolen", group(factory), **more)
    assert (await register(fleet, "mqtt", "dev-1", factory.device("dev-1"))).status == 401
    other = root.below("Other factory")
    state = (await register(fleet, "mqtt", "dev-1", other.device("dev-1"))).state
    assert state["x509"]["enrollmentGroupId"] == "all"


# --- CAs that were uploaded


@over_every_wire
async def test_group_of_an_uploaded_ca_counts_once_that_is_verified(
    fleet: Fleet, wire: str
) -> None:
    ca = Ca.line(2)
    await upload(fleet, "Factory-1", ca, verified=False)
    attestation = {"type": "x509", "x509": {"caReferences": {"secondary": "factory-1"}}}
    await enroll(fleet, "enrollmentGroups/factory", attestation)
    device = ca.device("dev-1")
    assert (await register(fleet, wire, "dev-1", device)).status == 401
    assert fleet.rows("registrations") == []
    await upload(fleet, "Factory-1", ca, verified=True, again=True)
    assert (await register(fleet, wire, "dev-1", device)).status == 200
    assert used_slots(fleet) == ["secondary"]
    there = (await fleet.http.get(f"{UPLOADS}/Factory-1")).json()
    await fleet.http.delete(f"{UPLOADS}/Factory-1", headers={"if-match": there["etag"]})
    assert (await register(fleet, wire, "dev-1", device)).status == 401


async def test_ca_of_another_name_does_not_count(fleet: Fleet) -> None:
    ours, other = Ca.root("Ours"), Ca.root("Other")
    await upload(fleet, "ours", ours, verified=True)
    await upload(fleet, "other", other, verified=True)
    attestation = {"type": "x509", "x509": {"caReferences": {"primary": "ours"}}}
    await enroll(fleet, "enrollmentGroups/factory", attestation)
    assert (await register(fleet, "mqtt", "dev-1", other.device("dev-1"))).status == 401
    assert (await register(fleet, "mqtt", "dev-1", ours.device("dev-1"))).status == 200
