"""Shared access policies: whose keys they are, and what a token signed with one reaches."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetroot import sas
from fleetroot.errors import Forbidden, TokenInvalid
from fleetroot.registry import shared_access
from fleetroot.registry.shared_access import Right, SharedAccessPolicy
from fleetroot.sas import SasToken
from workbench import Workbench

HOST = "hub.example"


async def policy(bench: Workbench, name: str) -> SharedAccessPolicy:
    found = await bench.hubs.shared_access_policy(bench.made.hub, name)
    assert found is not None
    return found


def token(bench: Workbench, key: bytes, resource: str = HOST, **expires: float) -> SasToken:
    at = bench.clock.now() + timedelta(**(expires or {"hours": 1}))
    return SasToken.parse(sas.sign_token(resource, key, at, "service"))


def authorize(
    bench: Workbench,
    of: SharedAccessPolicy | None,
    given: SasToken,
    *,
    resource: str = HOST,
    right: Right = Right.SERVICE_CONNECT,
) -> None:
    shared_access.authorize(of, given, resource=resource, right=right, now=bench.clock.now())


@pytest.mark.parametrize(("name", "rights"), shared_access.HUB_POLICIES.items())
async def test_hub_has_the_policies_that_azure_gives_one(
    bench: Workbench, name: str, rights: frozenset[Right]
) -> None:
    assert (await policy(bench, name)).rights == rights


async def test_provisioning_service_has_its_owner(bench: Workbench) -> None:
    found = await bench.administration.shared_access_policy(
        bench.made.service, "provisioningserviceowner"
    )
    assert found is not None
    assert Right.ENROLLMENT_WRITE in found.rights


async def test_every_key_is_another(bench: Workbench) -> None:
    keys = [
        key
        for name in shared_access.HUB_POLICIES
        for found in [await policy(bench, name)]
        for key in (found.primary_key, found.secondary_key)
    ]
    assert len(set(keys)) == 2 * len(shared_access.HUB_POLICIES)


async def test_keys_are_not_shown(bench: Workbench) -> None:
    found = await policy(bench, "service")
    assert "key" not in repr(found)


async def test_policy_of_another_owner_is_not_found(bench: Workbench) -> None:
    found = await bench.administration.shared_access_policy(bench.made.service, "iothubowner")
    assert found is None


@pytest.mark.parametrize("which", ["primary_key", "secondary_key"])
async def test_token_of_either_key_is_good(bench: Workbench, which: str) -> None:
    found = await policy(bench, "service")
    authorize(bench, found, token(bench, getattr(found, which)))


async def test_token_of_another_policys_key_is_refused(bench: Workbench) -> None:
    other = await policy(bench, "iothubowner")
    with pytest.raises(TokenInvalid):
        authorize(bench, await policy(bench, "service"), token(bench, other.primary_key))


async def test_token_for_a_policy_that_does_not_exist_is_refused(bench: Workbench) -> None:
    with pytest.raises(TokenInvalid):
        authorize(bench, None, token(bench, bytes(64)))


async def test_expired_token_is_refused(bench: Workbench) -> None:
    found = await policy(bench, "service")
    expired = token(bench, found.primary_key, seconds=0)
    with pytest.raises(TokenInvalid):
        authorize(bench, found, expired)


async def test_right_that_the_policy_lacks_is_forbidden(bench: Workbench) -> None:
    found = await policy(bench, "service")
    with pytest.raises(Forbidden):
        authorize(bench, found, token(bench, found.primary_key), right=Right.REGISTRY_WRITE)


async def test_token_reaches_what_is_below_its_resource(bench: Workbench) -> None:
    found = await policy(bench, "service")
    authorize(bench, found, token(bench, found.primary_key), resource=f"{HOST}/devices/dev-1")


@pytest.mark.parametrize(
    ("granted", "wanted"),
    [
        (f"{HOST}/devices/dev-1", HOST),
        (f"{HOST}/devices/dev-1", f"{HOST}/devices/dev-12"),
        (HOST, f"{HOST}.evil.example"),
        (HOST, "other.example"),
        ("", HOST),
        ("/", HOST),
    ],
)
async def test_token_for_another_resource_is_refused(
    bench: Workbench, granted: str, wanted: str
) -> None:
    found = await policy(bench, "service")
    given = token(bench, found.primary_key, granted)
    with pytest.raises(TokenInvalid):
        authorize(bench, found, given, resource=wanted)
