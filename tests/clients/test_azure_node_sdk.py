"""The unmodified Azure SDKs for Node, in an environment of their own, as the device."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet import Certified, Fleet
from fleetroot.pki import to_pem
from manufacturer import Ca, group, individual, rsa_key, self_signed

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".node-sdk/node_modules"
SCRIPT = ROOT / "tests/clients/node/device.js"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not MODULES.exists(),
    reason="Node or its SDKs are missing: install nodejs and npm, and run `make test`",
)


class SdkFailed(Exception):
    """The SDK raised; its stderr says what."""


def shown(held: Certified) -> dict[str, str]:
    """A certificate with its chain, and its key, as the SDK takes them."""
    key = held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = map(x509.load_der_x509_certificate, held.chain)
    return {"cert": to_pem(chain), "key": key.decode()}


async def sdk(fleet: Fleet, key: bytes, **order: Any) -> dict[str, Any]:
    assert NODE is not None
    order = {
        "host": fleet.bootstrap["hostname"],
        "idScope": fleet.id_scope,
        "registrationId": "node-1",
        "symmetricKey": base64.b64encode(key).decode(),
        "telemetry": '{"t": 1}',
    } | order
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(SCRIPT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {"NODE_PATH": str(MODULES), "NODE_EXTRA_CA_CERTS": fleet.bootstrap["serverCaFile"]},
    )
    out, err = await process.communicate(json.dumps(order).encode())
    if process.returncode:
        raise SdkFailed(err.decode())
    return dict(json.loads(out))


@pytest.mark.parametrize("connect_by", ["mqtt", "mqtt-ws"])
@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_provisions_connects_and_works(
    public_fleet: Fleet, provision_by: str, connect_by: str
) -> None:
    key, _ = await public_fleet.enroll("node-1")
    saw = await sdk(public_fleet, key, provisionBy=provision_by, connectBy=connect_by)
    assert saw == {
        "status": "assigned",
        "hub": public_fleet.hub_host,
        "deviceId": "node-1",
        "reported": '{"t": 1}',
    }
    [event] = await public_fleet.events()
    assert event["text"] == '{"t": 1}'
    assert event["properties"] == {"sdk": "azure iot/device"}
    assert event["systemProperties"]["contentType"] == "application/json"


@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_with_a_key_of_the_group_provisions(
    public_fleet: Fleet, provision_by: str
) -> None:
    key = public_fleet.device_key("node-1")
    saw = await sdk(public_fleet, key, provisionBy=provision_by, payload={"model": "é"})
    assert saw["status"] == "assigned"


@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_with_a_wrong_key_is_told_unauthorized(
    public_fleet: Fleet, provision_by: str
) -> None:
    await public_fleet.enroll("node-1")
    with pytest.raises(SdkFailed, match="UnauthorizedError"):
        await sdk(public_fleet, b"x" * 64, provisionBy=provision_by)


@pytest.mark.parametrize("connect_by", ["mqtt", "mqtt-ws"])
@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_provisions_by_its_own_certificate_connects_and_works(
    public_fleet: Fleet, provision_by: str, connect_by: str
) -> None:
    held = self_signed("node-1", key=rsa_key(2048))
    await public_fleet.http.put("/enrollments/node-1", json={"attestation": individual(held)})
    how = {"provisionBy": provision_by, "connectBy": connect_by}
    saw = await sdk(public_fleet, b"", certificate=shown(held), **how)
    assert (saw["status"], saw["reported"]) == ("assigned", '{"t": 1}')


@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_with_a_certificate_of_the_groups_ca_provisions(
    public_fleet: Fleet, provision_by: str
) -> None:
    ca = Ca.line(3)
    await public_fleet.http.put("/enrollmentGroups/factory", json={"attestation": group(ca.top)})
    held = ca.device("node-1")
    saw = await sdk(public_fleet, b"", certificate=shown(held), provisionBy=provision_by)
    assert saw["status"] == "assigned"


@pytest.mark.parametrize("provision_by", ["mqtt", "mqtt-ws", "http"])
async def test_sdk_with_a_certificate_of_nobody_is_told_unauthorized(
    public_fleet: Fleet, provision_by: str
) -> None:
    held = self_signed("node-1")
    with pytest.raises(SdkFailed, match="UnauthorizedError"):
        await sdk(public_fleet, b"", certificate=shown(held), provisionBy=provision_by)
