"""Certificates over the wire, against the crypto floor: over kept MQTT and HTTPS connections, and
in full onboardings, each with a TLS handshake of its own. The issuing CA is P-384, as a first start
makes it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import CURVES, CryptoFloor
from bench.load import Job, Wire
from bench.measure import Row, Scale, rate, ratio, take_turns
from bench.processes import Server, generator, new_server

_KEPT_LINES = 64
_FLOORS = 100  # a round
_HTTPS_GOALS = {"P-384": "45%", "P-256": "20%"}


def mqtt_rows(scale: Scale) -> list[Row]:
    """Issued over kept connections, and full onboardings."""
    with new_server() as server:
        return [
            _row(server, scale, Job.ISSUE, curve, "certificates over kept MQTT")
            for curve in scale.curves
        ] + [
            _row(server, scale, Job.ONBOARD, curve, "full onboardings over MQTT")
            for curve in scale.curves
        ]


def https_rows(scale: Scale) -> list[Row]:
    """Issued over kept-alive HTTPS."""
    with new_server() as server:
        return [
            _row(server, scale, Job.ISSUE, curve, "certificates over kept HTTPS", Wire.HTTPS, goal)
            for curve, goal in _HTTPS_GOALS.items()
            if curve in scale.curves
        ]


def _row(
    server: Server,
    scale: Scale,
    job: Job,
    curve: str,
    what: str,
    wire: Wire = Wire.MQTT,
    goal: str = "",
) -> Row:
    floor = CryptoFloor(CURVES[curve], ec.SECP384R1())
    shape = {"devices": scale.batch, "at_once": 32}
    if job is not Job.ONBOARD:
        lines = min(_KEPT_LINES, scale.batch)
        shape = {"devices": lines, "times": scale.batch // lines}
    with generator(server, job, curve, wire=wire, **shape) as load:
        bottom, used = take_turns(
            scale.rounds, lambda: floor.seconds(_FLOORS), lambda: load.cost(server.pid)
        )
    return Row(f"{what}, {curve}", rate(used), f"floor {rate(bottom)}", ratio(bottom, used), goal)
