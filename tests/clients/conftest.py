"""Foreign clients know their ports: each test gets a loopback address of its own."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet import Fleet

MQTT_PORT, HTTPS_PORT = 8883, 443


def free_address() -> str:
    """An address of 127/8 on which the SDKs' ports are free."""
    for _ in range(20):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.2"
        if is_free(address, MQTT_PORT) and is_free(address, HTTPS_PORT):
            return address
    pytest.skip(
        f"no loopback address lets us open ports {MQTT_PORT} and {HTTPS_PORT}, and the SDKs know no"
        " others"
    )


def is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


@pytest.fixture
async def public_fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """A server on the ports that SDKs have built in."""
    address = free_address()
    async with Fleet.running(
        tmp_path / "data",
        bind=address,
        hostname=address,
        mqtt_port=MQTT_PORT,
        https_port=HTTPS_PORT,
    ) as fleet:
        yield fleet
