"""Who may ask what of a hub over its service API, in which version, and how refusals look."""

from __future__ import annotations

import pytest
from test_roles import bearer

from fleet import Fleet
from fleetroot.access import Role
from fleetroot.api.applications import HUB
from fleetroot.api.hub_routes import HUB_SERVICE_VERSIONS, HubServiceRoute
from fleetroot.registry.shared_access import HUB_RIGHTS, Right
from hub_service import hub_client, hub_token, one_right_token

# What every route asks of a shared access policy.
RIGHTS = {
    ("GET", "/statistics/devices"): Right.REGISTRY_READ,
    ("GET", "/statistics/service"): Right.SERVICE_CONNECT,
    ("GET", "/devices"): Right.REGISTRY_READ,
    ("POST", "/devices"): Right.REGISTRY_WRITE,
    ("GET", "/devices/none"): Right.REGISTRY_READ,
    ("PUT", "/devices/none"): Right.REGISTRY_WRITE,
    ("DELETE", "/devices/none"): Right.REGISTRY_WRITE,
    ("GET", "/devices/none/modules"): Right.REGISTRY_READ,
    ("GET", "/devices/none/modules/none"): Right.REGISTRY_READ,
    ("PUT", "/devices/none/modules/none"): Right.REGISTRY_WRITE,
    ("DELETE", "/devices/none/modules/none"): Right.REGISTRY_WRITE,
    ("POST", "/devices/none/messages/deviceBound"): Right.SERVICE_CONNECT,
    ("DELETE", "/devices/none/commands"): Right.SERVICE_CONNECT,
    ("POST", "/twins/none/methods"): Right.SERVICE_CONNECT,
    ("POST", "/twins/none/modules/none/methods"): Right.SERVICE_CONNECT,
    ("GET", "/jobs/v2/query"): Right.SERVICE_CONNECT,
    ("PUT", "/jobs/v2/none"): Right.SERVICE_CONNECT,
    ("GET", "/jobs/v2/none"): Right.SERVICE_CONNECT,
    ("POST", "/jobs/v2/none/cancel"): Right.SERVICE_CONNECT,
    ("GET", "/messages/serviceBound/feedback"): Right.SERVICE_CONNECT,
    ("DELETE", "/messages/serviceBound/feedback/none"): Right.SERVICE_CONNECT,
    ("POST", "/devices/query"): Right.SERVICE_CONNECT,
    ("GET", "/twins/none"): Right.SERVICE_CONNECT,
    ("PATCH", "/twins/none"): Right.SERVICE_CONNECT,
    ("PUT", "/twins/none"): Right.SERVICE_CONNECT,
    ("GET", "/twins/none/modules/none"): Right.SERVICE_CONNECT,
    ("PATCH", "/twins/none/modules/none"): Right.SERVICE_CONNECT,
    ("PUT", "/twins/none/modules/none"): Right.SERVICE_CONNECT,
    ("POST", "/messages/serviceBound/feedback/none/abandon"): Right.SERVICE_CONNECT,
}


def test_every_route_is_asked_here() -> None:
    routes = [route for router in HUB for route in router.routes]
    asked = {
        (method, path): route.asked.right
        for route in routes
        if isinstance(route, HubServiceRoute)
        for method in route.methods
        for m, path in RIGHTS
        if m == method and route.path_regex.fullmatch(path)
    }
    assert len(asked) == len(routes)
    assert asked == RIGHTS


@pytest.mark.parametrize("right", sorted(HUB_RIGHTS))
async def test_policy_opens_what_its_right_is_for_and_nothing_else(
    fleet: Fleet, right: Right
) -> None:
    async with hub_client(fleet, await one_right_token(fleet, right)) as caller:
        for (method, path), asked in RIGHTS.items():
            answer = await caller.request(method, path, json={})
            if asked is right:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == 403, (method, path, answer.text)
                assert answer.headers["iothub-errorcode"] == "IotHubForbidden"


async def test_role_reads_as_a_policy_does(fleet: Fleet) -> None:
    async with await bearer(fleet, Role.READER) as reader:
        assert (await reader.get("/statistics/devices")).status_code == 200


async def test_signature_of_another_hub_does_not_open_this_one(fleet: Fleet) -> None:
    answer = await fleet.http.put("/fleetroot/hubs/works", json={})
    works = answer.json()["hostName"]
    async with hub_client(fleet, await hub_token(fleet, host=works)) as caller:
        answer = await caller.get("/statistics/devices")
        assert (answer.status_code, answer.json()["Message"]) == (
            401,
            "ErrorCode:IotHubUnauthorizedAccess;Unauthorized",
        )
        answer = await caller.get("/statistics/devices", headers={"host": works})
        assert answer.json()["totalDeviceCount"] == 0


async def test_devices_and_those_that_are_connected_are_counted(fleet: Fleet) -> None:
    device = await fleet.provision("dev-1")
    await fleet.provision("dev-2")
    answer = await fleet.http.post("/fleetroot/devices/dev-2/disable")
    assert answer.status_code == 200, answer.text
    token = await hub_token(fleet)
    async with await fleet.connect("dev-1", device), hub_client(fleet, token) as caller:
        counted = (await caller.get("/statistics/devices")).json()
        connected = (await caller.get("/statistics/service")).json()
    assert counted == {
        "totalDeviceCount": 2,
        "enabledDeviceCount": 1,
        "disabledDeviceCount": 1,
    }
    assert connected == {"connectedDeviceCount": 1}


async def test_refusal_names_itself_as_the_sdks_read_it(fleet: Fleet) -> None:
    version = {"api-version": "1999-01-01"}
    async with hub_client(fleet, await hub_token(fleet)) as caller:
        answer = await caller.get("/statistics/devices", params=version)
    assert answer.status_code == 400
    assert answer.headers["iothub-errorcode"] == "ArgumentInvalid"
    message = answer.json()["Message"]
    assert message.startswith("ErrorCode:ArgumentInvalid;api-version must be one of")
    assert answer.json()["ExceptionMessage"].startswith("Tracking ID:")


@pytest.mark.parametrize("version", HUB_SERVICE_VERSIONS)
async def test_version_that_clients_send_is_served(fleet: Fleet, version: str) -> None:
    answer = await fleet.http.get("/statistics/devices", params={"api-version": version})
    assert answer.status_code == 200
