"""Connections to the hub with an operational certificate (TLS 1.3, CONNECT, session, and leaving
again), against the library's bare handshake and against Mosquitto with the same devices.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.floor import CURVES, HandshakeFloor, operational_pem
from bench.load import Job
from bench.measure import Row, Scale, Side, rate, ratio, take_turns
from bench.processes import Server, generator, mosquitto_beside, new_server

_FLOORS = 100  # a round


def rows(scale: Scale) -> list[Row]:
    """Two rows for each curve."""
    with new_server() as server:
        return [row for curve in scale.curves for row in _of_curve(server, scale, curve)]


def _of_curve(server: Server, scale: Scale, curve: str) -> list[Row]:
    floor = HandshakeFloor(operational_pem(CURVES[curve]))
    with ExitStack() as running:
        load = running.enter_context(generator(server, Job.CONNECT, curve, scale.batch))
        sides: list[Side] = [lambda: floor.seconds(_FLOORS), lambda: load.cost(server.pid)]
        if (broker := running.enter_context(mosquitto_beside(server))) is not None:
            mosquitto = broker.pid
            theirs = running.enter_context(
                generator(
                    server,
                    Job.CONNECT,
                    curve,
                    scale.batch,
                    broker=broker.port,
                    broker_trust=broker.trust,
                )
            )
            sides.append(lambda: theirs.cost(mosquitto))
        bare, used, *peer = take_turns(scale.rounds, *sides)
    what = f"connections to the hub, {curve}"
    found = [Row(what, rate(used), f"bare TLS {rate(bare)}", ratio(bare, used), "60%")]
    if peer:
        beside = f"mosquitto {rate(peer[0])}"
        goal = "400%" if curve == "P-384" else ""  # a quarter of its CPU
        found.append(Row(what, rate(used), beside, ratio(peer[0], used), goal))
    else:
        found.append(Row(what, rate(used), "mosquitto: not installed"))
    return found
