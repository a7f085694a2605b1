"""A large store of enrollments, made fast: one is made as any other is, and its row is written
again under other ids, each with keys of its own, sealed as the server seals them, straight into
the SQLite file. Their ids sort in no order, so that the index is filled as imports fill it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.credentials import stored_id, stored_key
from bench.processes import DATABASE_FILE
from bench.store import PKI_URL, fast
from fleetroot import sas
from fleetroot.app import Server
from fleetroot.audit import SYSTEM
from fleetroot.custody import MasterKeyConfig, Sealer, load_master_key
from fleetroot.provisioning.enrollments import seal_keys
from fleetroot.provisioning.model import EnrollmentKind, EnrollmentSettings
from fleetroot.registry.assignment import SymmetricKeys
from fleetroot.settings import Settings

_KIND: Final = EnrollmentKind.INDIVIDUAL
_AT_ONCE: Final = 20_000


def enrollment_store(folder: Path, enrollments: int) -> Path:
    """A data folder with so many individual enrollments: the one that is kept in `folder`, or a new
    one.
    """
    data = folder / f"enrollments-{enrollments}"
    if not data.exists():
        making = folder / f"{data.name}.making"
        shutil.rmtree(making, ignore_errors=True)
        service_id = asyncio.run(_enroll_template(making))
        sealer = Sealer(load_master_key(MasterKeyConfig(), making))
        _multiply(making / DATABASE_FILE, service_id, sealer, enrollments)
        making.rename(data)
    return data


async def _enroll_template(data: Path) -> str:
    """A first start, and the first enrollment; its service."""
    server = Server(
        Settings(data=data, pki_url=PKI_URL, mqtt_port=0, https_port=0, console_port=0, http_port=0)
    )
    await server.start()
    try:
        service = await server.administration.service()
        group = await server.administration.get(service, EnrollmentKind.GROUP, "default")
        settings = EnrollmentSettings(policy_id=group.enrollment.settings.policy_id)
        await server.administration.put(
            service,
            _KIND,
            stored_id(0),
            settings,
            primary_key=stored_key(stored_id(0)),
            secondary_key=sas.new_key(),
            by=SYSTEM,
        )
    finally:
        await server.stop()
    return service.id


def _multiply(database: Path, service_id: str, sealer: Sealer, enrollments: int) -> None:
    with fast(database) as connection:
        template = dict(
            connection.execute(
                "SELECT * FROM enrollments WHERE enrollment_key = ?", [stored_id(0)]
            ).fetchone()
        )

        def row(number: int) -> dict[str, Any]:
            id_ = stored_id(number)
            keys = SymmetricKeys(stored_key(id_), sas.new_key())
            primary, secondary = seal_keys(sealer, service_id, _KIND, id_, keys)
            named = {"enrollment_key": id_, "enrollment_id": id_, "etag": id_[-16:]}
            return template | named | {"sealed_primary": primary, "sealed_secondary": secondary}

        names = ", ".join(template)
        places = ", ".join("?" * len(template))
        for some in _batches(enrollments):
            connection.executemany(
                f"INSERT INTO enrollments ({names}) VALUES ({places})",
                (tuple(row(number).values()) for number in some),
            )


def _batches(enrollments: int) -> Iterator[range]:
    for first in range(1, enrollments, _AT_ONCE):
        yield range(first, min(first + _AT_ONCE, enrollments))
