"""A TPM in software for tests (swtpm), and the device's side of TPM attestation by tpm2-tools.

The TPM listens on two free ports of loopback, one behind the other, as its clients want them.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from model_tpm import TpmRefused, split

needs_swtpm = pytest.mark.skipif(
    shutil.which("swtpm") is None or shutil.which("tpm2_import") is None,
    reason="needs Debian's swtpm and tpm2-tools",
)
_SECONDS: Final = 30.0  # until it listens, and for one command


class Swtpm:
    """A running TPM, the contexts of its keys in a folder, and a device that uses them."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._tcti = f"swtpm:host=127.0.0.1,port={port}"

    def make_keys(self, *, endorsement: str = "rsa", storage_root: str = "rsa2048") -> None:
        """Makes the endorsement key of the TCG's default template, and a storage root key."""
        self._run("createek", "-G", endorsement, "-c", "ek", "-u", "ek.pub")
        self._run("createprimary", "-C", "o", "-G", storage_root, "-c", "srk")
        self._run("readpublic", "-c", "srk", "-o", "srk.pub")
        self._forget()

    @property
    def endorsement_key(self) -> bytes:
        """TPM2B_PUBLIC."""
        return self._read("ek.pub")

    @property
    def storage_root_key(self) -> bytes:
        """TPM2B_PUBLIC."""
        return self._read("srk.pub")

    def clear(self) -> None:
        """Clears the TPM: its next storage root key is another one, its endorsement key is not."""
        self._run("clear", "-c", "l")
        self.make_keys()

    def activate(self, blob: bytes, key: str = "key") -> None:
        """Takes the key in that the blob holds for this TPM, as `azure-iot-security-tpm` does.

        Raises:
            TpmRefused: it is for another TPM, or was altered.
        """
        parts = split(blob)
        # What tpm2-tools put before a credential: a magic number and a version.
        credential = struct.pack(">II", 0xBADCC0DE, 1) + parts[0] + parts[1]
        self._write("credential", credential)
        for name, part in zip(("duplicate", "seed", "public"), parts[2:5], strict=True):
            self._write(f"{key}.{name}", part)
        self._run("startauthsession", "--policy-session", "-S", "session")
        try:
            self._run("policysecret", "-S", "session", "-c", "e")
            self._run(
                *("activatecredential", "-c", "srk", "-C", "ek", "-i", "credential"),
                *("-o", "inner", "-P", "session:session"),
            )
        finally:
            self._run("flushcontext", "session")
            self._forget()
        self._run(
            *("import", "-C", "srk", "-u", f"{key}.public", "-i", f"{key}.duplicate"),
            *("-s", f"{key}.seed", "-k", "inner", "-r", f"{key}.private"),
        )
        self._forget()
        self._run(*("load", "-C", "srk", "-u", f"{key}.public", "-r", f"{key}.private", "-c", key))
        self._forget()

    def sign(self, message: bytes, key: str = "key") -> bytes:
        """HMAC-SHA256 by a key that was taken in."""
        self._write("message", message)
        self._run("hmac", "-c", key, "-o", "mac", "message")
        self._forget()
        return self._read("mac")

    def _forget(self) -> None:
        """There is room for three objects; their contexts are in files."""
        self._run("flushcontext", "-t")

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [f"tpm2_{command}", *arguments],
            cwd=self._folder,
            env={"PATH": os.environ["PATH"], "TPM2TOOLS_TCTI": self._tcti},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise TpmRefused(f"{command}: {done.stderr}")

    def _read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)


@contextmanager
def running_tpm(folder: Path) -> Iterator[Swtpm]:
    """A TPM with the state of the folder, which begins empty."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _two_free_ports()
    process = subprocess.Popen(
        [
            *("swtpm", "socket", "--tpm2", "--flags", "not-need-init,startup-clear"),
            *("--tpmstate", f"dir={folder}"),
            *("--server", f"type=tcp,port={port}"),
            *("--ctrl", f"type=tcp,port={port + 1}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(port + 1, process)
        yield Swtpm(folder, port)
    finally:
        process.kill()
        process.communicate()


def _two_free_ports() -> int:
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
