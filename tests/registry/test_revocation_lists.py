"""Lists are there for every CA, say what the inventory says, and their numbers never go back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from sqlalchemy import bindparam, insert, update
from structlog.testing import capture_logs

from fleetroot.audit import SYSTEM
from fleetroot.errors import NotFound, Unavailable
from fleetroot.pki import PkiUrls
from fleetroot.registry import authorities, publishing, revocation_lists
from fleetroot.registry.model import Authority, AuthorityKind
from fleetroot.registry.ocsp_responders import OcspResponders
from fleetroot.registry.publishing import RevocationPublisher
from fleetroot.registry.revocation_lists import ListHead, PublishedList
from fleetroot.storage.schema import authorities as authorities_table
from fleetroot.storage.schema import certificates
from workbench import Recorder, Workbench

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def publisher_of(bench: Workbench, batch: timedelta = timedelta(0)) -> RevocationPublisher:
    responders = OcspResponders(bench.store, bench.custody, bench.clock)
    return RevocationPublisher(bench.store, bench.custody, responders, bench.clock, batch=batch)


@pytest.fixture
async def publisher(bench: Workbench) -> RevocationPublisher:
    """One that has published everything; the CAs are some days old."""
    bench.clock.advance(400 * DAY)
    made = publisher_of(bench)
    assert await made.update()
    return made


async def by_kind(bench: Workbench, kind: AuthorityKind) -> Authority:
    [found] = [a for a in await bench.registry.authorities(bench.made.namespace) if a.kind is kind]
    return found


async def issuing(bench: Workbench) -> Authority:
    return await by_kind(bench, AuthorityKind.ISSUING)


async def listed(
    publisher: RevocationPublisher, authority: Authority, shard: int
) -> dict[int, datetime]:
    """The serial numbers on a list, and when they were revoked."""
    crl = await read(publisher, authority, shard)
    return {entry.serial_number: entry.revocation_date_utc for entry in crl}


async def read(
    publisher: RevocationPublisher, authority: Authority, shard: int
) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((await publisher.find(authority.id, shard)).der)


async def serial_of(bench: Workbench, device_id: str) -> int:
    return int((await bench.inventory(device_id))[0].serial, 16)


async def revoke(bench: Workbench, device_id: str) -> int:
    """Provisions and revokes a device; the serial number of its certificate."""
    await bench.provision(device_id)
    await bench.registry.revoke(bench.made.namespace, device_id, by=SYSTEM)
    return await serial_of(bench, device_id)


# --- what is published


async def test_every_shard_of_every_ca_has_a_list(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    root = await by_kind(bench, AuthorityKind.ROOT)
    expected = {(root.id, 0)} | {((await issuing(bench)).id, shard) for shard in range(16)}
    assert {(head.authority_id, head.shard) for head in await publisher.heads()} == expected


async def test_list_is_at_the_url_that_it_names_and_signed_by_its_ca(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    for authority in await bench.registry.authorities(bench.made.namespace):
        crl = await read(publisher, authority, 0)
        point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
        is_root = authority.kind is AuthorityKind.ROOT
        urls = [] if is_root else [PkiUrls(authority.pki_url, authority.id).crl(0)]
        assert [name.value for name in point.full_name or ()] == urls
        assert point.only_contains_ca_certs == (authority.kind is AuthorityKind.ROOT)
        key = x509.load_der_x509_certificate(authority.certificate).public_key()
        assert crl.is_signature_valid(key)  # type: ignore[arg-type]


async def test_revoked_certificate_is_on_the_list_that_it_names_and_on_no_other(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    serial = await revoke(bench, "dev-1")
    await publisher.update()
    [certificate] = await bench.inventory("dev-1")
    leaf = x509.load_der_x509_certificate(certificate.certificate)
    [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    [url] = point.full_name or ()
    authority = await issuing(bench)
    there = [
        PkiUrls(authority.pki_url, authority.id).crl(shard)
        for shard in range(16)
        if serial in await listed(publisher, authority, shard)
    ]
    assert there == [url.value]


async def test_certificate_that_was_not_revoked_is_on_no_list(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    await bench.provision("dev-1")
    await publisher.update()
    authority = await issuing(bench)
    assert [await listed(publisher, authority, shard) for shard in range(16)] == [{}] * 16


async def test_policy_made_later_has_lists_when_somebody_asks(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    policy = await bench.policies.create(bench.made.namespace, "later", by=SYSTEM)
    assert policy.authority_id is not None
    assert (await publisher.find(policy.authority_id, 15)).head.covers == 0


async def test_shard_that_no_certificate_names_has_no_list(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    for kind, shard in ((AuthorityKind.ISSUING, 16), (AuthorityKind.ROOT, 1)):
        with pytest.raises(NotFound):
            await publisher.find((await by_kind(bench, kind)).id, shard)


async def test_revoked_issuing_ca_is_on_the_roots_list(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    authority, root = await issuing(bench), await by_kind(bench, AuthorityKind.ROOT)
    now = bench.clock.now()
    with bench.sql() as connection:
        connection.execute(
            update(authorities_table)
            .where(authorities_table.c.id == authority.id)
            .values(revoked_at=now)
        )
    await publisher.update()
    serial = x509.load_der_x509_certificate(authority.certificate).serial_number
    assert await listed(publisher, root, 0) == {serial: now}


# --- when it is signed


async def heads(publisher: RevocationPublisher) -> dict[tuple[str, int], ListHead]:
    return {(head.authority_id, head.shard): head for head in await publisher.heads()}


async def test_list_of_which_nothing_changed_stays(publisher: RevocationPublisher) -> None:
    before = await heads(publisher)
    await publisher.update()
    assert await heads(publisher) == before


async def test_revocation_renews_the_list_of_its_shard_alone(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    before = await heads(publisher)
    bench.clock.advance(timedelta(seconds=1))
    serial = await revoke(bench, "dev-1")
    await publisher.update()
    after = await heads(publisher)
    [changed] = [key for key in before if before[key] != after[key]]
    assert changed == ((await issuing(bench)).id, serial % 16)
    assert after[changed].number > before[changed].number


async def test_revocations_since_the_last_signing_share_one(
    bench: Workbench, publisher: RevocationPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await revoke(bench, f"dev-{number}")
    signings: list[int] = []
    real = publishing.sign_crl

    def sign(*arguments: object, **more: object) -> bytes:
        signings.append(1)
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(publishing, "sign_crl", sign)
    await publisher.update()
    shards = {await serial_of(bench, f"dev-{number}") % 16 for number in range(20)}
    assert len(signings) == len(shards) < 20


async def test_list_is_renewed_long_before_its_time_is_over(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    before = await heads(publisher)
    bench.clock.advance(DAY)
    await publisher.update()
    after = await heads(publisher)
    assert all(after[key].number > before[key].number for key in before)
    assert all(head.next_update - bench.clock.now() == 7 * DAY for head in after.values())


async def test_revocation_that_comes_while_a_list_is_made_is_on_the_next(
    bench: Workbench, publisher: RevocationPublisher, record: Recorder
) -> None:
    serials = {"dev-1": 0x13, "dev-2": 0x23}  # of one shard
    for device_id, serial in serials.items():
        await bench.register(device_id)
        device = await bench.registry.device(bench.made.namespace, device_id)
        assert await record(device, serial=serial)
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)

    async def revoke_the_other() -> None:
        await bench.registry.revoke(bench.made.namespace, "dev-2", by=SYSTEM)

    bench.store.before_write.append(revoke_the_other)  # the list is signed, and not kept yet
    await publisher.update()
    authority = await issuing(bench)
    assert set(await listed(publisher, authority, 3)) == {0x13}
    await publisher.update()
    assert set(await listed(publisher, authority, 3)) == {0x13, 0x23}


async def test_list_of_a_lower_number_never_replaces_one(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    found = await publisher.find((await issuing(bench)).id, 0)
    for number in (found.head.number, found.head.number - 1):
        older = PublishedList(found.head._replace(number=number), b"older")
        assert not await bench.store.write(lambda tx, o=older: revocation_lists.put(tx, o))
    assert await publisher.find((await issuing(bench)).id, 0) == found


# --- clocks


async def test_number_is_the_time_in_milliseconds(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    now = int(bench.clock.now().timestamp() * 1000)
    assert {head.number for head in await publisher.heads()} == {now}


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
async def test_number_does_not_go_back_with_the_clock(
    bench: Workbench, publisher: RevocationPublisher, restarted: bool
) -> None:
    before = await heads(publisher)
    bench.clock.set_back(3 * DAY)
    again = publisher_of(bench) if restarted else publisher
    await again.update()
    after = await heads(again)
    assert all(after[key].number == before[key].number + 1 for key in before)
    # And verifiers whose clocks are right can use the list.
    assert {head.this_update for head in after.values()} == {bench.clock.now()}


async def test_number_does_not_go_back_when_the_clock_comes_and_goes(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    authority, last = await issuing(bench), 0
    for days in (1, -300, 2, -1, 500, -90):
        by = timedelta(days=days)
        bench.clock.advance(by) if days > 0 else bench.clock.set_back(-by)
        await publisher.update()
        crl = await read(publisher, authority, 3)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        assert number > last
        last = number


async def test_expired_certificate_leaves_after_one_list_that_was_made_when_it_had_expired(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    serial = await revoke(bench, "dev-1")
    authority, shard = await issuing(bench), serial % 16
    bench.clock.advance(30 * DAY + HOUR)
    await publisher.update()
    assert serial in await listed(publisher, authority, shard)
    bench.clock.advance(DAY)
    await publisher.update()
    assert serial not in await listed(publisher, authority, shard)


async def test_certificate_that_was_revoked_after_it_had_expired_is_on_one_list_too(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    await bench.provision("dev-1")
    bench.clock.advance(60 * DAY)
    await publisher.update()
    bench.clock.advance(HOUR)
    await bench.registry.revoke(bench.made.namespace, "dev-1", by=SYSTEM)
    await publisher.update()
    serial = await serial_of(bench, "dev-1")
    assert serial in await listed(publisher, await issuing(bench), serial % 16)


async def test_certificate_that_left_while_the_clock_was_ahead_comes_back(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    serial = await revoke(bench, "dev-1")
    authority, shard = await issuing(bench), serial % 16
    for _ in range(2):
        bench.clock.advance(40 * DAY)
        await publisher.update()
    assert serial not in await listed(publisher, authority, shard)
    bench.clock.set_back(80 * DAY)
    await publisher.update()
    assert serial in await listed(publisher, authority, shard)


# --- keys that are away


async def test_list_stays_while_the_key_is_away_and_is_renewed_when_it_is_back(
    bench: Workbench, publisher: RevocationPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise Unavailable("the token is away")

    before = await heads(publisher)
    serial = await revoke(bench, "dev-1")
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(authorities, "signing_key", away)
        assert not await publisher.update()
    assert await heads(publisher) == before
    assert [log["reason"] for log in logs] == ["the token is away"]
    assert await publisher.update()
    assert serial in await listed(publisher, await issuing(bench), serial % 16)


async def test_ca_that_cannot_sign_keeps_no_other_from_it(
    bench: Workbench, publisher: RevocationPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, serial = await by_kind(bench, AuthorityKind.ROOT), await revoke(bench, "dev-1")
    real = authorities.signing_key

    def without_root(custody: object, authority: Authority) -> object:
        if authority.id == root.id:
            raise Unavailable("the token is away")
        return real(custody, authority)  # type: ignore[arg-type]

    bench.clock.advance(DAY)
    monkeypatch.setattr(authorities, "signing_key", without_root)
    assert not await publisher.update()
    assert serial in await listed(publisher, await issuing(bench), serial % 16)


async def test_lists_that_were_signed_before_the_key_went_away_are_published(
    bench: Workbench, publisher: RevocationPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, real, left = await issuing(bench), authorities.signing_key, 5

    def until_it_goes_away(custody: object, of: Authority) -> object:
        nonlocal left
        if of.id == authority.id:
            left -= 1
            if left < 0:
                raise Unavailable("the token is away")
        return real(custody, of)  # type: ignore[arg-type]

    bench.clock.advance(DAY)
    monkeypatch.setattr(authorities, "signing_key", until_it_goes_away)
    assert not await publisher.update()
    after = await heads(publisher)
    now = bench.clock.now()
    renewed = [
        shard
        for (of, shard), head in after.items()
        if of == authority.id and head.this_update == now
    ]
    assert sorted(renewed) == [0, 1, 2, 3, 4]


async def test_offline_root_keeps_its_last_list_and_says_that_it_is_behind(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    root = await by_kind(bench, AuthorityKind.ROOT)
    before = await publisher.find(root.id, 0)
    without_key(bench, root)
    bench.clock.advance(2 * DAY)
    revoke_authority(bench, await issuing(bench))
    with capture_logs() as logs:
        assert await publisher.update()
    assert await publisher.find(root.id, 0) == before
    [warning] = [log for log in logs if log["log_level"] == "warning"]
    assert warning["authority"] == root.id
    assert "not kept here" in warning["reason"]


async def test_list_of_an_offline_root_is_not_asked_for_only_because_it_is_old(
    bench: Workbench, publisher: RevocationPublisher
) -> None:
    without_key(bench, await by_kind(bench, AuthorityKind.ROOT))
    bench.clock.advance(2 * DAY)
    with capture_logs() as logs:
        assert await publisher.update()
    assert [log for log in logs if log["log_level"] == "warning"] == []


async def test_offline_root_whose_list_nobody_brought_has_none(bench: Workbench) -> None:
    root = await by_kind(bench, AuthorityKind.ROOT)
    without_key(bench, root)
    publisher = publisher_of(bench)
    with capture_logs() as logs:
        assert await publisher.update()
        with pytest.raises(NotFound):
            await publisher.find(root.id, 0)
    [warning] = [log for log in logs if log["log_level"] == "warning"]
    assert warning["authority"] == root.id


def revoke_authority(bench: Workbench, authority: Authority) -> None:
    with bench.sql() as connection:
        connection.execute(
            update(authorities_table)
            .where(authorities_table.c.id == authority.id)
            .values(revoked_at=bench.clock.now())
        )


def without_key(bench: Workbench, authority: Authority) -> None:
    with bench.sql() as connection:
        connection.execute(
            update(authorities_table)
            .where(authorities_table.c.id == authority.id)
            .values(sealed_key=None)
        )


# --- the duty


@asynccontextmanager
async def publishing_on(bench: Workbench) -> AsyncIterator[RevocationPublisher]:
    publisher = publisher_of(bench, timedelta(milliseconds=20))
    publisher.listen_to(bench.outbox)
    async with bench.reading_the_outbox():
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_revocation_is_published_without_being_asked_for(bench: Workbench) -> None:
    async with publishing_on(bench) as publisher, asyncio.timeout(30):
        serial = await revoke(bench, "dev-1")
        authority = await issuing(bench)
        while serial not in await listed(publisher, authority, serial % 16):
            await asyncio.sleep(0.02)


async def test_duty_survives_a_database_that_is_away(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_RETRY_SECONDS", 0.02)
    publisher = publisher_of(bench)

    async def fail() -> None:
        raise Unavailable("the database cannot answer now")

    bench.store.before_read.append(fail)
    task = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(30):
            while bench.store.before_read:
                await asyncio.sleep(0)
            while not await publisher.heads():
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- many


async def fill(bench: Workbench, record: Recorder, count: int) -> None:
    """Puts `count` revoked certificates of one device into the inventory."""
    await bench.provision("dev-1")
    [row] = await bench.inventory("dev-1")
    template = {
        "namespace_id": row.namespace_id,
        "authority_id": row.authority_id,
        "policy_id": row.policy_id,
        "device_key": row.device_key,
        "device_id": row.device_id,
        "generation": str(row.generation),
        "certificate": b"",
        "origin": row.origin.value,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "issued_at": row.issued_at,
        "revoked_at": row.issued_at,
        "revocation_reason": "superseded",
    }
    statement = insert(certificates).values(
        template | {"sha256": bindparam("sha256"), "serial": bindparam("serial")}
    )
    with bench.sql() as connection:
        connection.execute(
            statement,
            [
                {"sha256": n.to_bytes(32, "big"), "serial": format(1 << 150 | n, "x")}
                for n in range(count)
            ],
        )


async def test_a_hundred_thousand_are_published_in_seconds(
    bench: Workbench, publisher: RevocationPublisher, record: Recorder
) -> None:
    await fill(bench, record, 100_000)
    start = time.process_time()
    await publisher.update()
    assert time.process_time() - start < 5
    authority = await issuing(bench)
    assert sum([len(await read(publisher, authority, shard)) for shard in range(16)]) == 100_000


@pytest.mark.sqlite(reason="the plan is SQLite's")
async def test_list_is_read_from_the_index_of_what_was_revoked(bench: Workbench) -> None:
    with bench.sql() as connection:
        for query in (revocation_lists._COUNTS, revocation_lists._OF_DIGIT):
            sql = str(query._source.compile(dialect=connection.dialect))  # type: ignore[union-attr]
            values = (None,) * sql.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            assert "ix_certificates_revoked" in str(plan)
