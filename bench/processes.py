"""The processes that are measured, and the load generator as they know it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.credentials import operator
from bench.floor import ServerPki, to_pem
from bench.load import Done, Job, Order
from bench.measure import process_cpu

_STOP_SECONDS = 30
_ONE_SOURCE: Final = {  # has a whole fleet
    "FLEETROOT_MAX_HANDSHAKES_PER_SOURCE": "100000",
    "FLEETROOT_REQUESTS_PER_SOURCE": "1000000",
}
DATABASE_FILE: Final = "fleetroot.db"  # in a data folder


class Server:
    """`fleetroot up` on free ports."""

    def __init__(self, data: Path, *options: str, one_source: bool = True) -> None:
        """Starts it on a data folder, and waits until it is ready.

        Args:
            data: the folder.
            options: of `fleetroot up`.
            one_source: one address may have a whole fleet; or else it has what it has by default.
        """
        start = time.perf_counter()
        self.bootstrap = data / "bootstrap.json"
        program = str(Path(sys.executable).with_name("fleetroot"))
        ports = [f"--{name}-port=0" for name in ("mqtt", "https", "console", "http")]
        self._process = subprocess.Popen(
            [program, "up", "--data", str(data), *ports, "--log-level", "warning", *options],
            stdout=subprocess.PIPE,
            env=os.environ | (_ONE_SOURCE if one_source else {}),
            text=True,
        )
        self.pid = self._process.pid
        assert "ready" in _pipe(self._process.stdout).readline()
        self.get("/healthz")
        self.start_up_seconds = time.perf_counter() - start

    def get(self, path: str) -> str:
        """What an open path of the HTTPS port answers."""
        bootstrap = json.loads(self.bootstrap.read_text())
        trust = ssl.create_default_context(cafile=bootstrap["serverCaFile"])
        url = f"https://{bootstrap['bind']}:{bootstrap['httpsPort']}{path}"
        with urllib.request.urlopen(url, context=trust) as answer:
            assert answer.status == 200
            text: str = answer.read().decode()
        return text

    def refusals(self) -> dict[str, int]:
        """How many were refused since the start, by reason."""
        found = re.findall(
            r'^fleetroot_refusals_total\{.*reason="(.*?)"\} (\S+)$',
            self.get("/metrics"),
            re.MULTILINE,
        )
        return {reason: int(float(count)) for reason, count in found}

    def operator(self) -> httpx.Client:
        """Who may do everything on it."""
        told = json.loads(self.bootstrap.read_text())
        return operator(told, Path(told["serverCaFile"]).read_text())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_STOP_SECONDS) == 0


@contextmanager
def new_server(*options: str, one_source: bool = True) -> Iterator[Server]:
    """A server in a fresh folder; see `Server`."""
    with (
        tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder,
        server_on(Path(folder) / "data", *options, one_source=one_source) as server,
    ):
        yield server


@contextmanager
def server_on(data: Path, *options: str, one_source: bool = True) -> Iterator[Server]:
    """A server on a folder that stays; see `Server`."""
    server = Server(data, *options, one_source=one_source)
    try:
        yield server
    finally:
        server.stop()


class Sender:
    """A server that sends to devices from within; see `bench.sending`."""

    def __init__(self, data: Path) -> None:
        """Starts it on a data folder, and waits until it is ready."""
        self.bootstrap = data / "bootstrap.json"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sending", str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        assert "ready" in _pipe(self._process.stdout).readline()

    def begin(self, messages: int) -> None:
        """Lets it send so many."""
        to = _pipe(self._process.stdin)
        to.write(f"{messages}\n")
        to.flush()

    def finish(self) -> None:
        """Waits until all of them were acknowledged."""
        assert "done" in _pipe(self._process.stdout).readline()

    def stop(self) -> None:
        _pipe(self._process.stdin).close()
        assert self._process.wait(_STOP_SECONDS) == 0


class Generator:
    """A load generator process with its order."""

    def __init__(self, order: Order) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load", order.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def prepare(self) -> None:
        """Makes what the devices have beforehand."""
        self._ask("prepare")

    def go(self, per_second: float | None = None) -> Done:
        """Does the job once over."""
        return Done(**self._ask("go" if per_second is None else f"go {per_second}"))

    def cost(self, pid: int) -> float:
        """Does the job once over; the CPU of process `pid` for one operation, in seconds."""
        self.prepare()
        before = process_cpu(pid)
        done = self.go()
        return (process_cpu(pid) - before) / done.count

    def _ask(self, command: str) -> dict[str, Any]:
        to = _pipe(self._process.stdin)
        to.write(f"{command}\n")
        to.flush()
        line = _pipe(self._process.stdout).readline()
        assert line, "the load generator failed"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(_STOP_SECONDS)


@contextmanager
def generator(
    server: Server | Sender, job: Job, curve: str, devices: int, **more: Any
) -> Iterator[Generator]:
    """A load generator for a server."""
    made = Generator(Order(job, str(server.bootstrap), curve, devices, **more))
    try:
        yield made
    finally:
        made.stop()


class Mosquitto:
    """Mosquitto with mutual TLS 1.3: the devices' CAs, and a server key of Fleetroot's type."""

    def __init__(self, folder: Path, device_cas: bytes) -> None:
        """Starts it.

        Args:
            folder: for its configuration.
            device_cas: the issuing CA and its root, PEM.
        """
        pki = ServerPki()
        self.trust = pki.trust
        (folder / "ca.pem").write_bytes(device_cas)
        (folder / "server.pem").write_bytes(to_pem(pki.key, pki.certificate))
        self.port, self.plain_port = _free_port(), _free_port()
        (folder / "mosquitto.conf").write_text(
            "per_listener_settings true\n"
            f"listener {self.port} 127.0.0.1\n"
            f"cafile {folder}/ca.pem\n"
            f"certfile {folder}/server.pem\n"
            f"keyfile {folder}/server.pem\n"
            "tls_version tlsv1.3\n"
            "require_certificate true\n"
            "use_identity_as_username true\n"
            "allow_anonymous true\n"
            f"listener {self.plain_port} 127.0.0.1\n"
            "allow_anonymous true\n"
            "persistence false\n"
            "max_queued_messages 0\n"
            "log_type error\n"
        )
        program = mosquitto_program()
        assert program is not None
        user = [f"user {'root' if os.geteuid() == 0 else 'mosquitto'}"]
        with (folder / "mosquitto.conf").open("a") as file:
            file.write("\n".join(user) + "\n")
        self._process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL
        )
        self.pid = self._process.pid
        _wait_for(self.port)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_STOP_SECONDS)


@contextmanager
def mosquitto_beside(server: Server | Sender) -> Iterator[Mosquitto | None]:
    """Mosquitto for the devices of a server; None if it is not installed."""
    if mosquitto_program() is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="fleetroot-bench-") as folder:
        broker = Mosquitto(Path(folder), _device_cas(server))
        try:
            yield broker
        finally:
            broker.stop()


def _device_cas(server: Server | Sender) -> bytes:
    """The certificates of every CA that devices' certificates lead to, PEM."""
    database = sqlite3.connect(server.bootstrap.with_name(DATABASE_FILE))
    try:
        found = database.execute("SELECT certificate FROM authorities").fetchall()
    finally:
        database.close()
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for (der,) in found
    )


def mosquitto_program() -> str | None:
    """Where Mosquitto is, if it is installed."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
