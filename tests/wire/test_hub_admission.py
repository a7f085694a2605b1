"""Who a hub lets in by certificate: every refusal at CONNECT, and its reason for the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from structlog.testing import capture_logs

from fleet import Certified, Fleet, device_csr, refusal
from fleetroot.audit import SYSTEM
from fleetroot.clock import ManualClock
from fleetroot.errors import Unavailable
from fleetroot.gateway.mqtt import ConnackCode, Connect
from fleetroot.gateway.names import HUB_VERSIONS
from fleetroot.registry import devices
from fleetroot.registry.issuance import Issuance
from fleetroot.storage import Transaction

NOT_AUTHORIZED = ConnackCode.NOT_AUTHORIZED


UNREADABLE = x509.UnrecognizedExtension(  # an x400Address
    x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000")
)


def foreign(
    device_id: str, *, self_signed: bool = False, extra: tuple[x509.ExtensionType, ...] = ()
) -> Certified:
    """A certificate for the device of a CA that is not ours, or of none."""
    key, ca_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Other CA")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if self_signed else ca_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    for each in extra:
        builder = builder.add_extension(each, critical=False)
    certificate = builder.sign(key if self_signed else ca_key, hashes.SHA384())
    return Certified((certificate.public_bytes(Encoding.DER),), key)


async def stolen(fleet: Fleet, device_id: str) -> Certified:
    """A certificate signed with our issuing key, perfect but for the inventory."""
    server = fleet.server
    namespace = await server.registry.namespace("default")
    policy = await server.registry.policy(namespace, "default")
    issuer = await Issuance(server.store, server._custody).issuer_of(policy.id)
    device = await server.store.read(lambda tx: devices.get(tx, namespace.id, device_id))
    key, _ = device_csr(device_id)
    leaf = issuer.profile.issue(
        issuer.key,
        key.public_key(),
        device_id=device.device_id,
        generation=device.generation,
        now=server.clock.now(),
    )
    return Certified((leaf.der, *issuer.chain), key)


async def test_issued_certificate_is_let_in(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified) as mqtt:
        assert not mqtt.session_present
    assert await fleet.refusals() == {}


async def test_certificate_with_its_whole_chain_is_let_in(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, whole_chain=True):
        assert await fleet.refusals() == {}


@pytest.mark.parametrize("version", sorted(HUB_VERSIONS))
async def test_every_api_version_of_the_sdks_is_let_in(fleet: Fleet, version: str) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, version=version):
        pass


@pytest.mark.parametrize("self_signed", [False, True])
async def test_certificate_of_a_foreign_ca_is_refused(fleet: Fleet, self_signed: bool) -> None:
    await fleet.provision("dev-1")
    certified = foreign("dev-1", self_signed=self_signed)
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate of a foreign CA": 1}


async def test_certificate_that_cannot_be_read_is_refused_like_any_other(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    certified = foreign("dev-1", extra=(UNREADABLE,))
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate of a foreign CA": 1}


async def test_certificate_that_we_never_issued_is_refused_and_reported_as_theft(
    fleet: Fleet,
) -> None:
    await fleet.provision("dev-1")
    certified = await stolen(fleet, "dev-1")
    with capture_logs() as logs:
        assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    [report] = [entry for entry in logs if entry["log_level"] == "critical"]
    assert report["event"].startswith("possible CA theft")
    assert report["device_id"] == "dev-1"
    assert await fleet.refusals() == {"certificate not in the inventory": 1}


@pytest.mark.parametrize("device", ["disabled", "unknown", "keys", "unsynchronized"])
async def test_theft_is_reported_whatever_else_is_wrong(fleet: Fleet, device: str) -> None:
    await fleet.provision("dev-1")
    if device == "disabled":
        await fleet.http.post("/fleetroot/devices/dev-1/disable")
    elif device == "keys":
        key, _ = await fleet.enroll("dev-1")
        await fleet.register("dev-1", token=fleet.provisioning_token("dev-1", key))
    elif device == "unsynchronized":
        await fleet.execute("DELETE FROM hub_authorities")
    name = "dev-2" if device == "unknown" else "dev-1"
    certified = await stolen(fleet, "dev-1")
    with capture_logs() as logs:
        assert await refusal(fleet.connect(name, certified)) is NOT_AUTHORIZED
    [report] = [entry for entry in logs if entry["log_level"] == "critical"]
    assert report["device_id"] == name


async def test_foreign_certificate_is_not_reported_as_theft(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    with capture_logs() as logs:
        await refusal(fleet.connect("dev-1", foreign("dev-1")))
    assert [entry for entry in logs if entry["log_level"] == "critical"] == []


async def test_certificate_of_another_device_is_refused(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    other = await fleet.provision("dev-2")
    assert await refusal(fleet.connect("dev-1", other)) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate of another device": 1}


async def test_expired_certificate_is_refused(timed_fleet: Fleet, clock: ManualClock) -> None:
    certified = await timed_fleet.provision("dev-1")
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=1))
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await timed_fleet.refusals() == {"certificate expired": 1}


async def test_expired_certificate_is_not_revived_by_setting_the_clock_back(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=1))
    await refusal(timed_fleet.connect("dev-1", certified))
    clock.set_back(timedelta(days=5))
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await timed_fleet.refusals() == {"certificate expired": 2}


async def test_certificate_that_expired_unseen_is_not_revived_either(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=1))
    await timed_fleet.server.registry.mark_expired()
    clock.set_back(timedelta(days=5))
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED


async def test_certificate_is_good_until_its_last_second(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() - timedelta(seconds=1))
    async with await timed_fleet.connect("dev-1", certified):
        pass


async def test_certificate_that_is_not_valid_yet_is_refused(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    certified = await timed_fleet.provision("dev-1")
    clock.set_back(clock.now() - certified.leaf.not_valid_before_utc + timedelta(seconds=1))
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await timed_fleet.refusals() == {"certificate not yet valid": 1}


async def test_disabled_device_is_refused_until_it_is_enabled(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    await fleet.http.post("/fleetroot/devices/dev-1/enable")
    async with await fleet.connect("dev-1", certified):
        pass


async def test_disabling_a_device_drops_its_connection(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    await fleet.http.post("/fleetroot/devices/dev-1/disable")
    await mqtt.wait_closed()
    [certificate] = await fleet.certificates("dev-1")
    assert certificate["status"] == "valid"


async def test_revoked_certificate_is_refused_after_the_device_came_back(fleet: Fleet) -> None:
    old = await fleet.provision("dev-1")
    await fleet.http.post("/fleetroot/devices/dev-1/revoke")
    await fleet.provision("dev-1")
    assert await refusal(fleet.connect("dev-1", old)) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"certificate revoked": 1}


async def test_revoking_one_device_leaves_others_connected(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    other = await fleet.provision("dev-2")
    async with await fleet.connect("dev-2", other) as mqtt:
        await fleet.http.post("/fleetroot/devices/dev-1/revoke")
        await mqtt.publish("devices/dev-2/messages/events/", b"still here")


async def test_device_without_a_certificate_is_refused(fleet: Fleet) -> None:
    await fleet.provision("dev-1")
    assert await refusal(fleet.connect("dev-1")) is NOT_AUTHORIZED


async def test_unknown_device_is_refused(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    assert await refusal(fleet.connect("dev-9", certified)) is NOT_AUTHORIZED


async def test_hub_that_was_not_synchronized_refuses(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    await fleet.execute("DELETE FROM hub_authorities")
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"issuing CA not synchronized to this hub": 1}


async def test_unknown_hub_is_refused(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    code = await refusal(fleet.connect("dev-1", certified, host="other.example"))
    assert code is NOT_AUTHORIZED
    assert await fleet.refusals() == {"no such hub": 1}


async def test_hub_is_named_in_any_case(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified, host=fleet.hub_host.upper()):
        pass


async def test_unknown_api_version_is_refused(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    assert await refusal(fleet.connect("dev-1", certified, version="2031-01-01")) is NOT_AUTHORIZED
    assert await fleet.refusals() == {"unknown api-version": 1}


async def test_client_id_that_is_not_the_device_is_refused(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    username = f"{fleet.hub_host}/dev-1/?api-version=2021-04-12"
    code = await refusal(fleet.attach(Connect("dev-2", username=username), certified))
    assert code is ConnackCode.BAD_USERNAME_OR_PASSWORD


async def test_module_that_does_not_exist_is_refused(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    username = f"{fleet.hub_host}/dev-1/mod/?api-version=2021-04-12"
    code = await refusal(fleet.attach(Connect("dev-1/mod", username=username), certified))
    assert code is NOT_AUTHORIZED


@pytest.mark.parametrize("away", ["read", "write"])
async def test_database_that_is_away_is_a_refusal_that_passes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    certified = await fleet.provision("dev-1")

    async def unavailable(_: object) -> None:
        raise Unavailable("the database cannot answer now")

    with monkeypatch.context() as patch:
        patch.setattr(fleet.server.store, away, unavailable)
        code = await refusal(fleet.connect("dev-1", certified))
    assert code is ConnackCode.SERVER_UNAVAILABLE
    assert len(fleet.server.hubs.live) == 0
    async with await fleet.connect("dev-1", certified):
        pass


async def test_newer_connection_closes_the_older(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    older = await fleet.connect("dev-1", certified)
    async with await fleet.connect("dev-1", certified) as newer:
        await older.wait_closed()
        await newer.publish("devices/dev-1/messages/events/", b"newer")
        device = (await fleet.http.get("/fleetroot/devices/dev-1")).json()
        assert len(device["connections"]) == 1


@pytest.mark.parametrize("disconnects", [True, False], ids=["DISCONNECT", "gone"])
async def test_connection_that_is_over_leaves_the_live_table(
    fleet: Fleet, disconnects: bool
) -> None:
    certified = await fleet.provision("dev-1")
    mqtt = await fleet.connect("dev-1", certified)
    if disconnects:
        await mqtt.close()
    else:
        mqtt.writer.transport.abort()
    async with await fleet.connect("dev-1", certified):
        status = (await fleet.http.get("/fleetroot/status")).json()
    assert status["connections"] == 1


# --- against a race


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
async def test_revocation_while_a_session_begins_leaves_none(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    certified = await fleet.provision("dev-1")
    namespace = await fleet.server.registry.namespace("default")
    write, decided = fleet.server.store.write, asyncio.Event()

    async def revoke_beside(unit: Callable[[Transaction], object]) -> object:
        monkeypatch.undo()
        try:
            begun = None if first else await write(unit)
            await fleet.server.registry.revoke(namespace, "dev-1", by=SYSTEM)
            await fleet.server._outbox.drain()
            return await write(unit) if first else begun
        finally:
            decided.set()

    monkeypatch.setattr(fleet.server.store, "write", revoke_beside)
    mqtt = await fleet.tls(certified)
    username = f"{fleet.hub_host}/dev-1/?api-version=2021-04-12"
    await mqtt.send(Connect("dev-1", username=username))
    await mqtt.wait_closed()
    await decided.wait()
    assert await refusal(fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    assert len(fleet.server.hubs.live) == 0


async def test_expired_certificate_is_marked_though_many_older_ones_wait_to_be(
    timed_fleet: Fleet, clock: ManualClock
) -> None:
    older = await timed_fleet.provision("dev-0")
    clock.advance(timedelta(seconds=10))
    certified = await timed_fleet.provision("dev-1")
    clock.advance(certified.leaf.not_valid_after_utc - clock.now() + timedelta(seconds=1))
    await refusal(timed_fleet.connect("dev-1", certified))
    clock.set_back(timedelta(days=5))
    assert await refusal(timed_fleet.connect("dev-1", certified)) is NOT_AUTHORIZED
    async with await timed_fleet.connect("dev-0", older):
        pass  # nobody saw this one expired
