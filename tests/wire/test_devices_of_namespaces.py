"""Devices of a namespace that is not the first: what operators ask reaches them, and only them."""

from __future__ import annotations

import asyncio

import pytest
from test_moving_hubs import WORKS, ask, provisioned
from test_roles import bearer, device_calls

from fleet import SECONDS, Certified, Fleet, refusal
from fleetroot.access import Role

PLANT = "/fleetroot/namespaces/plant"
DEVICE = PLANT + "/devices/dev-1"
REGISTRATION = "/fleetroot/registrations/dev-1/explanation"


@pytest.fixture
async def certified(fleet: Fleet) -> Certified:
    """The certificate of dev-1 of the namespace `plant`; another dev-1 is in the first one."""
    await fleet.provision("dev-1")
    await ask(fleet, "PUT", PLANT)
    await ask(fleet, "PUT", "/fleetroot/hubs/works", {"namespace": "plant"})
    return await provisioned(fleet, "plant", "dev-1")


async def test_device_is_told_apart_from_its_namesake(fleet: Fleet, certified: Certified) -> None:
    [listed] = (await ask(fleet, "GET", PLANT + "/devices"))["value"]
    shown = await ask(fleet, "GET", DEVICE)
    other = await ask(fleet, "GET", "/fleetroot/devices/dev-1")
    assert listed["uuid"] == shown["uuid"] != other["uuid"]
    assert shown["policy"] == "default"
    [own] = shown["certificates"]
    [inventory] = (await ask(fleet, "GET", PLANT + "/certificates"))["value"]
    assert own["sha256"] == inventory["sha256"] != other["certificates"][0]["sha256"]


async def test_certificate_is_found_in_its_namespace_only(
    fleet: Fleet, certified: Certified
) -> None:
    [own] = (await ask(fleet, "GET", DEVICE))["certificates"]
    below = f"/certificates/{own['sha256']}"
    assert (await ask(fleet, "GET", PLANT + below))["pem"].startswith("-----BEGIN")
    assert (await fleet.http.get("/fleetroot" + below)).status_code == 404


async def test_device_is_revoked_and_its_namesake_is_not(
    fleet: Fleet, certified: Certified
) -> None:
    mqtt = await fleet.connect("dev-1", certified, host=WORKS)
    assert (await ask(fleet, "POST", DEVICE + "/revoke"))["certificatesRevoked"] == 1
    await mqtt.wait_closed()
    assert [each["status"] for each in await fleet.certificates()] == ["valid"]


async def test_device_is_disabled_and_enabled(fleet: Fleet, certified: Certified) -> None:
    await ask(fleet, "POST", DEVICE + "/disable")
    await refusal(fleet.connect("dev-1", certified, host=WORKS))
    assert [device["enabled"] for device in await fleet.devices()] == [True]
    await ask(fleet, "POST", DEVICE + "/enable")
    await (await fleet.connect("dev-1", certified, host=WORKS)).close()


async def test_timeline_is_of_the_device_of_the_namespace(
    fleet: Fleet, certified: Certified
) -> None:
    await (await fleet.connect("dev-1", certified, host=WORKS)).close()
    fleet.server.hubs._connections.flush()
    async with asyncio.timeout(SECONDS):  # for the write
        while len(told := (await ask(fleet, "GET", DEVICE + "/timeline"))["value"]) < 3:
            await asyncio.sleep(0)
    assert [moment["kind"] for moment in told] == ["connected", "issued", "registered"]
    assert told[0]["hub"] == "works"
    of_other = (await ask(fleet, "GET", "/fleetroot/devices/dev-1/timeline"))["value"]
    assert [moment["kind"] for moment in of_other] == ["issued", "registered"]


async def test_explanation_leaves_out_what_hubs_of_others_refused(
    fleet: Fleet, certified: Certified
) -> None:
    await ask(fleet, "POST", DEVICE + "/disable")
    await refusal(fleet.connect("dev-1", certified, host=WORKS))
    found = await ask(fleet, "GET", DEVICE + "/explanation")
    assert [each["hub"] for each in found["identities"]] == ["works"]
    assert [each["reason"] for each in found["refusals"]] == ["device disabled"]
    of_other = await ask(fleet, "GET", "/fleetroot/devices/dev-1/explanation")
    assert [each["hub"] for each in of_other["identities"]] == ["default"]
    assert of_other["refusals"] == []


async def test_device_is_made_and_deleted(fleet: Fleet) -> None:
    await ask(fleet, "PUT", PLANT)
    await ask(fleet, "PUT", DEVICE)
    assert await fleet.devices() == []
    await ask(fleet, "DELETE", DEVICE)
    assert (await ask(fleet, "GET", PLANT + "/devices"))["value"] == []


async def test_role_counts_on_the_namespace_that_is_named(fleet: Fleet) -> None:
    plant = (await ask(fleet, "PUT", PLANT))["id"]
    first = await fleet.server.namespaces.get("default")
    for role in (Role.READER, Role.OWNER):
        async with await bearer(fleet, role, first.id) as of_first:
            for method, path in device_calls(PLANT):
                answer = await of_first.request(method, path, json={})
                assert answer.status_code == 403, (method, path)
    async with await bearer(fleet, Role.READER, plant) as of_plant:
        for path in ("/devices", "/certificates"):
            assert (await of_plant.get(PLANT + path)).status_code == 200
            assert (await of_plant.get("/fleetroot" + path)).status_code == 403
        assert (await of_plant.post(DEVICE + "/revoke")).status_code == 403


async def test_namespace_that_is_not_there_is_told_to_roles_on_everything(fleet: Fleet) -> None:
    first = await fleet.server.namespaces.get("default")
    assert (await fleet.http.get(PLANT + "/devices")).status_code == 404
    async with await bearer(fleet, Role.READER, first.id) as of_first:
        assert (await of_first.get(PLANT + "/devices")).status_code == 403


async def test_events_and_registrations_are_told_to_roles_on_the_namespace_of_hub_and_service(
    fleet: Fleet, certified: Certified
) -> None:
    paths = ("/fleetroot/events?hub=works", f"{REGISTRATION}?service=plant")
    others = ("/fleetroot/events", REGISTRATION)
    for namespace, may, may_not in (("plant", paths, others), ("default", others, paths)):
        of = await fleet.server.namespaces.get(namespace)
        async with await bearer(fleet, Role.READER, of.id) as reader:
            assert [(await reader.get(path)).status_code for path in may] == [200, 200]
            assert [(await reader.get(path)).status_code for path in may_not] == [403, 403]


async def test_registration_is_explained_by_its_own_service(
    fleet: Fleet, certified: Certified
) -> None:
    await refusal(fleet.provisioning("dev-1", token=b"x" * 64))
    found = await ask(fleet, "GET", f"{REGISTRATION}?service=plant")
    assert found["device"]["policy"] == "default"
    assert found["refusals"] == []
    assert (await ask(fleet, "GET", REGISTRATION))["refusals"]
