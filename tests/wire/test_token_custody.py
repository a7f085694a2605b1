"""CAs whose keys are in a PKCS#11 token: what devices and operators see of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from renewals import ANSWERS, ISSUE, renewed, request

from fleet import Answer, Fleet, device_csr
from fleetroot.audit import SYSTEM
from fleetroot.errors import NotFound, Unavailable
from openssl_ca import OpensslCa
from softhsm import CLIENT, MODULE, PIN, Daemon, SoftHsm, daemon_of, needs_daemon, needs_softhsm

pytestmark = needs_softhsm


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    return SoftHsm(tmp_path / "hsm", monkeypatch)


@pytest.fixture
def daemon(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with daemon_of(hsm, tmp_path, monkeypatch) as running:
        yield running


def running(
    tmp_path: Path, *, module: Path = MODULE, **token: Any
) -> AbstractAsyncContextManager[Fleet]:
    """A server whose CAs have their keys in the token."""
    pin = tmp_path / "pin"
    pin.write_text(PIN + "\n")
    pin.chmod(0o600)
    settings = {"module": module, "label": "fleet", "pin_file": pin, "retry_seconds": 0, **token}
    return Fleet.running(tmp_path / "data", tokens={"hsm": settings}, authority_keys="hsm")


async def asked(fleet: Fleet) -> Answer:
    """The answer to a device that asks for a certificate."""
    return await fleet.register("new", {"registrationId": "new", "csr": device_csr("new")[1]})


@pytest.fixture
async def token_fleet(tmp_path: Path, hsm: SoftHsm) -> AsyncIterator[Fleet]:
    async with running(tmp_path, timeout_seconds=30) as fleet:
        yield fleet


async def test_a_device_gets_a_certificate_of_a_ca_in_a_token(token_fleet: Fleet) -> None:
    certified = await token_fleet.provision("dev-1")
    leaf, issuing, root = (x509.load_der_x509_certificate(der) for der in certified.chain)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    async with await token_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS)
        assert (await renewed(mqtt)).leaf.issuer == leaf.issuer


async def test_the_keys_are_found_again_after_a_restart(tmp_path: Path, hsm: SoftHsm) -> None:
    async with running(tmp_path) as fleet:
        first = await fleet.provision("dev-1")
    async with running(tmp_path) as fleet:
        second = await fleet.provision("dev-2")
        assert first.chain[1:] == second.chain[1:]


async def test_a_successor_has_its_key_in_the_token_too(token_fleet: Fleet, hsm: SoftHsm) -> None:
    before = await token_fleet.provision("dev-1")
    namespace = await token_fleet.server.namespaces.get("default")
    await token_fleet.server.lifecycle.renew(namespace, "default", by=SYSTEM)
    after = await token_fleet.provision("dev-1")
    assert (after.chain[1] != before.chain[1], after.chain[2]) == (True, before.chain[2])
    hsm.take_away()
    assert (await asked(token_fleet)).status == 503


async def test_a_ca_of_a_root_of_somebody_else_signs_with_its_key_in_the_token(
    token_fleet: Fleet, hsm: SoftHsm, tmp_path: Path
) -> None:
    server, corp = token_fleet.server, OpensslCa.root(tmp_path / "corp")
    namespace = await server.namespaces.get("default")
    await server.policies.create(
        namespace, "plant", subject="CN=Plant 7", bring_your_own_root=True, by=SYSTEM
    )
    waiting = (await server.policies.get(namespace, "plant")).request
    assert waiting is not None
    chain = corp.sign(waiting.request) + corp.pem
    active = await server.lifecycle.activate(namespace, "plant", chain, by=SYSTEM)
    assert active.authority is not None
    hsm.take_away()
    shard = server.publisher.find(active.authority.id, 1)
    with pytest.raises(NotFound):
        await shard
    hsm.put_back()
    made = await server.publisher.find(active.authority.id, 1)
    certificate = x509.load_der_x509_certificate(active.authority.certificate)
    assert x509.load_der_x509_crl(made.der).is_signature_valid(certificate.public_key())  # type: ignore[arg-type]


async def test_the_root_cannot_revoke_its_issuer_while_the_token_is_away(
    token_fleet: Fleet, hsm: SoftHsm
) -> None:
    namespace = await token_fleet.server.namespaces.get("default")
    before = await token_fleet.server.policies.get(namespace, "default")
    hsm.take_away()
    with pytest.raises(Unavailable):
        await token_fleet.server.lifecycle.revoke_issuer(namespace, "default", by=SYSTEM)
    assert await token_fleet.server.policies.get(namespace, "default") == before


async def test_a_new_ca_is_in_software_unless_it_is_said_otherwise(
    tmp_path: Path, hsm: SoftHsm
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    pin.chmod(0o600)
    tokens = {"hsm": {"module": MODULE, "label": "fleet", "pin_file": pin}}
    async with Fleet.running(tmp_path / "data", tokens=tokens) as fleet:
        hsm.take_away()
        assert await fleet.provision("dev-1")


async def test_while_the_token_is_away_a_device_is_told_503(
    token_fleet: Fleet, hsm: SoftHsm
) -> None:
    hsm.take_away()
    answer = await asked(token_fleet)
    assert answer.status == 503
    assert answer.error_code == 503001
    assert "hsm" not in answer.body["message"]
    assert (await token_fleet.refusals())["token is away"] == 1


async def test_signing_goes_on_without_a_restart(token_fleet: Fleet, hsm: SoftHsm) -> None:
    hsm.take_away()
    assert (await asked(token_fleet)).status == 503
    hsm.put_back()
    assert await token_fleet.provision("dev-1")


async def test_a_renewal_is_told_503_and_the_next_one_succeeds(
    token_fleet: Fleet, hsm: SoftHsm
) -> None:
    certified = await token_fleet.provision("dev-1")
    async with await token_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.subscribe(ANSWERS)
        hsm.take_away()
        assert (await mqtt.ask(ISSUE, request())).status == 202
        assert (await mqtt.answer()).status == 503
        hsm.put_back()
        assert await renewed(mqtt, rid="2")


async def test_a_token_that_is_away_raises_an_alert_and_its_end(
    token_fleet: Fleet, hsm: SoftHsm, capsys: pytest.CaptureFixture[str]
) -> None:
    async def gauge() -> str:
        text = (await token_fleet.http.get("/metrics")).text
        return next(li for li in text.splitlines() if li.startswith("fleetroot_token_up{"))

    async def status() -> Any:
        return (await token_fleet.http.get("/fleetroot/status")).json()["tokens"]

    assert await gauge() == 'fleetroot_token_up{token="hsm"} 1.0'
    assert await status() == [{"name": "hsm", "away": None}]
    hsm.take_away()
    await asked(token_fleet)
    assert await gauge() == 'fleetroot_token_up{token="hsm"} 0.0'
    [away] = await status()
    assert away["away"].startswith("CKR_")
    hsm.put_back()
    await token_fleet.provision("dev-1")
    assert await gauge() == 'fleetroot_token_up{token="hsm"} 1.0'
    alerts = [line for line in capsys.readouterr().out.splitlines() if "alert=token" in line]
    assert ["token is away" in line for line in alerts] == [True, False]


async def test_who_is_connected_stays_so_while_the_token_is_away(
    token_fleet: Fleet, hsm: SoftHsm
) -> None:
    certified = await token_fleet.provision("dev-1")
    hsm.take_away()
    async with await token_fleet.connect("dev-1", certified) as mqtt:
        await mqtt.publish("devices/dev-1/messages/events/", b"still here")


async def test_a_server_starts_while_its_token_is_away(tmp_path: Path, hsm: SoftHsm) -> None:
    async with running(tmp_path) as fleet:
        certified = await fleet.provision("dev-1")
    hsm.take_away()
    async with running(tmp_path) as fleet:
        async with await fleet.connect("dev-1", certified):
            pass
        assert (await asked(fleet)).status == 503
        hsm.put_back()
        assert await fleet.provision("dev-2")


@needs_daemon
async def test_others_are_served_while_the_token_hangs(tmp_path: Path, daemon: Daemon) -> None:
    async with running(tmp_path, module=CLIENT, timeout_seconds=3) as fleet:
        connected = await fleet.provision("dev-1")
        daemon.hang()  # goes on when the test ends, however it does
        waiting = asyncio.create_task(asked(fleet))
        async with await fleet.connect("dev-1", connected) as mqtt:
            await mqtt.publish("devices/dev-1/messages/events/", b"served")
        assert not waiting.done()
        assert (await waiting).status == 503
        daemon.go_on()


@needs_daemon
async def test_a_server_stops_while_its_token_hangs(tmp_path: Path, daemon: Daemon) -> None:
    async with running(tmp_path, module=CLIENT, timeout_seconds=1) as fleet:
        assert await fleet.provision("dev-1")
        daemon.hang()


async def test_the_pin_is_in_no_setting_that_is_shown(tmp_path: Path, hsm: SoftHsm) -> None:
    token = {"module": MODULE, "label": "fleet", "pin": PIN}
    async with Fleet.running(tmp_path / "data", tokens={"hsm": token}) as fleet:
        assert PIN not in repr(fleet.server.settings)
