"""What anybody may ask: health, metrics from this machine, and CA certificates in the clear."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

import database
from fleet import Fleet
from fleetroot.clock import ManualClock
from fleetroot.errors import Unavailable


def anonymous(fleet: Fleet, port: str = "httpsPort", **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://{fleet.bootstrap['hostname']}:{fleet.bootstrap[port]}",
        headers=headers,
        verify=fleet.trust(),
    )


def plain(fleet: Fleet) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://localhost:{fleet.bootstrap['httpPort']}")


@pytest.mark.parametrize("port", ["httpsPort", "consolePort"])
async def test_health_is_for_everybody(fleet: Fleet, port: str) -> None:
    async with anonymous(fleet, port) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_health_is_503_while_the_database_is_away(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(_: object) -> None:
        raise Unavailable("the database cannot answer now", retry_after=5)

    with monkeypatch.context() as patch:
        patch.setattr(fleet.server.store, "read", unavailable)
        answer = await fleet.http.get("/healthz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


async def test_health_is_503_while_nothing_can_be_written(
    timed_fleet: Fleet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise database.full()

    assert (await timed_fleet.http.get("/healthz")).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(timed_fleet.server.store, "_commit", full)
        clock.advance(timedelta(seconds=5))
        for _ in range(2):
            answer = await timed_fleet.http.get("/healthz")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
    assert (await timed_fleet.http.get("/healthz")).status_code == 200


async def test_health_writes_once_in_a_few_seconds_however_often_it_is_asked(
    timed_fleet: Fleet,
) -> None:
    kept = []
    for _ in range(3):
        await timed_fleet.http.get("/healthz")
        kept.append(timed_fleet.rows("installation"))
    assert kept[0] == kept[1] == kept[2]


async def test_metrics_tell_connections_and_refusals(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    async with await fleet.connect("dev-1", certified), anonymous(fleet) as client:
        text = (await client.get("/metrics")).text
    assert "fleetroot_hub_sessions 1.0" in text
    assert fleet.bootstrap["adminToken"] not in text


async def test_what_anybody_asks_for_is_no_value_of_a_metric(fleet: Fleet) -> None:
    async with plain(fleet) as client:
        await client.get("/pki/anything-at-all/ca.cer")
        await client.get("/anything-at-all")
    assert not any("anything" in reason for reason in await fleet.refusals())


async def test_url_in_a_leaf_leads_to_its_issuing_ca(fleet: Fleet) -> None:
    certified = await fleet.provision("dev-1")
    access = certified.leaf.extensions.get_extension_for_oid(
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS
    ).value
    assert isinstance(access, x509.AuthorityInformationAccess)
    [url] = [
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    ]
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
    assert answer.headers["content-type"] == "application/pkix-cert"
    assert answer.content == certified.chain[1]


async def test_every_ca_is_served_in_the_clear(fleet: Fleet) -> None:
    authorities = (await fleet.http.get("/fleetroot/status")).json()["authorities"]
    assert sorted(authority["kind"] for authority in authorities) == ["issuing", "root"]
    async with plain(fleet) as client:
        for authority in authorities:
            answer = await client.get(f"/pki/{authority['id']}/ca.cer")
            x509.load_der_x509_certificate(answer.content)


@pytest.mark.parametrize("port", ["httpsPort", "consolePort"])
async def test_nobody_is_told_what_routes_there_are(fleet: Fleet, port: str) -> None:
    async with anonymous(fleet, port) as client:
        assert (await client.get("/openapi.json")).status_code == 401
        for path in ("/docs", "/redoc"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/pki/x/ca.cer",
        "/healthz",
        "/metrics",
        "/fleetroot/devices",
        "/enrollmentGroups/default",
        "/openapi.json",
        "/docs",
        "/redoc",
    ],
)
async def test_plain_port_serves_nothing_else(fleet: Fleet, path: str) -> None:
    async with plain(fleet) as client:
        answer = await client.get(path)
    assert answer.status_code == 404
