"""Foreign clients know their ports: each test gets a loopback address of its own."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet
from webhook_server import WebhookServer

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
    async with public(tmp_path) as fleet:
        yield fleet


@pytest.fixture
async def strict_fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """The same, where a device may register once in four seconds."""
    async with public(
        tmp_path, registrations_per_device=1, registrations_per_device_per_second=0.25
    ) as fleet:
        yield fleet


@pytest.fixture
async def webhook(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with WebhookServer.running(tmp_path) as running:
        yield running


@pytest.fixture
async def calling_fleet(tmp_path: Path, webhook: WebhookServer) -> AsyncIterator[Fleet]:
    """Like `public_fleet`, and it may call `webhook`."""
    settings = {"webhook_ca": webhook.ca, "webhook_networks": ["127.0.0.0/8"]}
    async with public(tmp_path, **settings) as fleet:
        yield fleet


def public(tmp_path: Path, **settings: Any) -> AbstractAsyncContextManager[Fleet]:
    address = free_address()
    return Fleet.running(
        tmp_path / "data",
        bind=address,
        hostname=address,
        mqtt_port=MQTT_PORT,
        https_port=HTTPS_PORT,
        **settings,
    )
