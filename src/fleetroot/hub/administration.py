"""Hubs, as operators create, change and delete them.

A hub belongs to one namespace: its devices are that registry's, and it trusts the CAs of that
namespace's policies once they were synchronized. It is reached by a host name of its own, which the
server's certificate has from the moment that it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from fleetroot.audit import Action, Actor
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import Conflict
from fleetroot.hub import hubs, identities
from fleetroot.hub.model import Hub
from fleetroot.registry import namespaces, service_resources, shared_access
from fleetroot.registry.host_names import HostNames
from fleetroot.registry.hub_references import HubReferences
from fleetroot.registry.model import Namespace
from fleetroot.registry.resource_administration import ResourceAdministration
from fleetroot.registry.service_resources import Description, Owner, ServiceKind, ServiceResource
from fleetroot.registry.shared_access import HUB_POLICIES, HUB_RIGHTS, WantedPolicy
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated


@dataclass(frozen=True, slots=True)
class DescribedHub:
    """A hub with its description."""

    hub: Hub
    resource: ServiceResource

    @property
    def owner(self) -> Owner:
        """The hub, as the owner of what provisioning services may have, too."""
        return _owner(self.hub)


def insert(tx: Transaction, sealer: Sealer, hub: Hub, said: Description, by: Actor) -> None:
    """Adds a new hub with shared access policies of its own; it trusts nobody yet."""
    hubs.insert(tx, hub)
    service_resources.insert(tx, hub.id, said, hub.created_at)
    shared_access.create(tx, sealer, hub.id, HUB_POLICIES)
    details = {"hostName": hub.host_name}
    service_resources.log(tx, Action.CREATE_HUB, _owner(hub), by, hub.created_at, details)


class HubAdministration(ResourceAdministration[DescribedHub]):
    """What the management API and the command line ask about hubs."""

    kind = ServiceKind.HUB
    rights = HUB_RIGHTS
    update = Action.UPDATE_HUB
    moving = Action.LINK_HUB
    deletion = Action.DELETE_HUB

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        clock: Clock,
        host_names: HostNames,
        references: HubReferences,
    ) -> None:
        super().__init__(store, sealer, clock, host_names)
        self._references = references

    async def put(
        self,
        namespace: Namespace,
        name: str,
        said: Description,
        *,
        policies: Sequence[WantedPolicy] | None = None,
        host_name: str | None = None,
        if_match: str | None = None,
        create_only: bool = False,
        by: Actor,
    ) -> tuple[DescribedHub, bool]:
        """Creates a hub in a namespace, or replaces what was said of one that is there; whether it
        was created, too. When this returns, the ports know its host name.

        Args:
            policies: its shared access policies, all of them; None keeps those that it has, and
                gives a new hub those that every hub begins with.
            host_name: of a new hub; None puts its name under this server's domain.

        Raises:
            InvalidArgument: a name, the description or a policy cannot be.
            AlreadyExists: the name or the host name is taken: by a hub of another resource group.
            Conflict: there are too many hubs.
            EtagMismatch: another version is there, or none, or one where none may be.
        """
        self._check(name, said, policies)
        new_host_name = await self._host_name_of_new(name, name, host_name)
        now, new_id = self._clock.now(), str(uuid4())

        def unit(tx: Transaction) -> tuple[DescribedHub, bool]:
            there = self._find(tx, name)
            service_resources.check_precondition(
                there.resource if there else None, if_match, create_only=create_only
            )
            if there is None:
                host = self._check_can_be_made(name, new_host_name, len(hubs.host_names(tx)))
                living = namespaces.by_name(tx, namespace.name)
                made = Hub(new_id, living.id, name, host, now)
                insert(tx, self._sealer, made, said, by)
                if policies is not None:
                    shared_access.replace_all(tx, self._sealer, made.id, policies)
                return _described(tx, made), True
            service_resources.check_same_place(there.resource, said)
            changed = []
            if policies is not None:
                changed = shared_access.replace_all(tx, self._sealer, there.hub.id, policies)
            service_resources.update_(tx, there.hub.id, said, now)
            details = {"policies": changed} if changed else None
            service_resources.log(tx, Action.UPDATE_HUB, there.owner, by, now, details)
            return _described(tx, there.hub), False

        return await self._write_and_show(unit, "the name of the hub, or its host name, is taken")

    async def delete(self, name: str, *, if_match: str | None = None, by: Actor) -> None:
        """See `ResourceAdministration.delete`."""
        try:
            await super().delete(name, if_match=if_match, by=by)
        except ConstraintViolated as error:
            raise Conflict(f"an enrollment assigns its devices to the hub {name}") from error

    def _every(self, tx: Transaction) -> list[DescribedHub]:
        return [_described(tx, hub) for hub in hubs.all_(tx)]

    def _find(self, tx: Transaction, name: str) -> DescribedHub | None:
        hub = hubs.by_name(tx, name)
        return None if hub is None else _described(tx, hub)

    def _move(self, tx: Transaction, there: DescribedHub, to: Namespace) -> None:
        hub = there.hub
        self._check_not_linked(tx, hub)
        if identities.are_there(tx, hub.id):
            raise Conflict(f"the hub {hub.name} has devices")
        hubs.distrust_all(tx, hub)
        hubs.set_namespace(tx, hub, to.id)

    def _remove(self, tx: Transaction, there: DescribedHub) -> None:
        hub = there.hub
        self._check_not_linked(tx, hub)
        if identities.are_connected(tx, hub.id):
            raise Conflict(f"devices are connected to the hub {hub.name}")
        self._references.forget(tx, hub.id)
        identities.remove_all(tx, hub.id)
        hubs.distrust_all(tx, hub)
        hubs.remove(tx, hub)

    def _check_not_linked(self, tx: Transaction, hub: Hub) -> None:
        services = self._references.linked_by(tx, hub.id)
        if services:
            raise Conflict(
                f"the hub {hub.name} is linked to the provisioning service"
                f" {', '.join(services)}: unlink it first"
            )


def _owner(hub: Hub) -> Owner:
    return Owner(ServiceKind.HUB, hub.id, hub.name, hub.namespace_id)


def _described(tx: Transaction, hub: Hub) -> DescribedHub:
    return DescribedHub(hub, service_resources.get(tx, hub.id))
