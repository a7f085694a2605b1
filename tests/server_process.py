"""`fleetroot up` in a process of its own, for tests that kill it or watch what it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import database
from fleet import Fleet
from fleetroot.app import Server
from fleetroot.clock import SystemClock
from fleetroot.settings import Settings

SECONDS = 60.0  # that a server may take to start or stop on a busy machine
_PORTS = tuple(f"--{name}-port=0" for name in ("mqtt", "https", "console", "http"))


@dataclass
class _Elsewhere:
    """What a `Fleet` asks of its server, where that is another process."""

    settings: Settings
    clock: SystemClock


class ServerProcess:
    """A running `fleetroot up` on free ports."""

    def __init__(self, data: Path, process: subprocess.Popen[str], log: IO[str]) -> None:
        self.data = data
        self.process = process
        self._log = log

    @property
    def bootstrap(self) -> dict[str, Any]:
        return dict(json.loads((self.data / "bootstrap.json").read_text()))

    @property
    def log(self) -> str:
        """What it has said on stderr."""
        self._log.seek(0)
        return self._log.read()

    def fleet(self, kind: type[Fleet] = Fleet) -> Fleet:
        """Devices and an operator of this server."""
        elsewhere = _Elsewhere(Settings(data=self.data), SystemClock())
        return kind(cast("Server", elsewhere), self.bootstrap)

    def kill(self) -> None:
        """Ends it as a crash does: it gets no chance to do anything."""
        self.process.kill()
        assert self.process.wait(SECONDS) == -signal.SIGKILL

    def stop(self) -> int:
        """Ends it as an operator does; its exit code."""
        self.process.terminate()
        return self.process.wait(SECONDS)


def _its_database(data: Path) -> dict[str, str]:
    url = database.url_of(data, empty=True)
    return {"FLEETROOT_DATABASE_URL": url} if url else {}


@contextmanager
def serving(
    data: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """Starts a server and waits until it says that it is ready."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLEETROOT_")}
    command = [str(Path(sys.executable).with_name("fleetroot")), "up", "--data", str(data)]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, *_PORTS, *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=own | _its_database(data) | dict(environment or {}),
        )
        running = ServerProcess(data, process, log)
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert "ready" in said, running.log
            yield running
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
