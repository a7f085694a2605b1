"""What services do to identities while somebody connects by them, or does the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetroot import sas
from fleetroot.audit import SYSTEM
from fleetroot.errors import AlreadyExists, EtagMismatch, NotFound, Unauthorized
from fleetroot.hub.identity_administration import IdentityAdministration, Item, Mode
from fleetroot.hub.live import LiveSession
from fleetroot.hub.model import Ending, Pin, TokenProof
from fleetroot.hub.wanted_identities import WantedAuthority, WantedIdentity, WantedKeys
from fleetroot.sas import SasToken
from workbench import Wire, Workbench

KEYS = WantedKeys(bytes(32), bytes(range(32)))
OTHER = WantedKeys(b"1" * 32, b"2" * 32)
DEVICE, MODULE = WantedIdentity("dev-1"), WantedIdentity("dev-1", "mod-1")
each_identity = pytest.mark.parametrize("of", [DEVICE, MODULE], ids=["device", "module"])


class Yard:
    """A hub with a device and its module, which have the same keys."""

    def __init__(self, bench: Workbench) -> None:
        self.bench, self.hub = bench, bench.made.hub
        self.identities = IdentityAdministration(bench.store, bench.sealer, bench.bus, bench.clock)

    async def create(self, of: WantedIdentity, keys: WantedKeys = KEYS) -> None:
        wanted = WantedIdentity(of.device_id, of.module_id, authentication=keys)
        await self.identities.create(self.hub, wanted, by=SYSTEM)

    async def update(self, of: WantedIdentity, **wanted: object) -> None:
        changed = WantedIdentity(of.device_id, of.module_id, **wanted)  # type: ignore[arg-type]
        await self.identities.update(self.hub, changed, if_match="*", by=SYSTEM)

    async def delete(self, of: WantedIdentity) -> None:
        await self.identities.delete(self.hub, of.device_id, of.module_id, by=SYSTEM)

    async def connect(self, of: WantedIdentity) -> LiveSession:
        """By a token of the first key."""
        resource = f"{self.hub.host_name}/devices/{of.device_id}"
        if of.module_id is not None:
            resource += f"/modules/{of.module_id}"
        assert KEYS.primary is not None
        until = self.bench.clock.now() + timedelta(hours=1)
        token = SasToken.parse(sas.sign_token(resource, KEYS.primary, until))
        session, _ = await self.bench.hubs.connect(
            self.hub.host_name, of.key, TokenProof(token), Wire(), clean_session=True
        )
        return session


@pytest.fixture
async def yard(bench: Workbench) -> Yard:
    made = Yard(bench)
    await made.create(DEVICE)
    await made.create(MODULE)
    return made


Change = Callable[[Yard, WantedIdentity], Awaitable[None]]


async def change_keys(yard: Yard, of: WantedIdentity) -> None:
    await yard.update(of, authentication=OTHER)


async def want_certificates(yard: Yard, of: WantedIdentity) -> None:
    await yard.update(of, authentication=WantedAuthority())


async def delete(yard: Yard, of: WantedIdentity) -> None:
    await yard.delete(of)


async def make_anew(yard: Yard, of: WantedIdentity) -> None:
    await yard.delete(of)
    await yard.create(of, OTHER)


async def disable_device(yard: Yard, _: WantedIdentity) -> None:
    await yard.update(DEVICE, enabled=False)


async def delete_device(yard: Yard, _: WantedIdentity) -> None:
    await yard.delete(DEVICE)


async def disable_in_registry(yard: Yard, _: WantedIdentity) -> None:
    namespace = yard.bench.made.namespace
    await yard.bench.registry.set_enabled(namespace, "dev-1", False, by=SYSTEM)


async def delete_in_registry(yard: Yard, _: WantedIdentity) -> None:
    await yard.bench.delete_device("dev-1")


CHANGES = [
    change_keys,
    want_certificates,
    delete,
    make_anew,
    disable_device,
    delete_device,
    disable_in_registry,
    delete_in_registry,
]


@each_identity
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("place", ["before_read", "after_read", "before_write", "after_write"])
@pytest.mark.parametrize("heard", [False, True], ids=["later", "heard"])
async def test_nobody_stays_who_comes_in_while_it_is_changed(
    yard: Yard, of: WantedIdentity, change: Change, place: str, heard: bool
) -> None:
    steps = getattr(yard.bench.store, place)

    async def step() -> None:
        await change(yard, of)
        if heard:
            await yard.bench.outbox.drain()

    steps.append(step)
    try:
        session = await yard.connect(of)
    except Unauthorized:
        session = None
    assert not steps
    await yard.bench.outbox.drain()
    if session is not None:
        assert session.ended is not None
        yard.bench.hubs.disconnect(session)
    await yard.bench.settled()
    assert len(yard.bench.hubs.live) == 0
    with pytest.raises(Unauthorized):
        await yard.connect(of)


@each_identity
@pytest.mark.parametrize("change", CHANGES)
async def test_who_is_in_goes_when_it_is_changed(
    yard: Yard, of: WantedIdentity, change: Change
) -> None:
    session = await yard.connect(of)
    await change(yard, of)
    await yard.bench.outbox.drain()
    assert session.ended in (Ending.IDENTITY_CHANGED, Ending.DISABLED, Ending.REVOKED)


@each_identity
async def test_who_is_in_stays_when_words_change_and_when_the_other_does(
    yard: Yard, of: WantedIdentity
) -> None:
    session = await yard.connect(of)
    await yard.update(of, authentication=KEYS, status_reason="looked at", managed_by="us")
    other = MODULE if of is DEVICE else DEVICE
    await yard.update(other, authentication=OTHER)
    await yard.bench.outbox.drain()
    assert session.ended is None


@each_identity
async def test_who_comes_by_what_was_made_anew_replaces_whom_the_former_let_in(
    yard: Yard, of: WantedIdentity
) -> None:
    """Before anybody heard that the former identity is gone."""
    for _ in range(5):
        before = await yard.connect(of)
    yard.bench.clock.advance(timedelta(seconds=1))
    await yard.delete(of)
    await yard.create(of)
    session = await yard.connect(of)
    assert (before.ended, session.ended) == (Ending.REPLACED, None)
    await yard.bench.outbox.drain()
    assert session.ended is None


async def test_identity_is_not_made_on_a_hub_that_is_gone(yard: Yard) -> None:
    yard.hub = replace(yard.hub, id="gone")
    with pytest.raises(NotFound, match="there is no hub"):
        await yard.create(WantedIdentity("dev-2"))


async def test_one_of_two_creates_it(bench: Workbench) -> None:
    yard = Yard(bench)
    results = await asyncio.gather(
        *(yard.create(DEVICE, keys) for keys in (KEYS, OTHER)), return_exceptions=True
    )
    assert sorted(type(each) for each in results if each is not None) == [AlreadyExists]
    assert await bench.identity("dev-1") is not None


async def test_one_of_two_changes_what_both_saw(yard: Yard) -> None:
    etag = (await yard.identities.get(yard.hub, "dev-1")).identity.etag
    results = await asyncio.gather(
        *(
            yard.identities.update(
                yard.hub, WantedIdentity("dev-1", status_reason=who), if_match=etag, by=SYSTEM
            )
            for who in ("one", "other")
        ),
        return_exceptions=True,
    )
    assert [type(each) for each in results].count(EtagMismatch) == 1


async def test_device_that_provisions_and_is_created_at_once_has_one_identity(
    bench: Workbench,
) -> None:
    """Whoever comes first, what provisioning pins is what counts: it knows nothing of "exists"."""
    yard = Yard(bench)
    await asyncio.gather(bench.provision("dev-1"), yard.create(DEVICE), return_exceptions=True)
    identity = await bench.identity("dev-1")
    assert identity is not None
    assert identity.pin is Pin.POLICY


async def test_what_of_many_fails_leaves_nothing(yard: Yard) -> None:
    """Not even the device in the registry, where its twin cannot be."""
    before = yard.bench.contents()
    items = [Item(Mode.CREATE, DEVICE), Item(Mode.CREATE, WantedIdentity("dev-9", "mod-1"))]
    not_done = await yard.identities.change_many(yard.hub, items, by=SYSTEM)
    assert [each.item for each in not_done] == items
    assert yard.bench.contents() == before


async def test_keys_are_sealed(yard: Yard) -> None:
    assert KEYS.secondary is not None
    assert KEYS.secondary not in str(yard.bench.contents()["identities"]).encode()
    found = await yard.identities.get(yard.hub, "dev-1", "mod-1")
    assert found.keys == (KEYS.primary, KEYS.secondary)
