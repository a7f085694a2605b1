"""Which hub a device goes to.

A device that shall stay where it is stays. Any other goes to one of the hubs that its enrollment
names, or of those that are linked to its provisioning service, as its enrollment says, or else the
service:

- *hashed*: each gets its share of the devices, in proportion to its weight. A device always gets
  the same one; when hubs come and go, only devices of those move, and when weights change, no more
  than have to (weighted rendezvous hashing; Thaler and Ravishankar 1998, Schindelhauer and
  Schomaker 2005).
- *static*: the first that the enrollment names and that is linked; the only one that is linked,
  where it names none.
- *by latency*: the nearest to where the device calls from (`geography`). Those that are equally
  near share devices by the hash; all do, where nothing is known of any.
- *custom*: the enrollment's webhook decides (`custom_allocation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import log
from typing import Final

from fleetroot.errors import InvalidArgument, Unavailable
from fleetroot.ids import canonical
from fleetroot.provisioning.configuration import Configuration
from fleetroot.provisioning.model import (
    Allocation,
    Enrollment,
    EnrollmentAllocation,
    EnrollmentSettings,
    LinkedHub,
    Registration,
)
from fleetroot.provisioning.webhook_addresses import WebhookRules, parse_url

_OF_SERVICE: Final = {
    Allocation.HASHED: EnrollmentAllocation.HASHED,
    Allocation.GEO_LATENCY: EnrollmentAllocation.GEO_LATENCY,
    Allocation.STATIC: EnrollmentAllocation.STATIC,
}
_BITS: Final = 52  # of a float's fraction: half of one can be added to them


def check(settings: EnrollmentSettings, rules: WebhookRules) -> None:
    """Lets settings pass by which devices can be allocated; `rules` say which webhooks may be
    called.

    Raises:
        InvalidArgument: they lack what their allocation needs, or have what it does not know.
    """
    is_custom = settings.allocation is EnrollmentAllocation.CUSTOM
    if settings.allocation is EnrollmentAllocation.STATIC and not settings.hub_ids:
        raise InvalidArgument("allocationPolicy: static needs iotHubs")
    if is_custom and settings.webhook is None:
        raise InvalidArgument("allocationPolicy: custom needs customAllocationDefinition")
    if settings.webhook is not None and not is_custom:
        raise InvalidArgument(
            "customAllocationDefinition: goes with allocationPolicy custom, and no other"
        )
    if settings.webhook is not None:
        parse_url(settings.webhook.url, rules)
        if not settings.webhook.api_version:
            raise InvalidArgument("customAllocationDefinition: apiVersion: must not be empty")


def choose(
    configuration: Configuration,
    enrollment: Enrollment,
    registration_id: str,
    *,
    registration: Registration | None = None,
    peer: str | None = None,
    decided: str | None = None,
) -> LinkedHub | None:
    """The hub that a device goes to; None if the enrollment's webhook is to say.

    Args:
        configuration: of its provisioning service.
        enrollment: that it provisions under.
        registration_id: in any spelling.
        registration: what it was before.
        peer: where it calls from, host and port.
        decided: the hub that the webhook said.

    Raises:
        Unavailable: there is no hub for it.
    """
    settings = enrollment.settings
    if registration and registration.hub_id and not settings.update_hub_assignment:
        stays = configuration.hubs.get(registration.hub_id)
        if stays is not None:
            return stays
    hubs = candidates(configuration, settings)
    match settings.allocation or _OF_SERVICE[configuration.service.allocation]:
        case EnrollmentAllocation.CUSTOM:
            return next((hub for hub in hubs if hub.id == decided), None)
        case EnrollmentAllocation.STATIC:
            if len(hubs) > 1 and not settings.hub_ids:
                raise Unavailable(
                    "static allocation, and the enrollment names no hub",
                    reason="static allocation without a hub",
                )
            return hubs[0]
        case EnrollmentAllocation.GEO_LATENCY:
            return hashed(_nearest(configuration, hubs, peer), registration_id)
        case EnrollmentAllocation.HASHED:
            return hashed(hubs, registration_id)


def candidates(configuration: Configuration, settings: EnrollmentSettings) -> Sequence[LinkedHub]:
    """The hubs that a device of an enrollment may go to: those that are named and linked, in the
    order in which they are named, or those that take part; at least one.

    Raises:
        Unavailable: there is none.
    """
    linked = configuration.hubs
    if settings.hub_ids:
        hubs = [linked[id_] for id_ in settings.hub_ids if id_ in linked]
    else:
        hubs = [hub for hub in linked.values() if hub.allocates]
    if not hubs:
        raise Unavailable("no hub is linked for this enrollment", reason="no linked hub")
    return hubs


def hashed(hubs: Sequence[LinkedHub], registration_id: str) -> LinkedHub:
    """The one of some hubs that a registration id has by the weighted hash."""
    if len(hubs) == 1:
        return hubs[0]
    of_device = sha256(canonical(registration_id).encode())
    best, highest = hubs[0], -1.0
    for hub in hubs:
        digest = of_device.copy()
        digest.update(b"\x00" + hub.id.encode())
        drawn = int.from_bytes(digest.digest()[:8], "big") >> (64 - _BITS)
        # Even over (0, 1): the least of exponential variables falls to each by its rate.
        score = hub.weight / -log((drawn + 0.5) / (1 << _BITS))
        if score > highest:
            best, highest = hub, score
    return best


def _nearest(
    configuration: Configuration, hubs: Sequence[LinkedHub], peer: str | None
) -> Sequence[LinkedHub]:
    geography = configuration.geography
    region = geography.region_of(peer)
    known = [
        (milliseconds, hub)
        for hub in hubs
        if (milliseconds := geography.latency(region, hub)) is not None
    ]
    if not known:
        return hubs
    least = min(milliseconds for milliseconds, _ in known)
    return [hub for milliseconds, hub in known if milliseconds == least]
