"""The certified `oidc-provider` for Node as the issuer: discovery, keys, rotation, absence."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet import Fleet

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".node-sdk/node_modules"
SCRIPT = ROOT / "tests/clients/node/issuer.js"
NODE = shutil.which("node")
AUDIENCE = "https://fleetroot.example"
CLIENTS = {
    "admin": {"secret": "s1", "claims": {"roles": ["admins"]}},
    "viewer": {"secret": "s2", "claims": {"roles": ["viewers", "guests"]}},
    "nobody": {"secret": "s3", "claims": {}},
}
ROLES = {"admins": {"role": "owner"}, "viewers": {"role": "reader", "namespace": "default"}}

pytestmark = pytest.mark.skipif(
    NODE is None or not (MODULES / "oidc-provider").exists(),
    reason="Node or the issuer is missing: install nodejs and npm, and run `make test`",
)


@dataclass
class Issuer:
    """A running issuer."""

    url: str
    ca: str
    process: asyncio.subprocess.Process

    async def token(self, client: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": str(CLIENTS[client]["secret"]),
        }
        async with self._client() as http:
            answer = await http.post(f"{self.url}/token", data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def rotate(self) -> None:
        """It signs with a new key from now on, and publishes no other."""
        async with self._client() as http:
            assert (await http.post(f"{self.url}/rotate")).status_code == 200

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=ssl.create_default_context(cadata=self.ca))

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[Issuer]:
    assert NODE is not None
    key, certificate = tmp_path / "issuer.key", tmp_path / "issuer.pem"
    make_certificate(key, certificate)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"https://localhost:{port}"
    order = {
        "issuer": url,
        "port": port,
        "audience": AUDIENCE,
        "certificate": str(certificate),
        "key": str(key),
        "clients": CLIENTS,
    }
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(SCRIPT),
        json.dumps(order),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"NODE_PATH": str(MODULES)},
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"ready" not in (line := await process.stdout.readline()):
            assert line, "the issuer did not start"
    running = Issuer(url, certificate.read_text(), process)
    yield running
    await running.stop()


def make_certificate(key_file: Path, certificate_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


async def trust(fleet: Fleet, issuer: Issuer, **changes: Any) -> httpx.Response:
    body = {"issuer": issuer.url, "audience": AUDIENCE, "roles": ROLES, "ca": issuer.ca}
    return await fleet.http.put("/fleetroot/oidc-issuers/corp", json=body | changes)


async def ask(fleet: Fleet, token: str, method: str = "GET", path: str = "/status") -> int:
    answer = await fleet.http.request(
        method, f"/fleetroot{path}", headers={"authorization": f"Bearer {token}"}
    )
    return answer.status_code


async def test_tokens_open_what_their_claim_is_mapped_to(fleet: Fleet, issuer: Issuer) -> None:
    await fleet.provision("dev-1")
    admin, viewer, nobody = [await issuer.token(client) for client in CLIENTS]
    assert await ask(fleet, admin) == 401  # nobody knows this issuer yet
    assert (await trust(fleet, issuer)).status_code == 200
    assert [await ask(fleet, token) for token in (admin, viewer, nobody)] == [200, 200, 403]
    revoke = "/devices/dev-1/revoke"
    assert [await ask(fleet, token, "POST", revoke) for token in (viewer, admin)] == [403, 200]
    [entry] = (
        await fleet.http.get("/fleetroot/audit/entries", params={"subject": "device/dev-1"})
    ).json()["value"][:1]
    assert (entry["actorKind"], entry["actor"]) == ("oidc", "corp/admin")
    assert (await fleet.http.delete("/fleetroot/oidc-issuers/corp")).status_code == 204
    assert await ask(fleet, admin) == 401


async def test_token_for_another_audience_opens_nothing(fleet: Fleet, issuer: Issuer) -> None:
    assert (await trust(fleet, issuer, audience="https://other.example")).status_code == 200
    assert await ask(fleet, await issuer.token("admin")) == 401


async def test_new_key_of_the_issuer_is_fetched(
    timed_fleet: Fleet, clock: Any, issuer: Issuer
) -> None:
    await trust(timed_fleet, issuer)
    before = await issuer.token("admin")
    assert await ask(timed_fleet, before) == 200
    await issuer.rotate()
    assert await ask(timed_fleet, await issuer.token("admin")) == 401  # asked a moment ago
    clock.advance(timedelta(seconds=31))
    assert await ask(timed_fleet, await issuer.token("admin")) == 200
    assert await ask(timed_fleet, before) == 401


async def test_keys_are_good_for_a_while_when_the_issuer_is_away(
    timed_fleet: Fleet, clock: Any, issuer: Issuer
) -> None:
    await trust(timed_fleet, issuer)
    token = await issuer.token("admin")
    assert await ask(timed_fleet, token) == 200
    await issuer.stop()
    clock.advance(timedelta(seconds=60))
    assert await ask(timed_fleet, token) == 200


async def test_issuer_that_cannot_be_reached_is_503(fleet: Fleet, issuer: Issuer) -> None:
    await trust(fleet, issuer)
    token = await issuer.token("admin")
    await issuer.stop()
    assert await ask(fleet, token) == 503
    assert await ask(fleet, str(fleet.bootstrap["adminToken"])) == 200


async def test_issuer_that_is_not_trusted_is_503(fleet: Fleet, issuer: Issuer) -> None:
    await trust(fleet, issuer, ca=None)
    assert await ask(fleet, await issuer.token("admin")) == 503


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "http://id.example"},
        {"issuer": "id.example"},
        {"audience": ""},
        {"roles": {}},
        {"roles": {"x": {"role": "king"}}},
        {"ca": "not PEM"},
        {"roleClaim": ""},
        {"more": 1},
    ],
)
async def test_what_cannot_be_an_issuer_is_400(fleet: Fleet, changes: dict[str, Any]) -> None:
    body = {"issuer": "https://id.example", "audience": AUDIENCE, "roles": ROLES} | changes
    answer = await fleet.http.put("/fleetroot/oidc-issuers/corp", json=body)
    assert answer.status_code == 400, answer.text
