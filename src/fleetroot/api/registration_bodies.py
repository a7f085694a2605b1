"""Registrations in JSON.

Source: Azure DPS service REST API, "Device Registration State". Ours are `enrollmentGroupId`,
`attestation` and `credential`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import Field

from fleetroot.api.answers import Answer, Nothing, Time, left_out
from fleetroot.provisioning.model import (
    Attestation,
    EnrollmentKind,
    Registration,
    Slot,
    Status,
    Substatus,
)


class RegistrationAnswer(Answer):
    """What a device was told when it provisioned, but for certificates."""

    registration_id: str
    created: Time = Field(serialization_alias="createdDateTimeUtc")
    updated: Time = Field(serialization_alias="lastUpdatedDateTimeUtc")
    assigned_hub: str | Nothing = left_out()
    device_id: str | Nothing = left_out()
    status: Status
    substatus: Substatus | Nothing = left_out()
    error_code: int | Nothing = left_out()
    error_message: str | Nothing = left_out()
    payload: Any = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="What the allocation's webhook had for the device.",
    )
    etag: str
    enrollment_group_id: str | Nothing = left_out()
    attestation: Attestation
    credential: Slot | Nothing = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="Which of the enrollment's keys or certificates it attested with.",
    )


def show_registration(found: Registration, hosts: Mapping[str, str]) -> RegistrationAnswer:
    """A registration as it is answered.

    Args:
        found: the registration.
        hosts: host names of linked hubs by id.
    """
    is_of_group = found.enrollment_kind is EnrollmentKind.GROUP
    return RegistrationAnswer(
        registration_id=found.registration_id,
        created=found.created_at,
        updated=found.updated_at,
        assigned_hub=hosts.get(found.hub_id or ""),
        device_id=found.device_id,
        status=found.status,
        substatus=found.substatus,
        error_code=found.error_code,
        error_message=found.error_message,
        payload=orjson.loads(found.payload) if found.payload else None,
        etag=found.etag,
        enrollment_group_id=found.enrollment_id if is_of_group else None,
        attestation=found.attestation,
        credential=found.slot,
    )
