"""What holds of a database whenever no unit of work is open, whatever happened before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, TypeAlias

from sqlalchemy import Table, select

from fleetroot.hub.requests import RequestState
from fleetroot.provisioning.model import Status
from fleetroot.provisioning.pending import WaitsFor
from fleetroot.storage import Query, Store, Transaction
from fleetroot.storage.schema import (
    certificates,
    credential_requests,
    devices,
    hubs,
    identities,
    pending_registrations,
    registrations,
    twins,
)

Row: TypeAlias = dict[str, Any]


def _rows(table: Table) -> Query[Row]:
    names = [column.name for column in table.columns]
    return Query(select(table), lambda *values: dict(zip(names, values, strict=True)))


_TABLES = {
    table.name: _rows(table)
    for table in (
        certificates,
        credential_requests,
        devices,
        hubs,
        identities,
        pending_registrations,
        registrations,
        twins,
    )
}


class Contents:
    """The rows of a database, at one moment."""

    def __init__(self, tx: Transaction) -> None:
        self._rows = {name: tx.all(query) for name, query in _TABLES.items()}

    def __getitem__(self, table: str) -> list[Row]:
        return self._rows[table]

    def by(self, table: str, *names: str) -> dict[tuple[Any, ...], Row]:
        """The rows of a table by columns that identify them."""
        found = {tuple(row[name] for name in names): row for row in self[table]}
        assert len(found) == len(self[table]), f"{table}: {names} not unique"
        return found


async def contents(store: Store) -> Contents:
    return await store.read(Contents)


def assert_holds(found: Contents, received: Iterable[bytes] = ()) -> None:
    """Checks every invariant.

    Args:
        received: certificates (DER) that devices were ever given.
    """
    for invariant in (
        _no_serial_twice,
        _certificate_is_of_a_device,
        _certificate_that_counts_has_the_generation_of_its_device,
        _device_has_an_identity_and_a_registration,
        _registration_names_what_is_there,
        _registration_that_waits_is_told_so,
        _identity_is_of_a_device_and_has_a_twin,
        _request_names_a_certificate_that_is_there,
    ):
        problems = list(invariant(found))
        assert problems == [], invariant.__name__
    kept = found.by("certificates", "sha256")
    for certificate in received:
        row = kept.get((sha256(certificate).digest(),))
        assert row is not None, "a device has a certificate that the inventory has not"
        assert row["certificate"] == certificate


def assert_no_request_is_open(found: Contents) -> None:
    """Of a server that has just started: nobody works on a request that another server took."""
    states = Counter(row["state"] for row in found["credential_requests"])
    assert states[RequestState.ISSUING.value] == 0


_Problems: TypeAlias = Iterable[str]
Invariant: TypeAlias = Callable[[Contents], _Problems]


def _no_serial_twice(found: Contents) -> _Problems:
    serials = Counter(row["serial"] for row in found["certificates"])
    return (serial for serial, times in serials.items() if times > 1)


def _certificate_is_of_a_device(found: Contents) -> _Problems:
    there = found.by("devices", "namespace_id", "device_key")
    for row in found["certificates"]:
        if (row["namespace_id"], row["device_key"]) not in there:
            yield row["device_id"]


def _certificate_that_counts_has_the_generation_of_its_device(found: Contents) -> _Problems:
    there = found.by("devices", "namespace_id", "device_key")
    for row in found["certificates"]:
        device = there[row["namespace_id"], row["device_key"]]
        if (row["revoked_at"] is None) != (row["generation"] == device["generation"]):
            yield f"{row['device_id']}: {row['serial']}"


def _device_has_an_identity_and_a_registration(found: Contents) -> _Problems:
    seats = found.by("identities", "hub_id", "device_key")
    registered = {
        (row["device_id"].lower(), row["hub_id"])
        for row in found["registrations"]
        if row["device_id"]
    }
    for row in found["devices"]:
        if row["hub_id"] is None:
            continue  # it was taken from where it was
        if (row["hub_id"], row["device_key"]) not in seats:
            yield f"{row['device_id']}: no identity"
        if (row["device_key"], row["hub_id"]) not in registered:
            yield f"{row['device_id']}: no registration"


def _registration_names_what_is_there(found: Contents) -> _Problems:
    inventory = found.by("certificates", "sha256")
    seats = found.by("identities", "hub_id", "device_key")
    for row in found["registrations"]:
        if row["status"] != Status.ASSIGNED.value:
            continue
        if (row["hub_id"], row["device_id"].lower()) not in seats:
            yield f"{row['registration_id']}: no identity"
        if row["certificate_sha256"] and (row["certificate_sha256"],) not in inventory:
            yield f"{row['registration_id']}: no certificate"


def _registration_that_waits_is_told_so(found: Contents) -> _Problems:
    waiting = found.by("pending_registrations", "service_id", "registration_id")
    there = found.by("registrations", "service_id", "registration_id")
    for key, row in there.items():
        if row["status"] == Status.ASSIGNING.value and key not in waiting:
            yield f"{key}: assigning, and nobody decides"
    for key, row in waiting.items():
        is_rejected = row["waits_for"] == WaitsFor.NOTHING.value
        expected = Status.FAILED if is_rejected else Status.ASSIGNING
        if there[key]["status"] != expected.value:
            yield f"{key}: {there[key]['status']}, and waits for {row['waits_for']}"


def _identity_is_of_a_device_and_has_a_twin(found: Contents) -> _Problems:
    namespaces = {row["id"]: row["namespace_id"] for row in found["hubs"]}
    there = found.by("devices", "namespace_id", "device_key")
    with_twins = found.by("twins", "hub_id", "device_key")
    for row in found["identities"]:
        if (namespaces[row["hub_id"]], row["device_key"]) not in there:
            yield f"{row['device_id']}: no device"
        if (row["hub_id"], row["device_key"]) not in with_twins:
            yield f"{row['device_id']}: no twin"


def _request_names_a_certificate_that_is_there(found: Contents) -> _Problems:
    inventory = found.by("certificates", "sha256")
    for row in found["credential_requests"]:
        if row["certificate_sha256"] and (row["certificate_sha256"],) not in inventory:
            yield row["request_id"]
