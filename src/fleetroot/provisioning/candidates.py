"""What is known of whoever calls itself by a registration id, before it proves anything."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from fleetroot.errors import Unauthorized
from fleetroot.ids import canonical
from fleetroot.provisioning import enrollments as enrollment_table
from fleetroot.provisioning import registrations as registration_table
from fleetroot.provisioning.configuration import Configuration, Configurations
from fleetroot.provisioning.model import Enrollment, EnrollmentKind, Registration
from fleetroot.registry import devices as device_table
from fleetroot.registry.model import Device
from fleetroot.storage import Query, Transaction
from fleetroot.storage.schema import configuration as configuration_table
from fleetroot.storage.schema import devices, enrollments, registrations

_ENROLLMENT: Final = len(enrollments.columns)
_REGISTRATION: Final = _ENROLLMENT + len(registrations.columns)


class Candidate(NamedTuple):
    """One snapshot.

    Attributes:
        individual: the enrollment of that very id; it wins over every group.
        device: the device of that very id. An individual enrollment may name another.
    """

    configuration: Configuration
    individual: Enrollment | None
    registration: Registration | None
    device: Device | None

    @property
    def enrollments(self) -> tuple[Enrollment, ...]:
        """Who may attest it, the likeliest first."""
        if self.individual is not None:
            return (self.individual,)
        groups, registration = self.configuration.groups, self.registration
        if registration is None or len(groups) < 2:
            return groups
        return tuple(sorted(groups, key=lambda group: group.id != registration.enrollment_id))


class _Rows(NamedTuple):
    version: bytes
    individual: Enrollment | None
    registration: Registration | None
    device: Device | None


def _rows(version: bytes, *columns: Any) -> _Rows:
    individual = columns[:_ENROLLMENT]
    registration = columns[_ENROLLMENT:_REGISTRATION]
    device = columns[_REGISTRATION:]
    return _Rows(
        version,
        enrollment_table.row(*individual) if individual[0] is not None else None,
        registration_table.row(*registration) if registration[0] is not None else None,
        device_table.row(*device) if device[0] is not None else None,
    )


# One statement, because every registration and every poll begins with it.
_GET: Final = Query(
    select(
        configuration_table.c.version,
        *enrollments.columns,
        *registrations.columns,
        *devices.columns,
    ).select_from(
        configuration_table.outerjoin(
            enrollments,
            (enrollments.c.service_id == bindparam("service"))
            & (enrollments.c.kind == EnrollmentKind.INDIVIDUAL.value)
            & (enrollments.c.enrollment_key == bindparam("key")),
        )
        .outerjoin(
            registrations,
            (registrations.c.service_id == bindparam("service"))
            & (registrations.c.registration_key == bindparam("key")),
        )
        .outerjoin(
            devices,
            (devices.c.namespace_id == bindparam("namespace"))
            & (devices.c.device_key == bindparam("key")),
        )
    ),
    _rows,
)


def find(
    tx: Transaction, configurations: Configurations, id_scope: str, registration_id: str
) -> Candidate:
    """Who that is, in any spelling of the registration id.

    Raises:
        Unauthorized: there is no such ID scope.
    """
    kept = configurations.kept(id_scope)
    if kept is not None:
        rows = _read(tx, kept, registration_id)
        if rows.version == kept.version:
            return Candidate(kept, rows.individual, rows.registration, rows.device)
    configuration = configurations.read(tx, id_scope)
    if configuration is None:
        raise Unauthorized("unknown ID scope")
    rows = _read(tx, configuration, registration_id)
    return Candidate(configuration, rows.individual, rows.registration, rows.device)


def _read(tx: Transaction, configuration: Configuration, registration_id: str) -> _Rows:
    service = configuration.service
    rows = tx.first(
        _GET,
        service=service.id,
        namespace=service.namespace_id,
        key=canonical(registration_id),
    )
    assert rows is not None  # noqa: S101 - the version is always there
    return rows
