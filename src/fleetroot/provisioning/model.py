"""The values of the provisioning service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleetroot.registry.issuance import CsrText
from fleetroot.registry.model import IssuedChain
from fleetroot.sas import SasToken


class Allocation(StrEnum):
    """How a service chooses a hub where an enrollment does not say."""

    HASHED = "Hashed"
    GEO_LATENCY = "GeoLatency"
    STATIC = "Static"


@dataclass(frozen=True, slots=True)
class Service:
    """A provisioning service; devices name it by its ID scope."""

    id: str
    namespace_id: str
    name: str
    id_scope: str
    host_name: str
    created_at: datetime
    allocation: Allocation


class EnrollmentKind(StrEnum):
    """Whether an enrollment is for one device or for many."""

    INDIVIDUAL = "individual"
    GROUP = "group"


class Attestation(StrEnum):
    """How the devices of an enrollment prove who they are."""

    SYMMETRIC_KEY = "symmetricKey"
    X509 = "x509"
    TPM = "tpm"


class Slot(StrEnum):
    """Which of an enrollment's two keys or certificates it was."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class EnrollmentAllocation(StrEnum):
    """How an enrollment's devices are given a hub."""

    HASHED = "hashed"
    GEO_LATENCY = "geoLatency"
    STATIC = "static"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class OnboardingCertificates:
    """What the certificates of an X.509 enrollment's devices are held against.

    Attributes:
        primary, secondary: DER. The device's own certificate; of a group, the CA certificate that
            the devices' chains lead to.
        primary_ca, secondary_ca: of a group, that CA certificate by its name among those that were
            uploaded to the service; it counts while it is verified.
    """

    primary: bytes | None = None
    secondary: bytes | None = None
    primary_ca: str | None = None
    secondary_ca: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether they are those of uploaded CAs, by their names."""
        return self.primary_ca is not None or self.secondary_ca is not None


@dataclass(frozen=True, slots=True)
class TpmKeys:
    """The public keys of a TPM, TPM2B_PUBLIC each (TPM 2.0 Part 2, 12.2.5).

    Attributes:
        storage_root: None until the device told it.
    """

    endorsement: bytes
    storage_root: bytes | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who allocates the devices of an enrollment."""

    url: str
    api_version: str


@dataclass(frozen=True, slots=True)
class EnrollmentSettings:
    """What an operator decides about an enrollment.

    Attributes:
        device_id: the device id of an individual enrollment, where it is not the registration id.
        policy_id: the policy that issues; None: devices keep working with their symmetric key.
        initial_twin: JSON text of `{tags, properties: {desired}}`, applied to a new identity.
        certificates: of X.509 attestation.
        tpm: of TPM attestation.
        allocation: None: as the service does.
        hub_ids: the hubs to allocate among; none: all that are linked.
        webhook: of custom allocation.
        iot_edge: whether the device is an edge device, as clients of Azure say.
        device_information: JSON text of an object; clients keep what they like in it.
        expires_at: from when on no device provisions under it.
        quarantine: whether new devices wait until an operator approves them.
    """

    device_id: str | None = None
    attestation: Attestation = Attestation.SYMMETRIC_KEY
    policy_id: str | None = None
    enabled: bool = True
    update_hub_assignment: bool = True
    migrate_device_data: bool = True
    initial_twin: str | None = None
    certificates: OnboardingCertificates | None = None
    tpm: TpmKeys | None = None
    allocation: EnrollmentAllocation | None = None
    hub_ids: tuple[str, ...] = ()
    webhook: Webhook | None = None
    iot_edge: bool = False
    device_information: str | None = None
    expires_at: datetime | None = None
    quarantine: bool = False

    def is_expired(self, now: datetime) -> bool:
        """Whether no device provisions under it any more."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Enrollment:
    """Who may provision. Its keys stay sealed until an attestation needs them."""

    service_id: str
    kind: EnrollmentKind
    id: str
    settings: EnrollmentSettings
    sealed_primary: bytes | None = field(repr=False)
    sealed_secondary: bytes | None = field(repr=False)
    etag: str
    created_at: datetime
    updated_at: datetime


class Status(StrEnum):
    """Where a registration stands."""

    UNASSIGNED = "unassigned"
    ASSIGNING = "assigning"
    ASSIGNED = "assigned"
    FAILED = "failed"
    DISABLED = "disabled"


class Substatus(StrEnum):
    """How a device came to its hub."""

    INITIAL_ASSIGNMENT = "initialAssignment"
    DEVICE_DATA_MIGRATED = "deviceDataMigrated"
    DEVICE_DATA_RESET = "deviceDataReset"
    REPROVISIONED = "reprovisionedToInitialAssignment"


@dataclass(frozen=True, slots=True)
class Registration:
    """One device's record of having provisioned.

    Attributes:
        attestation, slot: what it attested with the last time.
        certificate_info: JSON text of `{certificateInfo, signingCertificateInfo}`, of an X.509
            attestation.
        payload: JSON text that whoever allocated it had for it.
        error_code, error_message: why it is `failed`.
    """

    service_id: str
    registration_id: str
    enrollment_kind: EnrollmentKind
    enrollment_id: str
    operation_id: str
    status: Status
    substatus: Substatus | None
    hub_id: str | None
    device_id: str | None
    certificate_sha256: bytes | None
    etag: str
    created_at: datetime
    updated_at: datetime
    attestation: Attestation = Attestation.SYMMETRIC_KEY
    slot: Slot | None = None
    certificate_info: str | None = None
    payload: str | None = None
    error_code: int | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class OnboardingCredential:
    """What a device shows to prove who it is; which of it counts, its enrollment says.

    Attributes:
        chain: DER, the leaf first; the TLS handshake proved that the peer has the leaf's key, and
            nothing else about it.
        tpm: the public keys of its TPM, as it tells them; they prove nothing.
        may_be_challenged: whether the answer can be a challenge to its TPM; over HTTPS.
    """

    token: SasToken | None = None
    chain: tuple[bytes, ...] = ()
    tpm: TpmKeys | None = None
    may_be_challenged: bool = False


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """A device's call to be provisioned.

    Attributes:
        csr: its certificate signing request, where its API generation has one.
        peer: where it calls from, host and port, for the audit log; like `trace_id`.
        payload: JSON text for whoever allocates it.
    """

    id_scope: str
    registration_id: str
    credential: OnboardingCredential
    csr: CsrText | None = None
    peer: str | None = None
    trace_id: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """What a device is told.

    Attributes:
        hub_host_name: where to connect.
        chain: the certificate that this operation issued, with its chain.
        tpm_key: the key for its hub, which the device's TPM alone can open (`tpm_protection`).
    """

    registration: Registration
    hub_host_name: str | None
    chain: IssuedChain | None
    tpm_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class LinkedHub:
    """A hub that a provisioning service may assign devices to.

    Attributes:
        weight: how many devices it gets of those that are spread, in proportion to the others.
        allocates: whether it gets any of those; enrollments may name it all the same.
        location: where it is, as it was said.
    """

    id: str
    host_name: str
    weight: int = 1
    allocates: bool = True
    location: str = ""
