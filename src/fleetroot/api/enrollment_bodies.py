"""Enrollments in JSON: what is sent, what is answered, and what they mean.

Source: Azure DPS service REST API, "Individual Enrollment" and "Enrollment Group". Ours are
`expiryDateTimeUtc` and `quarantine`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field

from fleetroot import sas
from fleetroot.api.answers import Answer, Nothing, Time, left_out
from fleetroot.api.registration_bodies import RegistrationAnswer
from fleetroot.api.sent_times import SentTime
from fleetroot.errors import InvalidArgument
from fleetroot.pki import UploadRefused, certificate_info, read_certificate_text, to_der
from fleetroot.provisioning.administration import EnrollmentWithKeys
from fleetroot.provisioning.model import (
    Attestation,
    EnrollmentAllocation,
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCertificates,
    TpmKeys,
    Webhook,
)

_MAX_HUBS: Final = 50
_MAX_DEVICE_INFORMATION_BYTES: Final = 32 * 1024
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*$"


class Wire(BaseModel):
    """An object that clients send; what they send beside what is known is not read."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


_Key = Annotated[str | None, Field(max_length=1024)]
_Name = Annotated[str, Field(max_length=256, pattern=_NO_CONTROLS)]


class SymmetricKeyBody(Wire):
    """Keys are base64; an empty one means: generate, or keep."""

    primary_key: _Key = Field(default=None, alias="primaryKey")
    secondary_key: _Key = Field(default=None, alias="secondaryKey")


class CertificateBody(Wire):
    """A certificate: PEM text, or base64 of DER or of PEM. What else clients send is not read."""

    certificate: Annotated[str, Field(max_length=32 * 1024)] | None = None


class CertificatePairBody(Wire):
    """Up to two certificates; either is good, so that they can be rolled."""

    primary: CertificateBody | None = None
    secondary: CertificateBody | None = None


class CaReferencesBody(Wire):
    """Names of CA certificates that were uploaded to the provisioning service."""

    primary: _Name | None = None
    secondary: _Name | None = None


class X509Body(Wire):
    """One of these. An individual enrollment has client certificates."""

    client_certificates: CertificatePairBody | None = Field(
        default=None, alias="clientCertificates"
    )
    signing_certificates: CertificatePairBody | None = Field(
        default=None, alias="signingCertificates"
    )
    ca_references: CaReferencesBody | None = Field(default=None, alias="caReferences")


class TpmBody(Wire):
    """Public keys of a TPM: base64 of TPM2B_PUBLIC."""

    endorsement_key: Annotated[str, Field(max_length=4096)] = Field(alias="endorsementKey")
    storage_root_key: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, alias="storageRootKey"
    )


class AttestationBody(Wire):
    """How the devices prove who they are."""

    type: Annotated[Attestation, Field(strict=False)]
    symmetric_key: Annotated[SymmetricKeyBody | None, Field(alias="symmetricKey")] = None
    x509: X509Body | None = None
    tpm: TpmBody | None = None


class WebhookBody(Wire):
    """Who allocates the devices."""

    webhook_url: Annotated[str, Field(max_length=2048)] = Field(alias="webhookUrl")
    api_version: Annotated[str, Field(max_length=64, pattern=_NO_CONTROLS)] = Field(
        alias="apiVersion"
    )


class CapabilitiesBody(Wire):
    """What the device is."""

    iot_edge: bool = Field(default=False, alias="iotEdge")


class ReprovisionBody(Wire):
    """What happens when a device comes again."""

    update_hub_assignment: bool = Field(default=True, alias="updateHubAssignment")
    migrate_device_data: bool = Field(default=True, alias="migrateDeviceData")


class InitialPropertiesBody(Wire):
    """The properties of a new twin."""

    desired: dict[str, Any] | None = None


class InitialTwinBody(Wire):
    """What a new twin begins with."""

    tags: dict[str, Any] | None = None
    properties: InitialPropertiesBody | None = None


class IssuancePolicyBody(Wire):
    """The policy that issues, as 2021-11-01-preview names it."""

    certificate_authority_name: _Name | None = Field(default=None, alias="certificateAuthorityName")


