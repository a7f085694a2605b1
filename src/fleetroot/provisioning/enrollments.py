"""Enrollments: their table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import JSON, Text, bindparam, cast, delete, func, select, update
from sqlalchemy.sql.expression import Executable

from fleetroot.custody import RecordName, Sealer
from fleetroot.ids import canonical
from fleetroot.provisioning.model import (
    Attestation,
    Enrollment,
    EnrollmentAllocation,
    EnrollmentKind,
    EnrollmentSettings,
    OnboardingCertificates,
    TpmKeys,
    Webhook,
)
from fleetroot.registry.assignment import SymmetricKeys
from fleetroot.storage import Command, Query, Transaction
from fleetroot.storage.prepared import StatementSource, upsert_into
from fleetroot.storage.schema import enrollments

_PAGE_SIZE: Final = 1000
_NO_HUBS: Final = "[]"
_MAX_OPEN: Final = 10_000  # keys of enrollments, kept open


def row(
    service_id: str,
    kind: str,
    _enrollment_key: str,
    enrollment_id: str,
    device_id: str | None,
    attestation: str,
    sealed_primary: bytes | None,
    sealed_secondary: bytes | None,
    policy_id: str | None,
    enabled: bool,
    update_hub_assignment: bool,
    migrate_device_data: bool,
    initial_twin: str | None,
    etag: str,
    created_at: datetime,
    updated_at: datetime,
    primary_certificate: bytes | None,
    secondary_certificate: bytes | None,
    primary_ca: str | None,
    secondary_ca: str | None,
    endorsement_key: bytes | None,
    storage_root_key: bytes | None,
    allocation: str | None,
    hub_ids: str,
    webhook_url: str | None,
    webhook_api_version: str | None,
    iot_edge: bool,
    device_information: str | None,
    expires_at: datetime | None,
    quarantine: bool,
) -> Enrollment:
    """An enrollment from the columns of its table, in their order."""
    certificates = None
    if attestation == Attestation.X509:
        certificates = OnboardingCertificates(
            primary_certificate, secondary_certificate, primary_ca, secondary_ca
        )
    settings = EnrollmentSettings(
        device_id=device_id,
        attestation=Attestation(attestation),
        policy_id=policy_id,
        enabled=enabled,
        update_hub_assignment=update_hub_assignment,
        migrate_device_data=migrate_device_data,
        initial_twin=initial_twin,
        certificates=certificates,
        tpm=TpmKeys(endorsement_key, storage_root_key) if endorsement_key else None,
        allocation=EnrollmentAllocation(allocation) if allocation else None,
        hub_ids=tuple(orjson.loads(hub_ids)) if hub_ids != _NO_HUBS else (),
        webhook=Webhook(webhook_url, webhook_api_version or "") if webhook_url else None,
        iot_edge=iot_edge,
        device_information=device_information,
        expires_at=expires_at,
        quarantine=quarantine,
    )
    return Enrollment(
        service_id,
        EnrollmentKind(kind),
        enrollment_id,
        settings,
        sealed_primary,
        sealed_secondary,
        etag,
        created_at,
        updated_at,
    )


_of_kind: Final = (enrollments.c.service_id == bindparam("service")) & (
    enrollments.c.kind == bindparam("kind")
)
_is_enrollment: Final = _of_kind & (enrollments.c.enrollment_key == bindparam("key"))
_SAVE: Final = Command(upsert_into(enrollments, keep=["created_at"]))
_GET: Final = Query(select(enrollments).where(_is_enrollment), row)
_ETAG: Final = Query(select(enrollments.c.etag).where(_is_enrollment), str)


def _among_keys(*columns: Any) -> StatementSource:
    """These columns of the enrollments whose keys are in `keys`, a JSON array."""

    def statement(dialect: str) -> Executable:
        if dialect == "postgresql":
            of_keys = func.json_array_elements_text(cast(bindparam("keys", type_=Text), JSON))
        else:
            of_keys = func.json_each(bindparam("keys"))
        key = of_keys.table_valued("value").c.value
        return select(*columns).where(_of_kind & enrollments.c.enrollment_key.in_(select(key)))

    return statement


_GET_MANY: Final = Query(_among_keys(enrollments), row)
_ETAGS: Final = Query(
    _among_keys(enrollments.c.enrollment_key, enrollments.c.etag), lambda key, etag: (key, etag)
)
_PAGE: Final = Query(
    select(enrollments)
    .where(_of_kind & (enrollments.c.enrollment_key > bindparam("after")))
    .order_by(enrollments.c.enrollment_key)
    .limit(bindparam("limit")),
    row,
)
_DELETE: Final = Command(delete(enrollments).where(_is_enrollment))
_KEEP_STORAGE_ROOT: Final = Command(
    update(enrollments)
    .where(_is_enrollment)
    .values(
        storage_root_key=bindparam("storage_root"),
        sealed_primary=bindparam("primary"),
        sealed_secondary=bindparam("secondary"),
        etag=bindparam("new_etag"),
        updated_at=bindparam("at"),
    )
)
_of_service: Final = enrollments.c.service_id == bindparam("service")
_ANY: Final = Query(select(enrollments.c.enrollment_key).where(_of_service).limit(1), str)
_NAMING_HUB: Final = Query(
    select(enrollments.c.enrollment_key)
    .where(_of_service & enrollments.c.hub_ids.contains(bindparam("hub")))
    .limit(1),
    str,
)


def are_there(tx: Transaction, service_id: str) -> bool:
    """Whether the service has any."""
    return tx.first(_ANY, service=service_id) is not None


def name_hub(tx: Transaction, service_id: str, hub_id: str) -> bool:
    """Whether one of the service's assigns its devices to this hub."""
    return tx.first(_NAMING_HUB, service=service_id, hub=hub_id) is not None


