"""The unmodified `azure-mgmt-iothubprovisioningservices` as the operator of such services."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from test_azure_mgmt_deviceregistry import PYTHON, call, sdk

from fleet import Fleet
from fleetroot import sas
from fleetroot.access import Grant, Role
from fleetroot.audit import SYSTEM

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDKs' environment is missing: `make test` makes it"
)

HUB = {"location": "here", "sku": {"name": "S1", "capacity": 1}}
RIGHTS = (
    "DeviceConnect, ServiceConfig, EnrollmentRead, EnrollmentWrite, RegistrationStatusRead,"
    " RegistrationStatusWrite"
)


class Services:
    """Calls on provisioning services of the server's resource group."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.group = fleet.bootstrap["resourceGroup"]

    async def ask(self, *calls: list[Any], token: str | None = None) -> list[Any]:
        return await sdk(self.fleet, *calls, token=token, client="provisioning services")

    async def hub(self, name: str) -> str:
        """Makes a hub; its connection string."""
        at = (self.group, name)
        _, keys = await sdk(
            self.fleet,
            call("iot_hub_resource.begin_create_or_update", *at, HUB),
            call("iot_hub_resource.get_keys_for_key_name", *at, "iothubowner"),
            client="hubs",
        )
        key = keys["primary_key"]
        return f"HostName={name}.localhost;SharedAccessKeyName=iothubowner;SharedAccessKey={key}"

    def put(
        self, name: str, *, etag: str | None = None, tags: dict[str, str] | None = None, **of: Any
    ) -> list[Any]:
        body = {"location": "here", "sku": {"name": "S1", "capacity": 1}, "properties": of}
        more = {"etag": etag, "tags": tags}
        body |= {name: value for name, value in more.items() if value is not None}
        return self.call("begin_create_or_update", name, body)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return call(f"iot_dps_resource.{method}", *self._ordered(method, arguments))

    def _ordered(self, method: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The name is before the group for some."""
        if method in ("get", "list_keys", "list_keys_for_key_name", "begin_delete"):
            return (*arguments, self.group)
        return (self.group, *arguments)


@pytest.fixture
def services(fleet: Fleet) -> Services:
    return Services(fleet)


def linked(service: dict[str, Any]) -> list[str]:
    return [hub["hostName"] for hub in service["properties"]["iotHubs"]]


async def test_service_is_created_read_changed_listed_and_deleted(services: Services) -> None:
    created, read, tagged, replaced, listed, in_all, deleted, gone = await services.ask(
        services.put("plant", tags={"site": "plant"}, allocationPolicy="GeoLatency"),
        services.call("get", "PLANT"),
        services.call("begin_update", "plant", {"tags": {"site": "yard"}}),
        services.put("plant"),
        services.call("list_by_resource_group"),
        call("iot_dps_resource.list_by_subscription"),
        services.call("begin_delete", "plant"),
        services.call("get", "plant"),
    )
    properties = created["properties"]
    assert created["id"].endswith("/providers/Microsoft.Devices/provisioningServices/plant")
    assert properties["idScope"].startswith("0ne")
    assert properties["serviceOperationsHostName"] == "plant.dps.localhost"
    assert properties["deviceProvisioningHostName"] == "plant.dps.localhost"
    assert properties["allocationPolicy"] == "GeoLatency"
    assert (properties["state"], properties["provisioningState"]) == ("Active", "Succeeded")
    assert properties["iotHubs"] == []
    assert properties["deviceRegistryNamespaces"][0]["resourceId"].endswith("/namespaces/default")
    assert created["tags"] == {"site": "plant"}
    assert read == created
    assert tagged["tags"] == {"site": "yard"}
    assert replaced["properties"] == properties  # what is not said stays
    assert "tags" not in replaced or replaced["tags"] == {}
    assert [service["name"] for service in listed] == ["default", "plant"]
    assert in_all == listed
    assert deleted is None
    assert (gone["error"]["status"], gone["error"]["code"]) == (404, "ResourceNotFound")


async def test_devices_provision_with_a_service_that_was_made_here(
    fleet: Fleet, services: Services
) -> None:
    connection = await services.hub("works")
    await fleet.http.post("/fleetroot/namespaces/default/synchronize")
    made, keys = await services.ask(
        services.put("plant", iotHubs=[{"connectionString": connection, "location": "here"}]),
        services.call("list_keys_for_key_name", "plant", "provisioningserviceowner"),
    )
    host, group_key = made["properties"]["serviceOperationsHostName"], sas.new_key()
    token = sas.sign_token(
        host,
        sas.decode_key(keys["primaryKey"]),
        fleet.server.clock.now().replace(year=2099),
        keys["keyName"],
    )
    enrollment = {
        "enrollmentGroupId": "line-1",
        "attestation": {
            "type": "symmetricKey",
            "symmetricKey": {"primaryKey": sas.encode_key(group_key)},
        },
        "credentialPolicyName": "default",
    }
    # The service API of that very service, by its host name.
    answer = await fleet.http.put(
        "/enrollmentGroups/line-1?api-version=2026-11-01",
        json=enrollment,
        headers={"authorization": token, "host": host},
    )
    assert answer.status_code == 200, answer.text
    id_scope = made["properties"]["idScope"]
    certified = await fleet.provision(
        "dev-1",
        id_scope=id_scope,
        token=fleet.provisioning_token(
            "dev-1",
            sas.derive_device_key(group_key, "dev-1"),
            resource=f"{id_scope}/registrations/dev-1",
        ),
    )
    await (await fleet.connect("dev-1", certified, host="works.localhost")).close()
    in_use, unlinked = await services.ask(
        services.call("begin_delete", "plant"), services.put("plant", iotHubs=[])
    )
    assert "has enrollments" in in_use["error"]["message"]
    assert linked(unlinked) == []


# --- links


async def test_hub_is_linked_by_its_connection_string_whose_key_is_not_shown(
    fleet: Fleet, services: Services
) -> None:
    connection = await services.hub("works")
    link = {
        "connectionString": connection,
        "location": "here",
        "allocationWeight": 7,
        "applyAllocationPolicy": False,
    }
    made, read = await services.ask(
        services.put("plant", iotHubs=[link]), services.call("get", "plant")
    )
    [shown] = made["properties"]["iotHubs"]
    assert shown["name"] == shown["hostName"] == "works.localhost"
    assert shown["authenticationType"] == "KeyBased"
    assert (shown["allocationWeight"], shown["applyAllocationPolicy"]) == (7, False)
    key = connection.rpartition("SharedAccessKey=")[2]
    assert shown["connectionString"] == connection.replace(key, "****")
    [again, kept] = await services.ask(
        services.put("plant", **read["properties"]), services.put("plant")
    )
    assert again["properties"] == read["properties"]  # what was read can be put
    assert kept["properties"] == read["properties"]


@pytest.mark.parametrize(
    "link",
    [
        {"connectionString": "HostName={host};SharedAccessKeyName={name};SharedAccessKey={other}"},
        {"connectionString": "HostName={host};SharedAccessKeyName=nobody;SharedAccessKey={key}"},
        {"connectionString": "HostName={host};SharedAccessKeyName={name};SharedAccessKey=****"},
        {"connectionString": "HostName=a.b;SharedAccessKeyName={name};SharedAccessKey={key}"},
        {"connectionString": "HostName={host}"},
        {"hostName": "else.where"},
        {"hostName": "{host}", "allocationWeight": 0},
        {},
    ],
)
async def test_hub_that_cannot_be_linked_is_refused_and_nothing_is_left(
    services: Services, link: dict[str, Any]
) -> None:
    connection = await services.hub("works")
    key = connection.rpartition("SharedAccessKey=")[2]
    names = {
        "host": "works.localhost",
        "name": "iothubowner",
        "key": key,
        "other": sas.encode_key(sas.new_key()),
    }
    filled = {n: v.format(**names) if isinstance(v, str) else v for n, v in link.items()}
    refused, gone = await services.ask(
        services.put("plant", iotHubs=[filled | {"location": "here"}]),
        services.call("get", "plant"),
    )
    assert (refused["error"]["status"], refused["error"]["code"]) == (400, "InvalidParameter")
    assert key not in refused["error"]["message"]
    assert gone["error"]["status"] == 404


async def test_key_without_the_right_to_the_registry_does_not_link(
    fleet: Fleet, services: Services
) -> None:
    hub = await fleet.server.hubs.by_name("default")
    policy = await fleet.server.hubs.shared_access_policy(hub, "service")
    assert policy is not None
    connection = (
        f"HostName={hub.host_name};SharedAccessKeyName=service;"
        f"SharedAccessKey={sas.encode_key(policy.primary_key)}"
    )
    [refused] = await services.ask(
        services.put("plant", iotHubs=[{"connectionString": connection, "location": "here"}])
    )
    assert "RegistryWrite" in refused["error"]["message"]


async def test_hub_that_an_enrollment_names_stays_linked(fleet: Fleet, services: Services) -> None:
    await fleet.enroll("dev-1", iotHubs=[fleet.hub_host])
    [refused] = await services.ask(services.put("default", iotHubs=[]))
    assert refused["error"]["status"] == 409
    assert "an enrollment assigns" in refused["error"]["message"]


async def test_weights_say_how_many_devices_a_hub_gets(fleet: Fleet, services: Services) -> None:
    for name in ("heavy", "spare"):
        await services.hub(name)
    hosts = {
        fleet.hub_host: {"allocationWeight": 1},
        "heavy.localhost": {"allocationWeight": 9},
        "spare.localhost": {"applyAllocationPolicy": False},
    }
    links = [{"hostName": host, "location": "here"} | how for host, how in hosts.items()]
    await services.ask(services.put("default", iotHubs=links))
    assigned = Counter(
        [
            (await fleet.register(f"dev-{n}")).body["registrationState"]["assignedHub"]
            for n in range(60)
        ]
    )
    assert assigned.keys() == {fleet.hub_host, "heavy.localhost"}
    assert assigned["heavy.localhost"] > 3 * assigned[fleet.hub_host]


# --- keys


async def test_keys_are_listed_and_changed(fleet: Fleet, services: Services) -> None:
    [listed, one, none] = await services.ask(
        services.call("list_keys", "default"),
        services.call("list_keys_for_key_name", "default", "provisioningserviceowner"),
        services.call("list_keys_for_key_name", "default", "nobody"),
    )
    assert listed == [one]
    assert one["rights"] == RIGHTS
    assert one["primaryKey"] in fleet.bootstrap["provisioning"]["connectionString"]
    assert none["error"]["status"] == 404
    new = sas.encode_key(sas.new_key())
    rule = {"keyName": one["keyName"], "rights": RIGHTS, "primaryKey": new}
    _, [after] = await services.ask(
        services.put("default", authorizationPolicies=[rule]),
        services.call("list_keys", "default"),
    )
    assert (after["primaryKey"], after["secondaryKey"]) == (new, one["secondaryKey"])


# --- names, versions, what is refused


async def test_name_is_looked_at_before_it_is_taken(services: Services) -> None:
    free, taken, bad = await services.ask(
        *(
            call("iot_dps_resource.check_provisioning_service_name_availability", {"name": name})
            for name in ("plant", "DEFAULT", "no good")
        )
    )
    assert free == {"nameAvailable": True}
    assert (taken["nameAvailable"], taken["reason"]) == (False, "AlreadyExists")
    assert (bad["nameAvailable"], bad["reason"]) == (False, "Invalid")


async def test_change_of_an_older_version_is_refused(services: Services) -> None:
    [made] = await services.ask(services.put("plant"))
    changed, late = await services.ask(
        services.put("plant", etag=made["etag"]), services.put("plant", etag=made["etag"])
    )
    assert changed["etag"] != made["etag"]
    assert (late["error"]["status"], late["error"]["code"]) == (412, "PreconditionFailed")


@pytest.mark.parametrize(
    ("name", "properties"),
    [
        ("no_good", {}),
        ("plant", {"allocationPolicy": "Random"}),
        ("plant", {"disableLocalAuth": True}),
        ("plant", {"publicNetworkAccess": "Disabled"}),
        ("plant", {"authorizationPolicies": [{"keyName": "a", "rights": "RegistryRead"}]}),
        ("plant", {"iotHubs": [{"hostName": "localhost", "location": "here"}] * 2}),
        ("plant", {"iotHubs": "all"}),
    ],
)
async def test_service_that_cannot_be_is_refused_and_nothing_is_left(
    fleet: Fleet, services: Services, name: str, properties: dict[str, Any]
) -> None:
    refused, listed = await services.ask(
        services.put(name, **properties), services.call("list_by_resource_group")
    )
    assert (refused["error"]["status"], refused["error"]["code"]) == (400, "InvalidParameter")
    assert [service["name"] for service in listed] == ["default"]
    assert len(fleet.rows("service_resources")) == 2


async def test_first_service_stays(services: Services) -> None:
    [refused] = await services.ask(services.call("begin_delete", "default"))
    assert (refused["error"]["status"], refused["error"]["code"]) == (409, "Conflict")


async def test_owner_of_another_namespace_sees_and_changes_nothing(
    fleet: Fleet, services: Services
) -> None:
    other = await fleet.server.namespaces.create(
        "other", subscription_id="s", resource_group="g", by=SYSTEM
    )
    _, text = await fleet.server.access.create_token(
        "other", Grant(Role.OWNER, other.id), by=SYSTEM
    )
    *refused, listed = await services.ask(
        services.call("get", "default"),
        services.call("list_keys", "default"),
        services.put("default"),
        services.put("plant"),
        services.call("begin_delete", "default"),
        services.call("get", "nothing"),
        services.call("list_by_resource_group"),
        token=text.text,
    )
    assert [each["error"]["status"] for each in refused] == [403] * 6
    assert listed == []
