"""The unmodified `azure-iot-device` SDK, in an environment of its own, as the device."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet import Certified, Fleet
from fleetroot.pki import to_pem
from manufacturer import Ca, group, individual, rsa_key, self_signed

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sdk/bin/python"
SCRIPT = ROOT / "demo/sdk_device.py"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the SDK's environment is missing: `make test` makes it"
)


class SdkFailed(Exception):
    """The SDK raised; its last line says what."""


async def sdk(job: str, fleet: Fleet, **order: Any) -> dict[str, Any]:
    order["ca"] = Path(fleet.bootstrap["serverCaFile"]).read_text()
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        str(SCRIPT),
        job,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(json.dumps(order).encode())
    if process.returncode:
        raise SdkFailed(err.decode())
    return dict(json.loads(out))


def key_order(fleet: Fleet, registration_id: str, key: bytes) -> dict[str, Any]:
    return {
        "host": fleet.bootstrap["hostname"],
        "registrationId": registration_id,
        "idScope": fleet.id_scope,
        "symmetricKey": base64.b64encode(key).decode(),
        "telemetry": '{"t": 1}',
    }


def files(held: Certified, path: Path) -> tuple[str, str]:
    """A certificate with its chain, and its key, as the SDK reads them."""
    certificate, key = path / "certificate.pem", path / "key.pem"
    certificate.write_text(to_pem(map(x509.load_der_x509_certificate, held.chain)))
    key.write_bytes(held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate), str(key)


def certificate_order(fleet: Fleet, device_id: str, held: Certified, path: Path) -> dict[str, Any]:
    certificate, key = files(replace(held, chain=held.chain[:1]), path)
    return {
        "hub": fleet.hub_host,
        "deviceId": device_id,
        "certificate": certificate,
        "key": key,
        "dates": {
            "notBefore": held.leaf.not_valid_before_utc.isoformat(),
            "notAfter": held.leaf.not_valid_after_utc.isoformat(),
        },
    }


over_either = pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])


@over_either
async def test_sdk_provisions_by_key_and_sends_telemetry(
    public_fleet: Fleet, websockets: bool
) -> None:
    key, _ = await public_fleet.enroll("sdk-1")
    order = key_order(public_fleet, "sdk-1", key)
    saw = await sdk("by-key", public_fleet, **order, websockets=websockets)
    assert saw == {"status": "assigned", "hub": public_fleet.hub_host, "deviceId": "sdk-1"}
    [event] = await public_fleet.events()
    assert event["text"] == '{"t": 1}'
    assert event["properties"] == {"sdk": "azure-iot-device"}
    assert event["systemProperties"]["contentType"] == "application/json"


@over_either
async def test_sdk_with_a_wrong_key_is_told_unauthorized(
    public_fleet: Fleet, websockets: bool
) -> None:
    await public_fleet.enroll("sdk-1")
    order = key_order(public_fleet, "sdk-1", b"x" * 64)
    with pytest.raises(SdkFailed, match="401"):
        await sdk("by-key", public_fleet, **order, websockets=websockets)


@over_either
async def test_sdk_connects_with_a_certificate_and_reads_its_dates_back(
    public_fleet: Fleet, tmp_path: Path, websockets: bool
) -> None:
    held = await public_fleet.provision("sdk-1")
    order = certificate_order(public_fleet, "sdk-1", held, tmp_path)
    saw = await sdk("by-certificate", public_fleet, **order, websockets=websockets)
    assert saw["reported"] == order["dates"]


@over_either
@pytest.mark.parametrize("by", ["individual", "group"])
async def test_sdk_provisions_by_certificate_and_sends_telemetry(
    public_fleet: Fleet, tmp_path: Path, websockets: bool, by: str
) -> None:
    ca = Ca.line(3)
    held = ca.device("sdk-1") if by == "group" else self_signed("sdk-1", key=rsa_key(2048))
    path = "enrollmentGroups/factory" if by == "group" else "enrollments/sdk-1"
    attestation = group(ca.top) if by == "group" else individual(held)
    await public_fleet.http.put(f"/{path}", json={"attestation": attestation})
    certificate, key = files(held, tmp_path)
    order = key_order(public_fleet, "sdk-1", b"") | {"certificate": certificate, "key": key}
    saw = await sdk("by-onboarding-certificate", public_fleet, **order, websockets=websockets)
    assert saw == {"status": "assigned", "hub": public_fleet.hub_host, "deviceId": "sdk-1"}
    [event] = await public_fleet.events()
    assert event["text"] == '{"t": 1}'


@over_either
async def test_sdk_with_a_certificate_of_nobody_is_told_unauthorized(
    public_fleet: Fleet, tmp_path: Path, websockets: bool
) -> None:
    certificate, key = files(self_signed("sdk-1"), tmp_path)
    order = key_order(public_fleet, "sdk-1", b"") | {"certificate": certificate, "key": key}
    with pytest.raises(SdkFailed, match="401"):
        await sdk("by-onboarding-certificate", public_fleet, **order, websockets=websockets)


async def test_sdk_with_a_revoked_certificate_is_refused(
    public_fleet: Fleet, tmp_path: Path
) -> None:
    held = await public_fleet.provision("sdk-1")
    await public_fleet.http.post("/fleetroot/devices/sdk-1/revoke")
    with pytest.raises(SdkFailed, match=r"(?i)not authori[sz]ed|unauthorized"):
        await sdk(
            "by-certificate",
            public_fleet,
            **certificate_order(public_fleet, "sdk-1", held, tmp_path),
        )


@over_either
async def test_sdk_that_is_told_to_come_back_comes_back(
    strict_fleet: Fleet, websockets: bool
) -> None:
    key, _ = await strict_fleet.enroll("sdk-1")
    token = strict_fleet.provisioning_token("sdk-1", key=key)
    assert (await strict_fleet.register("sdk-1", token=token)).status == 200
    order = key_order(strict_fleet, "sdk-1", key)
    saw = await sdk("by-key", strict_fleet, **order, websockets=websockets)
    assert saw["status"] == "assigned"
    assert (await strict_fleet.refusals())["device registers too often"] >= 1
