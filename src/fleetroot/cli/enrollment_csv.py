"""The columns in which CSV holds enrollments; docs/import.md describes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from fleetroot.cli.enrollment_places import Kind

# A spreadsheet takes a cell that begins so for a formula (CWE-1236).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_GUARD: Final = "'"
_BOOLEANS: Final = {"true": True, "false": False}


def guarded(cell: str) -> str:
    """A cell that no spreadsheet computes."""
    return _GUARD + cell if cell.startswith(_FORMULA) else cell


def unguarded(cell: str) -> str:
    """The cell that was guarded."""
    return cell[1:] if cell.startswith(_GUARD) and cell[1:].startswith(_FORMULA) else cell


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and where its value is in JSON.

    Attributes:
        read, write: between a cell and its JSON value; `read` raises ValueError.
    """

    name: str
    place: tuple[str, ...]
    read: Callable[[str], Any]
    write: Callable[[Any], str]


def _boolean(cell: str) -> bool:
    try:
        return _BOOLEANS[cell.lower()]
    except KeyError:
        raise ValueError("is neither true nor false") from None


def _object(cell: str) -> dict[str, Any]:
    try:
        value = orjson.loads(cell)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _text(name: str, *place: str) -> Column:
    return Column(name, place or (name,), str, str)


def _flag(name: str, *place: str) -> Column:
    return Column(name, (*place, name), _boolean, lambda value: str(value).lower())


def _json(name: str, *place: str) -> Column:
    return Column(name, place or (name,), _object, lambda value: orjson.dumps(value).decode())


def columns(kind: Kind) -> tuple[Column, ...]:
    """The columns of a kind, in the order in which they are written."""
    certificates = ("attestation", "x509", kind.certificates)
    references = ("attestation", "x509", "caReferences")
    webhook = "customAllocationDefinition"
    return (
        _text(kind.id_name),
        _text("attestation", "attestation", "type"),
        _text("primaryKey", "attestation", "symmetricKey", "primaryKey"),
        _text("secondaryKey", "attestation", "symmetricKey", "secondaryKey"),
        _text("primaryCertificate", *certificates, "primary", "certificate"),
        _text("secondaryCertificate", *certificates, "secondary", "certificate"),
        _text("primaryCa", *references, "primary"),
        _text("secondaryCa", *references, "secondary"),
        _text("endorsementKey", "attestation", "tpm", "endorsementKey"),
        _text("storageRootKey", "attestation", "tpm", "storageRootKey"),
        _text("credentialPolicyName"),
        _text("deviceId"),
        _text("provisioningStatus"),
        _text("allocationPolicy"),
        Column("iotHubs", ("iotHubs",), str.split, " ".join),
        _text("webhookUrl", webhook, "webhookUrl"),
        _text("webhookApiVersion", webhook, "apiVersion"),
        _flag("updateHubAssignment", "reprovisionPolicy"),
        _flag("migrateDeviceData", "reprovisionPolicy"),
        _json("tags", "initialTwin", "tags"),
        _json("desiredProperties", "initialTwin", "properties", "desired"),
        _flag("iotEdge", "capabilities"),
        _json("optionalDeviceInformation"),
        _text("expiryDateTimeUtc"),
        _flag("quarantine"),
        _text("etag"),
    )


def body_of(header: Sequence[Column], cells: Sequence[str]) -> dict[str, Any]:
    """The enrollment that a row tells; an empty cell tells nothing.

    Raises:
        ValueError: a cell is not as its column has it, or there are too many.
    """
    if len(cells) > len(header):
        raise ValueError(f"has {len(cells)} cells, and the header {len(header)}")
    body: dict[str, Any] = {"attestation": {"type": "symmetricKey"}}
    for column, cell in zip(header, cells, strict=False):
        if not (text := unguarded(cell.strip())):
            continue
        try:
            value = column.read(text)
        except ValueError as error:
            raise ValueError(f"{column.name} {error}") from None
        at = body
        for name in column.place[:-1]:
            at = at.setdefault(name, {})
        at[column.place[-1]] = value
    return body


def cells_of(kind_columns: Sequence[Column], body: Mapping[str, Any]) -> Iterator[str]:
    """The row of an enrollment, guarded."""
    for column in kind_columns:
        value: Any = body
        for name in column.place:
            value = value.get(name) if isinstance(value, Mapping) else None
        yield "" if value is None else guarded(column.write(value))
