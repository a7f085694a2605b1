"""Searches for devices: conditions against an oracle, orders, counts, pages and bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from fleetroot.audit import SYSTEM
from fleetroot.errors import InvalidArgument, Throttled, TimedOut
from fleetroot.hub import queries as queries_module
from fleetroot.hub.identity_administration import IdentityAdministration
from fleetroot.hub.queries import Page, Queries, QueryRules
from fleetroot.hub.query.syntax import (
    And,
    Call,
    Comparison,
    Expression,
    Function,
    Literal,
    Member,
    Not,
    Operator,
    Or,
    Path,
)
from fleetroot.hub.wanted_identities import WantedIdentity
from query_oracle import truth, type_of, value_of, written
from workbench import Workbench

DEVICES = 12
EVERYTHING = "SELECT * FROM devices"


class Party:
    """A hub with some devices, whose twins are whatever a test wants."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.hub = bench.made.hub
        self.queries = Queries(bench.store, bench.clock)
        self.identities = IdentityAdministration(bench.store, bench.sealer, bench.bus, bench.clock)

    async def make(self, *ids: str) -> None:
        for each in ids:
            await self.identities.create(self.hub, WantedIdentity(each), by=SYSTEM)

    def write(self, twins: dict[str, dict[str, Any]]) -> None:
        """Gives devices twins: `{tags, desired, reported}`."""
        statement = text(
            "UPDATE twins SET tags = :tags, desired = :desired, reported = :reported"
            " WHERE device_key = :key"
        )
        with self.bench.sql() as connection:
            for key, twin in twins.items():
                sections = {
                    name: orjson.dumps(twin.get(name, {})).decode()
                    for name in ("tags", "desired", "reported")
                }
                connection.execute(statement, {"key": key, **sections})

    async def page(self, query: str, **more: Any) -> Page:
        return await self.queries.page(self.hub, query, **more)

    async def ids(self, query: str, limit: int = 100) -> list[str]:
        """Of all that a query finds, page by page."""
        found: list[str] = []
        token: str | None = None
        while True:
            page = await self.page(query, limit=limit, token=token)
            assert len(page.rows) <= limit
            found += [row.twin.identity.device_id for row in page.rows]
            token = page.token
            if token is None:
                return found

    async def where(self, condition: str) -> list[str]:
        return await self.ids(f"{EVERYTHING} WHERE {condition}")

    async def groups(self, query: str) -> list[tuple[list[Any], int]]:
        return [(list(each.values), each.rows) for each in (await self.page(query)).groups]


@pytest.fixture
async def party(bench: Workbench) -> Party:
    made = Party(bench)
    await made.make(*(f"dev-{n:02}" for n in range(DEVICES)))
    return made


# --- the rule of types, by an oracle