class EnrollmentBody(Wire):
    """An enrollment or an enrollment group, as it is sent."""

    registration_id: _Name | None = Field(default=None, alias="registrationId")
    enrollment_group_id: _Name | None = Field(default=None, alias="enrollmentGroupId")
    device_id: _Name | None = Field(default=None, alias="deviceId")
    attestation: AttestationBody
    provisioning_status: Literal["enabled", "disabled"] = Field(
        default="enabled", alias="provisioningStatus"
    )
    reprovision_policy: ReprovisionBody = Field(
        default_factory=ReprovisionBody, alias="reprovisionPolicy"
    )
    allocation_policy: Annotated[EnrollmentAllocation, Field(strict=False)] | None = Field(
        default=None, alias="allocationPolicy"
    )
    custom_allocation: WebhookBody | None = Field(default=None, alias="customAllocationDefinition")
    iot_hub_host_name: _Name | None = Field(default=None, alias="iotHubHostName")
    iot_hubs: Annotated[list[_Name], Field(max_length=_MAX_HUBS)] | None = Field(
        default=None, alias="iotHubs"
    )
    capabilities: CapabilitiesBody | None = None
    device_information: dict[str, Any] | None = Field(
        default=None, alias="optionalDeviceInformation"
    )
    expires_at: SentTime | None = Field(default=None, alias="expiryDateTimeUtc")
    quarantine: bool = False
    initial_twin: InitialTwinBody | None = Field(default=None, alias="initialTwin")
    credential_policy_name: _Name | None = Field(default=None, alias="credentialPolicyName")
    issuance_policy: IssuancePolicyBody | None = Field(
        default=None, alias="clientCertificateIssuancePolicy"
    )


class SymmetricKeyAnswer(Answer):
    """Keys, base64; left out where they are not for the caller."""

    primary_key: str | Nothing = Field(
        default=None, exclude_if=lambda value: value is None, repr=False
    )
    secondary_key: str | Nothing = Field(
        default=None, exclude_if=lambda value: value is None, repr=False
    )


class CertificateInfoAnswer(Answer):
    """What a certificate says; thumbprints and serial number in upper-case hexadecimal."""

    subject_name: str
    sha1_thumbprint: str
    sha256_thumbprint: str
    issuer_name: str
    not_before_utc: Time
    not_after_utc: Time
    serial_number: str
    version: int


class CertificateAnswer(Answer):
    """A certificate: base64 of DER, and what it says."""

    certificate: str
    info: CertificateInfoAnswer


class CertificatePairAnswer(Answer):
    """Up to two certificates."""

    primary: CertificateAnswer | Nothing = left_out()
    secondary: CertificateAnswer | Nothing = left_out()


class CaReferencesAnswer(Answer):
    """Names of CA certificates that were uploaded to the provisioning service."""

    primary: str | Nothing = left_out()
    secondary: str | Nothing = left_out()


class X509Answer(Answer):
    """What certificates are held against."""

    client_certificates: CertificatePairAnswer | Nothing = left_out()
    signing_certificates: CertificatePairAnswer | Nothing = left_out()
    ca_references: CaReferencesAnswer | Nothing = left_out()


class TpmAnswer(Answer):
    """Public keys of a TPM: base64 of TPM2B_PUBLIC."""

    endorsement_key: str
    storage_root_key: str | Nothing = left_out()


class AttestationAnswer(Answer):
    """How the devices prove who they are."""

    type: Attestation
    symmetric_key: SymmetricKeyAnswer | Nothing = left_out()
    x509: X509Answer | Nothing = left_out()
    tpm: TpmAnswer | Nothing = left_out()


class WebhookAnswer(Answer):
    """Who allocates the devices."""

    webhook_url: str
    api_version: str


class CapabilitiesAnswer(Answer):
    """What the device is."""

    iot_edge: bool


class ReprovisionAnswer(Answer):
    """What happens when a device comes again."""

    update_hub_assignment: bool
    migrate_device_data: bool


class IssuancePolicyAnswer(Answer):
    """The policy that issues, as 2021-11-01-preview names it."""

    certificate_authority_name: str


class EnrollmentAnswer(Answer):
    """An enrollment (`registrationId`) or an enrollment group (`enrollmentGroupId`)."""

    registration_id: str | Nothing = left_out()
    enrollment_group_id: str | Nothing = left_out()
    attestation: AttestationAnswer
    provisioning_status: Literal["enabled", "disabled"]
    reprovision_policy: ReprovisionAnswer
    allocation_policy: EnrollmentAllocation | Nothing = left_out()
    custom_allocation: WebhookAnswer | Nothing = left_out("customAllocationDefinition")
    capabilities: CapabilitiesAnswer
    device_information: dict[str, Any] | Nothing = left_out("optionalDeviceInformation")
    expires_at: Time | Nothing = left_out("expiryDateTimeUtc")
    quarantine: bool
    etag: str
    created: Time = Field(serialization_alias="createdDateTimeUtc")
    updated: Time = Field(serialization_alias="lastUpdatedDateTimeUtc")
    device_id: str | Nothing = left_out()
    initial_twin: dict[str, Any] | Nothing = left_out()
    iot_hubs: list[str] | Nothing = left_out()
    credential_policy_name: str | Nothing = left_out()
    issuance_policy: IssuancePolicyAnswer | Nothing = left_out("clientCertificateIssuancePolicy")
    registration_state: RegistrationAnswer | Nothing = left_out()


