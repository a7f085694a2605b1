"""A certificate counts under the policy and in the namespace that it was issued for, and nowhere
else, however good it is there.
"""

from __future__ import annotations

from fleet import Certified, Fleet, refusal
from fleetroot import sas
from fleetroot.audit import SYSTEM
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings

OTHER_HUB = "other.localhost"


async def move_to_a_second_policy(fleet: Fleet) -> None:
    """Moves the group `default` to another policy of the namespace, which every hub trusts."""
    server = fleet.server
    namespace = await server.registry.namespace("default")
    await server.policies.create(namespace, "second", by=SYSTEM)
    await server.hubs.synchronize(namespace)
    await fleet.enroll("default", group=True, policy="second", again=True)


async def provisioned_elsewhere(fleet: Fleet, registration_id: str) -> Certified:
    """A certificate of the device of that id in a namespace with a hub of its own."""
    server = fleet.server
    namespace = await server.namespaces.create(
        "other", subscription_id="s", resource_group="g", pki_url="http://pki.example", by=SYSTEM
    )
    policy = await server.policies.create(namespace, "default", by=SYSTEM)
    hub = await server.hubs.create(namespace, "other", OTHER_HUB)
    await server.hubs.synchronize(namespace)
    service = await server.administration.create_service(
        namespace, "other", host_name=OTHER_HUB, hub_ids=[hub.id], by=SYSTEM
    )
    group = await server.administration.put(
        service, EnrollmentKind.GROUP, "default", EnrollmentSettings(policy_id=policy.id), by=SYSTEM
    )
    token = fleet.provisioning_token(
        registration_id,
        sas.derive_device_key(group.keys.primary, registration_id),
        resource=f"{service.id_scope}/registrations/{registration_id}",
    )
    return await fleet.provision(registration_id, token=token, id_scope=service.id_scope)


async def test_certificate_of_the_policy_before_is_refused(fleet: Fleet) -> None:
    old = await fleet.provision("dev-1")
    await move_to_a_second_policy(fleet)
    await fleet.register("dev-1")
    assert await refusal(fleet.connect("dev-1", old)) is ConnackCode.NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate of another policy": 1}


async def test_moving_to_another_policy_drops_the_connection(fleet: Fleet) -> None:
    mqtt = await fleet.connect("dev-1", await fleet.provision("dev-1"))
    await move_to_a_second_policy(fleet)
    await fleet.register("dev-1")
    await mqtt.wait_closed()
    assert await fleet.refusals() == {"identity changed": 1}


async def test_certificate_of_the_new_policy_is_let_in(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    await move_to_a_second_policy(fleet)
    async with await fleet.connect("dev-1", await fleet.provision("dev-1")):
        assert await fleet.refusals() == {}


async def test_certificate_of_another_namespaces_device_of_the_same_id_is_refused(
    fleet: Fleet,
) -> None:
    await fleet.provision("dev-1")
    other = await provisioned_elsewhere(fleet, "dev-1")
    assert await refusal(fleet.connect("dev-1", other)) is ConnackCode.NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate of another namespace": 1}


async def test_certificate_of_another_namespace_is_let_in_there(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    other = await provisioned_elsewhere(fleet, "dev-1")
    async with await fleet.connect("dev-1", other, host=OTHER_HUB):
        assert await fleet.refusals() == {}
