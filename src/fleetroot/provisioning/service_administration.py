"""Provisioning services, as operators create, change, link and delete them.

A service belongs to one namespace, and assigns devices to hubs of that namespace.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

from fleetroot.audit import Action, Actor
from fleetroot.custody import Sealer
from fleetroot.errors import Conflict, NotFound
from fleetroot.ids import canonical
from fleetroot.provisioning import (
    enrollments,
    geography,
    hub_links,
    pending,
    registrations,
    services,
    webhook_secrets,
)
from fleetroot.provisioning.hub_links import WantedLink
from fleetroot.provisioning.model import Allocation, Service
from fleetroot.provisioning.services import Link
from fleetroot.registry import namespaces, service_resources, shared_access
from fleetroot.registry.model import Namespace
from fleetroot.registry.resource_administration import ResourceAdministration
from fleetroot.registry.service_resources import Description, Owner, ServiceKind, ServiceResource
from fleetroot.registry.shared_access import PROVISIONING_RIGHTS, WantedPolicy
from fleetroot.storage import Transaction

_LABEL: Final = "dps"  # between a service's name and the domain: hubs have the domain itself


@dataclass(frozen=True, slots=True)
class DescribedService:
    """A provisioning service with its description and its links."""

    service: Service
    resource: ServiceResource
    links: tuple[Link, ...]

    @property
    def owner(self) -> Owner:
        """The service, as the owner of what hubs may have, too."""
        return _owner(self.service)


def new_service(namespace: Namespace, name: str, host_name: str, now: datetime) -> Service:
    """A service as it will be, with an ID scope of its own."""
    id_scope = f"0ne{secrets.randbelow(16**8):08X}"
    return Service(str(uuid4()), namespace.id, name, id_scope, host_name, now, Allocation.HASHED)


def insert(tx: Transaction, sealer: Sealer, service: Service, said: Description, by: Actor) -> None:
    """Adds a new service with shared access policies of its own."""
    services.insert(tx, service)
    service_resources.insert(tx, service.id, said, service.created_at)
    shared_access.create(tx, sealer, service.id, shared_access.PROVISIONING_POLICIES)
    action, owner = Action.CREATE_PROVISIONING_SERVICE, _owner(service)
    service_resources.log(tx, action, owner, by, service.created_at)


class References:
    """Who of provisioning refers to a hub; implements `registry.hub_references.HubReferences`."""

    def linked_by(self, tx: Transaction, hub_id: str) -> list[str]:
        """See `HubReferences.linked_by`."""
        return services.linking(tx, hub_id)

    def forget(self, tx: Transaction, hub_id: str) -> None:
        """See `HubReferences.forget`."""
        registrations.remove_of_hub(tx, hub_id)


class ServiceAdministration(ResourceAdministration[DescribedService]):
    """What the management API and the command line ask about provisioning services."""

    kind = ServiceKind.PROVISIONING_SERVICE
    rights = PROVISIONING_RIGHTS
    update = Action.UPDATE_PROVISIONING_SERVICE
    moving = Action.LINK_PROVISIONING_SERVICE
    deletion = Action.DELETE_PROVISIONING_SERVICE

    async def put(
        self,
        namespace: Namespace,
        name: str,
        said: Description,
        *,
        allocation: Allocation | None = None,
        policies: Sequence[WantedPolicy] | None = None,
        links: Sequence[WantedLink] | None = None,
        host_name: str | None = None,
        if_match: str | None = None,
        create_only: bool = False,
        by: Actor,
    ) -> tuple[DescribedService, bool]:
        """Creates a service in a namespace, or replaces what was said of one that is there; whether
        it was created, too. When this returns, the ports know its host name.

        Args:
            policies, links: all of them; None keeps those that it has.
            host_name: of a new service; None puts its name under this server's domain.

        Raises:
            InvalidArgument: a name, the description, a policy or a link cannot be.
            AlreadyExists: the name is taken: by a service of another resource group.
            Conflict: there are too many services, or a link is needed.
            EtagMismatch: another version is there, or none, or one where none may be.
        """
        self._check(name, said, policies)
        if links is not None:
            hub_links.check(links)
        new_host_name = await self._host_name_of_new(name, f"{name}.{_LABEL}", host_name)
        now = self._clock.now()

        def unit(tx: Transaction) -> tuple[DescribedService, bool]:
            there = self._find(tx, name)
            service_resources.check_precondition(
                there.resource if there else None, if_match, create_only=create_only
            )
            if there is None:
                host = self._check_can_be_made(name, new_host_name, len(services.host_names(tx)))
                service = new_service(namespaces.by_name(tx, namespace.name), name, host, now)
                insert(tx, self._sealer, service, said, by)
            else:
                service = there.service
                service_resources.check_same_place(there.resource, said)
                service_resources.update_(tx, service.id, said, now)
            if allocation is not None:
                service = replace(service, allocation=allocation)
                services.update_(tx, service)
            changed: dict[str, object] = {}
            if policies is not None:
                changed["policies"] = shared_access.replace_all(
                    tx, self._sealer, service.id, policies
                )
            if links is not None:
                changed["hubs"] = hub_links.replace_all(tx, self._sealer, service, links)
            if there is not None:
                service_resources.log(tx, self.update, there.owner, by, now, changed)
            return _described(tx, service), there is None

        return await self._write_and_show(unit, "the name of the provisioning service is taken")

    async def link_hub(self, name: str, wanted: WantedLink, *, by: Actor) -> DescribedService:
        """Links a hub of the service's namespace, or changes how it is linked.

        Raises:
            NotFound: there is no service of that name.
            InvalidArgument: the hub cannot be linked.
        """
        hub_links.check([wanted])
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedService:
            there = self._get(tx, name)
            hub_links.put(tx, self._sealer, there.service, wanted)
            return self._linked_otherwise(tx, there, by, now)

        return await self._store.write(unit)

    async def unlink_hub(self, name: str, host_name: str, *, by: Actor) -> DescribedService:
        """Assigns no more devices to a hub; those that are there stay.

        Raises:
            NotFound: there is no such service, or the hub is not linked to it.
            Conflict: an enrollment assigns its devices to that hub.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedService:
            there = self._get(tx, name)
            key = canonical(host_name)
            link = next((each for each in there.links if each.hub.host_name == key), None)
            if link is None:
                raise NotFound(f"the hub {host_name[:253]} is not linked to {there.service.name}")
            hub_links.remove(tx, there.service, link)
            return self._linked_otherwise(tx, there, by, now)

        return await self._store.write(unit)

    def _linked_otherwise(
        self, tx: Transaction, before: DescribedService, by: Actor, now: datetime
    ) -> DescribedService:
        service_resources.update_(tx, before.service.id, before.resource.description, now)
        after = _described(tx, before.service)
        hosts = {"hubs": [link.hub.host_name for link in after.links]}
        service_resources.log(tx, self.update, after.owner, by, now, hosts)
        return after

    def _every(self, tx: Transaction) -> list[DescribedService]:
        return [_described(tx, service) for service in services.all_(tx)]

    def _find(self, tx: Transaction, name: str) -> DescribedService | None:
        service = services.by_name(tx, name)
        return None if service is None else _described(tx, service)

    def _move(self, tx: Transaction, there: DescribedService, to: Namespace) -> None:
        service = there.service
        if there.links:
            raise Conflict(f"hubs are linked to {service.name}: unlink them first")
        _check_unused(tx, service)
        if registrations.are_there(tx, service.id):
            raise Conflict(f"devices are registered with {service.name}")
        services.update_(tx, replace(service, namespace_id=to.id))

    def _remove(self, tx: Transaction, there: DescribedService) -> None:
        service = there.service
        _check_unused(tx, service)
        for link in there.links:
            services.unlink(tx, service.id, link.hub.id)
        pending.remove_of_service(tx, service.id)
        geography.remove_of_service(tx, service.id)
        webhook_secrets.remove(tx, service.id)
        registrations.remove_of_service(tx, service.id)
        services.remove(tx, service)


def _check_unused(tx: Transaction, service: Service) -> None:
    if enrollments.are_there(tx, service.id):
        raise Conflict(
            f"the provisioning service {service.name} has enrollments: delete them first"
        )


def _owner(service: Service) -> Owner:
    kind = ServiceKind.PROVISIONING_SERVICE
    return Owner(kind, service.id, service.name, service.namespace_id)


def _described(tx: Transaction, service: Service) -> DescribedService:
    resource = service_resources.get(tx, service.id)
    return DescribedService(service, resource, tuple(services.links(tx, service.id)))
