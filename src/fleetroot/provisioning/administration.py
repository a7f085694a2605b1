"""The operator's side of provisioning: services and their enrollments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fleetroot import audit, sas
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import (
    AlreadyExists,
    Conflict,
    EnrollmentNotFound,
    EtagMismatch,
    InvalidArgument,
    NotFound,
)
from fleetroot.ids import check_device_id, check_name, check_registration_id
from fleetroot.provisioning import (
    allocation,
    certificate_rules,
    enrollments,
    pending,
    service_administration,
    services,
    standing,
)
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentKind,
    EnrollmentSettings,
    Service,
)
from fleetroot.provisioning.webhook_addresses import WebhookRules
from fleetroot.registry import policies, shared_access
from fleetroot.registry.assignment import HubDirectory, SymmetricKeys
from fleetroot.registry.devices import new_etag
from fleetroot.registry.model import Namespace
from fleetroot.registry.service_resources import Description
from fleetroot.storage import Store, Transaction
from fleetroot.storage.unit import ConstraintViolated

_ANY: Final = "*"
_PUBLIC: Final = WebhookRules()
_SUBJECTS: Final = {
    EnrollmentKind.INDIVIDUAL: "enrollment",
    EnrollmentKind.GROUP: "enrollment-group",
}


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
        self._webhooks = webhooks
        self._store = store
        self._hub_directory = hub_directory
        self._sealer = sealer
        self._clock = clock

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

    async def policy_id(self, service: Service, name: str) -> str:
        """The id of the policy of that name.

        Raises:
            InvalidArgument: there is none in the service's namespace.
        """
        check_name(name, "credentialPolicyName")
        try:
            policy = await self._store.read(
                lambda tx: policies.by_name(tx, service.namespace_id, name)
            )
        except NotFound as error:
            raise InvalidArgument(error.message) from error
        return policy.id

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
            InvalidArgument: an id is not one, a certificate breaks a rule, or devices could not be
                allocated so.
            Conflict: the service was deleted meanwhile, or the hub that the enrollment names.
            AlreadyExists: it exists, and `if_match` was not given.
            EtagMismatch: `if_match` names another version, or none exists.
        """
        check_registration_id(enrollment_id)
        if settings.device_id is not None:
            check_device_id(settings.device_id)
            if kind is EnrollmentKind.GROUP:
                raise InvalidArgument("an enrollment group has no deviceId")
        if settings.initial_twin is not None:
            self._hub_directory.check_initial_twin(settings.initial_twin)
        allocation.check(settings, self._webhooks)
        if settings.certificates is not None:
            certificate_rules.check_form(kind, settings.certificates)
        now = self._clock.now()
        before = await self._store.read(
            lambda tx: enrollments.find(tx, service.id, kind, enrollment_id)
        )
        if keep_policy and before is not None:
            settings = replace(settings, policy_id=before.settings.policy_id)
        spelling = before.id if before else enrollment_id
        keys: SymmetricKeys | None = None
        sealed: tuple[bytes | None, bytes | None] = (None, None)
        if settings.attestation is Attestation.SYMMETRIC_KEY:
            keys = self._keys(before, primary_key, secondary_key)
            sealed = enrollments.seal_keys(self._sealer, service.id, kind, spelling, keys)
        made = Enrollment(
            service_id=service.id,
            kind=kind,
            id=spelling,
            settings=settings,
            sealed_primary=sealed[0],
            sealed_secondary=sealed[1],
            etag=new_etag(),
            created_at=before.created_at if before else now,
            updated_at=now,
        )

        def unit(tx: Transaction) -> None:
            linked = {hub.id for hub in services.linked(tx, service.id)} if settings.hub_ids else ()
            if not set(settings.hub_ids) <= set(linked):
                raise Conflict("a hub of the enrollment is gone")
            if settings.certificates is not None:
                certificate_rules.check_known(tx, service, kind, settings.certificates)
            there = enrollments.find(tx, service.id, kind, enrollment_id)
            _check_precondition(there, if_match)
            if (there.etag if there else None) != (before.etag if before else None):
                raise EtagMismatch("the enrollment was changed by somebody else just now")
            enrollments.save(tx, made)
            _log(tx, Action.PUT_ENROLLMENT, service, made, by, now)

        try:
            await self._store.write(unit)
        except ConstraintViolated as error:
            raise Conflict("the service or the hub of the enrollment is gone") from error
        return EnrollmentWithKeys(made, keys)

    def _keys(
        self, before: Enrollment | None, primary: bytes | None, secondary: bytes | None
    ) -> SymmetricKeys:
        kept = enrollments.open_keys(self._sealer, before) if before else None
        return SymmetricKeys(
            primary or (kept.primary if kept else sas.new_key()),
            secondary or (kept.secondary if kept else sas.new_key()),
        )

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
        return EnrollmentWithKeys(enrollment, enrollments.open_keys(self._sealer, enrollment))

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
            enrollments.delete_one(tx, there)
            pending.remove_of_enrollment(tx, there)
            _log(tx, Action.DELETE_ENROLLMENT, service, there, by, now)

        await self._store.write(unit)


def _log(
    tx: Transaction,
    action: Action,
    service: Service,
    enrollment: Enrollment,
    by: Actor,
    now: datetime,
) -> None:
    audit.append(
        tx,
        Entry(
            now,
            by,
            action,
            f"{_SUBJECTS[enrollment.kind]}/{enrollment.id}",
            service.namespace_id,
            details={"provisioningService": service.name, "enabled": enrollment.settings.enabled},
        ),
    )


def _check_precondition(there: Enrollment | None, if_match: str | None) -> None:
    """RFC 7232 §3.1, and Azure's rule that a write without it creates."""
    if if_match is None:
        if there is not None:
            raise AlreadyExists("an enrollment of that id exists")
    elif there is None or if_match not in (_ANY, there.etag):
        raise EtagMismatch("the enrollment is of another version")
