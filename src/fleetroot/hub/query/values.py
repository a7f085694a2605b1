"""What the names of a query mean: values of a twin, its identity, and its newest certificate.

A value has a JSON type, by which it is compared: what is not there has none. Times are compared as
times, with texts in ISO 8601.

Beside what Azure IoT Hub has, `certificate` is the newest certificate that the registry has of the
device: `notBefore`, `notAfter`, `status` (`valid`, `expired` or `revoked`), `serialNumber`,
`sha256` and `policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    null,
    select,
    tuple_,
)

from fleetroot.errors import InvalidArgument
from fleetroot.hub import service_twins
from fleetroot.hub.model import Pin
from fleetroot.hub.query.syntax import Path
from fleetroot.storage.json_values import (
    POSTGRESQL,
    JsonValue,
    Rank,
    by_code_point,
    document,
    value_in,
)
from fleetroot.storage.schema import certificates, devices, identities, policies, twins
from fleetroot.storage.types import Ieee

AUTHENTICATION: Final = {
    Pin.KEYS: "sas",
    Pin.THUMBPRINTS: "selfSigned",
    Pin.POLICY: "certificateAuthority",
    Pin.UPLOADED: "certificateAuthority",
}
CERTIFICATE: Final = "certificate"
ROOTS: Final = frozenset(
    {
        "deviceId",
        "moduleId",
        "etag",
        "deviceEtag",
        "status",
        "statusReason",
        "statusUpdateTime",
        "connectionState",
        "lastActivityTime",
        "cloudToDeviceMessageCount",
        "authenticationType",
        "x509Thumbprint",
        "modelId",
        "version",
        "capabilities",
        "deviceScope",
        "parentScopes",
        "tags",
        "properties",
        CERTIFICATE,
    }
)
"""The first names of all that can be shown."""
_newer: Final = certificates.alias("newer")


@dataclass(frozen=True, slots=True)
class Time:
    """A time, NULL where there is none."""

    at: ColumnElement[Any]


Value: TypeAlias = JsonValue | Time

_NEWEST: Final = and_(
    certificates.c.namespace_id == bindparam("namespace"),
    certificates.c.device_key == identities.c.device_key,
    certificates.c.id
    == select(func.max(_newer.c.id))
    .where(_newer.c.namespace_id == bindparam("namespace"))
    .where(_newer.c.device_key == identities.c.device_key)
    .scalar_subquery(),
)


def among(value: ColumnElement[Any], items: Sequence[Any]) -> ColumnElement[bool]:
    """`value IN (items)`, with a parameter for each item from the start: statements are compiled
    once, and those of `in_` wait for their values.
    """
    bound = [each if isinstance(each, ColumnElement) else literal(each) for each in items]
    return value.op("IN", is_comparison=True, return_type=Boolean())(tuple_(*bound))


def searched(*, certificate: bool) -> FromClause:
    """What is searched; with the newest certificate only where a query asks for it. Parameters:
    `namespace` and `now`.
    """
    if not certificate:
        return service_twins.FROM
    return service_twins.FROM.outerjoin(certificates, _NEWEST).outerjoin(
        policies, policies.c.id == certificates.c.policy_id
    )


def value_of(path: Path, dialect: str) -> Value:
    """The value that a name means.

    Raises:
        InvalidArgument: it means nothing.
    """
    names = path.names
    if names[0] == "tags":
        return value_in(document(twins.c.tags, dialect), names[1:], dialect)
    if names[0] == "properties" and len(names) > 1 and names[1] in _SECTIONS:
        section, version = _SECTIONS[names[1]]
        if names[2:] == ("$version",):
            return _number(version)
        if not any(name.startswith("$") for name in names[2:3]):
            return value_in(document(section, dialect), names[2:], dialect)
    found = _NAMED.get(names)
    if found is None:
        raise InvalidArgument(f"query: {str(path)[:128]} is nothing to search for; see the docs")
    return found(dialect)


def _text(value: ColumnElement[str], dialect: str) -> JsonValue:
    rank = case((value.is_(None), int(Rank.UNDEFINED)), else_=int(Rank.STRING))
    return JsonValue(rank, cast(null(), Ieee()), by_code_point(value, dialect))


def _number(value: ColumnElement[int]) -> JsonValue:
    rank = case((value.is_(None), int(Rank.UNDEFINED)), else_=int(Rank.NUMBER))
    return JsonValue(rank, cast(value, Ieee()), cast(null(), Text))


def _truth(value: ColumnElement[bool]) -> JsonValue:
    rank = case((value, int(Rank.TRUE)), else_=int(Rank.FALSE))
    return JsonValue(rank, cast(null(), Ieee()), cast(null(), Text))


def _time(value: Column[Any]) -> Callable[[str], Value]:
    return lambda _: Time(value)


def _texts(value: ColumnElement[str]) -> Callable[[str], Value]:
    return lambda dialect: _text(value, dialect)


def _hex(value: ColumnElement[bytes], dialect: str) -> ColumnElement[str]:
    if dialect == POSTGRESQL:
        return func.encode(value, "hex", type_=Text)
    return func.lower(func.hex(value), type_=Text)


_SECTIONS: Final = {
    "desired": (twins.c.desired, twins.c.desired_version),
    "reported": (twins.c.reported, twins.c.reported_version),
}
_enabled: Final = identities.c.enabled & func.coalesce(devices.c.enabled, False)
_status: Final = case(
    (certificates.c.revoked_at.is_not(None), "revoked"),
    (
        certificates.c.expired_at.is_not(None) | (certificates.c.not_after <= bindparam("now")),
        "expired",
    ),
    (certificates.c.id.is_not(None), "valid"),
)
_NAMED: Final[dict[tuple[str, ...], Callable[[str], Value]]] = {
    ("deviceId",): _texts(identities.c.device_id),
    ("moduleId",): _texts(identities.c.module_id),
    ("status",): _texts(case((_enabled, "enabled"), else_="disabled")),
    ("statusReason",): _texts(identities.c.status_reason),
    ("statusUpdateTime",): _time(identities.c.status_changed_at),
    ("connectionState",): _texts(case((identities.c.connected, "Connected"), else_="Disconnected")),
    ("lastActivityTime",): _time(identities.c.connection_changed_at),
    ("authenticationType",): _texts(
        case({pin.value: name for pin, name in AUTHENTICATION.items()}, value=identities.c.pin)
    ),
    ("capabilities", "iotEdge"): lambda _: _truth(identities.c.iot_edge),
    ("modelId",): _texts(twins.c.model_id),
    ("version",): lambda _: _number(twins.c.revision + twins.c.reported_version),
    (CERTIFICATE, "notBefore"): _time(certificates.c.not_before),
    (CERTIFICATE, "notAfter"): _time(certificates.c.not_after),
    (CERTIFICATE, "status"): _texts(_status),
    (CERTIFICATE, "serialNumber"): _texts(certificates.c.serial),
    (CERTIFICATE, "sha256"): lambda dialect: _text(_hex(certificates.c.sha256, dialect), dialect),
    (CERTIFICATE, "policy"): _texts(policies.c.name),
}
