"""Hubs, as operators create, change and delete them.

A hub belongs to one namespace: its devices are that registry's, and it trusts the CAs of that
namespace's policies once they were synchronized. It is reached by a host name of its own, which the
server's certificate has from the moment that it is made.
"""

from __future__ import annotations

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
from fleetroot.hub import hubs, identities
from fleetroot.hub.model import Hub
from fleetroot.ids import canonical, check_name
from fleetroot.registry import (
    namespaces,
    service_resources,
    shared_access,
    uploaded_certificates,
)
from fleetroot.registry.host_names import HostNames
from fleetroot.registry.hub_references import HubReferences
from fleetroot.registry.model import Namespace
from fleetroot.registry.service_resources import (
    MAX_SERVICES,
    Description,
    Owner,
    ServiceKind,
    ServiceResource,
    check_tags,
)
from fleetroot.registry.shared_access import HUB_POLICIES, HUB_RIGHTS, WantedPolicy
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

PERMANENT: Final = "default"  # every start makes it, and `bootstrap.json` names it


@dataclass(frozen=True, slots=True)
class DescribedHub:
    """A hub with its description."""

    hub: Hub
    resource: ServiceResource

    @property
    def owner(self) -> Owner:
        """The hub, as the owner of what provisioning services may have, too."""
        return Owner(ServiceKind.HUB, self.hub.id, self.hub.name, self.hub.namespace_id)


def insert(tx: Transaction, sealer: Sealer, hub: Hub, said: Description, by: Actor) -> None:
    """Adds a new hub with shared access policies of its own; it trusts nobody yet."""
    hubs.insert(tx, hub)
    service_resources.insert(tx, hub.id, said, hub.created_at)
    shared_access.create(tx, sealer, hub.id, HUB_POLICIES)
    details = {"hostName": hub.host_name}
    _log(tx, Action.CREATE_HUB, hub, by, hub.created_at, details)


