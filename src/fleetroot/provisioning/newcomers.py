"""Which registration ids nothing is known of: most of an onboarding, and told of many at once.

Whoever is not in any of three tables is judged by the configuration alone, which is in memory.
Reading three rows that are not there, for each by itself, took a third of deciding. Nothing rests
on this being so later: the unit of work that makes a device known inserts it only if it is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import orjson
from sqlalchemy import JSON, Text, bindparam, cast, exists, func, select
from sqlalchemy.sql.expression import Executable

from fleetroot.ids import canonical
from fleetroot.provisioning.configuration import Configuration, Configurations
from fleetroot.provisioning.model import EnrollmentKind, RegisterRequest
from fleetroot.storage import Query, Store, Transaction
from fleetroot.storage.configuration import version
from fleetroot.storage.schema import devices, enrollments, registrations


def _known(dialect: str) -> Executable:
    """Those of `keys`, a JSON array, that are an enrollment's, a registration's or a device's."""
    if dialect == "postgresql":
        of_keys = func.json_array_elements_text(cast(bindparam("keys", type_=Text), JSON))
    else:
        of_keys = func.json_each(bindparam("keys"))
    key = of_keys.table_valued("value").c.value
    return select(key).where(
        exists().where(
            (enrollments.c.service_id == bindparam("service"))
            & (enrollments.c.kind == EnrollmentKind.INDIVIDUAL.value)
            & (enrollments.c.enrollment_key == key)
        )
        | exists().where(
            (registrations.c.service_id == bindparam("service"))
            & (registrations.c.registration_key == key)
        )
        | exists().where(
            (devices.c.namespace_id == bindparam("namespace")) & (devices.c.device_key == key)
        )
    )


_KNOWN: Final = Query(_known, str)


class Newcomers:
    """Tells newcomers from devices that something is known of."""

    def __init__(self, store: Store, configurations: Configurations) -> None:
        self._store = store
        self._configurations = configurations

    async def configurations_for(
        self, requests: Sequence[RegisterRequest]
    ) -> Sequence[Configuration | None]:
        """For each, the configuration of its service, if nothing else is known of its registration
        id in any spelling. None says nothing: all of it is to be read.

        Raises:
            Unavailable: the database cannot answer now.
        """
        named = [(each.id_scope, canonical(each.registration_id)) for each in requests]

        def unit(tx: Transaction) -> list[Configuration | None]:
            unchanged = self._unchanged(tx, {id_scope for id_scope, _ in named})
            known = {
                id_scope: _known_among(tx, kept, [key for of, key in named if of == id_scope])
                for id_scope, kept in unchanged.items()
            }
            return [
                unchanged.get(id_scope) if key not in known.get(id_scope, ()) else None
                for id_scope, key in named
            ]

        return await self._store.read(unit)

    def _unchanged(self, tx: Transaction, id_scopes: Iterable[str]) -> dict[str, Configuration]:
        is_now = version(tx)
        kept = {id_scope: self._configurations.kept(id_scope) for id_scope in id_scopes}
        return {of: each for of, each in kept.items() if each and each.version == is_now}


def _known_among(tx: Transaction, configuration: Configuration, keys: list[str]) -> set[str]:
    service = configuration.service
    return set(
        tx.all(
            _KNOWN,
            keys=orjson.dumps(keys).decode(),
            service=service.id,
            namespace=service.namespace_id,
        )
    )
