"""Twins as services see and change them, and what devices hear of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetroot.audit import SYSTEM
from fleetroot.errors import EtagMismatch, InvalidArgument, NotFound
from fleetroot.hub import twin_metadata, twins
from fleetroot.hub.desired_changes import way_between
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Channel
from fleetroot.hub.service_twins import SectionChange, ServiceTwin, TwinChange
from fleetroot.hub.twin_metadata import Stamp
from workbench import Wire, Workbench

DEVICE = "dev-1"


class Party:
    """A device of the hub, and a service that changes its twin."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.hub = bench.made.hub
        self.twins = bench.hubs.twins

    async def prepare(self) -> None:
        self.certified = await self.bench.provision(DEVICE)

    async def get(self) -> ServiceTwin:
        return await self.twins.get(self.hub, DEVICE)

    async def change(
        self,
        *,
        tags: dict[str, Any] | None = None,
        desired: dict[str, Any] | None = None,
        whole: bool = False,
        if_match: str | None = None,
        device: str = DEVICE,
    ) -> ServiceTwin:
        change = TwinChange(
            None if tags is None else SectionChange(tags, whole),
            None if desired is None else SectionChange(desired, whole),
        )
        return await self.twins.change(self.hub, device, change, if_match=if_match, by=SYSTEM)

    async def listen(self, qos: int = 0) -> tuple[LiveSession, Wire]:
        """Connects, and listens to desired properties."""
        wire = Wire()
        session = await self.bench.connect(DEVICE, self.certified, wire)
        session.subscriptions[Channel.DESIRED] = qos
        return session, wire


@pytest.fixture
async def party(bench: Workbench) -> Party:
    made = Party(bench)
    await made.prepare()
    return made


def metadata(twin: ServiceTwin) -> dict[str, Any]:
    """That of desired properties, as it is shown."""
    first = Stamp(twin.identity.created_at, 1)
    kept, section = orjson.loads(twin.desired_metadata), orjson.loads(twin.twin.desired)
    return twin_metadata.shown(kept, section, first, versions=True)


# --- changes


async def test_new_twin_is_empty_and_of_the_first_versions(party: Party) -> None:
    twin = await party.get()
    assert (twin.twin.tags, twin.twin.desired, twin.twin.reported) == ("{}", "{}", "{}")
    assert (twin.revision, twin.version, twin.enabled, twin.waiting) == (1, 2, True, 0)


async def test_patch_merges_and_null_deletes(party: Party) -> None:
    await party.change(tags={"site": {"hall": 1, "row": 2}}, desired={"a": {"x": 1}, "b": [1]})
    twin = await party.change(tags={"site": {"row": None}}, desired={"a": {"y": 2}, "b": None})
    assert orjson.loads(twin.twin.tags) == {"site": {"hall": 1}}
    assert orjson.loads(twin.twin.desired) == {"a": {"x": 1, "y": 2}}
    assert twin == await party.get()


async def test_whole_section_replaces_what_was_there(party: Party) -> None:
    await party.change(tags={"old": 1}, desired={"old": 1})
    twin = await party.change(tags={"new": 1}, desired={"new": 1, "no": None}, whole=True)
    assert (twin.twin.tags, twin.twin.desired) == ('{"new":1}', '{"new":1}')


async def test_section_that_is_not_mentioned_stays(party: Party) -> None:
    await party.change(tags={"a": 1}, desired={"b": 1})
    await party.change(tags={}, whole=True)
    twin = await party.get()
    assert (twin.twin.tags, twin.twin.desired) == ("{}", '{"b":1}')


async def test_versions_count_what_they_are_of(party: Party) -> None:
    before = await party.get()
    tagged = await party.change(tags={"a": 1})
    assert (tagged.twin.desired_version, tagged.version) == (1, before.version + 1)
    wanted = await party.change(desired={"a": 1})
    assert (wanted.twin.desired_version, wanted.version) == (2, before.version + 2)
    session, _ = await party.listen()
    await party.bench.hubs.report(session, b'{"r":1}')
    reported = await party.get()
    assert (reported.twin.reported_version, reported.version) == (2, before.version + 3)
    assert reported.etag == wanted.etag != tagged.etag


async def test_etag_that_is_not_the_newest_changes_nothing(party: Party) -> None:
    seen = await party.get()
    first = await party.change(tags={"by": "first"}, if_match=seen.etag)
    with pytest.raises(EtagMismatch):
        await party.change(tags={"by": "second"}, if_match=seen.etag)
    assert await party.get() == first
    await party.change(tags={"by": "third"}, if_match="*")


