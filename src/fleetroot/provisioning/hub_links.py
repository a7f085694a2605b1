"""Which hubs a provisioning service may assign devices to, and what it takes to link one.

A hub is linked by a connection string, whose key is held against the hub's, or by its host name
alone; it belongs to the service's namespace. These are parts of units of work.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fleetroot.custody import Sealer
from fleetroot.errors import Conflict, InvalidArgument
from fleetroot.ids import canonical
from fleetroot.provisioning import enrollments, services
from fleetroot.provisioning.model import Service
from fleetroot.provisioning.services import Link
from fleetroot.registry import shared_access
from fleetroot.storage import Transaction

MAX_LINKS: Final = 50
MAX_WEIGHT: Final = 1000


@dataclass(frozen=True, slots=True)
class WantedLink:
    """A hub that shall be linked. A weight or a choice that is None is kept, or as by default.

    Attributes:
        key_name: of the shared access policy that proves the right to link it.
        key: of that policy; None keeps a link by that policy that is there.
    """

    host_name: str
    key_name: str | None = None
    key: bytes | None = field(default=None, repr=False)
    weight: int | None = None
    allocates: bool | None = None


def check(wanted: Sequence[WantedLink]) -> None:
    """Lets links pass whose form is right.

    Raises:
        InvalidArgument: they are too many, two are of one hub, or a weight is out of range.
    """
    if len(wanted) > MAX_LINKS:
        raise InvalidArgument(f"iotHubs: at most {MAX_LINKS}")
    if len({canonical(each.host_name) for each in wanted}) != len(wanted):
        raise InvalidArgument("iotHubs: a hub comes twice")
    if any(each.weight is not None and not 1 <= each.weight <= MAX_WEIGHT for each in wanted):
        raise InvalidArgument(f"allocationWeight: must be 1 to {MAX_WEIGHT}")


def replace_all(
    tx: Transaction, sealer: Sealer, service: Service, wanted: Sequence[WantedLink]
) -> list[str]:
    """Makes the links those of `wanted`, which have been checked; their host names.

    Raises:
        InvalidArgument, Conflict: as `put` and `remove`.
    """
    kept = {canonical(each.host_name) for each in wanted}
    for link in services.links(tx, service.id):
        if link.hub.host_name not in kept:
            remove(tx, service, link)
    for each in wanted:
        put(tx, sealer, service, each)
    return sorted(kept)


def put(tx: Transaction, sealer: Sealer, service: Service, wanted: WantedLink) -> None:
    """Links a hub, or changes how it is linked.

    Raises:
        InvalidArgument: there is no such hub, it is of another namespace, or the key is not good.
    """
    hub = services.linkable(tx, wanted.host_name)
    if hub is None:
        raise InvalidArgument(f"iotHubs: there is no hub {wanted.host_name[:253]} here")
    if hub.namespace_id != service.namespace_id:
        raise InvalidArgument(f"iotHubs: the hub {hub.name} belongs to another namespace")
    before = next((each for each in services.links(tx, service.id) if each.hub.id == hub.id), None)
    is_kept = wanted.key is None and before is not None and before.key_name == wanted.key_name
    if wanted.key_name is not None and not is_kept:
        _check_key(tx, sealer, hub.id, wanted.key_name, wanted.key)
    weight, allocates = (1, True) if before is None else (before.hub.weight, before.hub.allocates)
    services.link(
        tx,
        service.id,
        hub.id,
        weight=weight if wanted.weight is None else wanted.weight,
        allocates=allocates if wanted.allocates is None else wanted.allocates,
        key_name=wanted.key_name,
    )


def remove(tx: Transaction, service: Service, link: Link) -> None:
    """Unlinks a hub.

    Raises:
        Conflict: an enrollment of the service names it.
    """
    if enrollments.name_hub(tx, service.id, link.hub.id):
        raise Conflict(f"an enrollment assigns its devices to the hub {link.hub_name}")
    services.unlink(tx, service.id, link.hub.id)


def _check_key(
    tx: Transaction, sealer: Sealer, hub_id: str, key_name: str, key: bytes | None
) -> None:
    """Azure's rule: the policy of the connection string can change the hub's registry."""
    policy = shared_access.find(tx, sealer, hub_id, key_name)
    if policy is not None and key is not None:
        fits = hmac.compare_digest(key, policy.primary_key)
        fits |= hmac.compare_digest(key, policy.secondary_key)
        if fits and shared_access.Right.REGISTRY_WRITE in policy.rights:
            return
    raise InvalidArgument(
        "iotHubs: the connection string is not one of the hub with the right RegistryWrite"
    )
