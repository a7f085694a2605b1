"""What peers may ask: the settings of limits, as the gateway and
provisioning take them.

docs/limits.md says what each of them is for, and how what goes beyond it is refused.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final

from fleetroot.gateway.connection import MqttLimits
from fleetroot.gateway.tls import HttpLimits, RefusalReason, TlsLimits, is_within, source_of
from fleetroot.provisioning.limits import Rate, Rates
from fleetroot.settings import Settings

_FILES_OF_OURS: Final = 256  # databases, listeners, the log, plain HTTP's headroom
# Handshakes that end like this are the peer's fault, and have cost something.
FAULTS: Final = frozenset(
    {
        RefusalReason.FIRST_FLIGHT_TIMEOUT,
        RefusalReason.HANDSHAKE_TIMEOUT,
        RefusalReason.TOO_LARGE,
        RefusalReason.TOO_MANY_STEPS,
        RefusalReason.NOT_TLS,
        RefusalReason.TLS_ERROR,
        RefusalReason.PEER_CLOSED,
    }
)


def tls_limits(settings: Settings, files: int) -> TlsLimits:
    """Of one TLS port. Each may have half of the open files, so that whoever fills one port leaves
    the other, by which an operator comes in.
    """
    return TlsLimits(
        first_flight=settings.first_flight_seconds,
        handshake=settings.handshake_seconds,
        handshake_wait=settings.handshake_wait_seconds,
        handshake_bytes=settings.handshake_bytes,
        handshake_steps=settings.handshake_steps,
        handshakes=settings.max_handshakes,
        handshakes_per_source=settings.max_handshakes_per_source,
        strangers_per_source=settings.max_strangers_per_source,
        uncapped_sources=settings.uncapped_sources,
        connections=min(settings.max_connections, max(files - _FILES_OF_OURS, 2) // 2),
        write_buffer_cap=settings.write_buffer_bytes,
    )


def mqtt_limits(settings: Settings) -> MqttLimits:
    """Of one device's connection."""
    return MqttLimits(
        connect_seconds=settings.connect_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        waiting=settings.max_waiting,
        write_buffer_bytes=settings.write_buffer_bytes,
        connect_bytes=settings.connect_bytes,
        packet_bytes=settings.packet_bytes,
        failed_attestations=settings.failed_attestations,
        unattested_seconds=settings.unattested_seconds,
    )


def provisioning_rates(settings: Settings) -> Rates:
    """Of devices that provision."""
    return Rates(
        source=Rate(settings.requests_per_source, settings.requests_per_source_per_second),
        scope=Rate(settings.registrations_per_scope, settings.registrations_per_scope_per_second),
        registrations=Rate(
            settings.registrations_per_device, settings.registrations_per_device_per_second
        ),
        certificates=Rate(
            settings.certificates_per_device, settings.certificates_per_device_per_second
        ),
        polls=Rate(settings.polls_per_device, settings.polls_per_device_per_second),
        trials=Rate(settings.trials_per_source, settings.trials_per_source_per_second),
    )


def capped_source_of(settings: Settings) -> Callable[[str], str | None]:
    """What a host is counted by; None where it is of `uncapped_sources`."""
    uncapped = settings.uncapped_sources
    return lambda host: None if is_within(host, uncapped) else source_of(host)


def http_limits(settings: Settings) -> HttpLimits:
    """Of one HTTP server."""
    return HttpLimits(
        head_bytes=settings.http_head_bytes,
        head_timeout=settings.http_head_seconds,
        body_timeout=settings.http_body_seconds,
        keep_alive=settings.http_keep_alive_seconds,
    )


def raise_open_files() -> int:
    """Lets this process have as many files open as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000
