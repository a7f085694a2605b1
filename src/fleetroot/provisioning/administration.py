"""The operator's side of provisioning: services and their enrollments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fleetroot import audit, sas
from fleetroot.audit import Action, Actor
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EnrollmentNotFound,
    EtagMismatch,
    FleetrootError,
    NotFound,
)
from fleetroot.ids import check_name, check_registration_id
from fleetroot.provisioning import (
    enrollment_lists,
    enrollments,
    service_administration,
    services,
    standing,
)
from fleetroot.provisioning.bulk import BulkMode, NotDone, WantedEnrollment, check
from fleetroot.provisioning.enrollment_changes import (
    EnrollmentChanges,
    check_references,
    entry,
    remove,
)
from fleetroot.provisioning.enrollment_lists import EnrollmentShown
from fleetroot.provisioning.exports import Exports
from fleetroot.provisioning.imports import Imports
from fleetroot.provisioning.model import (
    Enrollment,
    EnrollmentKind,
    EnrollmentSettings,
    Service,
)
from fleetroot.provisioning.webhook_addresses import WebhookRules
from fleetroot.registry import policies, shared_access
from fleetroot.registry.assignment import HubDirectory, SymmetricKeys
from fleetroot.registry.model import Namespace
from fleetroot.registry.service_resources import Description
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

_ANY: Final = "*"
_PUBLIC: Final = WebhookRules()


@dataclass(frozen=True, slots=True)
class EnrollmentWithKeys:
    """An enrollment with its keys opened; None: it attests by none."""

    enrollment: Enrollment
    keys: SymmetricKeys | None


class Administration:
    """Provisioning services and enrollments, for operators."""

    def __init__(
        self,
        store: Store,
        hub_directory: HubDirectory,
        sealer: Sealer,
        clock: Clock,
        webhooks: WebhookRules = _PUBLIC,
    ) -> None:
        """`webhooks`: which ones enrollments may name."""
        self._store = store
        self._sealer = sealer
        self._clock = clock
        self._changes = EnrollmentChanges(hub_directory, sealer, clock, webhooks)
        self.imports = Imports(store, self._changes, clock)
        self.exports = Exports(store, self._changes, clock)

    async def create_service(
        self, namespace: Namespace, name: str, *, host_name: str, hub_ids: list[str], by: Actor
    ) -> Service:
        """Creates a provisioning service with an ID scope and shared access policies of its own,
        linked to hubs.

        Raises:
            InvalidArgument: the name is not one.
        """
        check_name(name, "provisioning service")
        service = service_administration.new_service(namespace, name, host_name, self._clock.now())
        said = Description.within(namespace)

        def unit(tx: Transaction) -> None:
            service_administration.insert(tx, self._sealer, service, said, by)
            for hub_id in hub_ids:
                services.link(tx, service.id, hub_id)

        await self._store.write(unit)
        return service

    async def service(self, name: str | None = None) -> Service:
        """The provisioning service of that name, or the oldest.

        Raises:
            NotFound: there is none.
        """
        service = await self._store.read(
            lambda tx: services.first(tx) if name is None else services.by_name(tx, name)
        )
        if service is None:
            raise NotFound("there is no such provisioning service")
        return service

    async def addressed(self, host_name: str) -> Service:
        """The provisioning service of that host name; the oldest, where none has it.

        Raises:
            NotFound: there is none at all.
        """
        named = await self._store.read(lambda tx: services.by_host_name(tx, host_name))
        return named or await self.service()

    async def standing(
        self, service: Service, registration_id: str
    ) -> standing.RegistrationStanding:
        """How a registration id stands with the service, whether it is known or not."""
        now = self._clock.now()
        return await self._store.read(lambda tx: standing.read(tx, service, registration_id, now))

    async def host_names(self) -> list[str]:
        """The host names of all provisioning services."""
        return await self._store.read(services.host_names)

    async def shared_access_policy(
        self, service: Service, name: str
    ) -> shared_access.SharedAccessPolicy | None:
        """The service's shared access policy of that name."""
        return await self._store.read(
            lambda tx: shared_access.find(tx, self._sealer, service.id, name)
        )

    async def authorize(
        self, service: Service, token: sas.SasToken, right: shared_access.Right
    ) -> None:
        """Checks that a caller's token carries `right` on the service.

        Raises:
            TokenInvalid: the token is not good for this service.
            Forbidden: it does not carry the right.
        """
        policy = await self.shared_access_policy(service, token.key_name or "")
        shared_access.authorize(
            policy, token, resource=service.host_name, right=right, now=self._clock.now()
        )

    async def policy_names(self, service: Service) -> dict[str, str]:
        """The names of the namespace's policies, by their ids."""
        found = await self._store.read(lambda tx: policies.every_of(tx, service.namespace_id))
        return {policy.id: policy.name for policy in found}

    @staticmethod
    def enrollment_name(service: Service, kind: EnrollmentKind, enrollment_id: str) -> str:
        """The name by which the registry knows an enrollment, also one that was deleted since."""
        return enrollments.name_for(service.id, kind, enrollment_id)

    async def linked_hubs(self, service: Service) -> dict[str, str]:
        """The ids of the linked hubs, by their host names."""
        found = await self._store.read(lambda tx: services.linked(tx, service.id))
        return {hub.host_name: hub.id for hub in found}

    async def put(
        self,
        service: Service,
        kind: EnrollmentKind,
        enrollment_id: str,
        settings: EnrollmentSettings,
        *,
        primary_key: bytes | None = None,
        secondary_key: bytes | None = None,
        keep_policy: bool = False,
        if_match: str | None = None,
        by: Actor,
    ) -> EnrollmentWithKeys:
        """Creates an enrollment, or replaces the one that `if_match` names by its etag (`*`: any).
        Keys that are left out are kept, or generated for a new one; `keep_policy` keeps the policy.

        Raises:
            InvalidArgument: an id is not one, a certificate or a key of a TPM breaks a rule, or
                devices could not be allocated so.
            Conflict: the service was deleted meanwhile, or the hub that the enrollment names.
            AlreadyExists: it exists, and `if_match` was not given.
            EtagMismatch: `if_match` names another version, or none exists.
        """
        check_registration_id(enrollment_id)
        before = await self._store.read(
            lambda tx: enrollments.find(tx, service.id, kind, enrollment_id)
        )
        wanted = WantedEnrollment(settings, primary_key, secondary_key, keep_policy)
        made, keys = self._changes.draft(service, kind, enrollment_id, wanted, before)

        def unit(tx: Transaction) -> None:
            there = enrollments.find(tx, service.id, kind, enrollment_id)
            _check_precondition(there, if_match)
            _save(tx, service, made, before, there, by)

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict("the service or the hub of the enrollment is gone") from error
        return EnrollmentWithKeys(made, keys)

    async def change_many(
        self,
        service: Service,
        kind: EnrollmentKind,
        mode: BulkMode,
        wanted: Mapping[str, WantedEnrollment | None],
        *,
        by: Actor,
    ) -> list[NotDone]:
        """Creates, replaces or deletes enrollments in one unit of work, each all or not at all;
        those that could not be so are returned.

        Args:
            service: whose they are.
            kind: of all of them.
            mode: what is done.
            wanted: by their ids, which differ not in spelling alone; None where it is to go.
            by: who asks.

        Raises:
            InvalidArgument: an id is not one; nothing is done.
            Conflict: the service was deleted meanwhile; nothing is done.
        """
        for enrollment_id in wanted:
            check_registration_id(enrollment_id)
        now = self._clock.now()
        befores = await self._store.read(
            lambda tx: {id_: enrollments.find(tx, service.id, kind, id_) for id_ in wanted}
        )
        drafts: dict[str, Enrollment | FleetrootError | None] = {}
        for id_, one in wanted.items():
            try:
                drafts[id_] = (
                    self._changes.draft(service, kind, id_, one, befores[id_])[0] if one else None
                )
            except FleetrootError as error:
                drafts[id_] = error

        def change(tx: Transaction, id_: str, draft: Enrollment | None) -> None:
            there, one = enrollments.find(tx, service.id, kind, id_), wanted[id_]
            check(mode, there, one.etag if one else None)
            if draft is not None:
                _save(tx, service, draft, befores[id_], there, by)
            elif there is not None:
                remove(tx, [there])
                audit.append(tx, entry(Action.DELETE_ENROLLMENT, service, there, by, now))

        def unit(tx: Transaction) -> list[NotDone]:
            not_done = []
            for id_, draft in drafts.items():
                try:
                    if isinstance(draft, FleetrootError):
                        raise draft
                    change(tx, id_, draft)  # whatever it refuses, it refuses before it writes
                except FleetrootError as error:
                    not_done.append(NotDone(id_, error))
            return not_done

        try:
            return await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict("the service of the enrollments is gone") from error

    async def get(
        self, service: Service, kind: EnrollmentKind, enrollment_id: str
    ) -> EnrollmentWithKeys:
        """The enrollment of that kind and id.

        Raises:
            EnrollmentNotFound: there is none.
        """
        enrollment = await self._store.read(
            lambda tx: enrollments.find(tx, service.id, kind, enrollment_id)
        )
        if enrollment is None:
            raise EnrollmentNotFound("Enrollment not found")
        return EnrollmentWithKeys(enrollment, self._changes.keys_of(enrollment))

    async def read_keys(
        self, service: Service, kind: EnrollmentKind, enrollment_id: str, *, by: Actor
    ) -> EnrollmentWithKeys:
        """Like `get`, for somebody outside: it is in the audit log.

        Raises:
            EnrollmentNotFound: there is none.
        """
        now = self._clock.now()
        found = await self.get(service, kind, enrollment_id)
        told = entry(Action.READ_KEYS, service, found.enrollment, by, now)
        await self._store.write(lambda tx: audit.append(tx, told))
        return found

    async def shown(
        self, service: Service, kind: EnrollmentKind, enrollment_id: str
    ) -> EnrollmentShown:
        """The enrollment of that kind and id, its keys sealed.

        Raises:
            EnrollmentNotFound: there is none.
        """
        return await self._store.read(
            lambda tx: enrollment_lists.one(tx, service, kind, enrollment_id)
        )

    async def page(
        self, service: Service, kind: EnrollmentKind, *, after: str, limit: int
    ) -> tuple[list[EnrollmentShown], str | None]:
        """Enrollments of a kind in the order of their keys, what is secret sealed: up to `limit`
        behind `after`, and behind which key there are more.
        """
        return await self._store.read(
            lambda tx: enrollment_lists.page(tx, service, kind, after=after, limit=limit)
        )

    async def delete(
        self,
        service: Service,
        kind: EnrollmentKind,
        enrollment_id: str,
        if_match: str | None = None,
        *,
        by: Actor,
    ) -> None:
        """Deletes an enrollment; devices that it provisioned keep what they have.

        Raises:
            EnrollmentNotFound: there is none.
            EtagMismatch: `if_match` names another version.
        """
        now = self._clock.now()

        def unit(tx: Transaction) -> None:
            there = enrollments.find(tx, service.id, kind, enrollment_id)
            if there is None:
                raise EnrollmentNotFound("Enrollment not found")
            if if_match is not None:
                _check_precondition(there, if_match)
            remove(tx, [there])
            audit.append(tx, entry(Action.DELETE_ENROLLMENT, service, there, by, now))

        await self._store.write(unit)


def _save(
    tx: Transaction,
    service: Service,
    made: Enrollment,
    before: Enrollment | None,
    there: Enrollment | None,
    by: Actor,
) -> None:
    """Puts `made`, which was drafted from `before`, in the place of what is there.

    Raises:
        Conflict: a hub that it names is not linked any more.
        InvalidArgument: nor is a CA certificate there that it names, or it is ours.
        EtagMismatch: what is there is not `before` any more.
    """
    check_references(tx, service, made.kind, made.settings)
    if (there.etag if there else None) != (before.etag if before else None):
        raise EtagMismatch("the enrollment was changed by somebody else just now")
    enrollments.save(tx, made)
    audit.append(tx, entry(Action.PUT_ENROLLMENT, service, made, by, made.updated_at))


def _check_precondition(there: Enrollment | None, if_match: str | None) -> None:
    """RFC 7232 §3.1, and Azure's rule that a write without it creates."""
    if if_match is None:
        if there is not None:
            raise AlreadyExists("an enrollment of that id exists")
    elif there is None or if_match not in (_ANY, there.etag):
        raise EtagMismatch("the enrollment is of another version")
