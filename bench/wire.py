"""Over the wire: a server in a process of its own, devices in another."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from bench.floor import CryptoFloor
from bench.measure import Ratio, Row, process_cpu, process_memory

_ROUNDS = 5
_START_UPS = 5
_IDLE = 1000


class Server:
    """`fleetroot up` on free ports in a fresh folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._start()

    def _start(self) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("fleetroot")),
                "up",
                "--data",
                str(self.data),
                *("--mqtt-port", "0", "--https-port", "0"),
                *("--console-port", "0", "--http-port", "0"),
                *("--log-level", "warning"),
            ],
            stdout=subprocess.PIPE,
            env=os.environ | {"FLEETROOT_MAX_HANDSHAKES_PER_SOURCE": "100000"},
            text=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert "ready" in self._process.stdout.readline()
        bootstrap = json.loads(self.bootstrap.read_text())
        trust = ssl.create_default_context(cafile=bootstrap["serverCaFile"])
        url = f"https://{bootstrap['bind']}:{bootstrap['httpsPort']}/healthz"
        with urllib.request.urlopen(url, context=trust) as answer:
            assert answer.status == 200
        self.start_up_seconds = time.perf_counter() - start

    @property
    def bootstrap(self) -> Path:
        return self.data / "bootstrap.json"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0


@contextmanager
def _server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.stop()


class Load:
    """A load generator that is ready."""

    def __init__(self, server: Server, **order: Any) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.load",
                json.dumps({"bootstrap": str(server.bootstrap), **order}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def go(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._line()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        self._process.wait(30)


def rows() -> list[Row]:
    """All rows that need a wire."""
    found = [_start_up()]
    with _server() as server:
        for curve in (ec.SECP384R1(), ec.SECP256R1()):
            found.append(_against_floor(server, curve, "issue", "certificates issued over MQTT"))
        for curve in (ec.SECP384R1(), ec.SECP256R1()):
            found.append(_against_floor(server, curve, "onboard", "full onboardings"))
            found.append(_connections(server, curve))
        found.append(_memory(server))
    return found


def _start_up() -> Row:
    took = []
    for _ in range(_START_UPS):
        with _server() as server:
            took.append(server.start_up_seconds)
    took.sort()
    return Row(
        "start-up to ready, first start in an empty folder",
        f"{took[len(took) // 2]:.2f} s ({took[0]:.2f} to {took[-1]:.2f})",
        goal="3 s",
    )


def _name(curve: ec.EllipticCurve) -> str:
    return {"secp384r1": "P-384", "secp256r1": "P-256"}[curve.name]


def _against_floor(server: Server, curve: Any, job: str, what: str) -> Row:
    """The issuing CA is P-384 in both rows, as a first start makes it."""
    floor = CryptoFloor(curve, ec.SECP384R1())
    shape = {"devices": 64, "at_once": 64, "times": 8} if job == "issue" else {}
    ratios, rates, bottoms, latency = [], [], [], []
    load: Load | None = None
    for round_ in range(_ROUNDS + 1):
        if load is None or job == "onboard":
            load = Load(
                server,
                job=job,
                curve=_name(curve),
                prefix=f"{job}-{curve.name}-{round_}",
                **({"devices": 400, "at_once": 32} | shape),
            )
        bottom = floor.seconds()
        before = process_cpu(server.pid)
        done = load.go()
        used = (process_cpu(server.pid) - before) / done["count"]
        if job == "onboard":
            load.stop()
        if round_:  # the first warms up
            ratios.append(bottom / used)
            rates.append(1 / used)
            bottoms.append(1 / bottom)
            latency.append(done["p50"])
    if job == "issue" and load is not None:
        load.stop()
    rates.sort()
    bottoms.sort()
    return Row(
        f"{what}, {_name(curve)} device key, durable",
        f"{rates[len(rates) // 2]:.0f} / CPU-s",
        f"floor {bottoms[len(bottoms) // 2]:.0f}",
        str(Ratio.of(ratios)),
    )


def _connections(server: Server, curve: Any) -> Row:
    load = Load(
        server,
        job="connect",
        curve=_name(curve),
        prefix=f"connect-{curve.name}",
        devices=200,
        at_once=32,
    )
    rates = []
    for round_ in range(_ROUNDS + 1):
        before = process_cpu(server.pid)
        done = load.go()
        used = process_cpu(server.pid) - before
        if round_:
            rates.append(done["count"] / used)
    load.stop()
    rates.sort()
    return Row(
        f"connections to the hub, {_name(curve)} certificate (TLS 1.3, CONNECT, session)",
        f"{rates[len(rates) // 2]:.0f} / CPU-s ({rates[0]:.0f} to {rates[-1]:.0f})",
    )


def _memory(server: Server) -> Row:
    load = Load(server, job="idle", curve="P-256", prefix="idle", devices=_IDLE, at_once=32)
    before = process_memory(server.pid)
    load.go()
    time.sleep(1)
    each = (process_memory(server.pid) - before) / _IDLE
    load.stop()
    return Row(
        f"memory of an idle connection to the hub ({_IDLE:,} of them)",
        f"{each / 1024:.0f} KB",
        goal="64 KB",
    )