_keys = st.sampled_from(["a", "b", "ä c", "0"])
_scalars = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        1.0,
        0.1,
        2**50,
        1e300,
        "",
        "a",
        "A",
        "ab",
        "ä",
        "\U0001f600",
        "1",
    ]
)
_values = st.recursive(
    _scalars,
    lambda below: st.lists(below, max_size=2) | st.dictionaries(_keys, below, max_size=3),
    max_leaves=5,
)
_sections = st.dictionaries(_keys, _values, max_size=3)
_twins = st.fixed_dictionaries({"tags": _sections, "desired": _sections, "reported": _sections})
_roots = st.sampled_from([("tags",), ("properties", "desired"), ("properties", "reported")])
_paths = st.builds(
    lambda root, names: Path((*root, *names)), _roots, st.lists(_keys, min_size=1, max_size=2)
)
_literals = st.builds(
    lambda value: Literal(float(value) if type(value) is int else value), _scalars
)
_operands = _paths | _literals
_operators = st.sampled_from(list(Operator))
_texts = st.sampled_from([Function.STARTSWITH, Function.ENDSWITH, Function.CONTAINS])
_kinds = st.sampled_from([each for each in Function if each.value.startswith("IS_")])
_leaves: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, _operators, _operands, _operands),
    st.builds(
        lambda operand, items: Member(operand, tuple(items)),
        _paths,
        st.lists(_literals, min_size=1, max_size=4),
    ),
    st.builds(
        lambda function, one, other: Call(function, (one, other)), _texts, _operands, _operands
    ),
    st.builds(lambda function, one: Call(function, (one,)), _kinds, _operands),
    _paths,
)
_conditions: st.SearchStrategy[Expression] = st.recursive(
    _leaves,
    lambda below: st.one_of(
        st.builds(Not, below),
        st.builds(lambda many: And(tuple(many)), st.lists(below, min_size=2, max_size=3)),
        st.builds(lambda many: Or(tuple(many)), st.lists(below, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    documents=st.lists(_twins, min_size=DEVICES, max_size=DEVICES),
    conditions=st.lists(_conditions, min_size=1, max_size=8),
)
async def test_condition_finds_the_devices_that_it_means(
    party: Party, documents: list[dict[str, Any]], conditions: list[Expression]
) -> None:
    twins = {f"dev-{number:02}": twin for number, twin in enumerate(documents)}
    party.write(twins)
    for condition in conditions:
        meant = [
            key
            for key, twin in twins.items()
            if truth(condition, {"tags": twin["tags"], "properties": twin}) is True
        ]
        assert await party.where(written(condition)) == meant, written(condition)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(documents=st.lists(_twins, min_size=DEVICES, max_size=DEVICES), path=_paths)
async def test_groups_count_what_is_alike(
    party: Party, documents: list[dict[str, Any]], path: Path
) -> None:
    party.write({f"dev-{number:02}": twin for number, twin in enumerate(documents)})
    counted: Counter[bytes] = Counter()
    for twin in documents:
        value = value_of(path, {"tags": twin["tags"], "properties": twin})
        if type_of(value) in ("array", "object"):
            value = f"{type_of(value)} of its own"
        alike = [float(value)] if type_of(value) == "number" else [value]
        counted[b"nothing" if type_of(value) is None else orjson.dumps(alike)] += 1
    query = f"SELECT {written(path)} AS v, COUNT() AS n FROM devices GROUP BY {written(path)}"
    found = await party.groups(query)
    assert sorted(count for _, count in found) == sorted(counted.values())
    known = {
        orjson.dumps([float(v[0])] if type_of(v[0]) == "number" else list(v)): count
        for [v], count in found
        if v
    }
    assert known == {
        key: count for key, count in counted.items() if b"own" not in key and key != b"nothing"
    }


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    documents=st.lists(_twins, min_size=DEVICES, max_size=DEVICES),
    path=_paths,
    descending=st.booleans(),
    limit=st.integers(1, 5),
)
async def test_order_is_by_type_and_then_by_value_over_all_pages(
    party: Party, documents: list[dict[str, Any]], path: Path, descending: bool, limit: int
) -> None:
    twins = {f"dev-{number:02}": twin for number, twin in enumerate(documents)}
    party.write(twins)

    def place(key: str) -> tuple[int, float, str]:
        value = value_of(path, {"tags": twins[key]["tags"], "properties": twins[key]})
        kinds = [None, "null", "boolean", "number", "string", "array", "object"]
        rank = kinds.index(type_of(value)) * 2 + (value is True)
        number = float(value) if type_of(value) == "number" else 0.0
        return rank, number, value if isinstance(value, str) else ""

    wanted = sorted(twins, key=place, reverse=descending)
    if descending:  # those that are alike come by their ids all the same
        wanted = sorted(sorted(twins), key=place, reverse=True)
    query = f"{EVERYTHING} ORDER BY {written(path)} {'DESC' if descending else 'ASC'}"
    assert await party.ids(query, limit) == wanted


# --- what is known beside twins


async def test_identity_and_certificate_are_found_by(party: Party) -> None:
    bench, clock = party.bench, party.bench.clock
    held = await bench.provision("cert-1")
    await bench.provision("cert-2")
    session = await bench.connect("cert-1", held)
    await bench.registry.revoke(bench.made.namespace, "cert-2", disable=False, by=SYSTEM)
    assert await party.where("connectionState = 'Connected'") == ["cert-1"]
    assert await party.where("authenticationType = 'certificateAuthority'") == ["cert-1", "cert-2"]
    assert await party.where("certificate.status = 'valid'") == ["cert-1"]
    assert await party.where("certificate.status = 'revoked'") == ["cert-2"]
    assert await party.where("IS_DEFINED(certificate.serialNumber)") == ["cert-1", "cert-2"]
    [certificate] = await bench.inventory("cert-1")
    assert await party.where(f"certificate.sha256 = '{certificate.sha256.hex()}'") == ["cert-1"]
    assert await party.where("certificate.policy = 'default'") == ["cert-1", "cert-2"]
    soon = (clock.now() + timedelta(days=29)).isoformat()
    later = (clock.now() + timedelta(days=31)).isoformat()
    assert await party.where(f"certificate.notAfter < '{soon}'") == []
    assert await party.where(f"certificate.notAfter < '{later}'") == ["cert-1", "cert-2"]
    assert await party.where("certificate.notAfter < lastActivityTime") == []
    bench.hubs.disconnect(session)
    clock.advance(timedelta(days=31))
    await bench.settled()
    assert await party.where("certificate.status = 'expired'") == ["cert-1"]
    assert await party.where(f"lastActivityTime > '{soon}'") == []


async def test_newest_certificate_is_the_one_that_counts(party: Party) -> None:
    await party.bench.provision("cert-1")
    party.bench.clock.advance(timedelta(days=1))
    await party.bench.provision("cert-1")
    newest = max(each.not_after for each in await party.bench.inventory("cert-1")).isoformat()
    assert await party.where(f"certificate.notAfter = '{newest}'") == ["cert-1"]


async def test_device_is_found_by_its_id_as_it_is_spelled(party: Party) -> None:
    await party.make("Pump")
    assert await party.where("deviceId = 'Pump'") == ["Pump"]
    assert await party.where("deviceId = 'pump'") == []
    assert await party.where("deviceId IN ['Pump', 'dev-01', 'none']") == ["dev-01", "Pump"]
    assert len(await party.where("NOT deviceId = 'Pump'")) == DEVICES
    assert await party.where("STARTSWITH(deviceId, 'Pu')") == ["Pump"]


async def test_modules_are_searched_by_themselves(party: Party) -> None:
    wanted = WantedIdentity("dev-01", "mod-1")
    await party.identities.create(party.hub, wanted, by=SYSTEM)
    found = (await party.page("SELECT * FROM devices.modules")).rows
    assert [row.twin.identity.module_id for row in found] == ["mod-1"]
    assert len(await party.ids(EVERYTHING)) == DEVICES
    by_device = await party.page("SELECT * FROM devices.modules WHERE deviceId = 'dev-01'")
    assert len(by_device.rows) == 1


async def test_another_hub_has_devices_of_its_own(party: Party) -> None:
    hub = await party.bench.hubs.create(party.bench.made.namespace, "works", "works.example")
    assert (await party.queries.page(hub, EVERYTHING)).rows == []


# --- pages


async def test_pages_cover_all_once_while_devices_come_and_go(party: Party) -> None:
    first = await party.page(EVERYTHING, limit=5)
    await party.make("dev-00a", "dev-99")  # behind and before what was seen
    await party.identities.delete(party.hub, "dev-06", by=SYSTEM)
    found, token = list(first.rows), first.token
    while token is not None:
        page = await party.page(EVERYTHING, limit=5, token=token)
        found, token = found + page.rows, page.token
    ids = [row.twin.identity.device_id for row in found]
    wanted = [f"dev-{n:02}" for n in range(DEVICES) if n != 6]
    assert ids == [*wanted, "dev-99"]


async def test_top_ends_a_query_over_all_its_pages(party: Party) -> None:
    assert len(await party.ids("SELECT TOP 7 * FROM devices", limit=3)) == 7
    query = "SELECT TOP 7 * FROM devices ORDER BY deviceId DESC"
    assert await party.ids(query, limit=3) == [f"dev-{n:02}" for n in range(11, 4, -1)]


async def test_page_of_a_long_walk_ends_early_and_goes_on(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    party.write({"dev-11": {"tags": {"a": 1}}})
    monkeypatch.setattr(queries_module, "_WINDOW", 2)
    assert await party.where("tags.a = 1") == ["dev-11"]
    monkeypatch.setattr(queries_module, "_PAGE_SECONDS", 0.0)
    page = await party.page(f"{EVERYTHING} WHERE tags.a = 1")
    assert (page.rows, page.token) == ([], None) or page.token is not None


@pytest.mark.parametrize("token", ["", "x", "bm9uZQ==", "W10=", "x" * 20_000])
async def test_token_that_is_none_is_refused(party: Party, token: str) -> None:
    with pytest.raises(InvalidArgument, match="x-ms-continuation"):
        await party.page(EVERYTHING, token=token)


async def test_token_of_another_query_is_refused(party: Party) -> None:
    token = (await party.page(EVERYTHING, limit=1)).token
    for query in (f"{EVERYTHING} WHERE tags.a = 1", f"{EVERYTHING} ORDER BY tags.a"):
        with pytest.raises(InvalidArgument, match="x-ms-continuation"):
            await party.page(query, token=token)


# --- counts


async def test_all_are_counted(party: Party) -> None:
    assert await party.groups("SELECT COUNT() AS n FROM devices") == [([], DEVICES)]
    nobody = "SELECT COUNT() AS n FROM devices WHERE tags.a = 1"
    assert await party.groups(nobody) == [([], 0)]


async def test_too_many_groups_are_refused(party: Party) -> None:
    party.queries = Queries(party.bench.store, party.bench.clock, QueryRules(groups=3))
    with pytest.raises(InvalidArgument, match="over 3 groups"):
        await party.page("SELECT deviceId, COUNT() FROM devices GROUP BY deviceId")


# --- refusals and bounds


@pytest.mark.parametrize(
    "query",
    [
        "SELECT nothing FROM devices",
        f"{EVERYTHING} WHERE nothing = 1",
        f"{EVERYTHING} WHERE properties.other.a = 1",
        f"{EVERYTHING} WHERE properties = 1",
        f"{EVERYTHING} ORDER BY certificate.nothing",
        f"{EVERYTHING} WHERE certificate.notAfter < 5",
        f"{EVERYTHING} WHERE certificate.notAfter < 'soon'",
        f"{EVERYTHING} WHERE certificate.notAfter < tags.a",
        f"{EVERYTHING} WHERE certificate.notAfter",
        f"{EVERYTHING} WHERE STARTSWITH(certificate.notAfter, '2')",
        f"{EVERYTHING} WHERE (tags.a = 1) = true",
        f"{EVERYTHING} WHERE 'text'",
        f"{EVERYTHING} WHERE properties.desired.$metadata.a = 1",
    ],
)
async def test_query_that_means_nothing_is_refused(party: Party, query: str) -> None:
    with pytest.raises(InvalidArgument, match="query: "):
        await party.page(query)


async def test_largest_condition_can_be_asked(party: Party) -> None:
    party.write({"dev-03": {"tags": {"a": 99}}})
    terms = " OR ".join(f"tags.a = {n}" for n in range(100, 0, -1))
    assert await party.where(terms) == ["dev-03"]
    items = ", ".join(str(n) for n in range(256))
    assert await party.where(f"tags.a IN [{items}]") == ["dev-03"]


async def test_query_that_takes_too_long_is_ended(party: Party) -> None:
    party.queries = Queries(party.bench.store, party.bench.clock, QueryRules(seconds=0.001))
    large = {f"k{n}": "x" * 1000 for n in range(30)}
    party.write({f"dev-{n:02}": {"desired": large} for n in range(DEVICES)})
    terms = " OR ".join(f"properties.desired.a = {n}" for n in range(100))
    with pytest.raises(TimedOut, match="narrow it"):
        await party.page(f"{EVERYTHING} WHERE {terms} ORDER BY tags.a")


async def test_more_queries_than_may_wait_are_turned_away(party: Party) -> None:
    party.queries = Queries(party.bench.store, party.bench.clock, QueryRules(waiting=2))
    results = await asyncio.gather(
        *(party.page(EVERYTHING) for _ in range(8)), return_exceptions=True
    )
    kinds = Counter(type(result) for result in results)
    assert kinds[Throttled] >= 1
    assert kinds[Page] == 8 - kinds[Throttled]
    assert len((await party.page(EVERYTHING)).rows) == DEVICES


# --- for jobs


async def test_condition_gives_keys_in_chunks(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries_module, "_WINDOW", 5)
    party.write({f"dev-{n:02}": {"tags": {"even": n % 2 == 0}} for n in range(DEVICES)})
    found = [key async for chunk in party.queries.chunks(party.hub, "tags.even") for key in chunk]
    assert found == [f"dev-{n:02}" for n in range(0, DEVICES, 2)]
    every = [key async for chunk in party.queries.chunks(party.hub, "*") for key in chunk]
    assert len(every) == DEVICES


@pytest.mark.parametrize("condition", ["", "tags.a = 1 ORDER BY tags.a", "nothing = 1"])
async def test_condition_that_is_none_is_refused(party: Party, condition: str) -> None:
    with pytest.raises(InvalidArgument):
        party.queries.check(condition)
