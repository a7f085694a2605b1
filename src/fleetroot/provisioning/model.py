"""The values of the provisioning service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fleetroot.registry.issuance import CsrText
from fleetroot.registry.model import IssuedChain
from fleetroot.sas import SasToken


class Allocation(StrEnum):
    """How a service chooses a hub where an enrollment does not; devices are spread by a hash for
    all of these so far.
    """

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


@dataclass(frozen=True, slots=True)
class EnrollmentSettings:
    """What an operator decides about an enrollment.

    Attributes:
        device_id: the device id of an individual enrollment, where it is not the registration id.
        policy_id: the policy that issues; None: devices keep working with their symmetric key.
        hub_id: the hub to assign; None: any that is linked.
        initial_twin: JSON text of `{tags, properties: {desired}}`, applied to a new identity.
    """

    device_id: str | None = None
    attestation: Attestation = Attestation.SYMMETRIC_KEY
    policy_id: str | None = None
    enabled: bool = True
    hub_id: str | None = None
    update_hub_assignment: bool = True
    migrate_device_data: bool = True
    initial_twin: str | None = None


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
    """One device's record of having provisioned."""

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


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """A device's call to be provisioned.

    Attributes:
        token: what it attests with; None when it showed nothing.
        csr: its certificate signing request, where its API generation has one.
        peer: where it calls from, host and port, for the audit log; like `trace_id`.
    """

    id_scope: str
    registration_id: str
    token: SasToken | None
    csr: CsrText | None = None
    peer: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """What a device is told.

    Attributes:
        hub_host_name: where to connect.
        chain: the certificate that this operation issued, with its chain.
    """

    registration: Registration
    hub_host_name: str | None
    chain: IssuedChain | None


@dataclass(frozen=True, slots=True)
class LinkedHub:
    """A hub that a provisioning service may assign devices to.

    Attributes:
        weight: how many devices it gets of those that are spread, in proportion to the others.
        allocates: whether it gets any of those; enrollments may name it all the same.
    """

    id: str
    host_name: str
    weight: int = 1
    allocates: bool = True
