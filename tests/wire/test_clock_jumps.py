"""The machine's clock is set back and forward under a running server, and between two starts.

Only the wall clock jumps; what measures durations goes on. TLS clients look at the machine's true
time, so a server that ought to be reachable must show a certificate that is valid then.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from renewals import ANSWERS, ISSUE, renewed, request

from fleet import SECONDS, Certified, Fleet, device_csr, refusal
from fleetroot import app
from fleetroot.clock import ManualClock
from fleetroot.gateway.mqtt import ConnackCode

NOT_AUTHORIZED = ConnackCode.NOT_AUTHORIZED
DAYS = timedelta(days=1)
TOPIC = "devices/dev-1/messages/events/"


def jump(clock: ManualClock, by: timedelta) -> None:
    """Sets the wall clock alone, forward or back."""
    clock.set_back(-by)


def true_time() -> ManualClock:
    return ManualClock(datetime.now(UTC).replace(microsecond=0))


async def expire(fleet: Fleet, clock: ManualClock, certified: Certified) -> None:
    """Jumps behind the certificate's end, and does what a server does once a minute."""
    jump(clock, certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=1))
    await fleet.server.registry.mark_expired()


async def duties(fleet: Fleet) -> None:
    """What a server does once a minute, and once an hour."""
    server = fleet.server
    for duty in (
        server.registry.mark_expired,
        server.hubs.end_expired,
        server.hubs.remove_old_events,
        server.hubs.renewal.remove_expired,
        server._renew_server_certificate,
        server._outbox.prune,
    ):
        await duty()


@asynccontextmanager
async def on_foot(data: Path, clock: ManualClock) -> AsyncIterator[Fleet]:
    """A server of a data folder, at the time of `clock`."""
    async with Fleet.running(data, clock=clock) as running:
        yield running


# --- certificates