def save(tx: Transaction, enrollment: Enrollment) -> None:
    """Inserts the enrollment, or replaces the one of its kind and id."""
    tx.run(_SAVE, **_parameters(enrollment))


def save_many(tx: Transaction, many: Iterable[Enrollment]) -> None:
    """Inserts or replaces each of them."""
    tx.run_many(_SAVE, map(_parameters, many))


def _parameters(enrollment: Enrollment) -> dict[str, Any]:
    settings, certificates = enrollment.settings, enrollment.settings.certificates
    return {
        "service_id": enrollment.service_id,
        "kind": enrollment.kind.value,
        "enrollment_key": canonical(enrollment.id),
        "enrollment_id": enrollment.id,
        "device_id": settings.device_id,
        "attestation": settings.attestation.value,
        "sealed_primary": enrollment.sealed_primary,
        "sealed_secondary": enrollment.sealed_secondary,
        "policy_id": settings.policy_id,
        "enabled": settings.enabled,
        "update_hub_assignment": settings.update_hub_assignment,
        "migrate_device_data": settings.migrate_device_data,
        "initial_twin": settings.initial_twin,
        "etag": enrollment.etag,
        "created_at": enrollment.created_at,
        "updated_at": enrollment.updated_at,
        "primary_certificate": certificates.primary if certificates else None,
        "secondary_certificate": certificates.secondary if certificates else None,
        "primary_ca": certificates.primary_ca if certificates else None,
        "secondary_ca": certificates.secondary_ca if certificates else None,
        "endorsement_key": settings.tpm.endorsement if settings.tpm else None,
        "storage_root_key": settings.tpm.storage_root if settings.tpm else None,
        "allocation": settings.allocation.value if settings.allocation else None,
        "hub_ids": orjson.dumps(settings.hub_ids).decode(),
        "webhook_url": settings.webhook.url if settings.webhook else None,
        "webhook_api_version": settings.webhook.api_version if settings.webhook else None,
        "iot_edge": settings.iot_edge,
        "device_information": settings.device_information,
        "expires_at": settings.expires_at,
        "quarantine": settings.quarantine,
    }


def keep_storage_root(tx: Transaction, enrollment: Enrollment) -> None:
    """Writes what became known of a TPM: its storage root key, and the secrets that go with it."""
    settings = enrollment.settings
    tx.run(
        _KEEP_STORAGE_ROOT,
        service=enrollment.service_id,
        kind=enrollment.kind.value,
        key=canonical(enrollment.id),
        storage_root=settings.tpm.storage_root if settings.tpm else None,
        primary=enrollment.sealed_primary,
        secondary=enrollment.sealed_secondary,
        new_etag=enrollment.etag,
        at=enrollment.updated_at,
    )


def find(
    tx: Transaction, service_id: str, kind: EnrollmentKind, enrollment_id: str
) -> Enrollment | None:
    """The enrollment of that kind and id, in any spelling."""
    return tx.first(_GET, service=service_id, kind=kind.value, key=canonical(enrollment_id))


def find_many(
    tx: Transaction, service_id: str, kind: EnrollmentKind, keys: Iterable[str]
) -> dict[str, Enrollment]:
    """Those of the enrollments of these canonical ids that are there, by canonical id."""
    among = orjson.dumps(list(keys)).decode()
    found = tx.all(_GET_MANY, service=service_id, kind=kind.value, keys=among)
    return {canonical(each.id): each for each in found}


def etags(
    tx: Transaction, service_id: str, kind: EnrollmentKind, keys: Iterable[str]
) -> dict[str, str]:
    """The etags of those that are there, by canonical id."""
    among = orjson.dumps(list(keys)).decode()
    return dict(tx.all(_ETAGS, service=service_id, kind=kind.value, keys=among))


