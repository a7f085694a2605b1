"""Identities in JSON: what is sent, what is answered, and what they mean.

Source: Azure IoT Hub service REST API, "Devices", "Modules" and "Bulk Registry".
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel

from fleetroot.api.answers import Answer, Nothing, Time, left_out
from fleetroot.api.hub_errors import HubErrorBody
from fleetroot.errors import InvalidArgument
from fleetroot.hub import first_twins
from fleetroot.hub.identity_administration import MAX_ITEMS, Mode, ShownIdentity
from fleetroot.hub.wanted_identities import (
    MAX_SCOPES,
    WantedAuthentication,
    WantedAuthority,
    WantedIdentity,
    WantedKeys,
    WantedThumbprints,
)
from fleetroot.ids import canonical

_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)
_Words = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Id = Annotated[str, Field(max_length=128)]


class AuthenticationKind(StrEnum):
    """By what an identity proves that it is one."""

    SAS = "sas"
    SELF_SIGNED = "selfSigned"
    CERTIFICATE_AUTHORITY = "certificateAuthority"


class Status(StrEnum):
    """Whether it may connect."""

    ENABLED = "enabled"
    DISABLED = "disabled"


def _in_any_case(kind: type[StrEnum]) -> BeforeValidator:
    """Lets a value of the enumeration pass in any case."""
    spelled = {canonical(each.value): each for each in kind}
    return BeforeValidator(
        lambda said: spelled.get(canonical(said), said) if isinstance(said, str) else said
    )


class Sent(BaseModel):
    """An object that clients send; what they send beside what is known is not read."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


class KeysBody(Sent):
    """Keys are base64 of 16 to 64 bytes; an empty one means: generate for what is new, or keep."""

    primary_key: Annotated[str | None, Field(alias="primaryKey", max_length=256)] = None
    secondary_key: Annotated[str | None, Field(alias="secondaryKey", max_length=256)] = None


class ThumbprintsBody(Sent):
    """SHA-1 or SHA-256 of certificates, hexadecimal."""

    primary_thumbprint: Annotated[str | None, Field(alias="primaryThumbprint", max_length=128)] = (
        None
    )
    secondary_thumbprint: Annotated[
        str | None, Field(alias="secondaryThumbprint", max_length=128)
    ] = None


class AuthenticationBody(Sent):
    """By what the identity proves that it is one; without a type, by what is there."""

    type: Annotated[AuthenticationKind, _in_any_case(AuthenticationKind)] | None = None
    symmetric_key: Annotated[KeysBody | None, Field(alias="symmetricKey")] = None
    x509_thumbprint: Annotated[ThumbprintsBody | None, Field(alias="x509Thumbprint")] = None


class DeviceCapabilitiesBody(Sent):
    """What the device is."""

    iot_edge: Annotated[bool | None, Field(alias="iotEdge")] = None


class _IdentityBody(Sent):
    authentication: AuthenticationBody | None = None
    status: Annotated[Status, _in_any_case(Status)] | None = None
    status_reason: Annotated[_Words | None, Field(alias="statusReason")] = None
    capabilities: DeviceCapabilitiesBody | None = None
    device_scope: Annotated[_Words | None, Field(alias="deviceScope")] = None
    parent_scopes: Annotated[
        list[_Words] | None, Field(alias="parentScopes", max_length=MAX_SCOPES)
    ] = None
    managed_by: Annotated[_Words | None, Field(alias="managedBy")] = None


class DeviceBody(_IdentityBody):
    """A device as it is to be. What is left out is kept."""

    device_id: Annotated[_Id | None, Field(alias="deviceId")] = None


class ModuleBody(DeviceBody):
    """A module as it is to be. What is left out is kept."""

    module_id: Annotated[_Id | None, Field(alias="moduleId")] = None


class DesiredBody(Sent):
    """The desired properties that a new twin begins with."""

    desired: dict[str, Any] | None = None


class ItemBody(_IdentityBody):
    """An identity, and what is to become of it."""

    id: _Id
    module_id: Annotated[_Id | None, Field(alias="moduleId")] = None
    etag: Annotated[str | None, Field(alias="eTag", max_length=256)] = None
    # Node's SDK sends the identity as it got it.
    own_etag: Annotated[str | None, Field(alias="etag", max_length=256)] = None
    mode: Annotated[
        Mode, _in_any_case(Mode), Field(alias="importMode", description="In any case.")
    ] = Mode.CREATE
    tags: Annotated[
        dict[str, Any] | None, Field(description="That the twin of a new identity begins with.")
    ] = None
    properties: DesiredBody | None = None


Items = Annotated[list[ItemBody], Field(min_length=1, max_length=MAX_ITEMS)]


class KeysAnswer(Answer):
    """Keys in base64; null for who may not read secrets, and where there are none."""

    primary_key: str | None
    secondary_key: str | None


class ThumbprintsAnswer(Answer):
    """Of certificates, in upper-case hexadecimal."""

    primary_thumbprint: str | None
    secondary_thumbprint: str | None


class AuthenticationAnswer(Answer):
    """By what the identity proves that it is one."""

    type: AuthenticationKind
    symmetric_key: KeysAnswer
    x509_thumbprint: ThumbprintsAnswer = Field(serialization_alias="x509Thumbprint")


class DeviceCapabilities(Answer):
    """What the device is."""

    iot_edge: bool


class IdentityAnswer(Answer):
    """What devices and modules have in common."""

    device_id: str
    generation_id: str
    etag: str
    connection_state: Literal["Connected", "Disconnected"]
    connection_state_updated_time: Time
    last_activity_time: Time
    cloud_to_device_message_count: int
    authentication: AuthenticationAnswer


