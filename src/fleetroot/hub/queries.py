"""Searches for devices: pages of twins, of an order, and counts.

A search runs aside from other reads and from the writer, so it slows neither. What it may cost is
bounded: its text and parts (`query.grammar`), its time, how many groups it counts, and how many
searches run and wait. A page of rows by their keys looks at some thousands at a time, and ends
early, with what was found and where to go on, rather than take long; an order and counts need all
rows at once, and end in `TimedOut`.

Source: Azure IoT Hub, "Query language for device and module twins, jobs, and message routing".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from fleetroot.clock import Clock
from fleetroot.errors import InvalidArgument, Throttled, TimedOut
from fleetroot.hub.model import Hub
from fleetroot.hub.query import statements, tokens
from fleetroot.hub.query.grammar import parse
from fleetroot.hub.query.statements import Found, Group
from fleetroot.hub.query.syntax import Field, Select
from fleetroot.hub.query.values import ROOTS
from fleetroot.storage import Store, Transaction

T = TypeVar("T")
MAX_PAGE: Final = 100
EVERY: Final = "*"
_LAST: Final = "\U0010ffff"  # behind every key
_WINDOW: Final = 5_000  # rows that are looked at in one search
_PAGE_SECONDS: Final = 4.0  # after which a page ends early
_AT_ONCE: Final = 2  # searches
_CHUNK: Final = 1_000  # keys


@dataclass(frozen=True, slots=True)
class QueryRules:
    """What queries may cost.

    Attributes:
        seconds: of one search.
        groups: that are counted.
        waiting: searches that wait for their turn.
    """

    seconds: float = 30.0
    groups: int = 1_000
    waiting: int = 32


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a query finds.

    Attributes:
        query: what was asked.
        rows: devices, where it does not count.
        groups: where it does.
        token: where to go on; None: nothing comes behind.
        at: when it was found.
    """

    query: Select
    rows: list[Found]
    groups: list[Group]
    token: str | None
    at: datetime


