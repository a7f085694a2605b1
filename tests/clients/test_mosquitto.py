"""mosquitto's clients as devices of the hub."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet import HUB_VERSION, Fleet

pytestmark = pytest.mark.skipif(
    shutil.which("mosquitto_pub") is None, reason="apt-get install mosquitto-clients"
)


async def test_mosquitto_pub_sends_telemetry_with_an_operational_certificate(
    public_fleet: Fleet, tmp_path: Path
) -> None:
    held = await public_fleet.provision("mos-1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(held.leaf.public_bytes(Encoding.PEM))
    key.write_bytes(held.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub",
        *("-h", public_fleet.hub_host, "-p", str(public_fleet.bootstrap["mqttPort"])),
        *("-V", "mqttv311", "-q", "1", "-i", "mos-1"),
        *("-u", f"{public_fleet.hub_host}/mos-1/?api-version={HUB_VERSION}"),
        *("--cafile", public_fleet.bootstrap["serverCaFile"]),
        *("--cert", str(certificate), "--key", str(key)),
        *("-t", "devices/mos-1/messages/events/", "-m", "hello"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert [event["text"] for event in await public_fleet.events()] == ["hello"]
