"""What operators do alike with hubs and with provisioning services.

The room that has the one or the other says what is its own: how one is made, moved and removed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from fleetroot.audit import Action, Actor
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import AlreadyExists, Conflict, NotFound
from fleetroot.ids import canonical, check_name
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
from fleetroot.registry.shared_access import Right, WantedPolicy
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

PERMANENT: Final = "default"  # every start makes it, and `bootstrap.json` names it
T = TypeVar("T")


class Described(Protocol):
    """A hub or a provisioning service with its description."""

    @property
    def owner(self) -> Owner:
        """It, as the owner of what both may have."""
        ...

    @property
    def resource(self) -> ServiceResource:
        """Its description and its version."""
        ...


D = TypeVar("D", bound=Described)


class ResourceAdministration(ABC, Generic[D]):
    """What the management API and the command line ask of hubs or of provisioning services.

    Attributes:
        kind: which of the two.
        rights: what their shared access policies may allow.
        update, moving, deletion: what the audit log calls a change, another namespace, the end.
    """

    kind: ClassVar[ServiceKind]
    rights: ClassVar[frozenset[Right]]
    update: ClassVar[Action]
    moving: ClassVar[Action]
    deletion: ClassVar[Action]

    def __init__(self, store: Store, sealer: Sealer, clock: Clock, host_names: HostNames) -> None:
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._host_names = host_names

    @abstractmethod
    def _every(self, tx: Transaction) -> list[D]:
        """All there are, by name."""

    @abstractmethod
    def _find(self, tx: Transaction, name: str) -> D | None:
        """The one of that name, in any case; None where there is none."""

    @abstractmethod
    def _move(self, tx: Transaction, there: D, to: Namespace) -> None:
        """Lets it belong to another namespace.

        Raises:
            Conflict: something holds it in its own.
        """

    @abstractmethod
    def _remove(self, tx: Transaction, there: D) -> None:
        """Removes it, and all that only it has.

        Raises:
            Conflict: something still needs it.
        """

    async def list_all(self) -> list[D]:
        """Every one, by name."""
        return await self._store.read(self._every)

    async def get(self, name: str) -> D:
        """The one of that name, in any case.

        Raises:
            NotFound: there is none.
        """
        return await self._store.read(lambda tx: self._get(tx, name))

    async def set_tags(
        self, name: str, tags: Mapping[str, str], *, if_match: str | None = None, by: Actor
    ) -> D:
        """Replaces its tags.

        Raises:
            NotFound: there is none of that name.
            InvalidArgument: the tags cannot be.
            EtagMismatch: it is not the version that `if_match` names.
        """
        check_tags(tags)
        now = self._clock.now()

        def unit(tx: Transaction) -> D:
            there = self._get(tx, name)
            service_resources.check_precondition(there.resource, if_match)
            said = replace(there.resource.description, tags=dict(tags))
            service_resources.update_(tx, there.owner.id, said, now)
            service_resources.log(tx, self.update, there.owner, by, now)
            return self._get(tx, name)

        return await self._store.write(unit)

    async def link(self, name: str, namespace: Namespace, *, by: Actor) -> D:
        """Lets it belong to another namespace: a hub without devices, which then trusts nobody
        until that is synchronized; a provisioning service without hubs, enrollments and
        registrations.

        Raises:
            NotFound: there is none of that name.
            Conflict: it has some, or a provisioning service may assign devices to it.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> D:
            there, to = self._get(tx, name), namespaces.by_name(tx, namespace.name)
            if there.owner.namespace_id != to.id:
                self._move(tx, there, to)
                service_resources.update_(tx, there.owner.id, there.resource.description, now)
                moved = replace(there.owner, namespace_id=to.id)
                service_resources.log(tx, self.moving, moved, by, now, {"namespace": to.name})
            return self._get(tx, name)

        return await self._store.write(unit)

    async def delete(self, name: str, *, if_match: str | None = None, by: Actor) -> None:
        """Deletes it. What the registry knows of the devices stays: of a hub, their identities and
        twins go; of a provisioning service, they keep what they have.

        Raises:
            NotFound: there is none of that name.
            EtagMismatch: it is not the version that `if_match` names.
            Conflict: it is the server's first, or something still needs it: of a hub, its
                connections and the provisioning services that may assign devices to it; of a
                provisioning service, its enrollments.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = self._get(tx, name)
            owner = there.owner
            service_resources.check_precondition(there.resource, if_match)
            if canonical(owner.name) == PERMANENT:
                raise Conflict(
                    f"the {self.kind.words} {PERMANENT} is this server's first and stays"
                )
            self._remove(tx, there)
            shared_access.remove_all(tx, owner.id)
            uploaded_certificates.remove_all(tx, owner.id)
            service_resources.remove(tx, owner.id)
            service_resources.log(tx, self.deletion, owner, by, now)

        await self._store.write(unit)

    # --- of `put`, which each has for itself

    def _check(self, name: str, said: Description, policies: Sequence[WantedPolicy] | None) -> None:
        """Raises:
        InvalidArgument: the name, the description or a policy cannot be.
        """
        check_name(name, self.kind.words)
        said.check()
        if policies is not None:
            shared_access.check(policies, self.rights)

    async def _host_name_of_new(self, name: str, label: str, wanted: str | None) -> str | None:
        """The host name of one that would be new: `wanted`, or `label` under this server's domain;
        None where one of that name is there.

        Raises:
            InvalidArgument: it is none, or this server cannot show it.
        """
        if await self._store.read(lambda tx: self._find(tx, name)) is not None:
            return None
        host_name = canonical(wanted or self._host_names.of(label))
        self._host_names.check(host_name)
        return host_name

    def _check_can_be_made(self, name: str, host_name: str | None, count: int) -> str:
        """The host name of one that is new, beside `count` that are there.

        Raises:
            Conflict: there are too many, or it was there when its host name was looked for.
        """
        if count >= MAX_SERVICES:
            raise Conflict(f"there are {MAX_SERVICES} {self.kind.words}s already")
        if host_name is None:
            raise Conflict(f"the {self.kind.words} {name} was deleted just now")
        return host_name

    async def _write_and_show(self, unit: Callable[[Transaction], T], taken: str) -> T:
        """Runs a unit that may add a host name. When this returns, the ports know it.

        Raises:
            AlreadyExists: somebody else took the name meanwhile; with `taken` as its message.
        """
        try:
            written = await self._store.write(unit)
        except ConstraintViolated as error:
            raise AlreadyExists(taken) from error
        await self._host_names.show()
        return written

    def _get(self, tx: Transaction, name: str) -> D:
        """Raises:
        NotFound: there is none of that name.
        """
        found = self._find(tx, name)
        if found is None:
            raise NotFound(f"there is no {self.kind.words} {name[:64]}")
        return found
