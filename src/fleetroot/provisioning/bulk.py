"""Changes of several enrollments in one call, of which each is made or not made by itself.

Source: Azure DPS service REST API, "Run Bulk Operation".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from fleetroot.errors import (
    AlreadyExists,
    EnrollmentNotFound,
    EtagMismatch,
    FleetrootError,
    InvalidArgument,
)
from fleetroot.provisioning.model import Enrollment, EnrollmentSettings

MAX_ITEMS: Final = 10


class BulkMode(StrEnum):
    """What is done with each of them; clients spell it in any case."""

    CREATE = "create"
    UPDATE = "update"
    UPDATE_IF_MATCH = "updateIfMatchETag"
    DELETE = "delete"

    @classmethod
    def _missing_(cls, value: object) -> BulkMode | None:
        wanted = value.lower() if isinstance(value, str) else None
        return next((mode for mode in cls if mode.value.lower() == wanted), None)


@dataclass(frozen=True, slots=True)
class WantedEnrollment:
    """An enrollment as it shall be.

    Attributes:
        primary_key, secondary_key: None: kept, or drawn for a new one.
        keep_policy: whether the policy is kept, whatever the settings say.
        etag: that must be there, where that is looked at.
    """

    settings: EnrollmentSettings
    primary_key: bytes | None = field(default=None, repr=False)
    secondary_key: bytes | None = field(default=None, repr=False)
    keep_policy: bool = False
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """An item that was not made so, and why."""

    id: str
    error: FleetrootError


def check(mode: BulkMode, there: Enrollment | None, etag: str | None) -> None:
    """Lets a change pass that the mode allows on what is there.

    Raises:
        AlreadyExists: it is to be created, and is there.
        EnrollmentNotFound: it is not there.
        InvalidArgument: the mode wants an etag, and there is none.
        EtagMismatch: another version is there.
    """
    if mode is BulkMode.CREATE:
        if there is not None:
            raise AlreadyExists("an enrollment of that id exists")
        return
    if there is None:
        raise EnrollmentNotFound("Enrollment not found")
    if mode is BulkMode.UPDATE_IF_MATCH:
        if not etag:
            raise InvalidArgument("etag: required in this mode")
        if etag != there.etag:
            raise EtagMismatch("the enrollment is of another version")
