"""How a registration id stands: what would answer if a device came by that name now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleetroot.errors import InvalidArgument
from fleetroot.ids import check_registration_id
from fleetroot.provisioning import enrollments, pending, registrations, services
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Registration, Service
from fleetroot.provisioning.pending import PendingRegistration, WaitsFor
from fleetroot.registry import devices
from fleetroot.registry.model import Device
from fleetroot.storage import Transaction


@dataclass(frozen=True, slots=True)
class RegistrationStanding:
    """One snapshot of what decides about a registration id.

    Attributes:
        enrollments: those that may attest it, the likeliest first; which of several groups does,
            the device's key tells.
        device: the device that it is registered as, or would be.
        hub_host: of the hub that it is registered on.
        against: the reasons for which every device of that name is refused now, as refusals give
            them; none does not say that a key is right.
    """

    service: Service
    registration_id: str
    enrollments: tuple[Enrollment, ...]
    registration: Registration | None
    device: Device | None
    hub_host: str | None
    against: tuple[str, ...]


def read(
    tx: Transaction, service: Service, registration_id: str, now: datetime
) -> RegistrationStanding:
    """How the id stands with the service, in any spelling, and even if it is none."""
    registration = registrations.find(tx, service.id, registration_id)
    individual = enrollments.find(tx, service.id, EnrollmentKind.INDIVIDUAL, registration_id)
    # An individual enrollment wins over every group, also when it is disabled.
    may = [individual] if individual else enrollments.all_groups(tx, service.id)
    if registration is not None:
        may.sort(key=lambda one: one.id != registration.enrollment_id)
    stored = registration.registration_id if registration else registration_id
    device_id = individual.settings.device_id if individual else None
    device = devices.find(tx, service.namespace_id, device_id or stored)
    hosts = {hub.id: hub.host_name for hub in services.linked(tx, service.id)}
    return RegistrationStanding(
        service,
        stored,
        tuple(may),
        registration,
        device,
        hosts.get(registration.hub_id or "") if registration else None,
        (
            *_against(tx, registration_id, may, device, hosts, now),
            *_undecided(pending.find(tx, service.id, registration_id)),
        ),
    )


def _against(
    tx: Transaction,
    registration_id: str,
    may: list[Enrollment],
    device: Device | None,
    hosts: dict[str, str],
    now: datetime,
) -> list[str]:
    found = []
    try:
        check_registration_id(registration_id)
    except InvalidArgument:
        found.append("not a registration id")
    if not may:
        found.append("no enrollment")
    elif not any(one.settings.enabled for one in may):
        found.append("enrollment disabled")
    elif all(one.settings.is_expired(now) for one in may if one.settings.enabled):
        found.append("enrollment expired")
    if device is not None and not device.enabled:
        found.append("device disabled")
    if (
        device is not None
        and device.enrollment is not None
        and all(one.kind is EnrollmentKind.GROUP for one in may)
        and device.enrollment not in {enrollments.name_of(one) for one in may}
        and enrollments.exists(tx, device.enrollment)
    ):
        found.append("device provisions under another enrollment")
    if not hosts:
        found.append("no linked hub")
    return found


def _undecided(waits: PendingRegistration | None) -> list[str]:
    if waits is not None and waits.waits_for is WaitsFor.APPROVAL:
        return ["waits for approval"]
    return ["rejected"] if waits is not None and waits.waits_for is WaitsFor.NOTHING else []
