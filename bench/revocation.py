"""Revocation for the outside world: OCSP answers through their room, and lists of many entries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy import delete

from bench.floor import CURVES
from bench.measure import Row, Scale, Spread, cpu_seconds, rate, ratio, take_turns
from bench.room import register, requests, server_in_process
from fleetroot.app import Server
from fleetroot.pki import issuer_hashes
from fleetroot.registry.model import Authority, Certificate
from fleetroot.storage import Command, Transaction
from fleetroot.storage.prepared import insert_into
from fleetroot.storage.schema import certificates, revocation_lists

_CURVE = "P-256"  # of responders
_TICK = 0.001
_AT_ONCE = 5000
_INSERT = Command(insert_into(certificates, leave_out=["id", "expired_at"]))
_FORGET = Command(delete(revocation_lists))
_GOAL = {100_000: "5 s"}


def rows(scale: Scale) -> list[Row]:
    """Two rows for OCSP, and one for each size of lists."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = server_in_process()
        server = runner.run(context.__aenter__())
        try:
            device = runner.run(_device(server))
            found = _ocsp_rows(runner, server, scale, device)
            return found + _list_rows(runner, server, scale, device)
        finally:
            runner.run(context.__aexit__(None, None, None))


async def _device(server: Server) -> Certificate:
    """A certificate as the inventory has it."""
    batch = [next(await requests(server, _CURVE))]
    await register(server, batch)
    namespace = await server.registry.namespace("default")
    [found] = await server.registry.certificates(namespace, limit=1)
    return found


# --- OCSP


def _ocsp_rows(
    runner: asyncio.Runner, server: Server, scale: Scale, device: Certificate
) -> list[Row]:
    authority = runner.run(server.registry.authority(device.authority_id))
    key = ec.generate_private_key(CURVES[_CURVE])
    algorithm, to_be_signed = ec.ECDSA(hashes.SHA256()), b"\0" * 250
    nonces = count()

    def answers(with_nonce: bool) -> float:
        batch = [
            _request(authority, device, next(nonces) if with_nonce else None)
            for _ in range(scale.batch)
        ]
        start = time.process_time()
        runner.run(_answer(server, batch))
        return (time.process_time() - start) / len(batch)

    bare, signed, cached = take_turns(
        scale.rounds,
        lambda: cpu_seconds(lambda: key.sign(to_be_signed, algorithm), scale.batch),
        lambda: answers(with_nonce=True),
        lambda: answers(with_nonce=False),
    )
    beside = f"bare {_CURVE} signature {rate(bare)}"
    return [
        Row("OCSP answers, signed for a nonce", rate(signed), beside, ratio(bare, signed)),
        Row("OCSP answers, given again", rate(cached), beside, ratio(bare, cached)),
    ]


def _request(authority: Authority, device: Certificate, nonce: int | None) -> bytes:
    issuer = x509.load_der_x509_certificate(authority.certificate)
    name = next(one for one in issuer_hashes(issuer) if one.algorithm == "sha256")
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        name.name, name.key, int(device.serial, 16), hashes.SHA256()
    )
    if nonce is not None:
        value = x509.OCSPNonce(nonce.to_bytes(32, "big"))
        builder = builder.add_extension(value, critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def _answer(server: Server, batch: list[bytes]) -> None:
    for request in batch:
        reply = await server.ocsp.answer(request)
        assert reply.answer is not None


# --- lists


def _list_rows(
    runner: asyncio.Runner, server: Server, scale: Scale, device: Certificate
) -> list[Row]:
    """All lists of a CA anew, and for how long the event loop was held up meanwhile."""
    found, there = [], 0
    for size in scale.revoked:
        runner.run(_revoke(server, device, range(there, size)))
        there = size
        cpu, pauses = [], []
        for _ in range(scale.rounds):
            used, pause = runner.run(_publish(server))
            cpu.append(used)
            pauses.append(pause)
        found.append(
            Row(
                f"revocation lists, {size:,} revoked",
                Spread.of(cpu).show(".2f", " CPU-s"),
                f"loop held up {Spread.of(pauses).median * 1000:.0f} ms at most",
                goal=_GOAL.get(size, ""),
            )
        )
    return found


async def _revoke(server: Server, device: Certificate, numbers: range) -> None:
    """Puts revoked certificates of one device into the inventory."""
    now = server.clock.now()
    for first in range(numbers.start, numbers.stop, _AT_ONCE):
        some = range(first, min(first + _AT_ONCE, numbers.stop))

        def unit(tx: Transaction, some: range = some) -> None:
            tx.run_many(_INSERT, _rows(device, some, now=now))

        await server.store.write(unit)


def _rows(device: Certificate, numbers: range, *, now: object) -> Iterator[dict[str, object]]:
    for number in numbers:
        yield {
            "sha256": number.to_bytes(32, "big"),
            "namespace_id": device.namespace_id,
            "authority_id": device.authority_id,
            "policy_id": device.policy_id,
            "device_key": device.device_key,
            "device_id": device.device_id,
            "generation": str(device.generation),
            "serial": format(1 << 146 | number, "x"),
            "certificate": b"",
            "origin": device.origin.value,
            "not_before": device.not_before,
            "not_after": device.not_after,
            "issued_at": device.issued_at,
            "revoked_at": now,
            "revocation_reason": "superseded",
            "enrollment": device.enrollment,
        }


async def _publish(server: Server) -> tuple[float, float]:
    """The CPU of signing every list anew, and the longest pause of the event loop, in seconds."""
    await server.store.write(lambda tx: tx.run(_FORGET))
    pauses: list[float] = [0.0]
    ticking = asyncio.create_task(_tick(pauses))
    await asyncio.sleep(_TICK * 5)
    start = time.process_time()
    assert await server.publisher.update()
    used = time.process_time() - start
    ticking.cancel()
    with suppress(asyncio.CancelledError):
        await ticking
    return used, max(pauses)


async def _tick(pauses: list[float]) -> None:
    while True:
        start = time.monotonic()
        await asyncio.sleep(_TICK)
        pauses.append(time.monotonic() - start - _TICK)
