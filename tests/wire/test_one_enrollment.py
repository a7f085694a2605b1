"""A device belongs to the enrollment that it provisions under: no other group reaches it."""

from __future__ import annotations

from typing import Any

from fleet import Answer, Fleet, device_csr, refusal
from fleetroot import sas
from fleetroot.gateway.mqtt import ConnackCode


async def register(
    fleet: Fleet, registration_id: str, key: bytes, body: dict[str, Any] | None = None
) -> Answer:
    token = fleet.provisioning_token(registration_id, key)
    return await fleet.register(registration_id, body, token=token)


async def register_in_group(
    fleet: Fleet, registration_id: str, group_key: bytes, body: dict[str, Any] | None = None
) -> Answer:
    key = sas.derive_device_key(group_key, registration_id)
    return await register(fleet, registration_id, key, body)


async def test_another_group_cannot_take_a_device_over(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    other, _ = await fleet.enroll("vendor-b", group=True)
    answer = await register_in_group(fleet, "dev-1", other)
    assert (answer.status, answer.error_code) == (401, 401002)
    assert await fleet.refusals() == {"device provisions under another enrollment": 1}
    async with await fleet.connect("dev-1", certified):
        pass


async def test_another_group_with_the_same_policy_gets_no_certificate(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    other, _ = await fleet.enroll("vendor-b", group=True, policy="default")
    _, csr = device_csr("dev-1")
    assert (await register_in_group(fleet, "dev-1", other, {"csr": csr})).status == 401
    assert len(await fleet.certificates("dev-1")) == 1


async def test_group_cannot_reach_the_device_that_an_individual_enrollment_names(
    fleet: Fleet,
) -> None:
    key, _ = await fleet.enroll("press-8", policy="default", deviceId="gateway-2")
    assert (await register(fleet, "press-8", key)).status == 200
    answer = await fleet.register("gateway-2")
    assert (answer.status, answer.error_code) == (401, 401002)


async def test_individual_enrollment_takes_the_device_that_it_names(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    key, _ = await fleet.enroll("dev-1", policy="default")
    assert (await register(fleet, "dev-1", key)).status == 200


async def test_what_a_device_was_issued_before_it_moved_does_not_count(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    live = await fleet.connect("dev-1", certified)
    key, _ = await fleet.enroll("dev-1", policy="default")
    assert (await register(fleet, "dev-1", key)).status == 200
    await live.wait_closed()
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
    assert [c["status"] for c in await fleet.certificates("dev-1")] == ["revoked"]


async def test_deleting_its_enrollment_releases_a_device(fleet: Fleet) -> None:
    first, _ = await fleet.enroll("vendor-a", group=True)
    second, _ = await fleet.enroll("vendor-b", group=True)
    assert (await register_in_group(fleet, "dev-1", first)).status == 200
    assert (await register_in_group(fleet, "dev-1", second)).status == 401
    await fleet.http.delete("/enrollmentGroups/vendor-a")
    assert (await register_in_group(fleet, "dev-1", second)).status == 200


async def test_disabled_enrollment_keeps_its_devices(fleet: Fleet) -> None:
    first, _ = await fleet.enroll("vendor-a", group=True)
    second, _ = await fleet.enroll("vendor-b", group=True)
    assert (await register_in_group(fleet, "dev-1", first)).status == 200
    group = (await fleet.http.get("/enrollmentGroups/vendor-a")).json()
    await fleet.http.put(
        "/enrollmentGroups/vendor-a",
        json=group | {"provisioningStatus": "disabled"},
        headers={"if-match": group["etag"]},
    )
    assert (await register_in_group(fleet, "dev-1", second)).status == 401
