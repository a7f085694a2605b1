"""What an enrollment's policy pins a device's hub identity to."""

from __future__ import annotations

import base64

import pytest

from fleet import Fleet, refusal
from fleetroot import sas
from fleetroot.gateway.mqtt import ConnackCode


async def re_enroll(fleet: Fleet, path: str, **settings: object) -> None:
    """Replaces an enrollment's settings; its keys are kept."""
    body = {"attestation": {"type": "symmetricKey"}, **settings}
    answer = await fleet.http.put(path, json=body, headers={"if-match": "*"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("which", [0, 1], ids=["primary", "secondary"])
async def test_without_a_policy_the_hub_takes_the_devices_derived_keys(
    fleet: Fleet, which: int
) -> None:
    keys = await fleet.enroll("line-4", group=True)
    await fleet.register(
        "dev-1",
        token=fleet.provisioning_token("dev-1", sas.derive_device_key(keys[0], "dev-1")),
    )
    token = fleet.hub_token("dev-1", sas.derive_device_key(keys[which], "dev-1"))
    async with await fleet.connect("dev-1", token=token):
        assert await fleet.certificates() == []


@pytest.mark.parametrize("which", [0, 1], ids=["primary", "secondary"])
async def test_without_a_policy_the_hub_takes_an_individual_enrollments_keys(
    fleet: Fleet, which: int
) -> None:
    keys = await fleet.enroll("dev-1")
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", keys[0]))
    async with await fleet.connect("dev-1", token=fleet.hub_token("dev-1", keys[which])):
        pass


async def test_with_a_policy_and_no_csr_the_identity_is_pinned_to_the_policy(
    fleet: Fleet,
) -> None:
    await fleet.register("dev-1")
    token = fleet.hub_token("dev-1", fleet.device_key("dev-1"))
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified):
        pass


async def test_taking_the_policy_away_drops_the_connection_and_pins_to_keys(
    fleet: Fleet,
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    await re_enroll(fleet, "/enrollmentGroups/default")
    await fleet.register("dev-1")
    await mqtt.wait_closed()
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
    token = fleet.hub_token("dev-1", fleet.device_key("dev-1"))
    async with await fleet.connect("dev-1", token=token):
        pass


async def test_giving_the_policy_back_drops_the_connection_and_pins_to_the_policy(
    fleet: Fleet,
) -> None:
    await re_enroll(fleet, "/enrollmentGroups/default")
    await fleet.register("dev-1")
    token = fleet.hub_token("dev-1", fleet.device_key("dev-1"))
    mqtt = await fleet.connect("dev-1", token=token)
    await re_enroll(fleet, "/enrollmentGroups/default", credentialPolicyName="default")
    certified = await fleet.provision("dev-1")
    await mqtt.wait_closed()
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED
    async with await fleet.connect("dev-1", certified):
        pass


async def test_rolled_keys_count_at_the_hub_from_the_next_registration_on(fleet: Fleet) -> None:
    old, _ = await fleet.enroll("dev-1")
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", old))
    mqtt = await fleet.connect("dev-1", token=fleet.hub_token("dev-1", old))
    new = {"primaryKey": sas.encode_key(b"n" * 32), "secondaryKey": sas.encode_key(b"m" * 32)}
    body = {"attestation": {"type": "symmetricKey", "symmetricKey": new}}
    await fleet.http.put("/enrollments/dev-1", json=body, headers={"if-match": "*"})
    primary = base64.b64decode(new["primaryKey"])
    await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", primary))
    await mqtt.wait_closed()
    code = await refusal(fleet.connect("dev-1", token=fleet.hub_token("dev-1", old)))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD
    async with await fleet.connect("dev-1", token=fleet.hub_token("dev-1", primary)):
        pass


async def test_reprovisioning_as_it_was_keeps_the_live_connection(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        await fleet.provision("dev-1")
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")
        assert [event["text"] for event in await fleet.events()] == ["still here"]