def read_settings(
    body: EnrollmentBody, kind: EnrollmentKind, *, policy_id: str | None, linked: Mapping[str, str]
) -> EnrollmentSettings:
    """What a body says, but for keys.

    Args:
        body: what was sent.
        kind: of the enrollment that it is.
        policy_id: of the policy that it names.
        linked: ids of the hubs that are linked to the service, by host name.

    Raises:
        InvalidArgument: a part of it is missing, cannot be read, or does not go with another.
    """
    return EnrollmentSettings(
        device_id=body.device_id or None,
        attestation=body.attestation.type,
        policy_id=policy_id,
        enabled=body.provisioning_status == "enabled",
        update_hub_assignment=body.reprovision_policy.update_hub_assignment,
        migrate_device_data=body.reprovision_policy.migrate_device_data,
        initial_twin=_initial_twin(body.initial_twin),
        certificates=_certificates(body.attestation, kind),
        tpm=_tpm(body.attestation),
        allocation=body.allocation_policy or _implied_allocation(body),
        hub_ids=_hub_ids(body, linked),
        webhook=Webhook(body.custom_allocation.webhook_url, body.custom_allocation.api_version)
        if body.custom_allocation
        else None,
        iot_edge=body.capabilities.iot_edge if body.capabilities else False,
        device_information=_device_information(body.device_information),
        expires_at=body.expires_at,
        quarantine=body.quarantine,
    )


def _certificates(
    attestation: AttestationBody, kind: EnrollmentKind
) -> OnboardingCertificates | None:
    if attestation.type is not Attestation.X509:
        return None
    body = attestation.x509 or X509Body()
    is_group = kind is EnrollmentKind.GROUP
    given = {
        "clientCertificates": body.client_certificates,
        "signingCertificates": body.signing_certificates,
        "caReferences": body.ca_references,
    }
    present = [name for name, each in given.items() if each is not None]
    fits = ("signingCertificates", "caReferences") if is_group else ("clientCertificates",)
    if len(present) != 1 or present[0] not in fits:
        raise InvalidArgument(f"attestation.x509: needs {' or '.join(fits)}, and nothing else")
    references = body.ca_references
    if references is not None:
        found = OnboardingCertificates(
            primary_ca=references.primary or None, secondary_ca=references.secondary or None
        )
    else:
        pair = body.client_certificates or body.signing_certificates or CertificatePairBody()
        where = f"attestation.x509.{present[0]}"
        found = OnboardingCertificates(
            _certificate(f"{where}.primary", pair.primary),
            _certificate(f"{where}.secondary", pair.secondary),
        )
    if found == OnboardingCertificates():
        raise InvalidArgument(f"attestation.x509.{present[0]}: is empty")
    return found


def _certificate(name: str, body: CertificateBody | None) -> bytes | None:
    """The DER of one certificate."""
    if body is None or not body.certificate:
        return None
    try:
        return to_der(read_certificate_text(body.certificate))
    except UploadRefused as refused:
        raise InvalidArgument(f"{name}: {refused.message}", reason=refused.rule) from refused


def _tpm(attestation: AttestationBody) -> TpmKeys | None:
    if attestation.type is not Attestation.TPM:
        return None
    if attestation.tpm is None:
        raise InvalidArgument("attestation.tpm: required")
    root = attestation.tpm.storage_root_key
    return TpmKeys(
        _public_area("endorsementKey", attestation.tpm.endorsement_key),
        _public_area("storageRootKey", root) if root else None,
    )


def _public_area(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"attestation.tpm.{name}: is not base64") from None


def _initial_twin(twin: InitialTwinBody | None) -> str | None:
    given = twin.model_dump(exclude_none=True, by_alias=True) if twin else {}
    return _json("initialTwin", given or None)


def _device_information(given: dict[str, Any] | None) -> str | None:
    text = _json("optionalDeviceInformation", given)
    if text is not None and len(text.encode()) > _MAX_DEVICE_INFORMATION_BYTES:
        raise InvalidArgument(
            f"optionalDeviceInformation: at most {_MAX_DEVICE_INFORMATION_BYTES} bytes"
        )
    return text


def _json(name: str, value: dict[str, Any] | None) -> str | None:
    try:
        return None if value is None else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise InvalidArgument(f"{name}: a value is out of range, or nested too deeply") from None


def _implied_allocation(body: EnrollmentBody) -> EnrollmentAllocation | None:
    """One hub that is named, and no policy: that hub."""
    named = body.iot_hubs or ([body.iot_hub_host_name] if body.iot_hub_host_name else [])
    return EnrollmentAllocation.STATIC if len(named) == 1 else None