async def test_of_two_that_saw_the_same_one_wins(party: Party) -> None:
    seen = await party.get()
    results = await asyncio.gather(
        *(party.change(tags={"by": n}, if_match=seen.etag) for n in range(4)),
        return_exceptions=True,
    )
    assert [type(result) for result in results].count(EtagMismatch) == 3


async def test_etag_does_not_come_back_with_a_device_that_was_made_anew(party: Party) -> None:
    before = await party.change(tags={"a": 1})
    changed = replace(before, identity=replace(before.identity, generation_id="another"))
    assert changed.etag != before.etag


async def test_device_that_the_hub_does_not_know_has_no_twin(party: Party) -> None:
    with pytest.raises(NotFound):
        await party.change(tags={"a": 1}, device="dev-9")
    with pytest.raises(NotFound):
        await party.twins.get(party.hub, "dev-9")


async def test_change_by_somebody_is_in_the_audit_log(party: Party) -> None:
    await party.change(tags={"secret": "hush"}, desired={"a": 1})
    with party.bench.sql() as connection:
        rows = connection.exec_driver_sql(
            "SELECT subject, details FROM audit_entries WHERE action = 'device.changeTwin'"
        ).all()
    assert [(row[0], orjson.loads(row[1])) for row in rows] == [
        ("device/dev-1", {"hub": "default", "changed": ["tags", "desired"]})
    ]


# --- limits


