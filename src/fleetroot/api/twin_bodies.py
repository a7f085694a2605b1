"""Twins in JSON, as the hub's services send and see them.

What a client sends back of what it was shown, `$version` and `$metadata` of the sections and all
that only devices and the hub write, is not read.

Source: Azure IoT Hub service REST API, 2021-04-12, "Twin"; and the code of `azure-iothub` 1.16.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from fleetroot.api.answers import Answer, Nothing, left_out
from fleetroot.clock import iso8601
from fleetroot.hub import twin_metadata
from fleetroot.hub.model import Pin
from fleetroot.hub.service_twins import SectionChange, ServiceTwin, TwinChange
from fleetroot.hub.twin_metadata import Stamp

_NEVER: Final = "0001-01-01T00:00:00Z"
_KINDS: Final = {
    Pin.KEYS: "sas",
    Pin.THUMBPRINTS: "selfSigned",
    Pin.POLICY: "certificateAuthority",
    Pin.UPLOADED: "certificateAuthority",
}
_NOT_READ: Final = ("$version", "$metadata")

MaybeTime = Annotated[
    datetime | None,
    PlainSerializer(lambda at: _NEVER if at is None else iso8601(at), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""ISO 8601 in UTC; None: never, as the service writes it."""
_Section = Annotated[
    dict[str, Any] | None,
    Field(description="Objects merge and null deletes, in a patch; null: all of it."),
]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class PropertiesBody(_Sent):
    """The properties that services write."""

    desired: _Section = None


class TwinBody(_Sent):
    """What services write of a twin; a section that is not there stays as it is, in a patch."""

    tags: _Section = None
    properties: PropertiesBody | None = None

    def patch(self) -> TwinChange:
        """What it says as a patch."""
        properties = self.properties or PropertiesBody()
        return TwinChange(_patch(self, "tags"), _patch(properties, "desired"))

    def replacement(self) -> TwinChange:
        """What it says as a whole: sections that are not there are empty."""
        properties = self.properties or PropertiesBody()
        return TwinChange(
            SectionChange(_written(self.tags), whole=True),
            SectionChange(_written(properties.desired), whole=True),
        )


class PropertiesAnswer(Answer):
    """Both sides' properties, each with `$version` and `$metadata`."""

    desired: dict[str, Any]
    reported: dict[str, Any]


class ThumbprintsAnswer(Answer):
    """Of the certificates that a device authenticates with, if that is how."""

    primary_thumbprint: str | None
    secondary_thumbprint: str | None


class CapabilitiesAnswer(Answer):
    """What a device can be."""

    iot_edge: bool = False


class TwinAnswer(Answer):
    """A twin, and what is known of its device, or module, beside it."""

    device_id: str
    module_id: str | Nothing = left_out()
    etag: str
    device_etag: str
    status: str
    status_reason: str | Nothing = left_out()
    status_update_time: MaybeTime
    connection_state: str
    last_activity_time: MaybeTime
    cloud_to_device_message_count: int
    authentication_type: str
    x509_thumbprint: ThumbprintsAnswer
    model_id: str
    version: int
    tags: dict[str, Any]
    properties: PropertiesAnswer
    capabilities: CapabilitiesAnswer = CapabilitiesAnswer()
    device_scope: str | Nothing = left_out()
    parent_scopes: list[str] | Nothing = left_out()


def shown(found: ServiceTwin) -> TwinAnswer:
    """A twin as it is answered."""
    identity, twin = found.identity, found.twin
    first, scopes = Stamp(identity.created_at, 1), identity.parent_scopes
    return TwinAnswer(
        device_id=identity.device_id,
        module_id=identity.module_id,
        etag=found.etag,
        device_etag=identity.etag,
        status="enabled" if found.enabled else "disabled",
        status_reason=identity.status_reason,
        status_update_time=identity.status_changed_at,
        connection_state="Connected" if identity.connected else "Disconnected",
        last_activity_time=identity.connection_changed_at,
        cloud_to_device_message_count=found.waiting,
        authentication_type=_KINDS[identity.pin],
        x509_thumbprint=ThumbprintsAnswer(
            primary_thumbprint=identity.primary_thumbprint,
            secondary_thumbprint=identity.secondary_thumbprint,
        ),
        model_id=found.model_id or "",
        version=found.version,
        tags=orjson.loads(twin.tags),
        properties=PropertiesAnswer(
            desired=_section(twin.desired, found.desired_metadata, first, twin.desired_version),
            reported=_section(
                twin.reported, found.reported_metadata, first, twin.reported_version, told=False
            ),
        ),
        capabilities=CapabilitiesAnswer(iot_edge=identity.iot_edge),
        device_scope=identity.device_scope,
        parent_scopes=None if scopes is None else orjson.loads(scopes),
    )


def _section(
    text: str, metadata: str, first: Stamp, version: int, *, told: bool = True
) -> dict[str, Any]:
    """A section with what is known of it; `told`: whether its metadata have versions."""
    section: dict[str, Any] = orjson.loads(text)
    seen = twin_metadata.shown(orjson.loads(metadata), section, first, versions=told)
    return {**section, "$metadata": seen, "$version": version}


def _patch(body: BaseModel, name: str) -> SectionChange | None:
    if name not in body.model_fields_set:
        return None
    section = getattr(body, name)
    return SectionChange(_written(section), whole=section is None)


def _written(section: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (section or {}).items() if key not in _NOT_READ}