def _hub_ids(body: EnrollmentBody, linked: Mapping[str, str]) -> tuple[str, ...]:
    named = body.iot_hubs or ([body.iot_hub_host_name] if body.iot_hub_host_name else [])
    field = "iotHubs" if body.iot_hubs else "iotHubHostName"
    for name in named:
        if name.lower() not in linked:
            raise InvalidArgument(f"{field}: {name} is not linked to this provisioning service")
    return tuple(dict.fromkeys(linked[name.lower()] for name in named))


def show(
    found: EnrollmentWithKeys, *, policies: Mapping[str, str], hosts: Mapping[str, str]
) -> EnrollmentAnswer:
    """An enrollment as it is answered.

    Args:
        found: the enrollment.
        policies: names of policies by id.
        hosts: host names of linked hubs by id.
    """
    enrollment, settings = found.enrollment, found.enrollment.settings
    is_group = enrollment.kind is EnrollmentKind.GROUP
    hubs = [hosts[id_] for id_ in settings.hub_ids if id_ in hosts]
    webhook, information = settings.webhook, settings.device_information
    return EnrollmentAnswer(
        registration_id=None if is_group else enrollment.id,
        enrollment_group_id=enrollment.id if is_group else None,
        attestation=attestation_of(found),
        provisioning_status="enabled" if settings.enabled else "disabled",
        reprovision_policy=ReprovisionAnswer(
            update_hub_assignment=settings.update_hub_assignment,
            migrate_device_data=settings.migrate_device_data,
        ),
        allocation_policy=settings.allocation,
        custom_allocation=WebhookAnswer(webhook_url=webhook.url, api_version=webhook.api_version)
        if webhook
        else None,
        capabilities=CapabilitiesAnswer(iot_edge=settings.iot_edge),
        device_information=orjson.loads(information) if information else None,
        expires_at=settings.expires_at,
        quarantine=settings.quarantine,
        etag=enrollment.etag,
        created=enrollment.created_at,
        updated=enrollment.updated_at,
        device_id=settings.device_id or None,
        initial_twin=_shown_twin(settings.initial_twin) if settings.initial_twin else None,
        iot_hubs=hubs or None,
        credential_policy_name=policies.get(settings.policy_id or ""),
    )


def _shown_twin(text: str) -> dict[str, Any]:
    """With every part, empty ones too: Azure's client for Python looks for them."""
    twin = orjson.loads(text)
    desired = twin.get("properties", {}).get("desired", {})
    return {"tags": twin.get("tags", {}), "properties": {"desired": desired}}


def attestation_of(found: EnrollmentWithKeys) -> AttestationAnswer:
    """How the devices prove who they are, with the keys where they were opened."""
    settings, keys = found.enrollment.settings, found.keys
    certificates, tpm = settings.certificates, settings.tpm
    shown = AttestationAnswer(type=settings.attestation)
    if settings.attestation is Attestation.SYMMETRIC_KEY:
        answer = SymmetricKeyAnswer(
            primary_key=sas.encode_key(keys.primary) if keys else None,
            secondary_key=sas.encode_key(keys.secondary) if keys else None,
        )
        return shown.model_copy(update={"symmetric_key": answer})
    if certificates is not None:
        return shown.model_copy(
            update={"x509": _x509(certificates, found.enrollment.kind is EnrollmentKind.GROUP)}
        )
    if tpm is not None:
        root = tpm.storage_root
        answer_tpm = TpmAnswer(
            endorsement_key=base64.b64encode(tpm.endorsement).decode(),
            storage_root_key=base64.b64encode(root).decode() if root else None,
        )
        return shown.model_copy(update={"tpm": answer_tpm})
    return shown


def _x509(certificates: OnboardingCertificates, is_group: bool) -> X509Answer:
    if certificates.primary_ca or certificates.secondary_ca:
        return X509Answer(
            ca_references=CaReferencesAnswer(
                primary=certificates.primary_ca, secondary=certificates.secondary_ca
            )
        )
    pair = CertificatePairAnswer(
        primary=_shown_certificate(certificates.primary),
        secondary=_shown_certificate(certificates.secondary),
    )
    return (
        X509Answer(signing_certificates=pair) if is_group else X509Answer(client_certificates=pair)
    )


def _shown_certificate(der: bytes | None) -> CertificateAnswer | None:
    if der is None:
        return None
    info = certificate_info(x509.load_der_x509_certificate(der))
    return CertificateAnswer(
        certificate=base64.b64encode(der).decode(),
        info=CertificateInfoAnswer(
            subject_name=info.subject,
            sha1_thumbprint=info.sha1,
            sha256_thumbprint=info.sha256,
            issuer_name=info.issuer,
            not_before_utc=info.not_before,
            not_after_utc=info.not_after,
            serial_number=info.serial,
            version=info.version,
        ),
    )