class Queries:
    """Finds devices on hubs."""

    def __init__(self, store: Store, clock: Clock, rules: QueryRules | None = None) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules or QueryRules()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def page(
        self, hub: Hub, text: str, *, limit: int = MAX_PAGE, token: str | None = None
    ) -> Page:
        """A page of what a query finds, from the start or where a token says.

        Raises:
            InvalidArgument: it is no query, names what is not there, or counts too many groups; or
                the token is not one of its.
            TimedOut: it takes too long.
            Throttled: too many searches wait.
            Unavailable: the database cannot answer now.
        """
        query = _parsed(text)
        limit = min(limit, MAX_PAGE)
        if query.counts:
            if token is not None:
                raise InvalidArgument("x-ms-continuation: counts have one page")
            return Page(query, [], await self._counts(hub, query), None, self._clock.now())
        if query.order_by:
            return await self._in_order(hub, text, query, limit, token)
        return await self._by_key(hub, text, query, limit, token)

    # --- for jobs: `job_targets.Targets`

    def check(self, condition: str) -> None:
        """Lets a condition pass that can be asked: what stands behind WHERE, or `*`.

        Raises:
            InvalidArgument: it cannot.
        """
        _of_condition(condition)

    async def chunks(self, hub: Hub, condition: str) -> AsyncIterator[list[str]]:
        """The keys of the devices that a condition means, some at a time, each once.

        Raises:
            As `page`.
        """
        statement = statements.keys_only(_of_condition(condition))
        after: str | None = ""
        while after is not None:
            at = after

            def read(tx: Transaction, at: str = at) -> tuple[list[str], str | None]:
                end = _window_end(tx, hub, at)
                about = self._about(hub) | {"after": at, "until": end or _LAST}
                return tx.all(statement, most=_WINDOW, **about), end

            found, after = await self._search(read)
            for start in range(0, len(found), _CHUNK):
                yield found[start : start + _CHUNK]

    # --- inside

    async def _by_key(
        self, hub: Hub, text: str, query: Select, limit: int, token: str | None
    ) -> Page:
        after, left = "", query.top
        if token is not None:
            after, left = tokens.read(token, text, hub.id, [str, (int, type(None))])
        limit = limit if left is None else min(limit, left)
        statement = statements.by_key(query)
        rows: list[Found] = []
        end: str | None = after
        deadline = self._clock.monotonic() + _PAGE_SECONDS
        while end is not None and len(rows) < limit and self._clock.monotonic() < deadline:
            at, most = end, limit - len(rows)

            def read(
                tx: Transaction, at: str = at, most: int = most
            ) -> tuple[list[Found], str | None]:
                until = _window_end(tx, hub, at)
                about = self._about(hub) | {"after": at, "until": until or _LAST}
                return tx.all(statement, most=most, **about), until

            found, end = await self._search(read)
            rows += found
            if len(found) == most:
                end = found[-1].twin.identity.device_key
        left = None if left is None else left - len(rows)
        if end is None or left == 0:
            return Page(query, rows, [], None, self._clock.now())
        on = tokens.write(text, hub.id, [end, left])
        return Page(query, rows, [], on, self._clock.now())

    async def _in_order(
        self, hub: Hub, text: str, query: Select, limit: int, token: str | None
    ) -> Page:
        place, left = None, query.top
        if token is not None:
            kinds = [*statements.sort_kinds(query), (int, type(None))]
            *place, left = tokens.read(token, text, hub.id, kinds)
        limit = limit if left is None else min(limit, left)
        statement = statements.in_order(query, place)

        def read(tx: Transaction) -> tuple[list[tuple[object, ...]], dict[str, Found]]:
            places = tx.all(statement, most=limit + 1, **self._about(hub))
            keys = [str(each[-1]) for each in places[:limit]]
            if not keys:
                return [], {}
            rows = tx.all(statements.of_keys(query, keys), **self._about(hub))
            return places, {row.twin.identity.device_key: row for row in rows}

        places, rows = await self._search(read)
        shown = [rows[str(each[-1])] for each in places[:limit] if str(each[-1]) in rows]
        left = None if left is None else left - limit
        if len(places) <= limit or left == 0:
            return Page(query, shown, [], None, self._clock.now())
        on = tokens.write(text, hub.id, [*places[limit - 1], left])
        return Page(query, shown, [], on, self._clock.now())

    async def _counts(self, hub: Hub, query: Select) -> list[Group]:
        statement, most = statements.counts(query), self._rules.groups
        found = await self._search(lambda tx: tx.all(statement, most=most + 1, **self._about(hub)))
        if len(found) > most:
            raise InvalidArgument(f"query: there are over {most} groups")
        return found

    def _about(self, hub: Hub) -> dict[str, object]:
        return {"hub": hub.id, "namespace": hub.namespace_id, "now": self._clock.now()}

    async def _search(self, read: Callable[[Transaction], T]) -> T:
        async with self._turn():
            try:
                return await self._store.search(read, self._rules.seconds)
            except TimedOut:
                raise TimedOut(
                    f"the query takes over {self._rules.seconds:g} seconds: narrow it"
                ) from None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= self._rules.waiting:
            raise Throttled("too many queries wait", retry_after=1)
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()


def _parsed(text: str) -> Select:
    query = parse(text)
    for field in query.fields:
        if isinstance(field, Field) and field.path.names[0] not in ROOTS:
            raise InvalidArgument(f"query: there is no {str(field.path)[:128]} to show")
    statements.check(query)
    return query


def _of_condition(condition: str) -> Select:
    where = "" if condition.strip() == EVERY else f" WHERE {condition}"
    query = parse(f"SELECT * FROM devices{where}")  # noqa: S608 - parsed, never run
    if query.order_by or query.group_by:
        raise InvalidArgument("queryCondition: a condition has no ORDER BY and no GROUP BY")
    statements.check(query)
    return query


def _window_end(tx: Transaction, hub: Hub, after: str) -> str | None:
    return tx.first(statements.WINDOW_END, hub=hub.id, after=after, window=_WINDOW - 1)
