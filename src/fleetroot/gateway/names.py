"""The names that devices give in CONNECT, and the API versions that they speak.

Sources: Azure DPS, "Communicate with DPS using MQTT"; Azure IoT Hub, "Communicate with an IoT hub
using MQTT"; and what the device SDKs send.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias
from urllib.parse import unquote, unquote_plus

from fleetroot.errors import InvalidArgument

_MAX_CHARACTERS: Final = 2048
_MAX_FIELDS: Final = 32
_PROVISIONING: Final = re.compile(
    r"([^/]{1,64})/registrations/([^/]{1,256})/(api-version=.*)", re.ASCII | re.IGNORECASE
)
_DTMI: Final = re.compile(
    r"dtmi:[A-Za-z](?:\w*[A-Za-z0-9])?(?::[A-Za-z](?:\w*[A-Za-z0-9])?)*(?:;[1-9]\d{0,8}(?:\.\d{1,6})?)?",
    re.ASCII,
)
_HUB: Final = re.compile(r"([^/]{1,253})/([^/]{1,256})(?:/([^/?]{1,256}))?/?\?(.*)")


class CsrField(Enum):
    """Where a generation of the provisioning API carries a CSR, and how it returns the chain."""

    NONE = "none"
    CLIENT_CERTIFICATE_CSR = "clientCertificateCsr"
    CSR = "csr"


PROVISIONING_VERSIONS: Final = {
    "2019-03-31": CsrField.NONE,
    "2021-06-01": CsrField.NONE,
    "2021-10-01": CsrField.NONE,
    "2021-11-01-preview": CsrField.CLIENT_CERTIFICATE_CSR,
    "2025-07-01-preview": CsrField.CSR,
    "2026-11-01": CsrField.CSR,
    "2026-11-02-preview": CsrField.CSR,
    "2026-11-15-preview": CsrField.CSR,
}
HUB_VERSIONS: Final = frozenset(
    {
        "2018-06-30",
        "2019-10-01",
        "2020-05-31-preview",
        "2020-09-30",
        "2021-04-12",
        "2025-08-01-preview",
    }
)


@dataclass(frozen=True, slots=True)
class ProvisioningName:
    """The user name of a device that comes to provision."""

    id_scope: str
    registration_id: str
    api_version: str | None


@dataclass(frozen=True, slots=True)
class HubName:
    """The user name of a device that comes to work."""

    host_name: str
    device_id: str
    module_id: str | None
    api_version: str | None
    model_id: str | None = None  # a DTMI

    @property
    def client_id(self) -> str:
        """The client id that goes with it, by which the hub knows the device or module."""
        return self.device_id if self.module_id is None else f"{self.device_id}/{self.module_id}"


Name: TypeAlias = ProvisioningName | HubName


def parse_name(username: str) -> Name:
    """Parses `{idScope}/registrations/{registrationId}/api-version=…` or
    `{hubHost}/{deviceId}[/{moduleId}]/?api-version=…`.

    Raises:
        InvalidArgument: it is neither.
    """
    if len(username) > _MAX_CHARACTERS:
        raise InvalidArgument("user name too long")
    if found := _PROVISIONING.fullmatch(username):
        id_scope, registration_id, query = found.groups()
        return ProvisioningName(id_scope, unquote(registration_id), _api_version(query))
    if found := _HUB.fullmatch(username):
        host_name, device_id, module_id, query = found.groups()
        return HubName(host_name, device_id, module_id, _api_version(query), _model_id(query))
    raise InvalidArgument("user name is of neither service")


def _api_version(query: str) -> str | None:
    """The version that the device speaks."""
    return _field(query, "api-version")


def _model_id(query: str) -> str | None:
    """The model that the device says it implements.

    Raises:
        InvalidArgument: it is no DTMI (Digital Twins Definition Language, "Digital Twin Model
            Identifier"), or too long.
    """
    model_id = _field(query, "model-id")
    if model_id is not None and not (len(model_id) <= 128 and _DTMI.fullmatch(model_id)):
        raise InvalidArgument("model-id of the user name is no DTMI")
    return model_id


def _field(query: str, wanted: str) -> str | None:
    """The first value that is not empty, as `urllib.parse.parse_qs` finds it."""
    # Node sends `&model-id=dtmi:…;1` raw: a semicolon separates nothing here.
    fields = query.split("&")
    if len(fields) > _MAX_FIELDS:
        raise InvalidArgument("user name has too many fields")
    for field in fields:
        name, _, value = field.partition("=")
        if value and unquote_plus(name) == wanted:
            return unquote_plus(value)
    return None
