"""Enrollments between JSON and the rooms: what a body asks for, and how what is there is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from fleetroot import sas
from fleetroot.api.enrollment_bodies import (
    EnrollmentAnswer,
    EnrollmentBody,
    IssuancePolicyAnswer,
    SymmetricKeyBody,
    read_settings,
    show,
)
from fleetroot.api.provisioning_routes import KNOWS_ISSUANCE_POLICIES, KNOWS_POLICIES
from fleetroot.api.registration_bodies import show_registration
from fleetroot.api.services import services_of
from fleetroot.errors import InvalidArgument
from fleetroot.ids import canonical
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.bulk import WantedEnrollment
from fleetroot.provisioning.enrollment_lists import EnrollmentShown
from fleetroot.provisioning.model import EnrollmentKind, Registration, Service


@dataclass(frozen=True, slots=True)
class Translation:
    """What one call needs to know of a service to read and to show its enrollments.

    Attributes:
        version: of the API that the client speaks.
        linked: ids of the linked hubs, by host name.
        policies: names of the namespace's policies, by id.
    """

    kind: EnrollmentKind
    version: str
    linked: Mapping[str, str]
    policies: Mapping[str, str]

    @classmethod
    async def of(
        cls, request: Request, service: Service, kind: EnrollmentKind, version: str
    ) -> Translation:
        """The translation for a call on a service."""
        administration = services_of(request).administration
        return cls(
            kind,
            version,
            await administration.linked_hubs(service),
            await administration.policy_names(service),
        )

    def read(self, body: EnrollmentBody, id_: str, etag: str | None = None) -> WantedEnrollment:
        """What a body asks for the enrollment of that id to be.

        Raises:
            InvalidArgument: a part of it cannot be.
        """
        is_individual = self.kind is EnrollmentKind.INDIVIDUAL
        named = body.registration_id if is_individual else body.enrollment_group_id
        if named is not None and canonical(named) != canonical(id_):
            field = "registrationId" if is_individual else "enrollmentGroupId"
            raise InvalidArgument(f"{field}: the id in the body is not the id in the path")
        policy, keep_policy = self._policy(body)
        settings = read_settings(
            body,
            self.kind,
            policy_id=self._policy_id(policy) if policy else None,
            linked=self.linked,
        )
        keys = body.attestation.symmetric_key or SymmetricKeyBody()
        return WantedEnrollment(
            settings,
            _key("primaryKey", keys.primary_key),
            _key("secondaryKey", keys.secondary_key),
            keep_policy,
            etag,
        )

    def _policy(self, body: EnrollmentBody) -> tuple[str | None, bool]:
        """The policy that a body names, and whether the one that is there is kept."""
        if self.version == KNOWS_ISSUANCE_POLICIES and "issuance_policy" in body.model_fields_set:
            policy = body.issuance_policy
            return (policy.certificate_authority_name if policy else None), False
        is_said = "credential_policy_name" in body.model_fields_set
        return body.credential_policy_name, self.version < KNOWS_POLICIES and not is_said

    def _policy_id(self, name: str) -> str:
        for id_, known in self.policies.items():
            if canonical(known) == canonical(name):
                return id_
        raise InvalidArgument(f"credentialPolicyName: there is no policy {name[:64]!a}")

    def show(self, found: EnrollmentShown) -> EnrollmentAnswer:
        """An enrollment as it is answered to whoever reads: without keys."""
        return self._show(EnrollmentWithKeys(found.enrollment, None), found.registration)

    def show_with_keys(self, found: EnrollmentWithKeys) -> EnrollmentAnswer:
        """An enrollment as it is answered to whoever wrote it."""
        return self._show(found, None)

    def _show(self, found: EnrollmentWithKeys, made: Registration | None) -> EnrollmentAnswer:
        hosts = {id_: host for host, id_ in self.linked.items()}
        shown = show(found, policies=self.policies, hosts=hosts)
        if made is not None:
            shown = shown.model_copy(update={"registration_state": show_registration(made, hosts)})
        policy = shown.credential_policy_name
        if self.version == KNOWS_ISSUANCE_POLICIES and policy is not None:
            named = IssuancePolicyAnswer(certificate_authority_name=policy)
            update = {"credential_policy_name": None, "issuance_policy": named}
            shown = shown.model_copy(update=update)
        return shown


def _key(name: str, text: str | None) -> bytes | None:
    try:
        return sas.decode_key(text) if text else None
    except InvalidArgument as error:
        raise InvalidArgument(f"attestation.symmetricKey.{name}: {error.message}") from None
