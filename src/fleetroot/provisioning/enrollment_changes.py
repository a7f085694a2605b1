"""What a write of an enrollment comes to: its checks, its keys, its entry in the audit log.

Whoever writes enrollments, one or many of them, goes through this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from fleetroot import sas
from fleetroot.audit import Action, Actor, Entry
from fleetroot.clock import Clock
from fleetroot.custody import Sealer
from fleetroot.errors import Conflict, InvalidArgument
from fleetroot.ids import check_device_id, check_registration_id
from fleetroot.provisioning import (
    allocation,
    certificate_rules,
    enrollments,
    pending,
    services,
    tpm_attestation,
)
from fleetroot.provisioning.bulk import WantedEnrollment
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentKind,
    EnrollmentSettings,
    Service,
)
from fleetroot.provisioning.webhook_addresses import WebhookRules
from fleetroot.registry.assignment import HubDirectory, SymmetricKeys
from fleetroot.registry.devices import new_etag
from fleetroot.storage import Transaction

_SUBJECTS: Final = {
    EnrollmentKind.INDIVIDUAL: "enrollment",
    EnrollmentKind.GROUP: "enrollment-group",
}


class EnrollmentChanges:
    """Judges what is to be written, and makes it. Safe to share between threads."""

    def __init__(
        self, hub_directory: HubDirectory, sealer: Sealer, clock: Clock, webhooks: WebhookRules
    ) -> None:
        self._webhooks = webhooks
        self._hub_directory = hub_directory
        self._sealer = sealer
        self._clock = clock

    def check(self, kind: EnrollmentKind, enrollment_id: str, settings: EnrollmentSettings) -> None:
        """Checks what can be told without the database.

        Raises:
            InvalidArgument: an id is not one, a setting is not as it must be, a certificate or a
                key of a TPM breaks a rule, or devices could not be allocated so.
        """
        check_registration_id(enrollment_id)
        if settings.device_id is not None:
            check_device_id(settings.device_id)
            if kind is EnrollmentKind.GROUP:
                raise InvalidArgument("an enrollment group has no deviceId")
        if settings.initial_twin is not None:
            try:
                self._hub_directory.check_initial_twin(settings.initial_twin)
            except InvalidArgument as error:
                raise InvalidArgument(f"initialTwin: {error.message}") from error
        allocation.check(settings, self._webhooks)
        if settings.certificates is not None:
            certificate_rules.check_form(kind, settings.certificates)
        if settings.tpm is not None:
            tpm_attestation.check_keys(kind, settings.tpm)

    def keys_of(self, enrollment: Enrollment) -> SymmetricKeys | None:
        """The enrollment's keys; None if it attests in another way."""
        return enrollments.open_keys(self._sealer, enrollment)

    def draft(
        self,
        service: Service,
        kind: EnrollmentKind,
        enrollment_id: str,
        wanted: WantedEnrollment,
        before: Enrollment | None,
    ) -> tuple[Enrollment, SymmetricKeys | None]:
        """The enrollment that is to replace `before`, or to be new, and its keys. It keeps its
        spelling, and keys that are left out.

        Raises:
            InvalidArgument: see `check`.
        """
        settings, now = wanted.settings, self._clock.now()
        self.check(kind, enrollment_id, settings)
        if wanted.keep_policy and before is not None:
            settings = replace(settings, policy_id=before.settings.policy_id)
        spelling = before.id if before else enrollment_id
        keys: SymmetricKeys | None = None
        sealed: tuple[bytes | None, bytes | None] = (None, None)
        if settings.attestation is Attestation.SYMMETRIC_KEY:
            kept = self.keys_of(before) if before else None
            keys = SymmetricKeys(
                wanted.primary_key or (kept.primary if kept else sas.new_key()),
                wanted.secondary_key or (kept.secondary if kept else sas.new_key()),
            )
            sealed = enrollments.seal_keys(self._sealer, service.id, kind, spelling, keys)
        if settings.tpm is not None:
            tpm, secrets = tpm_attestation.settle(self._sealer, settings.tpm, before)
            settings = replace(settings, tpm=tpm)
            sealed = enrollments.seal_keys(self._sealer, service.id, kind, spelling, secrets)
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
        return made, keys


def remove(tx: Transaction, many: Sequence[Enrollment]) -> None:
    """Deletes each of them, with what waits for a decision under it."""
    enrollments.delete_many(tx, many)
    for each in many:
        pending.remove_of_enrollment(tx, each)


def check_references(
    tx: Transaction, service: Service, kind: EnrollmentKind, settings: EnrollmentSettings
) -> None:
    """Checks, in the unit of work, that what the settings name is there.

    Raises:
        Conflict: a hub is not linked any more.
        InvalidArgument: a CA certificate is not there, or is ours.
    """
    if settings.hub_ids:
        linked = {hub.id for hub in services.linked(tx, service.id)}
        if not linked.issuperset(settings.hub_ids):
            raise Conflict("a hub of the enrollment is gone")
    if settings.certificates is not None:
        certificate_rules.check_known(tx, service, kind, settings.certificates)


def entry(
    action: Action, service: Service, enrollment: Enrollment, by: Actor, now: datetime
) -> Entry:
    """What the audit log tells of a write."""
    return Entry(
        now,
        by,
        action,
        f"{_SUBJECTS[enrollment.kind]}/{enrollment.id}",
        service.namespace_id,
        details={"provisioningService": service.name, "enabled": enrollment.settings.enabled},
    )