def name_of(enrollment: Enrollment) -> str:
    """The name by which the registry knows whose a device is."""
    return name_for(enrollment.service_id, enrollment.kind, enrollment.id)


def name_for(service_id: str, kind: EnrollmentKind, enrollment_id: str) -> str:
    """The same, of the enrollment of that id, whether it is there or was once."""
    return f"{service_id}/{kind}/{canonical(enrollment_id)}"


def exists(tx: Transaction, name: str) -> bool:
    """Whether there still is an enrollment of that name; deleting it releases its devices."""
    service_id, kind, key = name.split("/", 2)
    return tx.first(_ETAG, service=service_id, kind=kind, key=key) is not None


def is_current(tx: Transaction, enrollment: Enrollment) -> bool:
    """Whether nothing changed the enrollment since it was read."""
    etag = tx.first(
        _ETAG,
        service=enrollment.service_id,
        kind=enrollment.kind.value,
        key=canonical(enrollment.id),
    )
    return etag == enrollment.etag


def page(
    tx: Transaction,
    service_id: str,
    kind: EnrollmentKind,
    *,
    after: str = "",
    limit: int = _PAGE_SIZE,
) -> list[Enrollment]:
    """Up to `limit` enrollments of a kind whose key sorts behind `after`."""
    return tx.all(_PAGE, service=service_id, kind=kind.value, after=after, limit=limit)


def all_groups(tx: Transaction, service_id: str) -> list[Enrollment]:
    """Every enrollment group of the service."""
    groups = more = page(tx, service_id, EnrollmentKind.GROUP)
    while len(more) == _PAGE_SIZE:
        more = page(tx, service_id, EnrollmentKind.GROUP, after=canonical(more[-1].id))
        groups = groups + more
    return groups


def delete_one(tx: Transaction, enrollment: Enrollment) -> None:
    """Deletes the enrollment; what its devices have, they keep."""
    delete_many(tx, [enrollment])


def delete_many(tx: Transaction, many: Iterable[Enrollment]) -> None:
    """Deletes each of them."""
    tx.run_many(
        _DELETE,
        (
            {"service": each.service_id, "kind": each.kind.value, "key": canonical(each.id)}
            for each in many
        ),
    )


def seal_keys(
    sealer: Sealer, service_id: str, kind: EnrollmentKind, enrollment_id: str, keys: SymmetricKeys
) -> tuple[bytes, bytes]:
    """The keys as `sealed_primary` and `sealed_secondary` hold them."""
    return (
        sealer.seal(key_name(service_id, kind, enrollment_id, "primary"), keys.primary),
        sealer.seal(key_name(service_id, kind, enrollment_id, "secondary"), keys.secondary),
    )


def open_keys(sealer: Sealer, enrollment: Enrollment) -> SymmetricKeys | None:
    """The enrollment's keys; None if it attests in another way."""
    if enrollment.settings.attestation is not Attestation.SYMMETRIC_KEY:
        return None
    return _open(sealer, enrollment)


def open_tpm_secrets(sealer: Sealer, enrollment: Enrollment) -> SymmetricKeys | None:
    """What the keys of a TPM are derived from; None if it attests in another way."""
    if enrollment.settings.attestation is not Attestation.TPM:
        return None
    return _open(sealer, enrollment)


def _open(sealer: Sealer, enrollment: Enrollment) -> SymmetricKeys | None:
    if enrollment.sealed_primary is None or enrollment.sealed_secondary is None:
        return None
    of = (enrollment.service_id, enrollment.kind, enrollment.id)
    return SymmetricKeys(
        sealer.open(key_name(*of, "primary"), enrollment.sealed_primary),
        sealer.open(key_name(*of, "secondary"), enrollment.sealed_secondary),
    )


class OpenKeys:
    """Keys of enrollments that were opened, so that a device that guesses costs no unsealing.

    An enrollment's keys are found by its etag, which changes with every write.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._open: dict[tuple[str, EnrollmentKind, str, str], SymmetricKeys | None] = {}

    def of(self, enrollment: Enrollment) -> SymmetricKeys | None:
        """The enrollment's keys; None if it attests in another way."""
        name = (enrollment.service_id, enrollment.kind, enrollment.id, enrollment.etag)
        try:
            return self._open[name]
        except KeyError:
            keys = open_keys(self._sealer, enrollment)
        if len(self._open) >= _MAX_OPEN:  # by another thread, perhaps, while this one looked
            self._open.clear()
        self._open[name] = keys
        return keys


def key_name(service_id: str, kind: EnrollmentKind, enrollment_id: str, which: str) -> RecordName:
    return RecordName(
        kind=f"{kind}-enrollment-key-{which}",
        namespace=service_id,
        id=canonical(enrollment_id),
        version=1,
    )
