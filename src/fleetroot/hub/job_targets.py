"""Which devices a job's condition means: what jobs need of queries.

`targets` gives the keys of devices in chunks, each read by itself, so that a job over a million
devices holds up nobody. A condition is the part of a query behind WHERE, or `*` for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol

from sqlalchemy import bindparam, select

from fleetroot.errors import InvalidArgument
from fleetroot.hub.model import Hub
from fleetroot.hub.query.grammar import parse
from fleetroot.hub.query.syntax import Comparison, Expression, Literal, Member, Operator, Or, Path
from fleetroot.ids import canonical
from fleetroot.storage import Query, Store
from fleetroot.storage.schema import identities

EVERY: Final = "*"
_AT_ONCE: Final = 1000  # keys
_of_devices: Final = (identities.c.hub_id == bindparam("hub")) & identities.c.parent_key.is_(None)
_BEHIND: Final = Query(
    select(identities.c.device_key)
    .where(_of_devices & (identities.c.device_key > bindparam("after")))
    .order_by(identities.c.device_key)
    .limit(bindparam("most")),
    str,
)
_IS_THERE: Final = Query(
    select(identities.c.device_key).where(
        _of_devices & (identities.c.device_key == bindparam("key"))
    ),
    str,
)


class Targets(Protocol):
    """Finds the devices that conditions mean."""

    def check(self, condition: str) -> None:
        """Lets a condition pass that can be asked.

        Raises:
            InvalidArgument: it cannot; the message says what is wrong, and where.
        """
        ...

    def chunks(self, hub: Hub, condition: str) -> AsyncIterator[list[str]]:
        """The keys of the devices that are meant, some at a time; a key may come twice.

        Raises:
            InvalidArgument: as `check`.
            TimedOut: it takes too long to find them.
            Unavailable: the database cannot answer now.
        """
        ...


class TargetsById:
    """Conditions on the device's id alone, and all devices."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, condition: str) -> None:
        """See `Targets.check`."""
        self._ids(condition)

    async def chunks(self, hub: Hub, condition: str) -> AsyncIterator[list[str]]:
        """See `Targets.chunks`."""
        ids = self._ids(condition)
        if ids is None:
            async for chunk in self._every(hub):
                yield chunk
            return
        keys = sorted({canonical(each) for each in ids})
        yield await self._store.read(
            lambda tx: [each for each in keys if tx.first(_IS_THERE, hub=hub.id, key=each)]
        )

    async def _every(self, hub: Hub) -> AsyncIterator[list[str]]:
        after = ""
        while chunk := await self._store.read(
            lambda tx, after=after: tx.all(_BEHIND, hub=hub.id, after=after, most=_AT_ONCE)  # type: ignore[misc]
        ):
            yield chunk
            after = chunk[-1]

    @staticmethod
    def _ids(condition: str) -> list[str] | None:
        """The ids that are named; None: all devices.

        Raises:
            InvalidArgument: it is about something else.
        """
        where = read_condition(condition)
        return None if where is None else list(_named(where))


def read_condition(condition: str) -> Expression | None:
    """What stands behind WHERE; None for `*`.

    Raises:
        InvalidArgument: it is no condition.
    """
    if condition.strip() == EVERY:
        return None
    query = parse(f"SELECT * FROM devices WHERE {condition}")  # noqa: S608 - parsed, never run
    if query.order_by or query.group_by:
        raise InvalidArgument("queryCondition: a condition has no ORDER BY and no GROUP BY")
    return query.where


def _named(where: Expression) -> list[str]:
    match where:
        case Comparison(Operator.EQUAL, Path(("deviceId",)), Literal(str(device_id))):
            return [device_id]
        case Comparison(Operator.EQUAL, Literal(str(device_id)), Path(("deviceId",))):
            return [device_id]
        case Member(Path(("deviceId",)), items) if all(isinstance(i.value, str) for i in items):
            return [str(item.value) for item in items]
        case Or(operands):
            return [device_id for operand in operands for device_id in _named(operand)]
    raise InvalidArgument(
        "queryCondition: `*`, `deviceId = 'a'`, `deviceId IN ['a', 'b']`, or these joined by OR"
    )
