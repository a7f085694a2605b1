"""Limits of peers: every one is a setting, and the settings' defaults are the rooms' own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fleetroot.gateway.connection import MqttLimits
from fleetroot.gateway.tls import HttpLimits, TlsLimits
from fleetroot.limits import http_limits, mqtt_limits, tls_limits
from fleetroot.settings import Settings

FILES = 1_000_000
DOCUMENT = Path(__file__).parents[1] / "docs"

TLS = {
    "first_flight_seconds": ("first_flight", 1.5),
    "handshake_seconds": ("handshake", 20.5),
    "handshake_bytes": ("handshake_bytes", 5000),
    "handshake_steps": ("handshake_steps", 9),
    "max_handshakes": ("handshakes", 3),
    "max_handshakes_per_source": ("handshakes_per_source", 3),
    "max_strangers_per_source": ("strangers_per_source", 3),
    "max_connections": ("connections", 3),
    "write_buffer_bytes": ("write_buffer_cap", 70_000),
}
MQTT = {
    "connect_seconds": ("connect_seconds", 1.5),
    "connect_bytes": ("connect_bytes", 5000),
    "packet_bytes": ("packet_bytes", 5000),
    "keep_alive_seconds": ("keep_alive_seconds", 1.5),
    "unattested_seconds": ("unattested_seconds", 1.5),
    "failed_attestations": ("failed_attestations", 3),
    "max_waiting": ("waiting", 3),
    "write_buffer_bytes": ("write_buffer_bytes", 70_000),
}
HTTP = {
    "http_head_bytes": ("head_bytes", 5000),
    "http_head_seconds": ("head_timeout", 1.5),
    "http_body_seconds": ("body_timeout", 1.5),
    "http_keep_alive_seconds": ("keep_alive", 3),
}
ROOMS: list[tuple[Any, dict[str, tuple[str, float]]]] = [
    (lambda settings: tls_limits(settings, FILES), TLS),
    (mqtt_limits, MQTT),
    (http_limits, HTTP),
]


def test_defaults_of_settings_are_the_rooms_own() -> None:
    settings = Settings()
    assert tls_limits(settings, FILES) == TlsLimits()
    assert mqtt_limits(settings) == MqttLimits()
    assert http_limits(settings) == HttpLimits()


@pytest.mark.parametrize(
    ("make", "name", "field", "value"),
    [(make, name, *what) for make, names in ROOMS for name, what in names.items()],
)
def test_setting_sets_its_limit_and_no_other(
    make: Any, name: str, field: str, value: float
) -> None:
    default = make(Settings())
    assert make(Settings(**{name: value})) == dataclasses.replace(default, **{field: value})


def test_ports_share_the_open_files_that_there_are() -> None:
    assert tls_limits(Settings(), 2256).connections == 1000
    assert tls_limits(Settings(), 10).connections > 0


def test_first_flight_cannot_take_longer_than_the_handshake() -> None:
    with pytest.raises(ValidationError, match="first_flight_seconds"):
        Settings(first_flight_seconds=16)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - {"config"}))
def test_setting_is_documented(name: str) -> None:
    text = (DOCUMENT / "settings.md").read_text() + (DOCUMENT / "limits.md").read_text()
    assert f"`{name}`" in text
