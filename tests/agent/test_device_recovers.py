"""What a refused or unlucky device does, against a service that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents import Agent, agent
from cryptography.hazmat.primitives.asymmetric import ec
from scripted import Service, scripted, self_signed
from test_device_provisions import answer, error

from fleetroot.agent.backoff import Backoff
from fleetroot.agent.credential import SPREAD, Credential
from fleetroot.agent.device import Device, Onboarding
from fleetroot.agent.report import Happening
from fleetroot.agent.runner import Settings
from fleetroot.agent.state import DeviceFolder
from fleetroot.gateway.mqtt import ConnackCode
from fleetroot.pki import KeyType, to_pem

SECRET = bytes(range(64))
REPORTED = answer(204, None)


def folder_for(service: Service, path: Path, *, days_old: float = 0) -> DeviceFolder:
    """A folder with a device of the service, which provisions there as well."""
    folder = DeviceFolder.create(path)
    key, certificate = self_signed("dev-1")
    how = Onboarding("localhost", service.port, "0ne", "dev-1", service.ca, KeyType.EC_P256, SECRET)
    obtained_at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=days_old)
    folder.store(Device(how, "localhost", "dev-1", Credential(key, (certificate,)), obtained_at))
    return folder


async def run(worker: Agent) -> None:
    await asyncio.to_thread(worker.runner.run)


async def test_refused_certificate_leads_to_provisioning(tmp_path: Path, folder_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.connack = [ConnackCode.NOT_AUTHORIZED]
        service.replies = [error(401)]
        worker = agent(folder_for(service, folder_path), stop_after=1)
        await run(worker)
    assert worker.happenings()[:2] == [Happening.REFUSED, Happening.PROVISIONING]
    assert not worker.bell.pauses[1:]


async def test_unavailable_hub_does_not_lead_to_provisioning(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        service.connack = [ConnackCode.SERVER_UNAVAILABLE] * 5
        worker = agent(folder_for(service, folder_path), stop_after=5)
        await run(worker)
    assert set(worker.happenings()) == {Happening.WAITING, Happening.STOPPED}
    assert len(service.connects) == 5


async def test_network_that_is_down_does_not_lead_to_provisioning(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        folder = folder_for(service, folder_path)
    worker = agent(folder, stop_after=5)
    await run(worker)
    assert set(worker.happenings()) == {Happening.WAITING, Happening.STOPPED}


async def test_server_that_is_not_trusted_does_not_lead_to_provisioning(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        folder = folder_for(service, folder_path)
        _, other = self_signed("other")
        device = folder.load()
        fields = {n: getattr(device.onboarding, n) for n in Onboarding.__slots__}
        folder.store(
            Device(
                Onboarding(**fields | {"ca": to_pem([other])}),
                "localhost",
                "dev-1",
                device.credential,
                device.obtained_at,
            )
        )
        worker = agent(folder, stop_after=3)
        await run(worker)
    assert set(worker.happenings()) == {Happening.WAITING, Happening.STOPPED}
    assert not service.connects


async def test_only_the_second_tls_alert_leads_to_provisioning(
    tmp_path: Path, folder_path: Path
) -> None:
    _, foreign = self_signed("foreign")
    with scripted(tmp_path, client_ca=foreign) as service:
        worker = agent(folder_for(service, folder_path), stop_after=2)
        await run(worker)
    assert worker.happenings() == [
        Happening.REFUSED,
        Happening.WAITING,
        Happening.REFUSED,
        Happening.PROVISIONING,
        Happening.WAITING,
        Happening.STOPPED,
    ]


async def test_new_certificate_that_is_refused_too_is_not_replaced_before_a_wait(
    tmp_path: Path, folder_path: Path
) -> None:
    """A hub that was never synchronized would cost a certificate an attempt, as fast as it goes."""
    with scripted(tmp_path) as service:
        service.connack = [
            ConnackCode.NOT_AUTHORIZED,
            ConnackCode.ACCEPTED,
            ConnackCode.NOT_AUTHORIZED,
        ]
        folder = folder_for(service, folder_path)
        worker = agent(folder, stop_after=1)
        worker.runner._keep(folder.load())
        await run(worker)
    assert worker.happenings() == [Happening.REFUSED, Happening.WAITING, Happening.STOPPED]


async def test_renewal_replaces_a_request_that_is_still_active(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        service.replies = [REPORTED, error(409), error(503)]
        worker = agent(folder_for(service, folder_path), Settings(renew_now=True))
        work = asyncio.create_task(run(worker))
        await worker.saw(Happening.FAILED)
        worker.bell.stop()
        await work
    first, second = (json.loads(body) for _, body in service.requests[1:3])
    assert "replace" not in first
    assert second["replace"] == "*"
    assert second["csr"] == first["csr"]


async def test_renewal_that_fails_leaves_the_connection_alone(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        service.replies = [REPORTED, error(503), error(400, "no policy")]
        folder = folder_for(service, folder_path)
        before = folder.load().credential.sha256
        worker = agent(folder, Settings(renew_now=True))
        work = asyncio.create_task(run(worker))
        await worker.saw(Happening.FAILED)
        worker.move(timedelta(seconds=2))
        failed = await worker.saw(Happening.FAILED)
        worker.bell.stop()
        await work
    assert "no policy" in failed.message
    assert len(service.connects) == 1
    assert folder.load().credential.sha256 == before


async def test_lost_connection_is_waited_for(tmp_path: Path, folder_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.replies = [REPORTED, None]
        worker = agent(
            folder_for(service, folder_path), Settings(telemetry_interval=60), stop_after=1
        )
        await run(worker)
    assert worker.happenings()[3:] == [Happening.LOST, Happening.WAITING, Happening.STOPPED]


async def test_agent_leaves_with_disconnect(tmp_path: Path, folder_path: Path) -> None:
    with scripted(tmp_path) as service:
        service.replies = [REPORTED]
        worker = agent(folder_for(service, folder_path))
        await asyncio.to_thread(worker.runner.run_once)
    assert service.disconnects == 1
    [connect] = service.connects
    assert connect.clean_session is False
    assert connect.keep_alive > 0


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(10, uniform=lambda _, high: high)
    assert [backoff.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    backoff.reset()
    assert backoff.next() == 1


def test_wait_that_the_server_asks_for_comes_on_top() -> None:
    backoff = Backoff(10, uniform=lambda _, high: high)
    assert backoff.next(30) == 31
    assert backoff.next(1e9) == 3602


def test_waits_are_spread_over_their_whole_window() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    assert Backoff(10, uniform=uniform).next() == 0
    assert asked == [(0, 1)]


def test_renewals_of_a_fleet_are_spread() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    shares = []
    for _ in range(50):
        _, certificate = self_signed("dev-1")
        credential = Credential(key, (certificate,))
        due = credential.renew_at(2 / 3)
        assert due == credential.renew_at(2 / 3)
        shares.append((due - credential.not_before) / credential.lifetime)
    assert all(abs(share - 2 / 3) <= SPREAD for share in shares)
    assert max(shares) - min(shares) > SPREAD


def test_clock_that_runs_ahead_does_not_renew_without_end(
    tmp_path: Path, folder_path: Path
) -> None:
    with scripted(tmp_path) as service:
        device = folder_for(service, folder_path).load()
    credential = device.credential
    ahead = device.renewed(credential, credential.not_after)
    assert ahead.renew_at(2 / 3) == credential.not_after + credential.lifetime * SPREAD
