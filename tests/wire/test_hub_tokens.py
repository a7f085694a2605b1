"""Who a hub lets in by token, and when a credential's time ends a connection."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from fleet import Fleet, refusal
from fleetroot import sas
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode

BAD_CREDENTIALS = ConnackCode.BAD_USERNAME_OR_PASSWORD


async def keyed(fleet: Fleet, device_id: str = "dev-1") -> bytes:
    """Provisions a device that works with its key; returns that key."""
    primary, _ = await fleet.enroll(device_id)
    answer = await fleet.register(device_id, token=fleet.provisioning_token(device_id, primary))
    assert answer.status == 200, answer.body
    return primary


async def policy_token(fleet: Fleet, policy: str, resource: str) -> bytes:
    """A token that one of the hub's shared access policies signed."""
    hub = await fleet.server.hubs.by_name("default")
    found = await fleet.server.hubs.shared_access_policy(hub, policy)
    assert found is not None
    expires_at = fleet.server.clock.now() + timedelta(hours=1)
    return sas.sign_token(resource, found.primary_key, expires_at, policy).encode()


async def test_token_of_another_key_is_bad_credentials(fleet: Fleet) -> None:
    await keyed(fleet)
    token = fleet.hub_token("dev-1", b"k" * 32)
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS


async def test_expired_token_is_bad_credentials(fleet: Fleet) -> None:
    token = fleet.hub_token("dev-1", await keyed(fleet), timedelta(seconds=-1))
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS
    assert await fleet.refusals() == {"token expired": 1}


async def test_token_for_another_device_is_bad_credentials(fleet: Fleet) -> None:
    token = fleet.hub_token("dev-2", await keyed(fleet))
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS
    assert await fleet.refusals() == {"token is for another resource": 1}


async def test_token_of_the_device_for_the_whole_hub_is_bad_credentials(fleet: Fleet) -> None:
    expires_at = fleet.server.clock.now() + timedelta(hours=1)
    token = sas.sign_token(fleet.hub_host, await keyed(fleet), expires_at).encode()
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS


async def test_provisioning_token_is_bad_credentials_at_the_hub(fleet: Fleet) -> None:
    token = fleet.provisioning_token("dev-1", await keyed(fleet))
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS


async def test_identity_that_is_pinned_to_a_policy_takes_no_token(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    token = fleet.hub_token("dev-1", fleet.device_key("dev-1"))
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED


async def test_token_beside_a_good_certificate_is_what_counts(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    token = fleet.hub_token("dev-1", fleet.device_key("dev-1"))
    code = await refusal(fleet.connect("dev-1", certified, token=token))
    assert code is ConnackCode.NOT_AUTHORIZED


async def test_password_of_zero_bytes_leaves_it_to_the_certificate(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, token=b""):
        pass


async def test_identity_that_is_pinned_to_keys_takes_no_certificate(fleet: Fleet) -> None:
    await keyed(fleet, "dev-1")
    certified = await fleet.provision("dev-2")
    assert await refusal(fleet.connect("dev-1", certified)) is ConnackCode.NOT_AUTHORIZED
    assert await fleet.refusals() == {"no token, and the identity is pinned to keys": 1}


@pytest.mark.parametrize("policy", ["device", "iothubowner"])
@pytest.mark.parametrize("resource", ["{hub}", "{hub}/devices", "{hub}/devices/dev-1"])
async def test_shared_access_policy_with_device_connect_speaks_for_a_device(
    fleet: Fleet, policy: str, resource: str
) -> None:
    await keyed(fleet)
    token = await policy_token(fleet, policy, resource.format(hub=fleet.hub_host))
    async with await fleet.connect("dev-1", token=token):
        pass


@pytest.mark.parametrize("policy", ["service", "registryReadWrite"])
async def test_shared_access_policy_without_device_connect_is_not_authorized(
    fleet: Fleet, policy: str
) -> None:
    await keyed(fleet)
    token = await policy_token(fleet, policy, fleet.hub_host)
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED


@pytest.mark.parametrize("resource", ["{hub}/devices/dev-2", "{hub}/dev", "other.example"])
async def test_shared_access_policy_reaches_no_further_than_its_token(
    fleet: Fleet, resource: str
) -> None:
    await keyed(fleet)
    token = await policy_token(fleet, "device", resource.format(hub=fleet.hub_host))
    assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS


async def test_key_of_a_provisioning_policy_does_not_open_the_hub(fleet: Fleet) -> None:
    await keyed(fleet)
    connection_string = fleet.bootstrap["provisioning"]["connectionString"]
    key = base64.b64decode(connection_string.partition("SharedAccessKey=")[2])
    expires_at = fleet.server.clock.now() + timedelta(hours=1)
    for name in ("provisioningserviceowner", "device"):
        token = sas.sign_token(fleet.hub_host, key, expires_at, name).encode()
        assert await refusal(fleet.connect("dev-1", token=token)) is BAD_CREDENTIALS


async def test_shared_access_policy_does_not_open_an_identity_pinned_to_a_policy(
    fleet: Fleet,
) -> None:
    await fleet.provision("dev-1")
    token = await policy_token(fleet, "iothubowner", fleet.hub_host)
    assert await refusal(fleet.connect("dev-1", token=token)) is ConnackCode.NOT_AUTHORIZED


# --- the end of a credential


async def test_connection_ends_with_its_token(timed_fleet: Fleet, clock: ManualClock) -> None:
    token = timed_fleet.hub_token("dev-1", await keyed(timed_fleet), timedelta(hours=1))
    clock.advance(timedelta(hours=1) - timedelta(milliseconds=200))
    mqtt = await timed_fleet.connect("dev-1", token=token)
    await mqtt.wait_closed()
    assert await timed_fleet.refusals() == {"credential expired": 1}


async def test_connection_ends_with_its_certificate(timed_fleet: Fleet, clock: ManualClock) -> None:
    certified = await timed_fleet.provision("dev-1")
    end = certified.leaf.not_valid_after_utc
    clock.advance(end - clock.now() - timedelta(milliseconds=200))
    mqtt = await timed_fleet.connect("dev-1", certified)
    await mqtt.wait_closed()
    assert await timed_fleet.refusals() == {"credential expired": 1}