@pytest.mark.parametrize(
    ("section", "limit"), [("tags", 8 * 1024), ("desired", 32 * 1024)], ids=["tags", "desired"]
)
async def test_section_may_be_as_large_as_is_documented(
    party: Party, section: str, limit: int
) -> None:
    full = {f"{n:04}": "x" * 1020 for n in range(limit // 1024)}
    await party.change(**{section: full})  # type: ignore[arg-type]
    before = await party.get()
    with pytest.raises(InvalidArgument, match=section):
        await party.change(**{section: {"y": ""}})  # type: ignore[arg-type]
    assert await party.get() == before


def test_numbers_weigh_8_booleans_4_and_punctuation_nothing() -> None:
    assert twins.size_of({"a": 1, "b": 1.5, "c": True, "d": None, "ñ": [[], {}, "ñ\n"]}) == (
        4 + 8 + 8 + 4 + 2 + 2
    )


async def test_patches_of_punctuation_alone_do_not_pile_up(party: Party) -> None:
    weightless = [[[]] * 15_000]
    await party.change(desired={"a": weightless})
    await party.change(desired={"b": weightless})
    with pytest.raises(InvalidArgument, match="as JSON"):
        await party.change(desired={"c": weightless})


@pytest.mark.parametrize(
    "bad",
    [{"a.b": 1}, {"$a": 1}, {"": 1}, {"a": "x" * 4097}, {"a": 2**52}, {"k" * 1025: 1}],
    ids=["dot", "dollar", "no name", "long text", "integer", "long name"],
)
async def test_value_that_breaks_a_rule_changes_nothing(party: Party, bad: dict[str, Any]) -> None:
    before = await party.get()
    with pytest.raises(InvalidArgument):
        await party.change(tags={"fine": 1}, desired=bad)
    assert await party.get() == before


# --- metadata


async def test_metadata_say_when_and_by_which_version(party: Party) -> None:
    clock = party.bench.clock
    await party.change(desired={"a": {"x": 1, "y": 1}, "b": 1})
    first = clock.now()
    clock.advance(timedelta(seconds=1))
    twin = await party.change(desired={"a": {"y": 2}})
    old = {"$lastUpdated": _iso(first), "$lastUpdatedVersion": 2}
    new = {"$lastUpdated": _iso(clock.now()), "$lastUpdatedVersion": 3}
    assert metadata(twin) == {"a": {"x": old, "y": new, **new}, "b": old, **new}


async def test_metadata_of_a_section_replaced_are_those_of_the_replacement(party: Party) -> None:
    await party.change(desired={"a": {"x": 1}})
    party.bench.clock.advance(timedelta(seconds=1))
    twin = await party.change(desired={"a": {"x": 1}}, whole=True)
    new = {"$lastUpdated": _iso(party.bench.clock.now()), "$lastUpdatedVersion": 3}
    assert metadata(twin) == {"a": {"x": new, **new}, **new}


async def test_reported_properties_have_metadata_too(party: Party) -> None:
    session, _ = await party.listen()
    party.bench.clock.advance(timedelta(seconds=5))
    await party.bench.hubs.report(session, b'{"a":{"b":1}}')
    twin = await party.get()
    kept, section = orjson.loads(twin.reported_metadata), orjson.loads(twin.twin.reported)
    now = {"$lastUpdated": _iso(party.bench.clock.now())}
    first = Stamp(twin.identity.created_at, 1)
    shown = twin_metadata.shown(kept, section, first, versions=False)
    assert shown == {"a": {"b": now, **now}, **now}


def _iso(at: Any) -> str:
    return str(twin_metadata.iso8601(at))


# --- what devices hear


async def test_device_that_listens_hears_each_patch_with_its_version(party: Party) -> None:
    _, wire = await party.listen()
    await party.change(desired={"a": {"x": 1}})
    await party.change(tags={"not": "for devices"})
    await party.change(desired={"a": {"x": None}})
    assert wire.desired == [({"a": {"x": 1}}, 2), ({"a": {"x": None}}, 3)]


async def test_device_hears_of_a_replacement_what_leads_there(party: Party) -> None:
    await party.change(desired={"a": {"x": 1, "y": 1}, "b": 1, "c": 1})
    _, wire = await party.listen()
    await party.change(desired={"a": {"x": 2, "y": 1}, "c": 1}, whole=True)
    assert wire.desired == [({"a": {"x": 2}, "b": None}, 3)]


async def test_device_that_does_not_listen_hears_nothing(party: Party) -> None:
    session, wire = await party.listen()
    del session.subscriptions[Channel.DESIRED]
    await party.change(desired={"a": 1})
    assert wire.desired == []


async def test_many_at_once_are_heard_in_the_order_of_versions(party: Party) -> None:
    _, wire = await party.listen()
    await asyncio.gather(*(party.change(desired={"n": n}) for n in range(20)))
    assert [version for _, version in wire.desired] == list(range(2, 22))
    assert wire.desired[-1][0] == orjson.loads((await party.get()).twin.desired)


async def test_what_a_slow_reader_misses_is_gathered_into_one_patch(party: Party) -> None:
    await party.change(desired={"a": {"c": 2}, "gone": 1})
    session, wire = await party.listen(qos=1)
    wire.reads = False
    await party.change(desired={"a": None, "gone": None})
    await party.change(desired={"a": {"b": 1}})
    await party.change(desired={"new": True})
    assert wire.desired == []
    wire.reads = True
    party.bench.hubs.go_on(session)
    assert wire.desired == [({"a": {"b": 1, "c": None}, "gone": None, "new": True}, 5)]
    await party.change(desired={"new": False})
    assert wire.desired[1:] == [({"new": False}, 6)]


async def test_acknowledgement_lets_what_was_gathered_go(party: Party) -> None:
    _, wire = await party.listen(qos=1)
    await party.change(desired={"n": 1})
    wire.reads = False  # as with a full window
    await party.change(desired={"n": 2})
    wire.reads = True
    wire.desired_unacknowledged[0]()
    assert wire.desired == [({"n": 1}, 2), ({"n": 2}, 3)]


async def test_nothing_is_kept_for_a_device_that_left(party: Party) -> None:
    session, wire = await party.listen()
    wire.reads = False
    await party.change(desired={"n": 1})
    party.bench.hubs.disconnect(session)
    wire.reads = True
    party.bench.hubs.go_on(session)
    assert wire.desired == []
    assert party.twins._desired._gathered == {}


# --- properties

_keys = st.sampled_from(["a", "b", "c"])
_values = st.recursive(
    st.sampled_from([0, 1, 1.0, True, False, "", "x", [], [1]]),
    lambda below: st.dictionaries(_keys, below, max_size=3),
    max_leaves=8,
)
_sections = st.dictionaries(_keys, _values, max_size=3)


@given(_sections, _sections)
def test_way_between_two_sections_leads_from_one_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    arrived = twins.merge(before, way_between(before, after))
    assert orjson.dumps(arrived, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        after, option=orjson.OPT_SORT_KEYS
    )


@given(_sections, st.lists(_sections, max_size=4))
def test_metadata_have_the_keys_of_their_section(
    first: dict[str, Any], patches: list[dict[str, Any]]
) -> None:
    at = Stamp(twin_metadata.from_microseconds(0), 1)
    section, kept = first, twin_metadata.stamped_anew(first, at)
    for number, patch in enumerate(patches):
        section = twins.merge(section, patch)
        kept = twin_metadata.stamped(kept, patch, section, Stamp(at.at, number + 2))
        assert _keys_of(kept) <= _keys_of(section)
    shown = twin_metadata.shown(kept, section, at, versions=True)
    assert _keys_of(shown) == _keys_of(section)


def _keys_of(tree: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, below in tree.items() if isinstance(tree, dict) else ():
        if key and not key.startswith("$"):
            found |= {(*path, key)} | _keys_of(below, (*path, key))
    return found