class DeviceIdentity(IdentityAnswer):
    """A device. Times that never were are of the year 1."""

    status: Status
    status_reason: str | None
    status_updated_time: Time
    capabilities: DeviceCapabilities
    device_scope: str | Nothing = left_out()
    parent_scopes: list[str] | Nothing = left_out()


class ModuleIdentity(IdentityAnswer):
    """A module of a device."""

    module_id: str
    managed_by: str | None


class DeviceIdentities(RootModel[list[DeviceIdentity]]):
    """Devices, by their ids."""


class ModuleIdentities(RootModel[list[ModuleIdentity]]):
    """The modules of a device, by their ids."""


class NotDoneIdentity(Answer):
    """An identity that was not made so, and why."""

    device_id: str
    module_id: str | None
    error_code: str
    error_status: str
    operation: Mode


class IdentitiesAnswer(Answer):
    """Whether all was done; what is not among the errors was."""

    is_successful: bool
    errors: list[NotDoneIdentity]
    warnings: list[str] = Field(max_length=0)


class IdentitiesRefusal(RootModel[IdentitiesAnswer | HubErrorBody]):
    """What of many was not done; or what is wrong with all of it."""


def read(body: _IdentityBody, device_id: str, module_id: str | None = None) -> WantedIdentity:
    """What a service wants of an identity.

    Raises:
        InvalidArgument: the body is of another one, or its keys are not base64.
    """
    if isinstance(body, DeviceBody):
        _check_same("deviceId", body.device_id, device_id)
    if isinstance(body, ModuleBody) and module_id is not None:
        _check_same("moduleId", body.module_id, module_id)
    edge = None if body.capabilities is None else body.capabilities.iot_edge
    scopes = body.parent_scopes
    return WantedIdentity(
        device_id,
        module_id,
        authentication=_authentication(body.authentication),
        # A module has no status of its own.
        enabled=None if body.status is None or module_id else body.status is Status.ENABLED,
        status_reason=None if module_id else body.status_reason,
        iot_edge=None if module_id else edge,
        device_scope=None if module_id else body.device_scope,
        parent_scopes=None if scopes is None or module_id else tuple(scopes),
        managed_by=body.managed_by if module_id else None,
        twin=_twin(body) if isinstance(body, ItemBody) else None,
    )


def _check_same(name: str, said: str | None, of_path: str) -> None:
    if said is not None and canonical(said) != canonical(of_path):
        raise InvalidArgument(f"{name}: is not the one of the path")


def _authentication(body: AuthenticationBody | None) -> WantedAuthentication | None:
    if body is None:
        return None
    keys, prints = body.symmetric_key or KeysBody(), body.x509_thumbprint or ThumbprintsBody()
    first, second = prints.primary_thumbprint or None, prints.secondary_thumbprint or None
    kind = body.type
    if kind is None:
        kind = AuthenticationKind.SELF_SIGNED if first or second else AuthenticationKind.SAS
    match kind:
        case AuthenticationKind.SAS:
            return WantedKeys(
                _key("primaryKey", keys.primary_key), _key("secondaryKey", keys.secondary_key)
            )
        case AuthenticationKind.SELF_SIGNED:
            return WantedThumbprints(first, second)
        case AuthenticationKind.CERTIFICATE_AUTHORITY:
            return WantedAuthority()


def _key(name: str, text: str | None) -> bytes | None:
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"{name}: must be base64") from None


def _twin(body: ItemBody) -> dict[str, Any] | None:
    desired = None if body.properties is None else body.properties.desired
    if body.mode is not Mode.CREATE or (body.tags is None and desired is None):
        return None
    twin = {"tags": body.tags or {}, "properties": {"desired": desired or {}}}
    first_twins.check(twin)
    return twin


def show_device(shown: ShownIdentity, *, with_keys: bool) -> DeviceIdentity:
    """A device as services see it."""
    identity = shown.identity
    scopes = identity.parent_scopes
    return DeviceIdentity(
        **_common(shown, with_keys=with_keys),
        status=Status.ENABLED if identity.enabled else Status.DISABLED,
        status_reason=identity.status_reason,
        status_updated_time=identity.status_changed_at or _NEVER,
        capabilities=DeviceCapabilities(iot_edge=identity.iot_edge),
        device_scope=identity.device_scope,
        parent_scopes=None if scopes is None else json.loads(scopes),
    )


def show_module(shown: ShownIdentity, *, with_keys: bool) -> ModuleIdentity:
    """A module as services see it."""
    identity = shown.identity
    assert identity.module_id is not None  # noqa: S101 - it is a module
    return ModuleIdentity(
        **_common(shown, with_keys=with_keys),
        module_id=identity.module_id,
        managed_by=identity.managed_by,
    )


def _common(shown: ShownIdentity, *, with_keys: bool) -> dict[str, Any]:
    identity = shown.identity
    keys: tuple[str | None, str | None] = (None, None)
    if with_keys and shown.keys is not None:
        primary, secondary = shown.keys
        keys = base64.b64encode(primary).decode(), base64.b64encode(secondary).decode()
    changed_at = identity.connection_changed_at or _NEVER
    return {
        "device_id": identity.device_id,
        "generation_id": identity.generation_id,
        "etag": identity.etag,
        "connection_state": "Connected" if identity.connected else "Disconnected",
        "connection_state_updated_time": changed_at,
        "last_activity_time": changed_at,
        "cloud_to_device_message_count": shown.messages,
        "authentication": AuthenticationAnswer(
            type=AuthenticationKind(shown.authentication),
            symmetric_key=KeysAnswer(primary_key=keys[0], secondary_key=keys[1]),
            x509_thumbprint=ThumbprintsAnswer(
                primary_thumbprint=identity.primary_thumbprint,
                secondary_thumbprint=identity.secondary_thumbprint,
            ),
        ),
    }
