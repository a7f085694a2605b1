"""SoftHSM tokens for tests: in this process, or behind a daemon that can be stopped and killed.

A token is a folder of files. When the folder is moved away the token is gone for the module, as one
that was pulled out is. The daemon is p11-kit's server with SoftHSM in it, its client a module that
talks to it over a socket, as those of network HSMs do.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetroot.custody import TokenConfig

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
CLIENT = next(Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"), Path("p11-kit-client.so"))
PIN = "7f3e-PIN-of-tests"

needs_softhsm = pytest.mark.skipif(
    not MODULE.exists() or shutil.which("softhsm2-util") is None,
    reason="needs Debian's softhsm2",
)
needs_daemon = pytest.mark.skipif(
    not CLIENT.exists() or shutil.which("p11-kit") is None,
    reason="needs Debian's p11-kit and p11-kit-modules",
)


class SoftHsm:
    """A folder with initialised tokens; `SOFTHSM2_CONF` says where it is, for the whole process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        self._away = folder / "tokens-away"
        self._configuration = folder / "softhsm2.conf"
        self._configuration.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        monkeypatch.setenv("SOFTHSM2_CONF", str(self._configuration))
        self.add("fleet")

    def add(self, label: str) -> None:
        """Initialises another token."""
        self.util("--init-token", "--free", "--label", label, "--so-pin", "so-pin", "--pin", PIN)

    def util(self, *arguments: str) -> str:
        """What `softhsm2-util` says."""
        done = subprocess.run(
            ["softhsm2-util", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def take_away(self) -> None:
        self.tokens.rename(self._away)

    def put_back(self) -> None:
        self._away.rename(self.tokens)

    def config(self, **changes: object) -> TokenConfig:
        values: dict[str, object] = {
            "name": "hsm",
            "module": MODULE,
            "label": "fleet",
            "pin": PIN,
            "timeout": 30.0,  # of a busy machine
            "retry_seconds": 0.0,
        }
        return TokenConfig(**{**values, **changes})  # type: ignore[arg-type]


class Daemon:
    """A process that holds the token, and answers over a socket."""

    def __init__(self, hsm: SoftHsm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hsm = hsm
        self._socket = folder / "p11.sock"
        monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", f"unix:path={self._socket}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            ["p11-kit", "server", "-f", "-p", MODULE, "-n", self._socket, "pkcs11:token=fleet"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what serves a connection is a child of it
        )
        until = time.monotonic() + 30
        while not self._listens():  # the file is there before anybody listens
            assert time.monotonic() < until, "p11-kit's server does not start"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def config(self, **changes: object) -> TokenConfig:
        return self._hsm.config(module=CLIENT, **changes)


@contextmanager
def daemon_of(hsm: SoftHsm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that runs."""
    daemon = Daemon(hsm, folder, monkeypatch)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.kill()
