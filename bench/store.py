"""A large store, made fast: one device is provisioned as any other is, and its rows are written
again under other names, straight into the SQLite file.

Ids and fingerprints are random, so that indexes are filled in no order, as a fleet fills them. The
certificates were issued one after the other, and none ends within a month, so that a store that is
kept stays what it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import make_csr
from bench.processes import DATABASE_FILE
from fleetroot import sas
from fleetroot.app import Server
from fleetroot.provisioning.model import EnrollmentKind, OnboardingCredential, RegisterRequest
from fleetroot.registry.issuance import CsrText
from fleetroot.settings import Settings

Values: TypeAlias = dict[str, Any]

# Given at every start, because ports differ from run to run and certificates name them for ever.
PKI_URL: Final = "http://localhost:8080"
_TEMPLATE: Final = "template"
_TABLES: Final = {  # with the column that names the device
    "devices": "device_key",
    "certificates": "device_key",
    "identities": "device_key",
    "twins": "device_key",
    "registrations": "registration_key",
}
_AT_ONCE: Final = 20_000  # devices
_DAY: Final = 86_400_000_000  # microseconds
_APART: Final = 1_000_000  # of one certificate and the next, in microseconds
_SIGNATURE_BYTES: Final = 96


def large_store(folder: Path, devices: int) -> Path:
    """A data folder with so many devices: the one that is kept in `folder`, or a new one."""
    data = folder / f"fleet-{devices}"
    if not data.exists():
        making = folder / f"{data.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        asyncio.run(_provision_template(making))
        _multiply(making / DATABASE_FILE, devices)
        making.rename(data)
    return data


async def _provision_template(data: Path) -> None:
    """A first start, and one device."""
    server = Server(
        Settings(data=data, pki_url=PKI_URL, mqtt_port=0, https_port=0, console_port=0, http_port=0)
    )
    await server.start()
    try:
        service = await server.administration.service()
        group = await server.administration.get(service, EnrollmentKind.GROUP, "default")
        assert group.keys is not None
        token = sas.sign_token(
            f"{service.id_scope}/registrations/{_TEMPLATE}",
            sas.derive_device_key(group.keys.primary, _TEMPLATE),
            server.clock.now() + timedelta(hours=1),
        )
        csr = make_csr(_TEMPLATE, ec.generate_private_key(ec.SECP384R1()))
        await server.provisioning.register(
            RegisterRequest(
                service.id_scope,
                _TEMPLATE,
                OnboardingCredential(sas.SasToken.parse(token)),
                CsrText(csr),
            )
        )
    finally:
        await server.stop()


@contextmanager
def fast(database: Path) -> Iterator[sqlite3.Connection]:
    """A transaction on a SQLite file that no server has open, without any journal; its rows have
    names.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-2000000"):
            connection.execute(f"PRAGMA {setting}")
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _multiply(database: Path, devices: int) -> None:
    with fast(database) as connection:
        templates = {
            table: dict(
                connection.execute(f"SELECT * FROM {table} WHERE {key} = ?", [_TEMPLATE]).fetchone()
            )
            for table, key in _TABLES.items()
        }
        del templates["certificates"]["id"]
        numbers = random.Random(1)
        for first in range(0, devices, _AT_ONCE):
            until = min(first + _AT_ONCE, devices)
            fleet = [
                _device(templates, numbers, age=(devices - number) * _APART)
                for number in range(first, until)
            ]
            for table, template in templates.items():
                names = ", ".join(template)
                places = ", ".join("?" * len(template))
                connection.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({places})",
                    (tuple((template | device[table]).values()) for device in fleet),
                )


def _device(templates: dict[str, Values], numbers: random.Random, age: int) -> dict[str, Values]:
    """What differs from the template in a device's row of each table, of a device that provisioned
    `age` microseconds before it.
    """
    device_id = f"Press-{numbers.getrandbits(64):016x}"
    device_key = device_id.lower()
    generation = str(UUID(int=numbers.getrandbits(128), version=4))
    certificate = templates["certificates"]["certificate"]
    certificate = certificate[:-_SIGNATURE_BYTES] + numbers.randbytes(_SIGNATURE_BYTES)
    sha256 = hashlib.sha256(certificate).digest()
    issued_at = templates["certificates"]["issued_at"]
    named = {"device_key": device_key, "device_id": device_id}
    etag = f"{numbers.getrandbits(64):016x}"
    return {
        "devices": named
        | {
            "uuid": str(UUID(int=numbers.getrandbits(128), version=4)),
            "generation": generation,
            "etag": etag,
        },
        "certificates": named
        | {
            "sha256": sha256,
            "generation": generation,
            "serial": f"{numbers.getrandbits(152):038x}",
            "certificate": certificate,
            "issued_at": issued_at - age,
            "not_after": issued_at + numbers.randrange(30 * _DAY, 400 * _DAY),
        },
        "identities": named
        | {"generation_id": str(UUID(int=numbers.getrandbits(128), version=4)), "etag": etag},
        "twins": {
            "device_key": device_key,
            "tags": f'{{"site":"hall-{numbers.randrange(50)}","row":{numbers.randrange(2**31)}}}',
        },
        "registrations": {
            "registration_key": device_key,
            "registration_id": device_id,
            "device_id": device_id,
            "operation_id": f"{numbers.getrandbits(128):032x}",
            "certificate_sha256": sha256,
            "etag": etag,
        },
    }
