"""Provisioning services, as operators create, change, link and delete them.

A service belongs to one namespace, and assigns devices to hubs of that namespace.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

from fleetroot import audit
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import AlreadyExists, Conflict, NotFound
from fleetroot.ids import canonical, check_name
from fleetroot.provisioning import enrollments, hub_links, registrations, services
from fleetroot.provisioning.hub_links import WantedLink
from fleetroot.provisioning.model import Allocation, Service
from fleetroot.provisioning.services import Link
from fleetroot.registry import (
    namespaces,
    service_resources,
    shared_access,
    uploaded_certificates,
)
from fleetroot.registry.host_names import HostNames
from fleetroot.registry.model import Namespace
from fleetroot.registry.service_resources import (
    MAX_SERVICES,
    Description,
    Owner,
    ServiceKind,
    ServiceResource,
    check_tags,
)
from fleetroot.registry.shared_access import PROVISIONING_RIGHTS, WantedPolicy
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

PERMANENT: Final = "default"  # every start makes it, and `bootstrap.json` names it
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
        of = self.service
        return Owner(ServiceKind.PROVISIONING_SERVICE, of.id, of.name, of.namespace_id)


def new_service(namespace: Namespace, name: str, host_name: str, now: datetime) -> Service:
    """A service as it will be, with an ID scope of its own."""
    id_scope = f"0ne{secrets.randbelow(16**8):08X}"
    return Service(str(uuid4()), namespace.id, name, id_scope, host_name, now, Allocation.HASHED)


def insert(tx: Transaction, sealer: Sealer, service: Service, said: Description, by: Actor) -> None:
    """Adds a new service with shared access policies of its own."""
    services.insert(tx, service)
    service_resources.insert(tx, service.id, said, service.created_at)
    shared_access.create(tx, sealer, service.id, shared_access.PROVISIONING_POLICIES)
    _log(tx, Action.CREATE_PROVISIONING_SERVICE, service, by, service.created_at)


class References:
    """Who of provisioning refers to a hub; implements `registry.hub_references.HubReferences`."""

    def linked_by(self, tx: Transaction, hub_id: str) -> list[str]:
        """See `HubReferences.linked_by`."""
        return services.linking(tx, hub_id)

    def forget(self, tx: Transaction, hub_id: str) -> None:
        """See `HubReferences.forget`."""
        registrations.remove_of_hub(tx, hub_id)


class ServiceAdministration:
    """What the management API and the command line ask about provisioning services."""

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, host_names: HostNames) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._host_names = host_names

    async def list_all(self) -> list[DescribedService]:
        """Every service, by name."""
        return await self._store.read(
            lambda tx: [_described(tx, service) for service in services.all_(tx)]
        )

    async def get(self, name: str) -> DescribedService:
        """The service of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: _get(tx, name))

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
        check_name(name, "provisioning service")
        said.check()
        if policies is not None:
            shared_access.check(policies, PROVISIONING_RIGHTS)
        if links is not None:
            hub_links.check(links)
        draft = None
        if await self._store.read(lambda tx: services.by_name(tx, name)) is None:
            host_name = canonical(host_name or self._host_names.of(f"{name}.{_LABEL}"))
            self._host_names.check(host_name)
            draft = new_service(namespace, name, host_name, self._clock.now())
        now = self._clock.now()

        def unit(tx: Transaction) -> tuple[DescribedService, bool]:
            service = services.by_name(tx, name)
            there = None if service is None else service_resources.get(tx, service.id)
            service_resources.check_precondition(there, if_match, create_only=create_only)
            changed: dict[str, object] = {}
            if service is None or there is None:
                if len(services.host_names(tx)) >= MAX_SERVICES:
                    raise Conflict(f"there are {MAX_SERVICES} provisioning services already")
                if draft is None:  # it was there a moment ago
                    raise Conflict(f"the provisioning service {name} was deleted just now")
                living = namespaces.by_name(tx, namespace.name)
                service = replace(draft, namespace_id=living.id)
                insert(tx, self._sealer, service, said, by)
            else:
                service_resources.check_same_place(there, said)
                service_resources.update_(tx, service.id, said, now)
            if allocation is not None:
                service = replace(service, allocation=allocation)
                services.update_(tx, service)
            if policies is not None:
                changed["policies"] = shared_access.replace_all(
                    tx, self._sealer, service.id, policies
                )
            if links is not None:
                changed["hubs"] = hub_links.replace_all(tx, self._sealer, service, links)
            if there is not None:
                _log(tx, Action.UPDATE_PROVISIONING_SERVICE, service, by, now, changed)
            return _described(tx, service), there is None

        try:
            put = await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists("the name of the provisioning service is taken") from error
        await self._host_names.show()
        return put

    async def set_tags(
        self, name: str, tags: Mapping[str, str], *, if_match: str | None = None, by: Actor
    ) -> DescribedService:
        """Replaces a service's tags.

        Raises:
            NotFound: there is no service of that name.
            InvalidArgument: the tags cannot be.
            EtagMismatch: it is not the version that `if_match` names.
        """
        check_tags(tags)
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedService:
            there = _get(tx, name)
            service_resources.check_precondition(there.resource, if_match)
            said = replace(there.resource.description, tags=dict(tags))
            service_resources.update_(tx, there.service.id, said, now)
            _log(tx, Action.UPDATE_PROVISIONING_SERVICE, there.service, by, now)
            return _described(tx, there.service)

        return await self._store.write(unit)

    async def link_hub(self, name: str, wanted: WantedLink, *, by: Actor) -> DescribedService:
        """Links a hub of the service's namespace, or changes how it is linked.

        Raises:
            NotFound: there is no service of that name.
            InvalidArgument: the hub cannot be linked.
        """
        hub_links.check([wanted])
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedService:
            there = _get(tx, name)
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
            there = _get(tx, name)
            key = canonical(host_name)
            link = next((each for each in there.links if each.hub.host_name == key), None)
            if link is None:
                raise NotFound(f"the hub {host_name[:253]} is not linked to {there.service.name}")
            hub_links.remove(tx, there.service, link)
            return self._linked_otherwise(tx, there, by, now)

        return await self._store.write(unit)

    @staticmethod
    def _linked_otherwise(
        tx: Transaction, before: DescribedService, by: Actor, now: datetime
    ) -> DescribedService:
        service_resources.update_(tx, before.service.id, before.resource.description, now)
        after = _described(tx, before.service)
        hosts: dict[str, object] = {"hubs": [link.hub.host_name for link in after.links]}
        _log(tx, Action.UPDATE_PROVISIONING_SERVICE, after.service, by, now, hosts)
        return after

    async def link(self, name: str, namespace: Namespace, *, by: Actor) -> DescribedService:
        """Lets a service without hubs, enrollments and registrations belong to another namespace.

        Raises:
            NotFound: there is no service of that name.
            Conflict: it has some.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedService:
            there = _get(tx, name)
            service, to = there.service, namespaces.by_name(tx, namespace.name)
            if service.namespace_id != to.id:
                if there.links:
                    raise Conflict(f"hubs are linked to {service.name}: unlink them first")
                _check_unused(tx, service)
                if registrations.are_there(tx, service.id):
                    raise Conflict(f"devices are registered with {service.name}")
                service = replace(service, namespace_id=to.id)
                services.update_(tx, service)
                service_resources.update_(tx, service.id, there.resource.description, now)
                details: dict[str, object] = {"namespace": to.name}
                _log(tx, Action.LINK_PROVISIONING_SERVICE, service, by, now, details)
            return _described(tx, service)

        return await self._store.write(unit)

    async def delete(self, name: str, *, if_match: str | None = None, by: Actor) -> None:
        """Deletes a service; devices that it provisioned keep what they have.

        Raises:
            NotFound: there is no service of that name.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: it is the first service, or has enrollments.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = _get(tx, name)
            service = there.service
            service_resources.check_precondition(there.resource, if_match)
            if canonical(service.name) == PERMANENT:
                raise Conflict(
                    f"the provisioning service {PERMANENT} is this server's first and stays"
                )
            _check_unused(tx, service)
            for link in there.links:
                services.unlink(tx, service.id, link.hub.id)
            registrations.remove_of_service(tx, service.id)
            shared_access.remove_all(tx, service.id)
            uploaded_certificates.remove_all(tx, service.id)
            service_resources.remove(tx, service.id)
            services.remove(tx, service)
            _log(tx, Action.DELETE_PROVISIONING_SERVICE, service, by, now)

        await self._store.write(unit)


def _check_unused(tx: Transaction, service: Service) -> None:
    if enrollments.are_there(tx, service.id):
        raise Conflict(
            f"the provisioning service {service.name} has enrollments: delete them first"
        )


def _get(tx: Transaction, name: str) -> DescribedService:
    service = services.by_name(tx, name)
    if service is None:
        raise NotFound(f"there is no provisioning service {name[:64]}")
    return _described(tx, service)


def _described(tx: Transaction, service: Service) -> DescribedService:
    resource = service_resources.get(tx, service.id)
    return DescribedService(service, resource, tuple(services.links(tx, service.id)))


def _log(
    tx: Transaction,
    action: Action,
    service: Service,
    by: Actor,
    now: datetime,
    details: Mapping[str, object] | None = None,
) -> None:
    subject = f"provisioning-service/{service.name}"
    audit.append(tx, Entry(now, by, action, subject, service.namespace_id, details=details or {}))
