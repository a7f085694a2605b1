"""A provisioning service with two hubs: which one a device is assigned to, and how it moves."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import pytest

from fleet import Answer, Certified, Fleet, Mqtt, device_csr, refusal
from fleetroot import sas
from fleetroot.gateway.mqtt import ConnackCode

SECOND = "second.localhost"
TWIN = "$iothub/twin/res/#"
GET_TWIN = "$iothub/twin/GET/"
REPORT = "$iothub/twin/PATCH/properties/reported/"


@pytest.fixture
async def fleet(fleet: Fleet) -> Fleet:
    """A running server with a second hub."""
    server = fleet.server
    namespace = await server.registry.namespace("default")
    hub = await server.hubs.create(namespace, "second", SECOND)
    await server.hubs.synchronize(namespace)
    service = await server.administration.service()
    await fleet.execute(
        f"INSERT INTO linked_hubs (service_id, hub_id) VALUES ('{service.id}', '{hub.id}')"
    )
    return fleet


def assigned_hub(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(answer.body["registrationState"]["assignedHub"])


def substatus(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return str(answer.body["registrationState"]["substatus"])


class Device:
    """A device with an individual enrollment on the first hub, and what it asks of the server."""

    def __init__(self, fleet: Fleet, key: bytes, certified: Certified) -> None:
        self.fleet = fleet
        self.key = key
        self.certified = certified

    @classmethod
    async def on_the_first_hub(cls, fleet: Fleet) -> Device:
        key, _ = await fleet.enroll("dev-1", policy="default", iotHubs=[fleet.hub_host])
        token = fleet.provisioning_token("dev-1", key)
        return cls(fleet, key, await fleet.provision("dev-1", token=token))

    async def move(self, **settings: Any) -> Answer:
        """Changes the enrollment to the second hub, and registers again."""
        await self.fleet.enroll("dev-1", policy="default", again=True, iotHubs=[SECOND], **settings)
        return await self.register()

    async def register(self) -> Answer:
        token = self.fleet.provisioning_token("dev-1", self.key)
        return await self.fleet.register("dev-1", token=token)

    async def connect(self, host: str) -> Mqtt:
        return await self.fleet.connect("dev-1", self.certified, host=host)

    async def report(self, host: str, patch: bytes) -> None:
        async with await self.connect(host) as mqtt:
            await mqtt.subscribe(TWIN)
            assert (await mqtt.ask(REPORT, patch)).status == 204

    async def twin(self, host: str) -> Any:
        async with await self.connect(host) as mqtt:
            await mqtt.subscribe(TWIN)
            return (await mqtt.ask(GET_TWIN)).body


@pytest.fixture
async def device(fleet: Fleet) -> Device:
    return await Device.on_the_first_hub(fleet)


# --- allocation


async def test_devices_are_spread_over_the_hubs(fleet: Fleet) -> None:
    hosts = Counter([assigned_hub(await fleet.register(f"dev-{n}")) for n in range(20)])
    assert hosts.keys() == {fleet.hub_host, SECOND}
    assert min(hosts.values()) >= 5


async def test_device_that_comes_again_is_assigned_to_the_same_hub(fleet: Fleet) -> None:
    ids = [f"dev-{n}" for n in range(20)]
    first = [assigned_hub(await fleet.register(id_)) for id_ in ids]
    assert [assigned_hub(await fleet.register(id_)) for id_ in ids] == first


async def test_device_is_let_in_by_the_hub_that_it_is_assigned_to_alone(fleet: Fleet) -> None:
    on = {assigned_hub(await fleet.register(f"dev-{n}")): f"dev-{n}" for n in range(20)}
    device_id = on[SECOND]
    certified = await fleet.provision(device_id)
    async with await fleet.connect(device_id, certified, host=SECOND):
        pass
    assert await refusal(fleet.connect(device_id, certified)) is ConnackCode.NOT_AUTHORIZED
    assert await fleet.refusals() == {"no such device on this hub": 1}


@pytest.mark.parametrize("which", ["first", "second"])
async def test_enrollment_that_names_a_hub_assigns_it(fleet: Fleet, which: str) -> None:
    host = fleet.hub_host if which == "first" else SECOND
    await fleet.enroll("default", group=True, policy="default", again=True, iotHubs=[host])
    assert {assigned_hub(await fleet.register(f"dev-{n}")) for n in range(20)} == {host}


async def test_hub_of_the_enrollment_that_is_not_linked_any_more_is_not_replaced_by_another(
    fleet: Fleet, device: Device
) -> None:
    await fleet.execute(
        "DELETE FROM linked_hubs WHERE hub_id IN (SELECT id FROM hubs WHERE name = 'default')"
    )
    assert (await device.register()).status == 503
    assert await fleet.refusals() == {"no linked hub": 1}


# --- a device that shall stay


async def test_device_that_shall_stay_is_assigned_to_the_hub_it_is_on(
    fleet: Fleet, device: Device
) -> None:
    answer = await device.move(reprovisionPolicy={"updateHubAssignment": False})
    assert assigned_hub(answer) == fleet.hub_host
    assert substatus(answer) == "reprovisionedToInitialAssignment"


async def test_device_that_shall_stay_keeps_its_connection_and_twin(
    fleet: Fleet, device: Device
) -> None:
    await device.report(fleet.hub_host, b'{"on":true}')
    async with await device.connect(fleet.hub_host) as mqtt:
        await device.move(reprovisionPolicy={"updateHubAssignment": False})
        await mqtt.subscribe(TWIN)
        assert (await mqtt.ask(GET_TWIN)).body["reported"] == {"on": True, "$version": 2}


async def test_device_that_shall_stay_has_no_identity_elsewhere(device: Device) -> None:
    await device.move(reprovisionPolicy={"updateHubAssignment": False})
    assert await refusal(device.connect(SECOND)) is ConnackCode.NOT_AUTHORIZED


# --- a device that moves


async def test_device_moves_to_its_enrollments_new_hub(device: Device) -> None:
    assert assigned_hub(await device.move()) == SECOND
    async with await device.connect(SECOND):
        pass


async def test_device_that_moved_is_unknown_to_its_old_hub(fleet: Fleet, device: Device) -> None:
    await device.move()
    assert await refusal(device.connect(fleet.hub_host)) is ConnackCode.NOT_AUTHORIZED
    assert await fleet.refusals() == {"no such device on this hub": 1}


async def test_moving_drops_the_connection_to_the_old_hub(fleet: Fleet, device: Device) -> None:
    mqtt = await device.connect(fleet.hub_host)
    await device.move()
    await mqtt.wait_closed()
    assert await fleet.refusals() == {"identity changed": 1}


async def test_moving_leaves_other_devices_where_they_are(fleet: Fleet, device: Device) -> None:
    key, _ = await fleet.enroll("dev-2", policy="default", iotHubs=[fleet.hub_host])
    other = await fleet.provision("dev-2", token=fleet.provisioning_token("dev-2", key))
    async with await fleet.connect("dev-2", other) as mqtt:
        await device.move()
        await mqtt.publish("devices/dev-2/messages/events/", b"still here")


async def test_registering_again_after_a_move_changes_nothing(device: Device) -> None:
    await device.move()
    await device.report(SECOND, b'{"on":true}')
    answer = await device.register()
    assert (assigned_hub(answer), substatus(answer)) == (SECOND, "reprovisionedToInitialAssignment")
    assert (await device.twin(SECOND))["reported"] == {"on": True, "$version": 2}


async def test_twin_moves_with_its_device(fleet: Fleet, device: Device) -> None:
    await device.report(fleet.hub_host, b'{"on":true}')
    moved = await device.move(
        reprovisionPolicy={"updateHubAssignment": True, "migrateDeviceData": True},
        initialTwin={"properties": {"desired": {"rate": 5}}},
    )
    assert substatus(moved) == "deviceDataMigrated"
    twin = await device.twin(SECOND)
    assert twin["reported"] == {"on": True, "$version": 2}
    assert "rate" not in twin["desired"]


async def test_twin_begins_anew_where_its_data_shall_not_move(fleet: Fleet, device: Device) -> None:
    await device.report(fleet.hub_host, b'{"on":true}')
    moved = await device.move(
        reprovisionPolicy={"updateHubAssignment": True, "migrateDeviceData": False},
        initialTwin={"properties": {"desired": {"rate": 5}}},
    )
    assert substatus(moved) == "deviceDataReset"
    twin = await device.twin(SECOND)
    assert twin["reported"] == {"$version": 1}
    assert twin["desired"] == {"rate": 5, "$version": 1}


# --- what a device leaves behind


async def test_device_that_is_taken_over_is_gone_from_the_hub_that_it_was_on(
    fleet: Fleet,
) -> None:
    group, _ = await fleet.enroll("line-4", group=True, iotHubs=[fleet.hub_host])
    old_key = sas.derive_device_key(group, "dev-2")
    token = fleet.provisioning_token("dev-2", old_key)
    assert assigned_hub(await fleet.register("dev-2", token=token)) == fleet.hub_host
    live = await fleet.connect("dev-2", token=fleet.hub_token("dev-2", old_key))
    own, _ = await fleet.enroll("dev-1", deviceId="dev-2", iotHubs=[SECOND])
    answer = await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", own))
    assert assigned_hub(answer) == SECOND
    await live.wait_closed()
    connecting = fleet.connect("dev-2", token=fleet.hub_token("dev-2", old_key))
    assert await refusal(connecting) is ConnackCode.NOT_AUTHORIZED


async def test_device_whose_enrollment_names_another_id_is_not_the_old_one_any_more(
    fleet: Fleet, device: Device
) -> None:
    await device.move(deviceId="pump-8")
    assert await refusal(device.connect(fleet.hub_host)) is ConnackCode.NOT_AUTHORIZED
    assert [c["status"] for c in await fleet.certificates("dev-1")] == ["revoked"]


async def test_device_on_the_same_hub_gets_its_other_id_and_keeps_its_twin(
    fleet: Fleet, device: Device
) -> None:
    await device.report(fleet.hub_host, b'{"a": 1}')
    await fleet.enroll(
        "dev-1", policy="default", again=True, iotHubs=[fleet.hub_host], deviceId="pump-8"
    )
    key, csr = device_csr("dev-1")
    token = fleet.provisioning_token("dev-1", device.key)
    answer = await fleet.register("dev-1", {"csr": csr}, token=token)
    chain = answer.body["registrationState"]["issuedCertificateChain"]
    renamed = Certified(tuple(base64.b64decode(der) for der in chain), key)
    async with await fleet.connect("pump-8", renamed) as mqtt:
        await mqtt.subscribe(TWIN)
        twin = (await mqtt.ask(GET_TWIN)).body
    assert twin["reported"]["a"] == 1
    assert await refusal(device.connect(fleet.hub_host)) is ConnackCode.NOT_AUTHORIZED


async def test_move_leaves_other_devices_alone(fleet: Fleet, device: Device) -> None:
    pump = await fleet.provision("pump-8")  # by the group, on either hub
    host = assigned_hub(await fleet.register("pump-8"))
    await device.move()
    async with await fleet.connect("pump-8", pump, host=host):
        pass