async def test_certificate_expires_at_once_when_the_clock_is_set_forward(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    jump(clock, 31 * DAYS)
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_connection_ends_when_the_clock_is_set_forward_behind_its_certificate(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    mqtt = await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1"))
    jump(clock, 31 * DAYS)
    await duties(timed_fleet)
    await mqtt.wait_closed()


async def test_connection_stays_when_the_clock_is_set_forward_less_than_that(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    async with await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1")) as mqtt:
        jump(clock, 20 * DAYS)
        await duties(timed_fleet)
        await mqtt.publish(TOPIC, b"still here")


async def test_expired_certificate_stays_expired_over_a_restart_with_the_clock_set_back(
    tmp_path: Path,
) -> None:
    clock = true_time()
    async with on_foot(tmp_path / "data", clock) as fleet:
        certified = await fleet.provision("dev-1")
        await expire(fleet, clock, certified)
    async with on_foot(tmp_path / "data", true_time()) as fleet:
        assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_certificate_that_expired_while_no_server_ran_stays_expired(tmp_path: Path) -> None:
    clock = true_time()
    async with on_foot(tmp_path / "data", clock) as fleet:
        certified = await fleet.provision("dev-1")
    jump(clock, 31 * DAYS)
    async with on_foot(tmp_path / "data", clock):
        pass  # seen at the start
    async with on_foot(tmp_path / "data", true_time()) as fleet:
        assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_device_whose_certificate_expired_by_a_wrong_clock_provisions_again(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    before = clock.now()
    await expire(timed_fleet, clock, await timed_fleet.provision("dev-1"))
    jump(clock, before - clock.now())
    async with await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1")):
        pass


async def test_certificate_from_the_future_counts_only_when_its_time_has_come(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    jump(clock, 10 * DAYS)
    certified = await timed_fleet.provision("dev-1")
    jump(clock, -10 * DAYS)
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    jump(clock, 10 * DAYS)
    async with await timed_fleet.connect("dev-1", certified):
        pass


async def test_revocation_holds_whatever_the_clock_does_next(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    await timed_fleet.http.post("/fleetroot/devices/dev-1/revoke")
    for days in (-10, 5, 10, -20):
        jump(clock, days * DAYS)
        assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_inventory_is_in_the_order_of_issuing_whatever_the_clock_said(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    issued = []
    for days in (0, 5, -3, 0):
        jump(clock, days * DAYS)
        certified = await timed_fleet.provision("dev-1")
        issued.append(format(certified.leaf.serial_number, "x"))
    listed = [certificate["serialNumber"] for certificate in await timed_fleet.certificates()]
    assert listed == issued[::-1]
    assert len(set(issued)) == len(issued)


# --- authorities


@pytest.mark.parametrize("days", [-30, 6 * 365], ids=["before its time", "after it"])
async def test_authority_signs_nothing_outside_its_time_and_again_within(
    timed_fleet: Fleet, clock: ManualClock, days: int
) -> None:
    before = clock.now()
    jump(clock, days * DAYS)
    answer = await timed_fleet.register("dev-1", {"csr": device_csr("dev-1")[1]})
    assert (answer.status, answer.error_code) == (503, 503001)
    assert int(answer.query["retry-after"]) > 0
    assert timed_fleet.rows("devices") == []
    jump(clock, before - clock.now())
    await timed_fleet.provision("dev-1")


# --- tokens


async def test_token_expires_at_once_when_the_clock_is_set_forward(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    token = timed_fleet.provisioning_token("dev-1")
    jump(clock, timedelta(hours=2))
    assert (await timed_fleet.register("dev-1", token=token)).status == 401


async def test_connection_with_a_token_ends_when_the_clock_is_set_forward(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    await timed_fleet.enroll("dev-1")
    key, _ = await timed_fleet.enroll("dev-1", again=True)
    await timed_fleet.register("dev-1", token=timed_fleet.provisioning_token("dev-1", key))
    mqtt = await timed_fleet.connect("dev-1", token=timed_fleet.hub_token("dev-1", key))
    jump(clock, timedelta(hours=2))
    await duties(timed_fleet)
    await mqtt.wait_closed()


# --- renewal


async def test_device_renews_whatever_the_clock_did_since(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    async with await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1")) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        for number, days in enumerate((10, -9, 5)):
            jump(clock, days * DAYS)
            certified = await renewed(mqtt, rid=f"{number}")
    async with await timed_fleet.connect("dev-1", certified):
        pass


async def test_answer_that_was_left_by_a_clock_that_was_ahead_blocks_nobody(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    """Its time is over days later than anybody meant."""
    certified = await timed_fleet.provision("dev-1")
    jump(clock, 5 * DAYS)
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish(f"{ISSUE}?$rid=left", request(), qos=0)  # and nobody listens
    while len(timed_fleet.rows("certificates")) < 2:
        await asyncio.sleep(0.01)
    jump(clock, -5 * DAYS)
    async with await timed_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS, qos=1)
        left = [await mqtt.answer() for _ in range(2)]
        assert [(a.query["$rid"], a.status) for a in left] == [("left", 202), ("left", 200)]
        await renewed(mqtt, rid="mine")


# --- events, lease, outbox


async def test_events_stay_in_the_order_of_their_coming(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    async with await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1")) as mqtt:
        for body, days in ((b"1", 3), (b"2", -5), (b"3", 0)):
            await mqtt.publish(TOPIC, body)
            jump(clock, days * DAYS)
    assert [event["text"] for event in await timed_fleet.events()] == ["1", "2", "3"]


async def test_events_are_kept_for_their_time_after_the_clock_was_set_back(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    async with await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1")) as mqtt:
        await mqtt.publish(TOPIC, b"1")
        jump(clock, -2 * DAYS)
        await mqtt.publish(TOPIC, b"2")
        await duties(timed_fleet)
        assert [event["text"] for event in await timed_fleet.events()] == ["1", "2"]
        jump(clock, 2 * DAYS + timedelta(hours=1))  # the second is older by the clock
        await duties(timed_fleet)
    assert [event["text"] for event in await timed_fleet.events()] == ["1"]


async def test_lease_is_not_lost_to_a_jump(timed_fleet: Fleet, clock: ManualClock) -> None:
    mqtt = await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1"))
    for days in (1, -2):
        jump(clock, days * DAYS)
        await timed_fleet.server._outbox.drain()
    assert timed_fleet.server._outbox.has_lease
    await mqtt.publish(TOPIC, b"still here")
    await mqtt.close()


async def test_revocation_is_heard_though_its_notice_is_old_by_the_clock(
    timed_fleet: Fleet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Revoked, and at once the clock is set forward and old notices are removed."""
    server = timed_fleet.server
    mqtt = await timed_fleet.connect("dev-1", await timed_fleet.provision("dev-1"))
    hold, drain = asyncio.Event(), server._outbox.drain

    async def held() -> None:
        await hold.wait()
        await drain()

    monkeypatch.setattr(server._outbox, "drain", held)
    await timed_fleet.http.post("/fleetroot/devices/dev-1/revoke")
    jump(clock, DAYS)
    await server._outbox.prune()
    hold.set()
    await mqtt.wait_closed()


# --- the server's certificate


async def shown(fleet: Fleet) -> dict[str, object]:
    """The certificate of the MQTT port, to a client that looks at the true time."""
    _, writer = await asyncio.open_connection(
        fleet.bootstrap["bind"],
        fleet.bootstrap["mqttPort"],
        ssl=fleet.trust(),
        server_hostname=fleet.bootstrap["hostname"],
    )
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return dict(found.getpeercert() or {})


async def test_server_that_renewed_its_certificate_by_a_wrong_clock_is_reachable_after_it(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    jump(clock, 80 * DAYS)
    await duties(timed_fleet)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        await shown(timed_fleet)
    jump(clock, -80 * DAYS)
    await duties(timed_fleet)
    await shown(timed_fleet)


async def test_certificate_that_is_still_good_is_kept_when_the_clock_is_set_back(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    before = await shown(timed_fleet)
    jump(clock, -timedelta(minutes=4))
    await duties(timed_fleet)
    assert await shown(timed_fleet) == before


async def test_server_starts_with_a_clock_from_before_its_first_start(tmp_path: Path) -> None:
    """A board without a battery; it asks for the time a little later."""
    async with on_foot(tmp_path / "data", true_time()) as fleet:
        certified = await fleet.provision("dev-1")
    clock = ManualClock(datetime(1970, 1, 2, tzinfo=UTC))
    async with on_foot(tmp_path / "data", clock) as fleet:
        assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
        jump(clock, datetime.now(UTC) - clock.now())
        await duties(fleet)
        async with await fleet.connect("dev-1", certified):
            pass


async def test_server_sees_a_jump_by_itself(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above do for it, it does once a minute."""
    monkeypatch.setattr(app, "_SHORT_DUTIES", 0.02)
    async with on_foot(tmp_path / "data", clock) as fleet:
        mqtt = await fleet.connect("dev-1", await fleet.provision("dev-1"))
        server = fleet.server
        namespace = await server.registry.namespace("default")
        first = server._certificate
        jump(clock, 80 * DAYS)
        await mqtt.wait_closed()
        async with asyncio.timeout(SECONDS):
            while (ahead := server._certificate) is first:
                await asyncio.sleep(0.01)
            while (await server.registry.certificates(namespace))[0].expired_at is None:
                await asyncio.sleep(0.01)
            jump(clock, -80 * DAYS)
            while server._certificate is ahead:
                await asyncio.sleep(0.01)
        await shown(fleet)
