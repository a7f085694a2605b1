"""Which hub a device goes to, of the rules alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.provisioning import allocation
from fleetroot.provisioning.configuration import Configuration
from fleetroot.provisioning.geography import Geography, Region, region_key
from fleetroot.provisioning.model import (
    Allocation,
    Enrollment,
    EnrollmentAllocation,
    EnrollmentKind,
    EnrollmentSettings,
    LinkedHub,
    Registration,
    Service,
    Status,
    Webhook,
)
from fleetroot.provisioning.webhook_addresses import WebhookRules

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDS = [f"dev-{n}" for n in range(4000)]
A, B, C = (LinkedHub(name, f"{name}.example") for name in "abc")
WEST = Region("west", frozenset({ip_network("192.0.2.0/24")}), {"a": 20, "b": 90})
EAST = Region("east", frozenset({ip_network("2001:db8::/32")}), {"a": 90, "b": 20})


def configuration(
    *hubs: LinkedHub,
    how: Allocation = Allocation.HASHED,
    regions: Iterable[Region] = (),
    location: str = "",
) -> Configuration:
    service = Service("s", "n", "default", "0ne", "dps.example", NOW, how)
    linked = MappingProxyType({hub.id: hub for hub in hubs})
    return Configuration(
        version=b"v",
        service=service,
        hubs=linked,
        groups=(),
        policies={},
        geography=Geography(location, regions),
        authorities={},
    )


def enrollment(**settings: Any) -> Enrollment:
    return Enrollment(
        "s", EnrollmentKind.GROUP, "g", EnrollmentSettings(**settings), None, None, "e", NOW, NOW
    )


def chosen(
    of: Configuration, id_: str = "dev-1", *, peer: str | None = None, **settings: Any
) -> str | None:
    hub = allocation.choose(of, enrollment(**settings), id_, peer=peer)
    return hub.id if hub else None


def was_on(hub_id: str) -> Registration:
    kind = EnrollmentKind.GROUP
    on = ("o", Status.ASSIGNED, None, hub_id, "dev-1", None, "e", NOW, NOW)
    return Registration("s", "dev-1", kind, "g", *on)


# --- the hash


def spread(*hubs: LinkedHub) -> dict[str, str]:
    return {id_: allocation.hashed(hubs, id_).id for id_ in IDS}


def test_devices_are_spread_in_proportion_to_weights() -> None:
    counts = Counter(spread(A, LinkedHub("b", "b.example", 3)).values())
    assert 0.71 < counts["b"] / len(IDS) < 0.79  # three quarters, within five deviations


def test_spelling_of_an_id_does_not_matter() -> None:
    assert all(
        allocation.hashed((A, B, C), id_) == allocation.hashed((A, B, C), id_.upper())
        for id_ in IDS[:100]
    )


def test_order_of_the_hubs_does_not_matter() -> None:
    assert spread(A, B, C) == spread(C, A, B)


def test_device_has_the_same_hub_with_every_version_of_the_program() -> None:
    """What was computed once and written down: another hash would move fleets at an upgrade."""
    found = "".join(allocation.hashed((A, B, C), id_).id for id_ in IDS[:24])
    assert found == "cbaccbcabaabcccbabbcabba"


def test_only_devices_of_a_hub_that_goes_are_moved() -> None:
    before, after = spread(A, B, C), spread(A, B)
    assert {id_ for id_ in IDS if before[id_] != after[id_]} == {
        id_ for id_ in IDS if before[id_] == "c"
    }


def test_hub_that_comes_takes_its_share_and_moves_nobody_else() -> None:
    before, after = spread(A, B), spread(A, B, C)
    moved = [id_ for id_ in IDS if before[id_] != after[id_]]
    assert {after[id_] for id_ in moved} == {"c"}
    assert 0.29 < len(moved) / len(IDS) < 0.38


def test_greater_weight_only_draws_devices_to_its_hub() -> None:
    before, after = spread(A, B, C), spread(A, B, LinkedHub("c", "c.example", 2))
    moved = {after[id_] for id_ in IDS if before[id_] != after[id_]}
    assert moved == {"c"}


@given(st.text(max_size=130), st.lists(st.integers(1, 1000), min_size=1, max_size=8))
def test_every_id_has_one_of_the_hubs(id_: str, weights: list[int]) -> None:
    hubs = [LinkedHub(str(n), f"{n}.example", weight) for n, weight in enumerate(weights)]
    assert allocation.hashed(hubs, id_) in hubs


# --- which hubs take part


def test_hub_that_takes_no_part_gets_no_device() -> None:
    of = configuration(A, LinkedHub("b", "b.example", allocates=False))
    assert {chosen(of, id_) for id_ in IDS[:50]} == {"a"}


def test_hub_that_takes_no_part_gets_devices_of_an_enrollment_that_names_it() -> None:
    of = configuration(A, LinkedHub("b", "b.example", allocates=False))
    assert chosen(of, hub_ids=("b",)) == "b"


def test_enrollment_that_names_hubs_has_its_devices_there_alone() -> None:
    found = {chosen(configuration(A, B, C), id_, hub_ids=("a", "b")) for id_ in IDS[:50]}
    assert found == {"a", "b"}


def test_service_without_hubs_allocates_nobody() -> None:
    with pytest.raises(Unavailable, match="no hub is linked"):
        chosen(configuration())


# --- a device that shall stay


@pytest.mark.parametrize("how", EnrollmentAllocation)
def test_device_that_shall_stay_stays_however_it_is_allocated(how: EnrollmentAllocation) -> None:
    of = enrollment(allocation=how, hub_ids=("a",), update_hub_assignment=False)
    hub = allocation.choose(configuration(A, B), of, "dev-1", registration=was_on("b"))
    assert hub == B


@pytest.mark.parametrize("how", [each for each in EnrollmentAllocation if each != "custom"])
def test_device_moves_to_what_its_enrollment_says_now(how: EnrollmentAllocation) -> None:
    of = enrollment(allocation=how, hub_ids=("a",))
    hub = allocation.choose(configuration(A, B), of, "dev-1", registration=was_on("b"))
    assert hub == A


def test_device_whose_hub_was_unlinked_cannot_stay() -> None:
    of = enrollment(update_hub_assignment=False)
    assert allocation.choose(configuration(A), of, "dev-1", registration=was_on("b")) == A


# --- static


def test_static_takes_the_first_hub_that_is_named_and_linked() -> None:
    named = ("c", "b", "a")
    found = chosen(configuration(A, B), allocation=EnrollmentAllocation.STATIC, hub_ids=named)
    assert found == "b"


def test_static_service_has_one_hub_where_nothing_is_named() -> None:
    assert chosen(configuration(A, how=Allocation.STATIC)) == "a"


def test_static_service_with_many_hubs_does_not_guess() -> None:
    with pytest.raises(Unavailable) as refused:
        chosen(configuration(A, B, how=Allocation.STATIC))
    assert refused.value.reason == "static allocation without a hub"


def test_enrollment_wins_over_its_service() -> None:
    of = configuration(A, B, how=Allocation.STATIC)
    found = {chosen(of, id_, allocation=EnrollmentAllocation.HASHED) for id_ in IDS[:50]}
    assert found == {"a", "b"}


# --- by latency


def nearest(peer: str | None, *hubs: LinkedHub, **where: Any) -> set[str | None]:
    of = configuration(*hubs, how=Allocation.GEO_LATENCY, **{"regions": (WEST, EAST), **where})
    return {chosen(of, id_, peer=peer) for id_ in IDS[:100]}


@pytest.mark.parametrize(
    ("peer", "hub"),
    [
        ("192.0.2.9:50000", "a"),
        ("2001:db8::9:50000", "b"),
        ("[2001:db8::9]:50000", "b"),
        ("::ffff:192.0.2.9:50000", "a"),
    ],
)
def test_device_goes_to_the_hub_that_is_nearest_to_its_address(peer: str, hub: str) -> None:
    assert nearest(peer, A, B) == {hub}


def test_longest_network_tells_the_region() -> None:
    inner = Region("lab", frozenset({ip_network("192.0.2.128/25")}), {"b": 1})
    assert nearest("192.0.2.200:1", A, B, regions=(WEST, inner)) == {"b"}
    assert nearest("192.0.2.100:1", A, B, regions=(WEST, inner)) == {"a"}


def test_hubs_that_are_equally_near_share_the_devices() -> None:
    level = Region("west", WEST.networks, {"a": 20, "b": 20, "c": 90})
    assert nearest("192.0.2.9:1", A, B, C, regions=(level,)) == {"a", "b"}


def test_hub_of_which_nothing_is_known_gets_none_where_another_is_known() -> None:
    assert nearest("192.0.2.9:1", B, C) == {"b"}


def test_hub_is_no_way_from_its_own_region() -> None:
    near = LinkedHub("c", "c.example", location="West")
    assert nearest("192.0.2.9:1", A, B, near) == {"c"}


def test_what_was_said_of_a_hub_wins_over_where_it_is() -> None:
    far = LinkedHub("b", "b.example", location="west")
    assert nearest("192.0.2.9:1", A, far) == {"a"}


@pytest.mark.parametrize("peer", ["198.51.100.1:1", "nowhere:1", "", None])
def test_address_that_no_network_holds_counts_as_where_the_service_is(peer: str | None) -> None:
    assert nearest(peer, A, B, location="EAST") == {"b"}


def test_devices_are_spread_where_nothing_is_known_of_them() -> None:
    assert nearest("198.51.100.1:1", A, B) == {"a", "b"}


def test_region_is_the_one_that_azure_would_compare() -> None:
    assert region_key(" West Europe") == region_key("westeurope") == "westeurope"


# --- what an enrollment may say


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allocation": "static"}, "static needs iotHubs"),
        ({"allocation": "custom"}, "custom needs customAllocationDefinition"),
        ({"webhook": Webhook("https://h.example", "1")}, "goes with allocationPolicy custom"),
        (
            {"allocation": "custom", "webhook": Webhook("https://h.example", "")},
            "apiVersion: must not be empty",
        ),
        (
            {"allocation": "custom", "webhook": Webhook("http://h.example", "1")},
            "must be an https URL",
        ),
    ],
)
def test_enrollment_by_which_nobody_can_be_allocated_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    if "allocation" in settings:
        settings = settings | {"allocation": EnrollmentAllocation(settings["allocation"])}
    with pytest.raises(InvalidArgument, match=message):
        allocation.check(EnrollmentSettings(**settings), WebhookRules())
