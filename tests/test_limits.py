"""Limits of peers: every one is a setting, and the settings' defaults are the rooms' own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fleetroot.gateway.connection import MqttLimits
from fleetroot.gateway.tls import HttpLimits, TlsLimits
from fleetroot.limits import (
    capped_source_of,
    http_limits,
    mqtt_limits,
    provisioning_rates,
    tls_limits,
)
from fleetroot.provisioning.limits import Rates
from fleetroot.settings import Settings

FILES = 1_000_000
DOCUMENT = Path(__file__).parents[1] / "docs"

TLS = {
    "first_flight_seconds": ("first_flight", 1.5),
    "handshake_seconds": ("handshake", 20.5),
    "handshake_bytes": ("handshake_bytes", 5000),
    "handshake_steps": ("handshake_steps", 9),
    "handshake_wait_seconds": ("handshake_wait", 2.5),
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
    assert provisioning_rates(settings) == Rates()


@pytest.mark.parametrize(
    ("make", "name", "field", "value"),
    [(make, name, *what) for make, names in ROOMS for name, what in names.items()],
)
def test_setting_sets_its_limit_and_no_other(
    make: Any, name: str, field: str, value: float
) -> None:
    default = make(Settings())
    assert make(Settings(**{name: value})) == dataclasses.replace(default, **{field: value})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("requests_per_source", "source"),
        ("registrations_per_scope", "scope"),
        ("registrations_per_device", "registrations"),
        ("certificates_per_device", "certificates"),
        ("polls_per_device", "polls"),
        ("trials_per_source", "trials"),
    ],
)
def test_settings_set_a_rate_and_no_other(name: str, field: str) -> None:
    made = provisioning_rates(Settings(**{name: 3, f"{name}_per_second": 0.5}))
    assert made == Rates()._replace(**{field: (3, 0.5)})


def test_source_is_an_address_or_a_64_unless_it_is_uncapped() -> None:
    source_of = capped_source_of(Settings(uncapped_sources=("192.0.2.0/24", "2001:db8:1::/48")))
    assert source_of("198.51.100.1") == "198.51.100.1"
    assert source_of("::ffff:198.51.100.1") == "198.51.100.1"
    assert source_of("2001:db8::1") == source_of("2001:db8::2") == "2001:db8::/64"
    assert [source_of(host) for host in ("192.0.2.9", "2001:db8:1::9")] == [None, None]


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