class HubAdministration:
    """What the management API and the command line ask about hubs."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        clock: Clock,
        host_names: HostNames,
        references: HubReferences,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._host_names = host_names
        self._references = references

    async def list_all(self) -> list[DescribedHub]:
        """Every hub, by name."""
        return await self._store.read(lambda tx: [_described(tx, hub) for hub in hubs.all_(tx)])

    async def get(self, name: str) -> DescribedHub:
        """The hub of that name, in any case.

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
        check_name(name, "hub")
        said.check()
        if policies is not None:
            shared_access.check(policies, HUB_RIGHTS)
        if await self._store.read(lambda tx: hubs.by_name(tx, name)) is None:
            host_name = canonical(host_name or self._host_names.of(name))
            self._host_names.check(host_name)
        now, new_id = self._clock.now(), str(uuid4())

        def unit(tx: Transaction) -> tuple[DescribedHub, bool]:
            hub = hubs.by_name(tx, name)
            there = None if hub is None else service_resources.get(tx, hub.id)
            service_resources.check_precondition(there, if_match, create_only=create_only)
            if hub is None or there is None:
                if len(hubs.host_names(tx)) >= MAX_SERVICES:
                    raise Conflict(f"there are {MAX_SERVICES} hubs already")
                if host_name is None:  # it was there a moment ago
                    raise Conflict(f"the hub {name} was deleted just now")
                living = namespaces.by_name(tx, namespace.name)
                made = Hub(new_id, living.id, name, host_name, now)
                insert(tx, self._sealer, made, said, by)
                if policies is not None:
                    shared_access.replace_all(tx, self._sealer, made.id, policies)
                return _described(tx, made), True
            service_resources.check_same_place(there, said)
            changed = []
            if policies is not None:
                changed = shared_access.replace_all(tx, self._sealer, hub.id, policies)
            service_resources.update_(tx, hub.id, said, now)
            _log(tx, Action.UPDATE_HUB, hub, by, now, {"policies": changed} if changed else None)
            return _described(tx, hub), False

        try:
            put = await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists("the name of the hub, or its host name, is taken") from error
        await self._host_names.show()
        return put

    async def set_tags(
        self, name: str, tags: Mapping[str, str], *, if_match: str | None = None, by: Actor
    ) -> DescribedHub:
        """Replaces a hub's tags.

        Raises:
            NotFound: there is no hub of that name.
            InvalidArgument: the tags cannot be.
            EtagMismatch: it is not the version that `if_match` names.
        """
        check_tags(tags)
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedHub:
            there = _get(tx, name)
            service_resources.check_precondition(there.resource, if_match)
            said = replace(there.resource.description, tags=dict(tags))
            service_resources.update_(tx, there.hub.id, said, now)
            _log(tx, Action.UPDATE_HUB, there.hub, by, now)
            return _described(tx, there.hub)

        return await self._store.write(unit)

    async def link(self, name: str, namespace: Namespace, *, by: Actor) -> DescribedHub:
        """Lets a hub without devices belong to another namespace; it trusts nobody until that is
        synchronized.

        Raises:
            NotFound: there is no hub of that name.
            Conflict: it has devices, or a provisioning service may assign some to it.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> DescribedHub:
            hub = _get(tx, name).hub
            to = namespaces.by_name(tx, namespace.name)
            if hub.namespace_id != to.id:
                self._check_not_linked(tx, hub)
                if identities.are_there(tx, hub.id):
                    raise Conflict(f"the hub {hub.name} has devices")
                hubs.distrust_all(tx, hub)
                hubs.set_namespace(tx, hub, to.id)
                service_resources.update_(tx, hub.id, _get(tx, name).resource.description, now)
                moved = replace(hub, namespace_id=to.id)
                _log(tx, Action.LINK_HUB, moved, by, now, {"namespace": to.name})
            return _get(tx, name)

        return await self._store.write(unit)

    async def delete(self, name: str, *, if_match: str | None = None, by: Actor) -> None:
        """Deletes a hub, with the identities and twins of its devices; what the registry knows of
        them stays.

        Raises:
            NotFound: there is no hub of that name.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: it is the first hub, a provisioning service may assign devices to it, or
                devices are connected.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = _get(tx, name)
            hub = there.hub
            service_resources.check_precondition(there.resource, if_match)
            if canonical(hub.name) == PERMANENT:
                raise Conflict(f"the hub {PERMANENT} is this server's first and stays")
            self._check_not_linked(tx, hub)
            if identities.are_connected(tx, hub.id):
                raise Conflict(f"devices are connected to the hub {hub.name}")
            self._references.forget(tx, hub.id)
            identities.remove_all(tx, hub.id)
            shared_access.remove_all(tx, hub.id)
            uploaded_certificates.remove_all(tx, hub.id)
            service_resources.remove(tx, hub.id)
            hubs.distrust_all(tx, hub)
            hubs.remove(tx, hub)
            _log(tx, Action.DELETE_HUB, hub, by, now)

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict(f"an enrollment assigns its devices to the hub {name}") from error

    def _check_not_linked(self, tx: Transaction, hub: Hub) -> None:
        services = self._references.linked_by(tx, hub.id)
        if services:
            raise Conflict(
                f"the hub {hub.name} is linked to the provisioning service"
                f" {', '.join(services)}: unlink it first"
            )


def _get(tx: Transaction, name: str) -> DescribedHub:
    hub = hubs.by_name(tx, name)
    if hub is None:
        raise NotFound(f"there is no hub {name[:64]}")
    return _described(tx, hub)


def _described(tx: Transaction, hub: Hub) -> DescribedHub:
    return DescribedHub(hub, service_resources.get(tx, hub.id))


def _log(
    tx: Transaction,
    action: Action,
    hub: Hub,
    by: Actor,
    now: datetime,
    details: Mapping[str, object] | None = None,
) -> None:
    entry = Entry(now, by, action, f"hub/{hub.name}", hub.namespace_id, details=details or {})
    audit.append(tx, entry)
