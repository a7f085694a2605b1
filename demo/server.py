"""The server under demonstration, and the operator's command line."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from demo.steps import Failed, check

_FLEETROOT: Final = str(Path(sys.executable).with_name("fleetroot"))
_MQTT_PORT: Final = 8883  # built into the SDKs
_START_SECONDS: Final = 30
_ENVIRONMENT: Final = {k: v for k, v in os.environ.items() if not k.startswith("FLEETROOT_")}


def free_address() -> str:
    """A loopback address on which the MQTT port is free: any of 127/8 where the system has them
    all, else 127.0.0.1.

    Raises:
        Failed: there is none.
    """
    candidates = [f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.1" for _ in range(8)]
    for address in (*candidates, "127.0.0.1"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, _MQTT_PORT))
            except OSError:
                continue
            return address
    raise Failed(f"port {_MQTT_PORT} is in use, and the SDK knows no other")


class Server:
    """`fleetroot up` in a folder."""

    def __init__(self, data: Path, address: str) -> None:
        self.data = data
        self.address = address
        self._log = (data.parent / "server.log").open("w")
        self._process = subprocess.Popen(
            [
                _FLEETROOT,
                "up",
                *("--data", str(data)),
                *("--bind", address, "--hostname", address),
                *("--mqtt-port", str(_MQTT_PORT)),
                *("--https-port", "0", "--console-port", "0", "--http-port", "0"),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_ENVIRONMENT,
            text=True,
        )

    def wait_ready(self) -> None:
        """Raises:
        Failed: the server did not start; its log says why.
        """
        assert self._process.stdout is not None
        if "ready" not in self._process.stdout.readline():
            self._process.wait(_START_SECONDS)
            raise Failed(f"the server did not start: {self.log().strip()[-500:]}")
        self.bootstrap: dict[str, Any] = json.loads((self.data / "bootstrap.json").read_text())

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def stop(self) -> int:
        """SIGTERM, and the exit code that it ends with. Idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._log.close()
        return code

    def operator(self, *arguments: str) -> Any:
        """What a command of the operator prints with `--json`.

        Raises:
            Failed: it did not exit with 0.
        """
        return json.loads(run(*arguments, "--data", str(self.data), "--json"))

    def events(self, device_id: str) -> list[dict[str, Any]]:
        """What `fleetroot events` shows of a device."""
        lines = run("events", "--device", device_id, "--data", str(self.data), "--json")
        return [json.loads(line) for line in lines.splitlines()]

    @property
    def ca(self) -> Path:
        return Path(self.bootstrap["serverCaFile"])

    @property
    def id_scope(self) -> str:
        return str(self.bootstrap["provisioning"]["idScope"])


def run(*arguments: str, symmetric_key: str | None = None) -> str:
    """Runs `fleetroot` and returns what it printed.

    Raises:
        Failed: it did not exit with 0.
    """
    key = {"FLEETROOT_SYMMETRIC_KEY": symmetric_key} if symmetric_key else {}
    done = subprocess.run(
        [_FLEETROOT, *arguments],
        capture_output=True,
        text=True,
        env=_ENVIRONMENT | key,
        timeout=60,
        check=False,
    )
    check(done.returncode == 0, done.stderr.strip())
    return done.stdout
