"""What hubs and provisioning services have in common on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from fleetroot import sas
from fleetroot.api.arm.resources import Resource, Sent, Shown, SystemData, Tags
from fleetroot.errors import InvalidArgument
from fleetroot.registry.resource_administration import Described
from fleetroot.registry.service_resources import Description, ServiceKind
from fleetroot.registry.shared_access import Right, SharedAccessPolicy, WantedPolicy

_TYPES: Final = {
    ServiceKind.HUB: "Microsoft.Devices/IotHubs",
    ServiceKind.PROVISIONING_SERVICE: "Microsoft.Devices/provisioningServices",
}
_Key = Annotated[str, Field(max_length=128)]
Word = Annotated[str, Field(max_length=256)]


class SkuBody(Sent):
    """A size, as it is sent and shown; it changes nothing here."""

    name: Word = "S1"
    tier: Annotated[str, Field(max_length=32)] | None = None
    capacity: Annotated[int, Field(ge=1, le=1000)] | None = 1


class TagsBody(Sent):
    """What `PATCH` changes."""

    tags: Tags | None = None


class RuleBody(Sent):
    """A shared access policy; a key that is left out is kept, or drawn for a new one."""

    key_name: Annotated[str, Field(max_length=64)]
    primary_key: _Key | None = Field(default=None, repr=False)
    secondary_key: _Key | None = Field(default=None, repr=False)
    rights: Annotated[str, Field(max_length=256)]

    def wanted(self) -> WantedPolicy:
        """Raises:
        InvalidArgument: a right or a key is none.
        """
        return WantedPolicy(
            self.key_name,
            _rights(self.rights),
            sas.decode_key(self.primary_key) if self.primary_key else None,
            sas.decode_key(self.secondary_key) if self.secondary_key else None,
        )


class ShownRule(Shown):
    """A shared access policy with its keys."""

    key_name: str
    primary_key: str = Field(repr=False)
    secondary_key: str = Field(repr=False)
    rights: str


class NameBody(Sent):
    """A name to be looked at."""

    name: Word


class NameAvailability(Shown):
    """Whether a name can be taken, and why not."""

    name_available: bool
    reason: Literal["Invalid", "AlreadyExists"] | None = None
    message: str | None = None


def wanted_policies(rules: Sequence[RuleBody] | None) -> list[WantedPolicy] | None:
    """Shared access policies as they shall be; None where nothing was said."""
    return None if rules is None else [rule.wanted() for rule in rules]


def shown_rule(policy: SharedAccessPolicy) -> ShownRule:
    """A shared access policy with its keys."""
    return ShownRule(
        key_name=policy.name,
        primary_key=sas.encode_key(policy.primary_key),
        secondary_key=sas.encode_key(policy.secondary_key),
        rights=", ".join(right.value for right in Right if right in policy.rights),
    )


def shown_rules(policies: Iterable[SharedAccessPolicy]) -> list[ShownRule]:
    """Shared access policies with their keys."""
    return [shown_rule(policy) for policy in policies]


def description(
    subscription: str, group: str, location: str, tags: Tags | None, sku: SkuBody
) -> Description:
    """What is said of a hub or provisioning service."""
    return Description(subscription, group, location, tags or {}, sku.name, sku.capacity or 1)


def sku_body(said: Description) -> SkuBody:
    """The size as it is shown."""
    tiers = {"F": "Free", "B": "Basic"}
    tier = tiers.get(said.sku[:1].upper(), "Standard")
    return SkuBody(name=said.sku, tier=tier, capacity=said.capacity)


def type_of(found: Described) -> str:
    """Its type of resource."""
    return _TYPES[found.owner.kind]


def path_of(found: Described) -> str:
    """Its resource id."""
    said = found.resource.description
    return (
        f"/subscriptions/{said.subscription_id}/resourceGroups/{said.resource_group}"
        f"/providers/{type_of(found)}/{found.owner.name}"
    )


def tracked(found: Described, created_at: datetime) -> Resource:
    """A hub or provisioning service as any resource is shown."""
    said = found.resource.description
    return Resource(
        id=path_of(found),
        name=found.owner.name,
        type=type_of(found),
        location=said.location,
        tags=dict(said.tags),
        etag=found.resource.etag,
        system_data=SystemData.of(created_at, found.resource.updated_at),
    )


def check_unsaid(said: Mapping[str, object]) -> None:
    """Lets properties pass, by their names, that would keep somebody out and are not built.

    Raises:
        ValueError: one is asked for.
    """
    for name, wanted in said.items():
        if wanted:
            raise ValueError(f"{name} is not supported")


def _rights(text: str) -> frozenset[Right]:
    by_name = {right.value.lower(): right for right in Right}
    found = set()
    for word in text.split(","):
        right = by_name.get(word.strip().lower())
        if right is None:
            raise InvalidArgument(f"rights: must be of {', '.join(Right)}")
        found.add(right)
    return frozenset(found)
